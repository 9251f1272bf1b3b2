"""`hsstar track`: send a run to experiment trackers."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hsstar.cli.environment import open_database
from hsstar.cli.names import RUN
from hsstar.cli.options import FilePath
from hsstar.cli.text import say

if TYPE_CHECKING:
    from hsstar.monitoring.track import TrackerName


@click.command(epilog="Example:  hsstar track demo --to tensorboard --to mlflow")
@click.argument("run", type=RUN)
@click.option(
    "--to",
    "names",
    required=True,
    multiple=True,
    type=click.Choice(("trackio", "wandb", "mlflow", "tensorboard")),
    help="The tracker; repeatable.",
)
@click.option("--project", default="hsstar", show_default=True, help="The project or experiment there.")
@click.option(
    "--folder",
    type=FilePath(file_okay=False),
    help="For files of TensorBoard and wandb.  [default: HSSTAR_HOME/tracking]",
)
@click.option("--once", is_flag=True, help="Send what is there, and end.")
def track(run: str, names: "tuple[TrackerName, ...]", project: str, folder: Path | None, once: bool) -> None:
    """Send the figures of RUN to trackers while it runs, or afterwards; called again, it sends what is new.

    Iterations and policies come when they are done, training curves by the optimiser step. It ends with the
    run, or when the run is held. The run knows nothing of it: a tracker that is down is tried again.
    """
    from hsstar.insights.runs import find_run
    from hsstar.monitoring.track import track_run, tracker_classes
    from hsstar.settings import Settings

    classes, settings = tracker_classes(names), Settings.from_environment()
    place = folder or settings.home / "tracking"
    with open_database(settings) as database:
        found = find_run(database, run)
        sent = track_run(
            database, found, classes, project, place, lambda line: say(f"hsstar: {line}", err=True), once=once
        )
    for name, count in sent.items():
        say(f"{name}: {count} points")
