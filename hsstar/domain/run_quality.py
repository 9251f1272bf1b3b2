"""What is wrong with an iteration, in words, and the limits at which a run stops."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

_FEWEST_SAMPLES = 24
"""Fewer say nothing while more are on their way."""
_MUCH_CUT = 0.2
_MUCH_UNANSWERED = 0.5


@dataclass(frozen=True, slots=True)
class Gate:
    """Limits of shares in [0, 1]; a share that equals its limit passes."""

    correct_share: tuple[float, float]  # of the pre-samples that are verified
    cut_share_at_most: float  # of the pre-samples
    evaluation_drop_at_most: float  # accuracy of a policy minus that of the one trained from it

    @property
    def judges_samples(self) -> bool:
        """Whether pre-samples can fail."""
        return self.correct_share != (0.0, 1.0) or self.cut_share_at_most < 1

    @property
    def judges_evaluations(self) -> bool:
        """Whether a new policy can fail."""
        return self.evaluation_drop_at_most < 1


class SampleCounts(Protocol):
    """How many samples there are, and how they ended."""

    @property
    def drawn(self) -> int:
        """Samples."""

    @property
    def verified(self) -> int:
        """Samples with a cause."""

    @property
    def correct(self) -> int:
        """Samples that are correct."""

    @property
    def cut(self) -> int:
        """Samples that ended at a length limit."""

    @property
    def cut_by_context(self) -> int:
        """Samples that ended before max_new_tokens, because the context was full."""


class IterationFigures(SampleCounts, Protocol):
    """The figures of an iteration, as far as it is."""

    @property
    def state(self) -> str:
        """The state of the iteration."""

    @property
    def model(self) -> str | None:
        """The policy that it samples from."""

    @property
    def output_model(self) -> str | None:
        """The policy after its training; None before the end of that."""

    @property
    def no_answer(self) -> int:
        """Samples without an answer."""

    @property
    def pairs(self) -> int:
        """Preference pairs."""


def failed_limit(gate: Gate, samples: SampleCounts) -> str | None:
    """Return the limit that pre-samples break, in words; None if they pass."""
    low, high = gate.correct_share
    drawn, verified, correct, cut = samples.drawn, samples.verified, samples.correct, samples.cut
    if verified and not low <= correct / verified <= high:
        return (
            f"{correct} of {verified} pre-samples correct ({correct / verified:.1%}), "
            f"and gate.correct_share is {low:.1%} to {high:.1%}"
        )
    if drawn and cut / drawn > gate.cut_share_at_most:
        return (
            f"{cut} of {drawn} pre-samples cut ({cut / drawn:.1%}), "
            f"and gate.cut_share_at_most is {gate.cut_share_at_most:.1%}"
        )
    return None


def failed_evaluation(gate: Gate, before: Mapping[str, float], after: Mapping[str, float]) -> str | None:
    """Return the largest drop of an accuracy beyond the gate, in words; None if there is none.

    Accuracies are by what is measured: held-out problems or a benchmark.
    """
    drops = {name: before[name] - after[name] for name in before.keys() & after.keys()}
    name = max(sorted(drops), key=drops.__getitem__, default=None)
    # accuracies are quotients: a drop of exactly the limit may come out above it
    if name is None or drops[name] <= gate.evaluation_drop_at_most + 1e-9:
        return None
    return (
        f"accuracy on {name} {after[name]:.3f} after {before[name]:.3f}, "
        f"and gate.evaluation_drop_at_most is {gate.evaluation_drop_at_most:g}"
    )


def nothing_trained(number: int, objective: str, pairs: int) -> str:
    """Return why iteration `number` made no new policy."""
    match objective:
        case "sft":
            reason = "no correct sample to train on (or its training was discarded)"
        case "kto":
            reason = "no correct or no incorrect sample to train on (or its training was discarded)"
        case _ if not pairs:
            reason = "no pair"
        case _:
            reason = "its training was discarded"
    return f"{reason}, nothing was trained: M{number + 1} is M{number}"


def find_faults(figures: IterationFigures, number: int, objective: str, context: int | None) -> list[str]:
    """Return what is wrong with iteration `number`, in words.

    `context` is how many tokens its policy and engine hold, None if not known.
    """
    faults = []
    if objective != "none" and figures.output_model is not None and figures.output_model == figures.model:
        faults.append(nothing_trained(number, objective, figures.pairs))
    if figures.state in ("waiting", "pre_sampling") and figures.verified < _FEWEST_SAMPLES:
        return faults
    if figures.verified and not figures.correct:
        faults.append(f"0 of {figures.verified} correct: references or prompt?")
    elif figures.verified and figures.correct == figures.verified:
        faults.append(
            f"{figures.correct} of {figures.verified} correct: the problems are too easy to learn from"
        )
    return faults + find_cuts(figures, context) + _unanswered(figures)


def context_of(*limits: int | None) -> int | None:
    """Return how many tokens a prompt and its response have at most, by the limits that are known."""
    return min((limit for limit in limits if limit is not None), default=None)


def find_cuts(figures: SampleCounts, context: int | None) -> list[str]:
    """Return by what samples were cut, in words, where many were; `context` as in `find_faults`."""
    if figures.cut <= _MUCH_CUT * figures.drawn:
        return []
    where = "its policy" if context is None else f"{context}"
    limits = {
        "at max_new_tokens": figures.cut - figures.cut_by_context,
        f"by the context of {where}": figures.cut_by_context,
    }
    return [f"{count} of {figures.drawn} cut {limit}" for limit, count in limits.items() if count]


def _unanswered(figures: IterationFigures) -> list[str]:
    whole = figures.no_answer - figures.cut  # at the least: what is cut has rarely an answer
    if whole <= _MUCH_UNANSWERED * figures.drawn:
        return []
    return [f"{whole} of {figures.drawn} end without an answer: prompt or stop strings?"]
