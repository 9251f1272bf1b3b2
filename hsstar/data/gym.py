"""Problems that the package reasoning-gym makes: `gym:TASK?size=3000&seed=7`.

The same name gives the same problems, as long as the version of the package is the same.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from hsstar.domain.errors import BadInputError, MissingDependencyError

PREFIX = "gym:"
NO_ANSWER = "(any answer that reasoning-gym scores as right)"
"""The reference of a problem for which the task names no answer, but only scores those that it is given."""

COMPARABLE = (
    "acre", "aiw", "basic_arithmetic", "binary_alternation", "calendar_arithmetic", "chain_sum",
    "circuit_logic", "color_cube_rotation", "complex_arithmetic", "count_bits", "count_primes",
    "course_schedule", "decimal_chain_sum", "dice", "family_relationships", "gcd", "gsm_symbolic",
    "largest_island", "lcm", "leg_counting", "letter_counting", "mahjong_puzzle", "maze", "number_sequence",
    "products", "rectangle_count", "rotten_oranges", "self_reference", "simple_equations", "simple_geometry",
    "syllogism",
)  # fmt: skip
"""The tasks with one right answer, a number or a word, that mathematics compares as the task itself does."""


def generate_rows(name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the problems of a name, numbered from 1, as rows of the format `math`.

    The subject is the task; of gsm_symbolic it names the template too, as in `gsm_symbolic/27`. The id is
    task, seed, number and what other options the name gives, by which the problem can be made again.
    `templates=0-79,90` leaves out the problems of its other templates.

    A process of its own makes them, because some tasks depend on Python's hash seed.

    Raises:
        BadInputError: the task is unknown, a value is missing or wrong, or the task refuses it.
        MissingDependencyError: reasoning-gym is not installed.
    """
    command = [sys.executable, "-P", "-m", "hsstar.data.gym_problems", name]
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        try:
            for line in process.stdout or ():
                match json.loads(line):
                    case {"refused": reason}:
                        raise BadInputError(reason)
                    case {"missing": reason}:
                        raise MissingDependencyError(reason)
                    case [number, row]:
                        yield number, row
            if process.wait():
                raise BadInputError(f"{name}: the task ended its process ({_last_line(errors)})")
        finally:
            process.kill()


def refuse_as_mathematics(names: Iterable[Path]) -> None:
    """Raise BadInputError if a name is wrong, or its answers are not to be compared as mathematics."""
    for name in map(str, names):
        task = name.removeprefix(PREFIX).partition("?")[0]
        if name.startswith(PREFIX) and task and task not in COMPARABLE:
            next(generate_rows(name))
            raise BadInputError(
                f"{name}: only reasoning-gym itself can judge its answers: add --verification gym"
            )


def _last_line(errors: IO[bytes]) -> str:
    errors.seek(0)
    return (errors.read().decode(errors="replace").splitlines() or ["no reason given"])[-1].strip()
