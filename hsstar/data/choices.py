"""Multiple choice: the choices become part of the statement, and the reference is a letter."""

import ast
import re
from collections.abc import Mapping
from typing import Any

from hsstar.domain.errors import BadInputError
from hsstar.domain.text import kind_of

_LETTERS = "ABCDEFGHIJ"
_NAMING = ("answer", "answerkey", "correct", "label", "target")
"""Columns that name the right choice by its letter."""

_LABEL = re.compile(r"\s*(?:\(([A-Ja-j])\)|([A-Ja-j])\s?[).:])\s*")
_BARE_LETTER = re.compile(r"\(?([A-Ja-j])\)?\s?[.):]?()")
_IN_ONE_TEXT = re.compile(r"(?:\A|,)\s*([a-j])\s*\)\s*")


def choices_of(row: Mapping[str, Any]) -> tuple[str, Any] | None:
    """Return key and value of the choices of a row: a column of them, or a column `a`, `b`, … for each.

    Columns of letters are choices only where the answer is one of these letters.
    """
    for key in ("choices", "options"):
        if row.get(key):
            return key, row[key]
    for prefix in ("", "option_", "choice_"):
        held = [letter for letter in _LETTERS.lower() if row.get(prefix + letter) not in (None, "")]
        letters = (mine for mine, its in zip(held, _LETTERS.lower(), strict=False) if mine == its)
        columns = {letter.upper(): row[prefix + letter] for letter in letters}
        if any(str(row.get(key)).strip().upper() in columns for key in _NAMING if len(columns) > 1):
            return f"{prefix}a, {prefix}b, …", columns
    return None


class Choices:
    """The choices of a problem: texts, and the labels by which the row may name the right one."""

    def __init__(self, key: str, value: Any) -> None:
        """Read a list, `{"text": […], "label": […]}`, `{"A": …}`, also as text, or `a ) 38 , b ) 27`."""
        self.labels = list(_LETTERS)
        match _parsed(value):
            case {"text": [*texts], "label": [*labels]} if len(texts) == len(labels):
                self.labels = [str(label).strip().upper() for label in labels]
            case Mapping() as named:
                self.labels = [str(label).strip().upper() for label in named]
                texts = list(named.values())
            case list() as texts:
                pass
            case str() as joined if len(parts := _IN_ONE_TEXT.split(joined)) > 3:
                texts = [part.strip() for part in parts[2::2]]
            case _:
                raise BadInputError(f"expected a list of choices under {key}, found {kind_of(value)}")
        if not 2 <= len(texts) <= len(_LETTERS):
            raise BadInputError(f"expected 2 to {len(_LETTERS)} choices under {key}, found {len(texts)}")
        if not all(isinstance(text, str | int | float) and str(text).strip() for text in texts):
            raise BadInputError(f"expected each choice under {key} as text or a number")
        self.texts = _without_labels([str(text).strip() for text in texts])

    def stated(self, statement: str) -> str:
        """Return a statement with the choices below it, unless it shows them already."""
        shown = all(f"({letter})" in statement for letter in _LETTERS[: len(self.texts)])
        if shown:
            return statement
        lines = (f"({letter}) {text}" for letter, text in zip(_LETTERS, self.texts, strict=False))
        return "\n".join([statement, "", *lines])

    def letter(self, key: str, answer: Any) -> str:
        """Return the letter of the right choice, which a row names by letter, label, place from 0, or text.

        Raise BadInputError if it names none, or if a number may be a place or the text of another choice.
        """
        text = str(answer).strip()
        places = {place for place in self._places(answer, text) if place < len(self.texts)}
        if len(places) == 1:
            return _LETTERS[places.pop()]
        what = "may be a place or the text of another choice" if places else "names no choice"
        raise BadInputError(f"{text!r} under {key} {what}; expected a letter from A")

    def _places(self, answer: Any, text: str) -> set[int]:
        if isinstance(answer, bool) or answer is None:
            return set()
        if text.upper() in self.labels:
            return {self.labels.index(text.upper())}
        named = {place for place, choice in enumerate(self.texts) if choice == text}
        if text.isdecimal():
            return named | {int(text)}
        if named:
            return named
        letter = _BARE_LETTER.fullmatch(text) or _LABEL.match(text)
        return {_LETTERS.index((letter[1] or letter[2]).upper())} if letter else set()


def _parsed(value: Any) -> Any:
    """Return the list or object that a text is, as Python or JSON writes it; anything else as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return value


def _without_labels(texts: list[str]) -> list[str]:
    """Remove the letters that stand before all choices in order."""
    labels = [_LABEL.match(text) for text in texts]
    for match, letter in zip(labels, _LETTERS, strict=False):
        if match is None or (match[1] or match[2]).upper() != letter:
            return texts
    return [text[match.end() :] for text, match in zip(texts, labels, strict=True) if match]
