"""The tables of layouts are those of the code."""

from tools.layout_tables import PAGE, TABLES, renewed
from tools.references import ROOT


def test_the_tables_of_layouts_are_those_of_readers_and_writers() -> None:
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    assert all(f"<!-- table: {name} -->" in text for name in TABLES)
    broken = text.replace("RLHFlow", "somebody")
    assert renewed(broken) == text != broken
