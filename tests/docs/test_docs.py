"""What README.md and docs/ say is so: names exist, links lead somewhere, examples run, pages stay short."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import psycopg
import pytest
from pydantic import BaseModel

from hsstar.cli.main import hsstar
from hsstar.recipe.documents import EXTENDS
from hsstar.recipe.recipe import Recipe
from hsstar.study.document import StudyDocument
from tests.docs.pages import PAGES, ROOT, Block, Page, words
from tools import references

ALL = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
SAID = "\n".join(page.text for page in PAGES)

WORDS_IN_ALL = 14_000
WORDS = {
    "README.md": 1_080,
    "docs/architecture.md": 2_390,
    "docs/operations.md": 2_155,
    "docs/glossary.md": 355,
    "docs/coming-from-the-scripts.md": 300,
    "docs/evaluation.md": 690,
    "docs/formats.md": 790,
    "docs/recipe.md": 750,
    "docs/reference-cli.md": 1_865,
    "docs/reference-recipe.md": 1_340,
    "docs/sql.md": 1_010,
    "docs/study.md": 525,
    "docs/verifier.md": 745,
}
"""The most words that each page may have."""

CODE_FOLDERS = ("hsstar", "cli", "workers", "migrations")

WITH_STACK = ("docs/evaluation.md", "docs/formats.md", "docs/sql.md")
"""Pages whose `console` blocks need a database and a worker that verifies."""

TRAINS = ("README.md",)
"""Pages whose `console` blocks start a stack of their own, and train."""

OTHERS_OPTIONS = {"--served-model-name", "--build-arg", "--signal"}
"""Options of other programs that the pages name."""


# What is named exists, and what exists is named


@pytest.mark.parametrize("path", references.pages(), ids=str)
def test_the_references_are_as_the_code_is(path: Path) -> None:
    assert (ROOT / path).read_text() == references.pages()[path], "run: make references"


@ALL
def test_every_command_and_option_that_is_named_exists(page: Page) -> None:
    assert [problem for call in calls(page) if (problem := wrong_with(call))] == []


@ALL
def test_every_option_that_is_named_alone_exists(page: Page) -> None:
    known = {option for _, command in commands() for option in options_of(command)} | OTHERS_OPTIONS
    alone = {span.split()[0].partition("=")[0] for span in page.spans if span.startswith("--")}
    assert alone - known - {"--help", "--version", "--debug"} == set()


def test_every_command_and_option_is_named() -> None:
    missing = [
        f"hsstar {' '.join(path)} {option}"
        for path, command in commands()
        for option in ("", *options_of(command))
        if f"hsstar {' '.join(path)}" not in SAID or option not in SAID
    ]
    assert missing == []


@ALL
def test_every_recipe_key_that_is_named_exists(page: Page) -> None:
    named = [
        span.strip("[]").split(" = ")[0]
        for span in page.spans
        if re.match(rf"\[?({'|'.join(sections())})(\.|\]$)", span)
    ]
    shown = [key for block in page.blocks if block.language == "toml" for key in keys_of_block(block)]
    assert [key for key in named + shown if not is_key(key)] == []


def test_every_recipe_key_is_named() -> None:
    assert [key for key in all_keys(Recipe) if f"`{key.rpartition('.')[2]}`" not in SAID] == []
    assert EXTENDS in SAID


@ALL
def test_every_column_that_is_named_with_its_view_exists(page: Page) -> None:
    views = documented_views()
    named = re.findall(rf"\b({'|'.join(views)})\.(\w+)", "\n".join(page.spans))
    assert [(view, column) for view, column in named if column not in views[view]] == []


@ALL
def test_every_variable_that_is_named_exists(page: Page) -> None:
    known = variables_of(*CODE_FOLDERS, "deploy")
    assert {name for name in variables(page.text) if name.removesuffix("_FILE") not in known} <= known


def test_every_variable_is_named() -> None:
    assert variables_of(*CODE_FOLDERS) - variables(SAID) == set()


@ALL
def test_every_link_leads_somewhere(page: Page) -> None:
    assert [link for link in page.links if not leads_somewhere(page, link)] == []


# Examples run


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
    if page.name in WITH_STACK:
        environment = request.getfixturevalue("stack")
    if page.name in TRAINS:
        environment = request.getfixturevalue("no_stack_yet")
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    for block in page.blocks:
        if block.file is not None:
            (tmp_path / block.file).write_text(block.text)
        elif block.language == "console":
            for command, expected in steps(block):
                shown = run(command, tmp_path, environment)
                assert matches(expected, shown), f"$ {command}\n{shown}"


def test_every_view_and_its_columns_are_as_documented(stack: dict[str, str]) -> None:
    with psycopg.connect(database_url(stack)) as connection:
        rows = connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns JOIN information_schema.views"
            " USING (table_schema, table_name) WHERE table_schema = 'public' ORDER BY ordinal_position"
        ).fetchall()
    existing: dict[str, list[str]] = {}
    for view, column in rows:
        existing.setdefault(view, []).append(column)
    assert documented_views() == existing


@pytest.mark.parametrize(
    ("page", "block"),
    [
        pytest.param(page, block, id=f"{page.name}-{number}")
        for page in PAGES
        for number, block in enumerate(page.blocks)
        if block.language == "sql"
    ],
)
def test_every_query_runs(page: Page, block: Block, stack: dict[str, str]) -> None:
    with psycopg.connect(database_url(stack)) as connection:
        connection.execute(block.text.encode())


# Pages stay short


@ALL
def test_lines_and_paragraphs_are_short(page: Page) -> None:
    long = [line for line in page.prose.splitlines() if len(line) > 110 and not may_be_long(page, line)]
    assert long == []
    assert [paragraph for paragraph in page.paragraphs if words(paragraph) >= 60] == []


@ALL
def test_a_page_keeps_to_its_share_of_words(page: Page) -> None:
    assert words(page.text) <= WORDS[page.name]


def test_the_shares_together_are_what_a_reader_may_expect() -> None:
    assert sum(WORDS.values()) <= WORDS_IN_ALL


# What the checks are made of


@pytest.fixture(scope="module")
def stack() -> Iterator[dict[str, str]]:
    """The environment of a running stack with one worker, which verifies."""
    with home() as environment:
        shown = run("hsstar up --workers sample=0,score=0,verify=1,train=0", ROOT, environment)
        assert "postgres" in shown, shown
        yield environment


@pytest.fixture
def no_stack_yet() -> Iterator[dict[str, str]]:
    """The environment of a stack that the page starts; whatever is up at the end is stopped."""
    with home() as environment:
        yield environment


@contextmanager
def home() -> Iterator[dict[str, str]]:
    folder = Path(tempfile.mkdtemp(prefix="hsd-", dir="/tmp"))
    folder.chmod(0o755)  # the embedded servers run under an account of their own when we are root
    environment = {"HSSTAR_HOME": str(folder / "home"), "HSSTAR_SERVER_DIR": str(folder / "servers")}
    try:
        yield environment
    finally:
        run("hsstar down", ROOT, environment)
        shutil.rmtree(folder, ignore_errors=True)


def run(command: str, folder: Path, environment: dict[str, str]) -> str:
    """What a shell shows of a command, both streams together."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=os.environ | environment | {"PATH": path, "COLUMNS": "110"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
    )
    return done.stdout


