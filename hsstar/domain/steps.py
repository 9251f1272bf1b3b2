"""Steps of a response: the one place that says where one step ends and the next begins."""

import re

STEP_SEPARATOR = "\n\n"
_BLANK_LINES = re.compile(r"\n[ \t]*\n\s*")


def split_steps(response: str) -> tuple[str, ...]:
    """The steps of a response: its parts between blank lines, stripped, empty ones left out."""
    return tuple(step for part in _BLANK_LINES.split(response) if (step := part.strip()))


def minimum_reward(step_rewards: tuple[float, ...] | list[float]) -> float:
    """`S(r)`: the smallest step reward; 0 for a response without a step."""
    return min(step_rewards, default=0.0)
