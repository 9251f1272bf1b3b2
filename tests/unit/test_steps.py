"""Steps: what lies between blank lines, and the minimum of their rewards."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsstar.domain.steps import STEP_SEPARATOR, minimum_reward, split_steps


@pytest.mark.parametrize(
    ("response", "steps"),
    [
        ("one\n\ntwo", ("one", "two")),
        ("one\ngoes on\n\ntwo", ("one\ngoes on", "two")),
        ("one\n\n\n\ntwo", ("one", "two")),
        ("one\n \t\ntwo", ("one", "two")),  # a line of blanks is a blank line
        ("\n\n  one  \n\n", ("one",)),
        ("one step only", ("one step only",)),
        ("", ()),
        (" \n\n \n", ()),
    ],
)
def test_steps_lie_between_blank_lines(response: str, steps: tuple[str, ...]) -> None:
    assert split_steps(response) == steps


@given(st.text(st.sampled_from("ab \n\t"), max_size=40))
def test_splitting_what_was_joined_gives_the_same_steps(response: str) -> None:
    steps = split_steps(response)
    assert split_steps(STEP_SEPARATOR.join(steps)) == steps
    assert all(step == step.strip() != "" for step in steps)


def test_the_weakest_step_decides() -> None:
    assert minimum_reward((0.9, 0.2, 0.7)) == 0.2
    assert minimum_reward([1.0]) == 1.0


def test_a_response_without_a_step_has_reward_nought() -> None:
    assert minimum_reward(()) == 0