def database_url(environment: dict[str, str]) -> str:
    return run("hsstar db url", ROOT, environment).strip()


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


def commands() -> list[tuple[tuple[str, ...], click.Command]]:
    return list(references.commands(hsstar))


def options_of(command: click.Command) -> list[str]:
    return [option for parameter in command.params for option in parameter.opts if option.startswith("--")]


def calls(page: Page) -> Iterator[list[str]]:
    """The words behind `hsstar` wherever the page calls it."""
    lines = [line for block in page.blocks for line in re.sub(r"\\\n", "", block.text).splitlines()]
    for text in (*page.spans, *lines):
        inner = re.findall(r"\$\(hsstar ([^)]+)\)", text)
        for call in (*inner, *re.findall(r"(?:^|\$ |&& |\b[A-Z_]+=\S* )hsstar ([\w-][^#\n]*)", text)):
            try:
                yield shlex.split(call)
            except ValueError:  # an apostrophe of a sentence
                yield call.split()


def wrong_with(call: list[str]) -> str | None:
    """What no command takes in a call; nothing for a placeholder such as COMMAND."""
    command: click.Command = hsstar
    arguments = [word for word in call if not word.startswith("-")]
    while isinstance(command, click.Group) and arguments and not arguments[0].isupper():
        name = arguments.pop(0)
        below = command.get_command(click.Context(command), name)
        if below is None:
            return f"hsstar {' '.join(call)}: no command {name}"
        command = below
    known = {*options_of(command), *options_of(hsstar), "--help", "-h"}
    options = {word.partition("=")[0].rstrip(")…]") for word in call if word.startswith("--")}
    return f"hsstar {' '.join(call)}: no option {options - known}" if options - known else None


