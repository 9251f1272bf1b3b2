"""What README.md and docs/ say is so: names exist, pages stay short. `make docs` checks the links."""

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from hsstar.cli.main import hsstar
from hsstar.recipe.documents import EXTENDS
from hsstar.study.document import StudyDocument
from tests.docs.pages import PAGES, ROOT, Block, Page, documented_views, words
from tools import references

ALL = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
SAID = "\n".join(page.text for page in PAGES)

WORDS = json.loads((Path(__file__).parent / "words.json").read_text())
"""The most words that each page may have; together they are what a reader may expect."""

CODE_FOLDERS = ("hsstar", "cli", "workers", "migrations")

OTHERS_OPTIONS = {
    "--served-model-name", "--enable-lora", "--max-lora-rank", "--model-path",
    "--enable-deterministic-inference", "--build-arg", "--signal",
}  # fmt: skip
"""Options of other programs that the pages name."""


@pytest.mark.parametrize("path", references.pages(), ids=str)
def test_the_references_name_all_commands_options_and_keys_as_the_code_does(path: Path) -> None:
    assert (ROOT / path).read_text() == references.pages()[path], "run: make references"


@ALL
def test_every_command_and_option_that_is_named_exists(page: Page) -> None:
    assert [problem for call in calls(page) if (problem := wrong_with(call))] == []


@ALL
def test_every_option_that_is_named_alone_exists(page: Page) -> None:
    known = {option for _, command in references.commands(hsstar) for option in options_of(command)}
    alone = {span.split()[0].partition("=")[0] for span in page.spans if span.startswith("--")}
    assert alone - known - OTHERS_OPTIONS - {"--help", "--version", "--debug"} == set()


@ALL
def test_every_recipe_key_that_is_named_exists(page: Page) -> None:
    known = recipe_keys()
    sections = "|".join({key.partition(".")[0] for key in known if "." in key})
    named = [
        span.strip("[]").split(" = ")[0].rstrip("….")
        for span in page.spans
        if re.match(rf"\[?({sections})(\.|\]$)", span)
    ]
    shown = [key for block in page.blocks if block.language == "toml" for key in keys_of_block(block)]
    unknown = {*named, *shown} - known
    # vLLM, chat templates and engines of one's own have keys of their own, and datasets have names
    own = re.compile(r"\.(vllm|chat_arguments|options|datasets)\.")
    assert {key for key in unknown if not own.search(key)} == set()


@ALL
def test_every_column_that_is_named_with_its_view_exists(page: Page) -> None:
    views = documented_views()
    named = re.findall(rf"\b({'|'.join(views)})\.(\w+)", "\n".join(page.spans))
    assert [(view, column) for view, column in named if column not in views[view]] == []


@ALL
def test_every_variable_that_is_named_exists(page: Page) -> None:
    known = variables_of(*CODE_FOLDERS, "deploy") | {"HSSTAR_TESTS_COMPLETE"}
    assert {name for name in variables(page.text) if name.removesuffix("_FILE") not in known} <= known


def test_every_variable_is_named() -> None:
    assert variables_of(*CODE_FOLDERS) - variables(SAID) == set()


@ALL
def test_lines_and_paragraphs_are_short(page: Page) -> None:
    lines = page.prose.splitlines()
    assert [line for line in lines if len(line) > 110 and not may_be_long(page, line)] == []
    assert [paragraph for paragraph in page.paragraphs if words(paragraph) >= 60] == []


@ALL
def test_a_page_keeps_to_its_share_of_words(page: Page) -> None:
    assert words(page.text) <= WORDS[page.name]


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


def recipe_keys() -> set[str]:
    """The sections of a recipe, and its keys with their sections, as the reference lists them."""
    keys = set[str]()
    for part in references.recipe_page().split("\n## ")[1:]:
        section = part.partition("\n")[0].strip("`[]").replace("Top level", "")
        names = re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE)
        keys |= {section, *(f"{section}.{name}".removeprefix(".") for name in names)}
    return keys


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


def variables(text: str) -> set[str]:
    return set(re.findall(r"HSSTAR_[A-Z_]*[A-Z]", text))


def variables_of(*folders: str) -> set[str]:
    """The environment variables that files in these folders name."""
    files = (path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file())
    files = (path for path in files if path.suffix != ".pyc")  # compiled names may have any byte behind them
    return {name for file in files for name in variables(file.read_text(errors="ignore"))}


def may_be_long(page: Page, line: str) -> bool:
    """Tables, links, and the lists of generated pages."""
    generated = page.name.startswith("docs/reference-")
    return line.startswith("|") or generated or len(re.sub(r"\]\(.*?\)", "]", line)) <= 110
