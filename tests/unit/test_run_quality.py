"""What is said of an iteration that taught nothing, and where a gate stops a run."""

from dataclasses import dataclass, replace

import pytest

from hsstar.domain.errors import RecipeError
from hsstar.domain.run_quality import Gate, failed_evaluation, failed_limit, find_cuts, find_faults
from hsstar.recipe.recipe import parse_recipe


@dataclass(frozen=True)
class Figures:
    """A healthy iteration of 96 samples."""

    state: str = "done"
    model: str | None = "M0"
    output_model: str | None = "M1"
    drawn: int = 96
    verified: int = 96
    correct: int = 40
    cut: int = 4
    cut_by_context: int = 0
    no_answer: int = 4
    pairs: int = 12


HEALTHY = Figures()
NOTHING = replace(HEALTHY, output_model="M0", pairs=0)
EARLY = replace(
    HEALTHY, state="pre_sampling", output_model=None, drawn=23, verified=23, correct=0, cut=0, pairs=0
)

FAULTS = {
    "no pair": (NOTHING, "dpo", ["no pair, nothing was trained: M1 is M0"]),
    "nothing by choice": (NOTHING, "none", []),
    "no example": (
        NOTHING,
        "sft",
        ["no correct sample to train on (or its training was discarded), nothing was trained: M1 is M0"],
    ),
    "a training that was given up": (
        replace(HEALTHY, output_model="M0"),
        "dpo",
        ["its training was discarded, nothing was trained: M1 is M0"],
    ),
    "none correct": (replace(HEALTHY, correct=0), "dpo", ["0 of 96 correct: references or prompt?"]),
    "one correct": (replace(HEALTHY, correct=1), "dpo", []),
    "all correct": (
        replace(HEALTHY, correct=96),
        "dpo",
        ["96 of 96 correct: the problems are too easy to learn from"],
    ),
    "cut by the limit": (replace(HEALTHY, cut=84), "dpo", ["84 of 96 cut at max_new_tokens"]),
    "cut by the context": (
        replace(HEALTHY, drawn=48, cut=36, cut_by_context=36),
        "dpo",
        ["36 of 48 cut by the context of 64"],
    ),
    "cut by either": (
        replace(HEALTHY, cut=30, cut_by_context=10),
        "dpo",
        ["20 of 96 cut at max_new_tokens", "10 of 96 cut by the context of 64"],
    ),
    "a fifth cut": (replace(HEALTHY, drawn=100, cut=20), "dpo", []),
    "whole responses without an answer": (
        replace(HEALTHY, no_answer=60),
        "dpo",
        ["56 of 96 end without an answer: prompt or stop strings?"],
    ),
    "cut responses without an answer": (
        replace(HEALTHY, cut=60, no_answer=60),
        "dpo",
        ["60 of 96 cut at max_new_tokens"],
    ),
    "too few to say": (EARLY, "dpo", []),
    "enough to say while others are drawn": (
        replace(EARLY, drawn=24, verified=24),
        "dpo",
        ["0 of 24 correct: references or prompt?"],
    ),
    "few, and no more to come": (
        replace(EARLY, state="re_sampling"),
        "dpo",
        ["0 of 23 correct: references or prompt?"],
    ),
    "nothing yet": (replace(EARLY, state="waiting", drawn=0, verified=0), "dpo", []),
    "healthy": (HEALTHY, "dpo", []),
}


@pytest.mark.parametrize(("figures", "objective", "faults"), FAULTS.values(), ids=FAULTS)
def test_what_is_wrong_is_said_in_words(figures: Figures, objective: str, faults: list[str]) -> None:
    assert find_faults(figures, 0, objective, 64) == faults


def test_a_context_that_nobody_knows_is_not_made_up() -> None:
    cut = replace(HEALTHY, cut=96, cut_by_context=96)
    assert find_cuts(cut, None) == ["96 of 96 cut by the context of its policy"]


GATE = Gate((0.02, 0.98), 0.3, 0.03)


@pytest.mark.parametrize(
    ("correct", "cut", "broken"),
    [
        (1, 0, "1 of 100 pre-samples correct (1.0%), and gate.correct_share is 2.0% to 98.0%"),
        (2, 0, None),
        (98, 30, None),
        (99, 0, "99 of 100 pre-samples correct (99.0%), and gate.correct_share is 2.0% to 98.0%"),
        (50, 31, "31 of 100 pre-samples cut (31.0%), and gate.cut_share_at_most is 30.0%"),
    ],
)
def test_a_share_at_its_limit_passes(correct: int, cut: int, broken: str | None) -> None:
    assert failed_limit(GATE, Figures(drawn=100, verified=100, correct=correct, cut=cut)) == broken


def test_no_sample_breaks_no_limit() -> None:
    assert failed_limit(GATE, Figures(drawn=0, verified=0, correct=0, cut=0)) is None


@pytest.mark.parametrize(
    ("after", "broken"),
    [
        ({"heldout": 0.47, "amc23": 0.9}, None),  # exactly 0.03 lower
        ({"heldout": 0.46}, "accuracy on heldout 0.460 after 0.500"),
        ({"heldout": 0.4, "amc23": 0.1}, "accuracy on amc23 0.100 after 0.300"),
        ({"another": 0.0}, None),
        ({}, None),
    ],
)
def test_the_largest_drop_of_an_accuracy_counts(after: dict[str, float], broken: str | None) -> None:
    found = failed_evaluation(GATE, {"heldout": 0.5, "amc23": 0.3}, after)
    assert found == (broken and f"{broken}, and gate.evaluation_drop_at_most is 0.03")


SMALLEST = {
    "name": "r", "problems": {"dataset": "d", "per_iteration": 1}, "policy": {"model": "m"},
    "reward": {"model": "prm"},
}  # fmt: skip


def test_a_recipe_without_a_gate_stops_nowhere() -> None:
    gate = parse_recipe(SMALLEST).gate.limits
    assert not gate.judges_samples
    assert not gate.judges_evaluations


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ({"correct_share": [0.5, 0.5]}, "the least share must be below the greatest"),
        ({"correct_share": [-0.1, 0.5]}, "greater than or equal to 0"),
        ({"cut_share_at_most": 30}, "less than or equal to 1"),
        ({"evaluation_drop_at_most": 0.03}, "needs evaluation.dataset or evaluation.benchmarks"),
    ],
)
def test_a_gate_that_cannot_be_is_refused(gate: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe(SMALLEST | {"gate": gate})
