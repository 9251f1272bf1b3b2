"""Write solutions for the initialisation: `python make_solutions.py`."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from reasoning_gym import create_dataset

FOLDER = Path(__file__).parent
SEED = 1
SOLUTIONS = 3_000
TRAINED = {"seed": 500_000, "size": 120}
HELD_OUT = {"seed": 1_000_000, "size": 150}
"""Those of README.md. Problem i of these tasks follows from seed + i."""

Entry = dict[str, Any]


def sum_in_steps(entry: Entry) -> Iterator[str]:
    """Yield the running total behind each further term."""
    total, *rest = entry["metadata"]["expression"].split()
    for sign, term in zip(rest[::2], rest[1::2], strict=True):
        value = int(total) + int(term) if sign == "+" else int(total) - int(term)
        yield f"{total}{sign}{term}={value}"
        total = str(value)


def remainders(entry: Entry) -> Iterator[str]:
    """Yield the steps of Euclid's algorithm."""
    smaller, larger = sorted(map(int, re.findall(r"\d+", entry["question"])))
    while smaller:
        yield f"{larger}%{smaller}={larger % smaller}"
        larger, smaller = smaller, larger % smaller


def counts_in_steps(entry: Entry) -> Iterator[str]:
    """Yield the words in small letters, each with how often the letter was found so far."""
    found = re.search(r'letter "(.)" appear in the text: "(.*)"', entry["question"])
    assert found is not None
    letter, text = found.groups()
    count = 0
    for word in text.lower().split():
        count += word.count(letter)
        yield f"{word} {count}"


STEPS: dict[str, Callable[[Entry], Iterator[str]]] = {
    "chain_sum": sum_in_steps,
    "gcd": remainders,
    "letter_counting": counts_in_steps,
}


def main() -> None:
    """Write a file for each task, without the problems that are trained on or measured."""
    for line in (FOLDER / "tasks.txt").read_text(encoding="utf-8").splitlines():
        task, query = line.split()
        options = {key: int(value) for key, value in parse_qsl(query)}
        left_out = {
            entry["question"]
            for part in (TRAINED, HELD_OUT)
            for entry in create_dataset(task, **part, **options)
        }
        rows = {
            entry["question"]: {
                "problem": entry["question"],
                "answer": entry["answer"],
                "solution": "\n\n".join([*STEPS[task](entry), rf"\boxed{{{entry['answer']}}}"]),
            }
            for entry in create_dataset(task, seed=SEED, size=SOLUTIONS, **options)
            if entry["question"] not in left_out
        }
        text = "".join(json.dumps(row) + "\n" for row in rows.values())
        (FOLDER / f"{task}.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
