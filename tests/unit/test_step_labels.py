"""Labels of steps follow from the continuations of the prefixes that end with them."""

import pytest

from hsstar.domain.step_labels import first_with_prefix, share, soft_labels
from hsstar.domain.steps import step_prefixes


def test_a_prefix_that_several_responses_have_belongs_to_the_first() -> None:
    responses = ["one step", "a\n\nb\n\nc", "a\n\nb\n\nd", "a\n\n\nb"]
    assert first_with_prefix([step_prefixes(response) for response in responses]) == {
        "a\n\n": 1,
        "a\n\nb\n\n": 1,
        "a\n\n\n": 3,
    }


@pytest.mark.parametrize(("counts", "label"), [((3, 1), 0.75), ((0, 2), 0.0), ((2, 0), 1.0), ((0, 0), None)])
def test_a_share_is_of_the_continuations_with_a_verdict(counts: tuple[int, int], label: float | None) -> None:
    assert share(*counts) == label


def test_the_last_step_needs_no_continuation_and_one_without_verdicts_has_no_label() -> None:
    shares = {"a\n\n": 0.5, "a\n\nb\n\n": None}
    assert soft_labels(step_prefixes("a\n\nb\n\nc\n\nd"), True, shares) == (0.5, None, None, 1.0)
    assert soft_labels(step_prefixes("a"), False, shares) == (0.0,)
    assert soft_labels(step_prefixes("a\n\nb"), False, shares) == (0.5, 0.0)
