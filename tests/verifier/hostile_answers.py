r"""Answers made to hang, grow, crash or take over a verifier, by kind. None of them is equivalent to `x+8`.

`{marker}` stands for a file that exists only if something in the answer was run. In the table
(`hostile_answers.json`) a text is written out or in parts: repeated, numbered (`#`, `@` is the next number),
or a range of characters.
"""

import json
from pathlib import Path
from typing import Any

LONGEST_READ = 9_900
"""About the longest answer that a verifier reads as mathematics at all."""


def _text(part: Any, share: int = 1) -> str:
    """Return the text of a part; `share` n repeats an n-th as often."""
    match part:
        case str():
            return part
        case list():
            return "".join(_text(inner, share) for inner in part)
        case {"of": inner, "times": int(times)}:
            return _text(inner) * (times // share)
        case {"each": template, "numbers": numbers, "between": separator}:
            texts = (
                template.replace("#", str(number)).replace("@", str(number + 1)) for number in range(*numbers)
            )
            return str(separator).join(texts)
        case {"characters": [int(first), int(end)]}:
            return "".join(map(chr, range(first, end)))
        case _:
            raise ValueError(part)


def _filled(unit: str, length: int) -> str:
    return unit * (length // len(unit))


def _all_kinds() -> dict[str, dict[str, str]]:
    table = json.loads((Path(__file__).with_suffix(".json")).read_text())
    kinds = {kind: {name: _text(part) for name, part in parts.items()} for kind, parts in table.items()}
    units, megabytes = kinds.pop("units"), kinds.pop("megabytes")
    short = {
        f"{length} characters of {name} in {frame}": frame.format(_filled(unit, length))
        for name, unit in units.items()
        for length, frame in ((40, "{}7"), (900, "{}7"), (900, "x{}"))
    }
    large = {name: _text(part, 10) for name, part in table["megabytes"].items()}
    repeated, very_long, longest = (
        {name: _filled(unit, length) for name, unit in units.items()}
        for length in (LONGEST_READ, 15_000, 100_000)
    )
    long = {"very long": very_long, "longest": longest, "large": large, "megabytes": megabytes}
    return kinds | {"short": short, "repeated": repeated} | long


HOSTILE_ANSWERS = _all_kinds()
"""Hostile answers by kind and name."""
