"""What the process does that makes problems of reasoning-gym: `python -m hsstar.data.gym_problems gym:…`.

It writes a line of JSON for each problem, `[number, row]`, or `{"refused": …}`, `{"missing": …}`.
"""

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl

from hsstar.data.gym import NO_ANSWER, PREFIX
from hsstar.domain.errors import BadInputError, MissingDependencyError
from hsstar.domain.suggestions import did_you_mean

_SIZED = ("acre",)
"""Tasks whose problems depend on how many are made; their ids name the size."""
_LARGEST_SIZE = 1_000_000
_TEMPLATED = "gsm_symbolic"
_TEMPLATES = "templates"
_RANGES = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")


def make_rows(name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield what `gym.generate_rows` does, in this process; some tasks depend on its hash seed."""
    task, values = _parse(name)
    dataset, wanted, options = _create(name, task, values)
    kept = ("seed",) if task in _SIZED else ("seed", "size")
    changed = {key: value for key, value in sorted(options.items()) if key not in kept}
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
                "answer": NO_ANSWER if problem["answer"] is None else problem["answer"],
                "solution": problem["metadata"].get("answer_cot"),
                "subject": subject,
                "id": f"{task}-{dataset.seed}-{index}{others}",
            },
        )


def _parse(name: str) -> tuple[str, dict[str, str]]:
    task, _, query = name.removeprefix(PREFIX).partition("?")
    if not task:
        raise BadInputError(f"{name}: expected a task, as in {PREFIX}chain_sum?size=1000&seed=1")
    try:
        plain = query.replace("+", "%2B")  # a name is no form of a web page
        pairs = parse_qsl(plain, keep_blank_values=True, strict_parsing=bool(query))
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
    if task not in DATASETS:
        others = did_you_mean(task, DATASETS) or f"; it has {', '.join(sorted(DATASETS))}"
        raise BadInputError(f"{name}: reasoning-gym has no task {task!r}{others}")
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
    except Exception as error:  # each task refuses in its own way
        reason = " ".join(str(error).split())
        raise BadInputError(f"{name}: {task} refuses these values{reason and f' ({reason})'}") from error


_Key = tuple[str, Callable[[str], Any]]
"""What is expected of a value, in words, and what reads it; it raises KeyError or ValueError for others."""


def _keys(task: str, configuration: type) -> dict[str, _Key]:
    """Return the keys of a task: the fields of its configuration that a text can give, and hsstar's own."""
    keys = {
        name: key for name, hint in get_type_hints(configuration).items() if (key := _key(hint)) is not None
    }
    keys["size"] = (f"a whole number from 1 to {_LARGEST_SIZE:,}", _whole(1, _LARGEST_SIZE))
    keys["seed"] = ("a whole number from 0", _whole(0, sys.maxsize))
    if task == _TEMPLATED:
        keys[_TEMPLATES] = ("numbers and ranges as in 0-79,90", _ranges)
    return keys


_READERS: dict[object, _Key] = {
    int: ("a whole number", int),
    float: ("a number", float),
    bool: ("true or false", lambda text: {"true": True, "false": False}[text.lower()]),
    str: ("a text", str),
    tuple: ("texts with commas between them", lambda text: text.split(",")),
}


def _key(hint: Any) -> _Key | None:
    """Return how a text gives a value of a type; None where it cannot."""
    if get_origin(hint) in (Union, UnionType):
        one, *others = [each for each in get_args(hint) if each is not NoneType]
        return None if others else _key(one)
    if get_origin(hint) is Literal:
        choices = {str(choice): choice for choice in get_args(hint)}
        return f"one of {', '.join(choices)}", choices.__getitem__
    if get_origin(hint) in (list, tuple, Sequence):
        match get_args(hint)[0]:
            case item if item is str:
                return _READERS[tuple]
            case item if item in (int, float):
                return "numbers with commas between them", lambda text: list(map(item, text.split(",")))
        return None
    return _READERS.get(hint)


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


def main(name: str) -> None:
    """Write the problems of a name; what a task prints goes to the standard error."""
    lines = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        try:
            for numbered in make_rows(name):
                print(json.dumps(numbered), file=lines)
        except BadInputError as error:
            print(json.dumps({"refused": str(error)}), file=lines)
        except MissingDependencyError as error:
            print(json.dumps({"missing": str(error)}), file=lines)


if __name__ == "__main__":
    main(sys.argv[1])
