"""The page of a run as text: how the method flowed, what came of it, and where to look further."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from hsstar.cli.text import visible
from hsstar.cli.views.bars import level_line
from hsstar.cli.views.output import shown
from hsstar.insights.iterations import IterationSummary
from hsstar.insights.progress import RunProgress
from hsstar.insights.runs import RunEntry
from hsstar.store.read.progress import RoundProgress

_BAR = 40


@dataclass(frozen=True, slots=True)
class RunPage:
    """What the page of a run is made of."""

    run: RunEntry
    progress: RunProgress
    iterations: list[IterationSummary]
    warnings: list[str]

    def document(self) -> dict[str, Any]:
        """Return the page as a JSON document."""
        return {
            "run": self.run,
            "state": self.progress.state,
            "hold": self.progress.hold,
            "rounds": self.progress.rounds,
            "iterations": self.iterations,
            "warnings": self.warnings,
        }


def head_lines(page: RunPage) -> Iterator[Text]:
    """Yield what the run is, and where it stands."""
    run = page.run
    facts = [
        page.progress.state,
        f"policy {run.policy}",
        f"problems of {run.dataset}",
        f"seed {run.seed}",
        f"created {shown(run.created)}",
        *([f"forked from {run.forked_from}"] if run.forked_from else []),
    ]
    yield Text.assemble((visible(run.run), "bold"), visible(f"  {' · '.join(facts)}"))
    if page.progress.hold is not None:
        yield Text(visible(page.progress.hold), "yellow")


def flow_lines(page: RunPage) -> Iterator[Text]:
    """Yield how each iteration went, from its slice to the new policy."""
    waves = {row.number: row for row in page.progress.rounds if row.kind == "iteration"}
    for summary in page.iterations:
        yield Text()
        yield Text.assemble(
            (f"iteration {summary.iteration}", "bold"), f"  {summary.state.replace('_', '-')}"
        )
        yield Text(visible(f"  {' → '.join(_flow(summary, waves.get(summary.iteration)))}"))
        counts = (summary.inlier, summary.boundary, summary.outlier)
        if any(counts):
            yield Text.assemble("  ", level_line(counts, _BAR))
        for row in page.progress.rounds:
            if row.kind == "source" and row.number == summary.iteration:
                share = f", {row.correct / row.verified:.0%} correct" if row.verified else ""
                yield Text(
                    visible(f"  source {row.evaluation_key}: {row.drawn} samples of {row.model}{share}")
                )


def _flow(summary: IterationSummary, row: RoundProgress | None) -> Iterator[str]:
    yield f"{summary.model or 'no policy yet'}"
    yield f"{summary.problems} problems"
    yield f"{summary.drawn_pre} pre-samples"
    if summary.labelled:
        yield f"{summary.boundary} of {summary.labelled} at the boundary"
    if summary.drawn_re or (row is not None and row.waves):
        waves = f" in {row.waves} waves" if row is not None and row.waves > 1 else ""
        yield f"{summary.drawn_re} re-samples{waves}"
    if summary.pairs:
        yield f"{summary.pairs} pairs"
    if summary.optimiser_steps:
        yield f"{summary.optimiser_steps} steps of training"
    if summary.output_model is not None:
        new = summary.output_model != summary.model
        yield f"{summary.output_model}{'' if new else ' (nothing trained)'}"
    if summary.heldout_accuracy_after is not None:
        before = summary.heldout_accuracy_before
        change = "" if before is None else f" from {before:.3f}"
        yield f"accuracy {summary.heldout_accuracy_after:.3f}{change}"


def further_lines(run: str) -> Iterator[str]:
    """Yield commands that show more."""
    yield "look further:"
    for command in (
        f"problems show {run} --preset overrated",
        f"samples show {run} --disagreement any",
        f"report {run} --lengths",
        f"status {run}",
    ):
        yield f"  hsstar {command}"