def sections() -> list[str]:
    return [key for key, field in Recipe.model_fields.items() if section_of(field.annotation)]


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a key of this type holds, alone, optional or in a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (section_of(part) for part in getattr(annotation, "__args__", ()))
    return next((section for section in inner if section), None)


def all_keys(section: type[BaseModel], path: str = "") -> Iterator[str]:
    for key, field in section.model_fields.items():
        inner = section_of(field.annotation)
        yield from all_keys(inner, f"{path}{key}.") if inner else (f"{path}{key}",)


def keys_of_block(block: Block) -> Iterator[str]:
    """The keys in a block of TOML, with their sections; of a study those of its strategies."""
    document = tomllib.loads(block.text)
    if "strategies" in document:
        assert set(document) <= StudyDocument.model_fields.keys()
        for changes in (document["recipe"], *document["strategies"].values()):
            yield from keys_of(changes)
    else:
        yield from keys_of(document)


def keys_of(document: dict[str, Any], path: str = "") -> Iterator[str]:
    for key, value in document.items():
        if isinstance(value, dict):
            yield from keys_of(value, f"{path}{key}.")
        elif key != EXTENDS:
            yield f"{path}{key}"


def is_key(path: str) -> bool:
    section: type[BaseModel] | None = Recipe
    for key in path.rstrip("….").split("."):
        if section is None:
            return False
        if key not in section.model_fields:
            return section.model_config.get("extra") == "allow"
        section = section_of(section.model_fields[key].annotation)
    return True


def variables(text: str) -> set[str]:
    return set(re.findall(r"HSSTAR_[A-Z_]*[A-Z]", text))


def variables_of(*folders: str) -> set[str]:
    """The environment variables that files in these folders name."""
    files = (path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file())
    return {name for file in files for name in variables(file.read_text(errors="ignore"))}


def leads_somewhere(page: Page, link: str) -> bool:
    """Whether a link's file and anchor exist; addresses elsewhere are not looked up."""
    if re.match(r"[a-z]+:", link):
        return True
    path, _, anchor = link.partition("#")
    target = (page.path.parent / path).resolve() if path else page.path
    return target.exists() and (not anchor or target.suffix != ".md" or anchor in Page(target).anchors)


def documented_views() -> dict[str, list[str]]:
    """The views of docs/sql.md with their columns, in order."""
    page = next(page for page in PAGES if page.name == "docs/sql.md")
    views = re.findall(r"^## `(\w+)`(.*?)(?=^## |\Z)", page.prose, re.DOTALL | re.MULTILINE)
    return {
        view: [name for cell in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
               for name in re.findall(r"`(\w+)`", cell)]
        for view, text in views
    }  # fmt: skip


def may_be_long(page: Page, line: str) -> bool:
    """Tables, links, and the lists of generated pages."""
    generated = page.name.startswith("docs/reference-")
    return line.startswith("|") or generated or len(re.sub(r"\]\(.*?\)", "]", line)) <= 110
