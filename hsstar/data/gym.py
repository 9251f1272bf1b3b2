"""Problems that the package reasoning-gym makes: `gym:TASK?size=3000&seed=7`.

The same name gives the same problems, as long as the version of the package is the same.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl

from hsstar.domain.errors import BadInputError, MissingDependencyError

PREFIX = "gym:"
TASKS = (
    "acre", "aiw", "basic_arithmetic", "binary_alternation", "calendar_arithmetic", "chain_sum",
    "circuit_logic", "color_cube_rotation", "complex_arithmetic", "count_bits", "count_primes",
    "course_schedule", "decimal_chain_sum", "dice", "family_relationships", "gcd", "gsm_symbolic",
    "largest_island", "lcm", "leg_counting", "letter_counting", "mahjong_puzzle", "maze", "number_sequence",
    "products", "rectangle_count", "rotten_oranges", "self_reference", "simple_equations", "simple_geometry",
    "syllogism",
)  # fmt: skip
"""The tasks with one right answer, a number or a word, that every process makes alike.

Others have several right answers, answers that no comparison of texts or numbers can judge, or problems that
depend on Python's hash seed.
"""

_LARGEST_SIZE = 1_000_000
_TEMPLATED = "gsm_symbolic"
_TEMPLATES = "templates"
_RANGES = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")


def generate_rows(name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the problems of a name, numbered from 1, as rows of the format `math`.

    The subject is the task; of gsm_symbolic it names the template too, as in `gsm_symbolic/27`. The id is
    task, seed, number and what other options the name gives, by which the problem can be made again.
    `templates=0-79,90` leaves out the problems of its other templates.

    Raises:
        BadInputError: the task is unknown, a value is missing or wrong, or the task refuses it.
        MissingDependencyError: reasoning-gym is not installed.
    """
    task, values = _parse(name)
    dataset, wanted, options = _create(name, task, values)
    changed = {key: value for key, value in sorted(options.items()) if key not in ("seed", "size")}
    others = f" {json.dumps(changed)}" if changed else ""
    for index in range(dataset.size):
        subject = task
        if task == _TEMPLATED:
            template = dataset.task_indices[index]
            if not any(template in templates for templates in wanted):
                continue
            subject = f"{task}/{template}"
        try:
            problem = dataset[index]
        except Exception as error:  # each task fails in its own way
            raise BadInputError(f"{name}: the task cannot make problem {index + 1} ({error!r})") from error
        yield (
            index + 1,
            {
                "question": problem["question"],
                "answer": problem["answer"],
                "solution": problem["metadata"].get("answer_cot"),
                "subject": subject,
                "id": f"{task}-{dataset.seed}-{index}{others}",
            },
        )


def _parse(name: str) -> tuple[str, dict[str, str]]:
    task, _, query = name.removeprefix(PREFIX).partition("?")
    if task not in TASKS:
        raise BadInputError(f"{name}: expected a task with answers that hsstar can judge: {', '.join(TASKS)}")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise BadInputError(f"{name}: expected KEY=VALUE joined by & after the question mark") from None
    values = dict(pairs)
    if len(values) < len(pairs):
        raise BadInputError(f"{name}: a key appears twice")
    missing = [key for key in ("size", "seed") if key not in values]
    if missing:
        example = f"{PREFIX}{task}?size=1000&seed=1"
        raise BadInputError(f"{name}: {' and '.join(missing)} missing; as in {example}")
    return task, values


def _create(name: str, task: str, values: dict[str, str]) -> tuple[Any, Sequence[range], dict[str, Any]]:
    """Return the data set of a task, the templates that are wanted of it, and its options."""
    try:
        from reasoning_gym.factory import DATASETS, create_dataset
    except ImportError:
        raise MissingDependencyError(
            f'{name} needs reasoning-gym: install it with pip install "hsstar[gym]"'
        ) from None
    known = _keys(task, DATASETS[task][1])
    options: dict[str, Any] = {}
    for key, text in values.items():
        if key not in known:
            raise BadInputError(f"{name}: unknown key {key!r}; {task} has {', '.join(sorted(known))}")
        expected, read = known[key]
        try:
            options[key] = read(text)
        except (KeyError, ValueError):
            raise BadInputError(f"{name}: expected {expected} as {key}, found {text!r}") from None
    wanted = options.pop(_TEMPLATES, [range(_LARGEST_SIZE)])
    try:
        return create_dataset(task, **options), wanted, options
    except (AssertionError, ValueError) as error:
        raise BadInputError(
            f"{name}: {task} refuses these values{f' ({error})' if str(error) else ''}"
        ) from error


_Key = tuple[str, Callable[[str], Any]]
"""What is expected of a value, in words, and what reads it; it raises KeyError or ValueError for others."""


def _keys(task: str, configuration: type) -> dict[str, _Key]:
    """Return the keys of a task: the fields of its configuration that hold one value, and hsstar's own."""
    keys: dict[str, _Key] = {}
    for name, hint in get_type_hints(configuration).items():
        if hint in _READERS:
            keys[name] = _READERS[hint]
        elif get_origin(hint) is Literal:
            choices = {str(choice): choice for choice in get_args(hint)}
            keys[name] = (f"one of {', '.join(choices)}", choices.__getitem__)
    keys["size"] = (f"a whole number from 1 to {_LARGEST_SIZE:,}", _whole(1, _LARGEST_SIZE))
    keys["seed"] = ("a whole number from 0", _whole(0, sys.maxsize))
    if task == _TEMPLATED:
        keys[_TEMPLATES] = ("numbers and ranges as in 0-79,90", _ranges)
    return keys


_READERS: dict[object, _Key] = {
    int: ("a whole number", int),
    float: ("a number", float),
    bool: ("true or false", lambda text: {"true": True, "false": False}[text.lower()]),
}


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not least <= (number := int(text)) <= most:
            raise ValueError
        return number

    return read


def _ranges(text: str) -> Sequence[range]:
    if not _RANGES.fullmatch(text):
        raise ValueError
    bounds = (part.partition("-") for part in text.split(","))
    return [range(int(first), int(last or first) + 1) for first, _, last in bounds]
