"""`hsstar study`: compare strategies over several seeds, as runs of the same queue."""

import sys
from pathlib import Path

import click

from hsstar.cli.options import FilePath
from hsstar.cli.stack import parse_workers
from hsstar.cli.text import say


@click.command(epilog="Example:  hsstar study configs/study.toml --output results")
@click.argument("file", type=FilePath())
@click.option(
    "--output",
    type=FilePath(file_okay=False),
    help="Folder of the report; one named after the study where left out.",
)
@click.option(
    "--at-once", type=click.IntRange(1), help="Runs under way at once; one of each strategy where left out."
)
@click.option(
    "--seed", "seeds", type=int, multiple=True, metavar="SEED", help="Only this seed; may be given again."
)
@click.option(
    "--with",
    "shared",
    type=FilePath(exists=True, dir_okay=False),
    multiple=True,
    metavar="NAME-runs.csv",
    help="Runs of other seeds that another machine finished: they join the report. May be given again.",
)
@click.option(
    "--workers",
    default="",
    callback=parse_workers,
    metavar="ROLE[=N],…",
    help="Worker processes per role, as in `hsstar up`.",
)
def study(
    file: Path,
    output: Path | None,
    at_once: int | None,
    seeds: tuple[int, ...],
    shared: tuple[Path, ...],
    workers: dict[str, int],
) -> None:
    """Run the study of FILE: every strategy under every seed, then a table and plots.

    It has a home of its own, HSSTAR_HOME/study/NAME, with its own servers unless the environment names
    others. The next call continues an interrupted study. Of a finished one it only writes the report again.

    Several machines can share a study: each takes some seeds, and the last call joins their tables.
    """
    from hsstar.cli.environment import own_settings
    from hsstar.cli.stack import own_stack
    from hsstar.cli.views.output import console
    from hsstar.settings import Settings
    from hsstar.study.conduct import conduct, open_share, write_share

    share = open_share(file, seeds, shared)
    folder = output or Path(share.study.document.name)

    def tell(line: str) -> None:
        console.print(line)
        sys.stdout.flush()

    if not share.part.runs:
        tell(write_share(share, (), folder).line)
        return
    settings = own_settings(Settings.from_environment(), "study", share.study.document.name)
    tell(f"Starting what is needed in {settings.home} …")
    with own_stack(settings, workers) as database:
        try:
            conduct(database, share, folder, settings.models_dir, tell, at_once=at_once)
        except KeyboardInterrupt:
            say("\nThe study is interrupted; it goes on when you call it again.", err=True)
            sys.exit(130)
