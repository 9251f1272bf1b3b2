"""The progress of a run as lines, one per round."""

from collections.abc import Sequence

from hsstar.cli.views.output import duration
from hsstar.domain.lifecycle import IterationState
from hsstar.insights.progress import TimeLeft, round_name
from hsstar.store.read.progress import RoundProgress


def round_lines(progress: Sequence[RoundProgress], *, held: bool = False) -> list[str]:
    """Return one line per round: its state, with counts per stage; `held`: no iteration starts."""
    states = {row.number: row.state for row in progress if row.kind == "iteration"}
    return [
        _iteration_line(row, states.get(row.number - 1), held=held)
        if row.kind == "iteration"
        else _source_line(row)
        if row.kind == "source"
        else _evaluation_line(row)
        for row in progress
    ]


def _iteration_line(row: RoundProgress, state_before: str | None, *, held: bool) -> str:
    head = f"iteration {row.number}  {row.state.replace('_', '-'):12}"
    if row.state == IterationState.WAITING:
        ready = state_before in (None, IterationState.EVALUATING, IterationState.DONE)
        if ready:
            return f"{head}  {'waits until the run is resumed' if held else 'about to start'}"
        return f"{head}  waits for iteration {row.number - 1}"
    parts = [f"samples {row.drawn}/{row.budget}"]
    if row.waves > 1:
        parts.append(f"wave {row.waves}")
    if row.state in (IterationState.PRE_SAMPLING, IterationState.RE_SAMPLING):
        parts.append(f"verified {row.verified}")
        parts += [f"scored {row.scored}"] if row.scored else []
    parts += _of_samples(row)
    if row.inlier + row.boundary + row.outlier:
        parts.append(f"inlier {row.inlier} · boundary {row.boundary} · outlier {row.outlier}")
    if row.pairs:
        problems = f"of {row.problems_with_pair} problems"
        parts.append(f"pairs {row.pairs} ({row.distinct_pairs} different, {problems})")
    if row.rows_trained:
        parts.append(f"trained on {row.rows_trained} rows in {row.training_steps_done} steps")
    elif row.training_steps:
        parts.append(f"training step {row.training_steps_done}/{row.training_steps}")
    return f"{head}  " + ", ".join(parts + _trouble(row))


def _of_samples(row: RoundProgress) -> list[str]:
    parts = []
    if row.verified:
        parts.append(f"correct {row.correct / row.verified:.0%}")
    if row.cut:
        parts.append(f"cut {row.cut / row.drawn:.0%}")
    if row.no_answer:
        parts.append(f"no answer {row.no_answer / row.verified:.0%}")
    if row.mean_tokens:
        parts.append(f"{row.mean_tokens:.0f} tokens each")
    return parts


def _source_line(row: RoundProgress) -> str:
    parts = [f"samples {row.drawn}/{row.allotted}", f"verified {row.verified}", *_of_samples(row)]
    return f"{round_name(row)}  {row.state:9}  {row.model}: " + ", ".join(parts + _trouble(row))


def _evaluation_line(row: RoundProgress) -> str:
    head = f"{round_name(row)}  {row.state:9}"
    if row.accuracy is not None:
        tokens = f", {row.mean_tokens:.0f} tokens each" if row.mean_tokens else ""
        return f"{head}  accuracy {row.accuracy:.3f} ± {row.standard_error or 0:.3f}{tokens}"
    return f"{head}  " + ", ".join(
        [f"samples {row.drawn}/{row.allotted}", f"verified {row.verified}", *_trouble(row)]
    )


def _trouble(row: RoundProgress) -> list[str]:
    parts = []
    if row.excluded:
        parts.append(f"{row.excluded} problems left out")
    if row.failed:
        parts.append(f"{row.failed} jobs failed")
    return parts


def time_left(left: TimeLeft) -> str:
    """Return the time that is left, and what the estimate rests on."""
    basis = f"{left.gained:.0%} in the last {duration(left.measured_seconds)}"
    return f"about {duration(left.seconds)} left ({basis})"
