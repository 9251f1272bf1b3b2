"""The examples of README.md and docs/ give what the pages say, and every query and view is there."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import Home, temporary_home
from tests.checkout import this_checkout
from tests.docs.pages import PAGES, ROOT, Block, Page, documented_views

__all__ = ["this_checkout"]

WITH_STACK = ("docs/evaluation.md", "docs/formats.md", "docs/sql.md")
"""Pages whose `console` blocks need a database and a worker that verifies."""

TRAINS = ("README.md",)
"""Pages whose `console` blocks start a stack of their own, and train."""


@pytest.fixture(scope="module")
def stack() -> Iterator[Home]:
    """A running stack with one worker, which verifies."""
    with temporary_home() as home:
        home.ok("up", "--workers", "sample=0,score=0,verify=1,train=0")
        yield home


@pytest.fixture
def no_stack_yet() -> Iterator[Home]:
    """The home of a stack that the page starts; whatever is up at the end is stopped."""
    with temporary_home() as home:
        yield home


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.name, marks=pytest.mark.heavy if page.name in TRAINS else ())
        for page in PAGES
        if any(block.language == "console" for block in page.blocks)
    ],
)
def test_examples_give_what_the_page_says(page: Page, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    environment = {"HSSTAR_HOME": str(tmp_path / "home")}
    if page.name in (*WITH_STACK, *TRAINS):
        home = request.getfixturevalue("no_stack_yet" if page.name in TRAINS else "stack")
        environment = {name: home.environment[name] for name in ("HSSTAR_HOME", "HSSTAR_SERVER_DIR")}
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    for block in page.blocks:
        if block.file is not None:
            (tmp_path / block.file).write_text(block.text)
        elif block.language == "console":
            for command, expected in steps(block):
                shown = run(command, tmp_path, environment)
                assert matches(expected, shown), f"$ {command}\n{shown}"


def test_every_view_and_its_columns_are_as_documented(stack: Home) -> None:
    existing: dict[str, list[str]] = {}
    for row in stack.query(
        "SELECT table_name, column_name FROM information_schema.columns JOIN information_schema.views"
        " USING (table_schema, table_name) WHERE table_schema = 'public' ORDER BY ordinal_position"
    ):
        existing.setdefault(row["table_name"], []).append(row["column_name"])
    assert documented_views() == existing


@pytest.mark.parametrize(
    "query", [block.text for page in PAGES for block in page.blocks if block.language == "sql"]
)
def test_every_query_runs(query: str, stack: Home) -> None:
    stack.query(query)


def run(command: str, folder: Path, environment: dict[str, str]) -> str:
    """What a shell shows of a command, both streams together."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | environment | {"PATH": path, "COLUMNS": "110"}
    shell = ["bash", "-c", f"exec </dev/null 2>&1\n{command}"]
    return subprocess.run(
        shell, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, timeout=240
    ).stdout


def steps(block: Block) -> Iterator[tuple[str, str]]:
    """The commands of a `console` block, each with what it is said to show."""
    for step in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, expected = re.sub(r"\\\n", "", step).partition("\n")
        yield command, expected


def matches(expected: str, shown: str) -> bool:
    """Whether a text is as expected; `…` stands for anything."""
    said, seen = (
        "\n".join(line.rstrip() for line in text.strip().splitlines()) for text in (expected, shown)
    )
    return re.fullmatch(re.escape(said).replace("…", ".*"), seen, re.DOTALL) is not None
