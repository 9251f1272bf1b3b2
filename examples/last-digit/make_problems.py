"""Write the problems: `python make_problems.py`."""

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

TRAIN, HELD_OUT = 120, 60
WORDS = {"+": "plus", "*": "times"}


def problems(random: Random) -> Iterator[dict[str, str]]:
    """Yield different sums in words; the reference is what the check needs, as JSON."""
    seen = set[str]()
    while True:
        digits = [str(random.randint(2, 9)) for _ in range(random.randint(5, 6))]
        signs = [random.choice("++*") for _ in digits[1:]]
        words = " ".join(map(" ".join, zip(digits, [*(WORDS[sign] for sign in signs), ""], strict=True)))
        if words not in seen:
            seen.add(words)
            value = eval("".join(map("".join, zip(digits, [*signs, ""], strict=True))))
            reference = json.dumps({"digit": value % 10, "value": value})
            yield {"problem": f"What is the last digit of {words.strip()}?", "answer": reference}


def main() -> None:
    """Write both files beside this one."""
    rows = problems(Random(1))
    for name, count in (("train", TRAIN), ("heldout", HELD_OUT)):
        lines = [json.dumps(next(rows)) for _ in range(count)]
        Path(__file__).with_name(f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
