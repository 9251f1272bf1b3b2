"""`hsstar calibrate`: what the pre-samples of problems foretold, and what follows for `[difficulty]`."""

from dataclasses import asdict

import click

from hsstar.cli.names import RUN
from hsstar.cli.options import Format, formatted


@click.command(epilog="Example:  hsstar calibrate demo")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=RUN)
@formatted
def calibrate(runs: tuple[str, ...], shown_as: Format) -> None:
    """Say how far the pre-samples of RUNs foretold their further samples, with rewards and without.

    A row per count of correct pre-samples and band of process quality; then the log-loss and AUC of the next
    verdict, foretold from half of the problems for the other half; then advice for [difficulty]. Runs that
    sample every problem alike (`uniform`) say most.
    """
    from hsstar.cli.environment import open_database
    from hsstar.cli.views.output import console, print_json, show
    from hsstar.domain.calibration import Cell, Forecast
    from hsstar.insights.allocation import calibrate_runs

    with open_database() as database:
        found = calibrate_runs(database, runs)
    if shown_as == "json":
        print_json(asdict(found))
        return

    def band(cell: Cell) -> str:
        return "–" if cell.low is None or cell.high is None else f"{cell.low:g}–{cell.high:g}"

    show(
        ("correct", "of", "quality", "problems", "further samples", "correct of them", "pairs per sample"),
        [
            (
                cell.right,
                cell.right + cell.wrong,
                band(cell),
                cell.problems,
                cell.further,
                f"{cell.correct_share:.0%}",
                f"{cell.pairs_per_sample:.3f}",
            )
            for cell in found.cells
        ],
        shown_as=shown_as,
    )
    if shown_as == "csv":
        return

    def forecast(of: Forecast) -> tuple[str, str, str]:
        return of.known, f"{of.log_loss:.4f}", f"{of.auc:.3f}"

    columns = ("next verdict foretold by", "log-loss", "AUC")
    show(columns, [forecast(of) for of in found.forecasts], shown_as=shown_as)
    for line in found.advice:
        console.print(line)
