"""Texts that a recipe takes from files; a run stores them whole."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hsstar.domain.errors import RecipeError
from hsstar.domain.verification import file_of
from hsstar.recipe import prompt, verification
from hsstar.recipe.prompt import IS_JINJA

_TEMPLATE_FILE = re.compile(r"[^{}\n]+\.(j2|jinja|jinja2|txt)")
_RUBRIC_FILE = re.compile(r"[^\n]+\.(txt|md)")


def with_texts(document: Mapping[str, Any], folder: Path, source: str) -> dict[str, Any]:
    """Return a recipe's document with the texts of files in their places: template, functions, rubrics.

    A relative path starts at `folder`. Raise RecipeError if a file cannot be read or is too long.
    """
    changed = dict(document)
    if isinstance(section := changed.get("policy"), Mapping):
        changed["policy"] = _with_template(section, folder, f"{source}: policy")
    if isinstance(sources := changed.get("sources"), Sequence):
        changed["sources"] = [
            _with_template(section, folder, f"{source}: sources.{place}")
            if isinstance(section, Mapping)
            else section
            for place, section in enumerate(sources)
        ]
    for key in ("reward", "steps"):
        if isinstance(section := changed.get(key), Mapping):
            changed[key] = _with_function(section, folder, f"{source}: {key}")
    if isinstance(rewards := changed.get("rewards"), Sequence):
        changed["rewards"] = [
            _with_function(section, folder, f"{source}: rewards.{place}")
            if isinstance(section, Mapping)
            else section
            for place, section in enumerate(rewards)
        ]
    if isinstance(section := changed.get("verification"), Mapping):
        section = _with_check(section, folder, f"{source}: verification")
        if isinstance(datasets := section.get("datasets"), Mapping):
            section["datasets"] = {
                name: _with_check(table, folder, f"{source}: verification.datasets.{name}")
                if isinstance(table, Mapping)
                else table
                for name, table in datasets.items()
            }
        changed["verification"] = section
    return changed


def _with_template(policy: Mapping[str, Any], folder: Path, of: str) -> dict[str, Any]:
    section = policy.get("prompt")
    template = section.get("template") if isinstance(section, Mapping) else section
    if not isinstance(template, str) or not _TEMPLATE_FILE.fullmatch(template):
        return dict(policy)
    file, where = folder / Path(template).expanduser(), f"{of}.prompt.template"
    text = _read(file, where, prompt.MOST_CHARACTERS)
    if not IS_JINJA.search(text):
        raise RecipeError(f"{where}: {file} has no {{{{ problem }}}}")
    changed = {**section, "template": text} if isinstance(section, Mapping) else text
    return {**policy, "prompt": changed}


def _with_check(section: Mapping[str, Any], folder: Path, where: str) -> dict[str, Any]:
    """Return a section of verification with the texts of a function's file and of a rubric's."""
    changed, rubric = _with_function(section, folder, where), section.get("rubric")
    if isinstance(rubric, str) and _RUBRIC_FILE.fullmatch(rubric):
        file = folder / Path(rubric).expanduser()
        changed["rubric"] = _read(file, f"{where}.rubric", verification.MOST_CHARACTERS)
    return changed


def _with_function(section: Mapping[str, Any], folder: Path, where: str) -> dict[str, Any]:
    most, changed, function = verification.MOST_CHARACTERS, dict(section), section.get("function")
    if isinstance(function, str) and section.get("source") is None:
        path = file_of(function)  # without one, that of a recipe which this one changes does not count
        text = None if path is None else _read(folder / Path(path).expanduser(), f"{where}.function", most)
        changed["source"] = text
    return changed


def _read(file: Path, where: str, most: int) -> str:
    try:
        with file.open(encoding="utf-8") as stream:
            text = stream.read(most + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{where}: {file} cannot be read ({error})") from None
    if len(text) > most:
        raise RecipeError(f"{where}: {file} has more than {most:,} characters")
    return text
