"""`hsstar web`: the pages, in a browser."""

from pathlib import Path

import click

from hsstar.cli.environment import open_database
from hsstar.cli.names import RUN
from hsstar.cli.options import FilePath
from hsstar.cli.text import say

_NOT_INSTALLED = "hsstar web needs {}: pip install 'hsstar[web]'"


@click.command(epilog="Example:  hsstar web --port 8080")
@click.argument("run", required=False, type=RUN)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8018, show_default=True, help="0 is any.")
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="HOST",
    help="Another name that browsers call it by; repeatable.",
)
@click.option(
    "--actions", is_flag=True, help="Pages also pause, resume and retry runs, and correct verdicts."
)
@click.option(
    "--export",
    "folder",
    type=FilePath(),
    help="Write the pages of RUN there, and serve none.",
)
@click.option(
    "--megabytes",
    type=click.IntRange(0),
    default=100,
    show_default=True,
    help="Of pages with samples that --export writes.",
)
def web(
    run: str | None,
    host: str,
    port: int,
    names: tuple[str, ...],
    actions: bool,
    folder: Path | None,
    megabytes: int,
) -> None:
    """Show runs, workers and queries as pages, which change while runs do.

    They change nothing themselves, unless --actions lets them; the view action_log says who did what.

    It prints the address to open. An address that other machines can reach needs the link that is printed:
    it lets one browser in, and the next link is printed after it.

    With --export the pages of RUN become files, which need no server.
    """
    from hsstar.domain.errors import MissingDependencyError

    if (run is None) != (folder is None):
        raise click.UsageError("RUN and --export go together, as in: hsstar web --export site demo")
    try:
        if folder is None:
            from hsstar.web.serve import serve
        else:
            from hsstar.web.export import export_site
    except ModuleNotFoundError as error:
        raise MissingDependencyError(_NOT_INSTALLED.format(error.name)) from None

    from hsstar.settings import Settings

    with open_database() as database:
        url = database.url
    if run is None or folder is None:
        serve(url, host, port, names, say, Settings.from_environment() if actions else None)
        return
    report = export_site(url, run, folder, megabytes)
    say(f"{report.pages:,} pages, {report.size / 1e6:,.1f} MB; open {folder / 'index.html'}")
    if report.left_out:
        say(
            f"{report.left_out:,} problems have no page of their own: more than --megabytes {megabytes} of "
            "pages with samples"
        )
