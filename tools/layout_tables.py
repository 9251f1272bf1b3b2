"""The tables of layouts in docs/formats.md, from the code; `tools.references` writes them."""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from hsstar.data.export_layouts import EXPORT_LAYOUTS
from hsstar.data.judged_rows import JUDGED_LAYOUTS
from hsstar.data.layouts import LAYOUTS
from hsstar.data.sample_layouts import SAMPLE_LAYOUTS
from hsstar.data.training_rows import EXAMPLE_LAYOUTS, PAIR_LAYOUTS

PAGE = Path("docs/formats.md")
_TABLE = re.compile(r"<!-- table: (?P<name>[\w ]+) -->(?:(?!<!--).)*<!-- end -->", re.DOTALL)


def renewed(page: str) -> str:
    """A page whose tables are those of the code."""
    return _TABLE.sub(lambda found: _marked(found["name"]), page)


def _marked(name: str) -> str:
    return f"<!-- table: {name} -->\n\n{TABLES[name]()}\n\n<!-- end -->"


def _problems() -> str:
    rows = (
        (
            f"`{layout.format}`",
            layout.published,
            layout.sign,
            _columns(layout.statement),
            _columns(layout.reference),
            _columns(layout.solution),
            _columns(layout.subject),
            _columns(layout.level),
        )
        for layout in LAYOUTS
    )
    heading = ("layout", "of", "recognised by", "statement", "reference", "solution", "subject", "level")
    return _table(heading, rows)


def _samples() -> str:
    rows = (
        (
            layout.published,
            _columns(layout.statement),
            _columns(layout.reference),
            _columns([layout.response]),
        )
        for layout in SAMPLE_LAYOUTS
    )
    return _table(("published by", "statement", "reference", "responses"), rows)


def _pairs() -> str:
    return _table(
        ("published by", "recognised by"), ((layout.published, layout.sign) for layout in PAIR_LAYOUTS)
    )


def _examples() -> str:
    rows = ((layout.published, layout.sign) for layout in EXAMPLE_LAYOUTS)
    return _table(("published by", "recognised by"), rows)


def _judged() -> str:
    rows = ((layout.published, layout.sign) for layout in JUDGED_LAYOUTS)
    return _table(("published by", "recognised by"), rows)


def _exports() -> str:
    rows = ((f"`export {exported}`", _columns(layouts)) for exported, layouts in EXPORT_LAYOUTS.items())
    return _table(("command", "`--layout`"), rows)


def _columns(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "–"


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return (
        "\n".join(f"| {' | '.join(line)} |" for line in lines)
        .replace("| --- ", "|---")
        .replace("--- |", "---|")
    )


TABLES: dict[str, Callable[[], str]] = {
    "problems": _problems,
    "samples": _samples,
    "pairs": _pairs,
    "examples": _examples,
    "judged": _judged,
    "exports": _exports,
}
"""What stands between `<!-- table: NAME -->` and `<!-- end -->`."""
