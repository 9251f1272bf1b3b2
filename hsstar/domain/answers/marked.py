r"""Answers that a response marks: in boxes, in tags `<answer>…</answer>`, under a key "answer" of JSON.

Marks that follow each other with nothing but punctuation, "and", "or" or the labels of parts between them are
one answer of several values. Of other marks the last counts.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from hsstar.domain.answers.changing_words import SCALES
from hsstar.domain.answers.delimiters import FORMULA, balanced_braces, contains_any, strip_math_delimiters


@dataclass(frozen=True, slots=True)
class Mark:
    """A marked answer: its content, and where the mark begins and ends."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class MarkedAnswer:
    """The answer of the last marks, and the position behind them."""

    text: str
    end: int


_BOX_COMMAND = (
    r"\\(?:(?:[bB]oxed|fbox|framebox(?:\s?\[[^][]{0,20}\]){0,2})(?![A-Za-z])"
    r"|fcolorbox\s?\{[^{}]{0,40}\}\s?\{[^{}]{0,40}\}|colorbox\s?\{[^{}]{0,40}\}|bbox(?:\s?\[[^][]{0,80}\])?(?![A-Za-z]))"
)
_BOX = re.compile(rf"{_BOX_COMMAND}\s*")
_BOX_OR_BRACE = re.compile(rf"(?P<box>{_BOX_COMMAND}\s*\{{)|\\.|[{{}}]", re.DOTALL)
_BARE_CONTENT = re.compile(r"[-+\d(]|\.\d|\\[A-Za-z]")
_END_OF_BARE_BOX = re.compile(r"\$|\\\)|\\\]|\n")
_PLACEHOLDER = re.compile(
    r"(?:\\text\{)?\s*(?:(?:your|the|final|numerical|insert)\s+)*(?:answers?|solution|result)(?:\s+here)?\s*\}?"
    r"|_+|\s*",
    re.IGNORECASE,
)
_DOTS = re.compile(r"\.{2,}|\\[lc]?dots|…")
_DENIED = re.compile(
    r"[$\s]{0,4}(?:\\[)\]])?\s?(?:is|was|would\s+be)\s+(?:wrong|incorrect|not\b|a\s+mistake)", re.IGNORECASE
)


class Boxes:
    """The boxes of a response, read in one pass.

    `marks` are the closed ones in the order of their ends, of nested ones the outermost; `open_at_end` says
    that the box that was opened last is not closed.
    """

    def __init__(self, response: str, truncated: bool) -> None:
        self.open_at_end = False
        self._spans: list[tuple[int, int, int, int]] = []  # of contents and boxes
        self._response = response
        position = _first_backslash(response)
        while opening := _BOX.search(response, position):
            position = opening.end()
            if response.startswith("{", position):
                position = self._read_braces(opening.start())
            elif _BARE_CONTENT.match(response, position):
                position = self._read_bare(opening.start(), position, truncated)
        self.marks = [
            Mark(strip_math_delimiters(response[content_start:content_end]), start, end)
            for content_start, content_end, start, end in self._spans
        ]

    def _read_braces(self, start: int) -> int:
        open_braces: list[
            tuple[int, int] | None
        ] = []  # starts of a box and its content, None for another brace
        for token in _BOX_OR_BRACE.finditer(self._response, start):
            if token["box"]:
                open_braces.append((token.start(), token.end()))
                self.open_at_end = True
            elif token[0] == "{":
                open_braces.append(None)
            elif token[0] == "}":
                box = open_braces.pop()
                if box is not None:
                    self._close(*box, token.start(), token.end())
                if not open_braces:
                    return token.end()
        return len(self._response)

    def _read_bare(self, start: int, content_start: int, truncated: bool) -> int:
        r"""Read `\boxed 5`, which ends with its formula or line; return the position after it."""
        end = _END_OF_BARE_BOX.search(self._response, content_start)
        if end is None and truncated:
            self.open_at_end = True
            return len(self._response)
        stop = end.start() if end else len(self._response)
        self._close(start, content_start, stop, stop)
        return stop

    def _close(self, start: int, content_start: int, content_end: int, end: int) -> None:
        self.open_at_end = False
        while self._spans and self._spans[-1][2] > start:  # inner boxes: their texts would fill the memory
            self._spans.pop()
        self._spans.append((content_start, content_end, start, end))


def _first_backslash(response: str) -> int:
    r"""Return the position of the backslash before the first "ox", which is in the name of every box."""
    place = response.find("ox")
    return len(response) if place < 0 else max(response.rfind("\\", 0, place), 0)


_TAG = re.compile(
    r"<(?P<close>/?)(?:final[_ ]?)?ans(?:wer)?>|\[(?P<bracket>/?)(?:answer|boxed)\]", re.IGNORECASE
)

_PARTS_OF_TAGS = ("answer>", "ans>", "answer]", "boxed]")  # folded


def tags(response: str, truncated: bool) -> list[Mark]:
    """Return the answers in tags; a last one that is not closed reaches to the end, unless it was cut."""
    marks, opening = list[Mark](), None
    for tag in _TAG.finditer(response) if contains_any(response.casefold(), _PARTS_OF_TAGS) else ():
        if not (tag["close"] or tag["bracket"]):
            opening = tag
        elif opening is not None:
            marks.append(Mark(response[opening.end() : tag.start()].strip(), opening.start(), tag.end()))
            opening = None
    if opening is not None and not truncated:
        marks.append(Mark(response[opening.end() :].strip(), opening.start(), len(response)))
    return marks


_KEY = re.compile(r"""(["'])(?:final[_ ]?|correct[_ ]?)?(?:answer|Answer|ANSWER)\1\s{0,9}:\s{0,9}""")
_VALUE = re.compile(
    r"""(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<list>\[[^][{}]{0,2000}\])|[-+]?[\d.][\w.+-]{0,2000}|(?:true|false)\b""",
    re.DOTALL,
)
_OBJECT = re.compile(r"\s*(?:```(?:json)?\s*)?(?P<object>\{[^{}]{1,2000}\})\s*(?:```)?\s*", re.IGNORECASE)
_RESULTS = ("result", "solution", "value", "output")
_SHORT_NAME = re.compile(r"[A-Za-z](?:_?\d)?")
_SINGLE_BACKSLASH = re.compile(r"(?<!\\)(?:\\\\)*\\[A-Za-z({]")


def json_values(response: str) -> list[Mark]:
    """Return the values of the key "answer" in JSON; a list is its elements between commas."""
    marks = list[Mark]()
    for key in _KEY.finditer(response) if "nswer" in response or "NSWER" in response else ():
        if value := _VALUE.match(response, key.end()):
            text = _list_text(value[0]) if value["list"] else _string(value[0])
            marks.append(Mark(text.strip(), key.start(), value.end()))
    return marks or _whole_object(response)


def _whole_object(response: str) -> list[Mark]:
    """Return what a response says that is one object of JSON: its result, or its values with their names."""
    match = _OBJECT.fullmatch(response)
    if match is None:
        return []
    try:
        values = json.loads(match["object"], strict=False)
    except (ValueError, RecursionError):
        return []
    results = [values[key] for key in _RESULTS if isinstance(values.get(key), str | int | float)]
    if not results and all(_SHORT_NAME.fullmatch(key) for key in values):
        results = [", ".join(f"{name}={value}" for name, value in values.items())]
    return [Mark(str(result).strip(), 0, len(response)) for result in results[:1]]


def _string(literal: str) -> str:
    if literal[0] not in "\"'":
        return literal
    if literal[0] == "'" or _SINGLE_BACKSLASH.search(literal):  # LaTeX as it is, in a text that is no JSON
        return literal[1:-1]
    try:
        return str(json.loads(literal, strict=False))
    except ValueError:
        return literal[1:-1]


def _list_text(literal: str) -> str:
    items = [match[0] for match in _VALUE.finditer(literal[1:-1])]
    return ", ".join(map(_string, items)) if items else literal


_AND = r"and|und|y|e|et|и|和|与|及|以及|と|및|그리고|와|과"
_OR = r"or|oder|o|ou|или|或|或者|または|또는"
_PART = r"(?:[a-h]|i{1,3}|iv|v|\d)"
_LABEL = (
    rf"\(?{_PART}[).:]|(?:part|case)\s*\(?{_PART}\)?\s*:?"
    r"|(?:the\s)?(?:first|second|third)(?:\s(?:part|one|value|answer))?(?:\sis|:)?"
)
_NO_LETTER_BEFORE = r"(?<![A-Za-z])(?<!(?<!\\)\\)"
_NAME = r"[A-Za-z](?:_\{?[A-Za-z0-9]{1,3}\}?)?(?:\([A-Za-z0-9]\))?'?[\s&]*="
_BETWEEN = re.compile(
    rf"(?:\s|[,;.$&*、，；。•]|(?<=\n)-\s|\\[()\[\],;:! \\]|\\q?quad(?![A-Za-z])"
    rf"|\\text\s?\{{\s*,?\s*(?:and|or)\s*,?\s*\}}"
    rf"|(?<![^\W\d_])(?:{_AND}|{_OR})(?![^\W\d_])|(?<!\w)(?:{_LABEL})|{_NO_LETTER_BEFORE}{_NAME})*",
    re.IGNORECASE,
)
_SAYS_OR = re.compile(rf"(?<![^\W\d_])(?:{_OR})(?![^\W\d_])", re.IGNORECASE)
_SAYS_AND = re.compile(r"(?<![^\W\d_])and(?![^\W\d_])", re.IGNORECASE)
_NAME_BEFORE = re.compile(rf"{_NO_LETTER_BEFORE}({_NAME})[\s$]{{0,3}}(?:\\[(\[]\s?)?\Z")
_LONGEST_BETWEEN = 80
_LONGEST_NAME = 20
_NEGATED = re.compile(r"(?:(?:[=$(]|\\[(\[])\s*[-−]|\b(?:minus|negative)\s[$\\(\s]{0,3})\s?\Z", re.IGNORECASE)
_BEHIND = re.compile(
    r"\\?%|\^\\circ|\^\{\\circ\}"
    r"|(?:\\[ ,;])?\s?\\(?:text|mathrm)\{[~\s]?(?!(?:is|are|or|and|if|so|for|as|by)\b)[A-Za-z/]{1,12}"
    r"(?:\^\{?\d\}?)?\}(?:\^\{?\d\}?)?"
    rf"|[\s$)\\\]]{{0,4}}\s(?:(?:{'|'.join(SCALES)})s?|or\s(?:more|less|fewer|greater))\b"
)
_PARTS_OF_NEGATIONS = ("-", "−", "inus", "egative")
_PARTS_OF_DENIALS = ("ot", "n't", "n’t", "ever", "不", "非")
_NOT_BEFORE = re.compile(
    r"(?:(?<!if\s)\b(?:not|\w+n['’]t|cannot|never)(?:\s+(?:be|equal(?:\s+to)?|just|the))?|不是|不等于|并非|不选)"
    r"[\s$(\\\[*]{0,4}\Z",
    re.IGNORECASE,
)
_SIGN_OF_PRODUCT = r"\\(?:cdot|times|div|pi|sqrt|[dt]?frac)(?![A-Za-z])"
_PART_BEFORE = re.compile(
    rf"(?:\d|\d\s?:|[-+*/^)|]|{_SIGN_OF_PRODUCT}|\\(?:arc)?(?:sin|cos|tan|cot|sec|csc|log|ln|exp)|(?<![A-Za-z\\])[A-Za-z]|[\^_]\{{|\\sqrt(?:\[\d\])?\{{"
    r"|\\[dt]?frac\{|\}\{)\s*\Z"
)
_ENDS_OF_PARTS = "-+*/^){|:"
_PART_BEHIND = re.compile(rf"\s*(?:\d|:\s?\d|[-+*/^(!]|{_SIGN_OF_PRODUCT}|[A-Za-z](?![A-Za-z])|\}}\{{)")
_HALF = re.compile(r"\A[*/^]|(?:[-+*/^]|\\cdot|\\times)\s*\Z")
_EDGE = re.compile(
    r"[$=<>,;&\n]|(?<!\d):(?!\s?\d)|\\\\|\\[()\[\]]"
    r"|\\(?:leq?|geq?|neq?|approx|equiv|in|to|q?quad|text|mathrm|Rightarrow|implies|therefore)(?![A-Za-z])"
    r"(?:\{[^{}]*\})?"
)
_PLAIN = re.compile(r"[\d.,/]+|\\[dt]?frac\{?\w+\}?\{?\w+\}?", re.ASCII)


def last_marked(response: str, marks: Sequence[Mark]) -> MarkedAnswer | None:
    """Return the answer of the last marks: several values if they belong together, None without any.

    An empty mark or one that quotes an instruction (`\\boxed{answer}`) does not count, nor one that the next
    words call wrong.
    """
    group = list[Mark]()
    filled = [mark for mark in marks if not _DOTS.fullmatch(mark.text)] or marks
    for mark in sorted(filled, key=lambda mark: (mark.end, -mark.start), reverse=True):
        if group and mark.start >= group[-1].start:
            continue  # within another mark
        if group and not _belong_together(response, mark, group[-1]):
            break
        before = response[max(0, mark.start - _LONGEST_NAME) : mark.start]
        denied = _DENIED.match(response, mark.end) or (
            contains_any(before, _PARTS_OF_DENIALS) and _NOT_BEFORE.search(before)
        )
        if not _PLACEHOLDER.fullmatch(mark.text) and not denied:
            group.append(mark)
    if not group:
        return None
    group.reverse()
    whole = _formula_around(response, group[-1], marks)
    return MarkedAnswer(whole or _joined(response, group), group[-1].end)


def _belong_together(response: str, first: Mark, second: Mark) -> bool:
    between = response[first.end : second.start]
    return len(between) <= _LONGEST_BETWEEN and bool(_BETWEEN.fullmatch(between))


def _joined(response: str, group: Sequence[Mark]) -> str:
    if len({"".join(mark.text.split()) for mark in group}) == 1:
        return _with_its_signs(response, group[-1])
    text = _named(response, group[0])
    for before, mark in pairwise(group):
        between = response[before.end : mark.start]
        word = " or " if _SAYS_OR.search(between) else " and " if _SAYS_AND.search(between) else ", "
        text += word + _named(response, mark)
    return text


def _formula_around(response: str, last: Mark, marks: Sequence[Mark]) -> str | None:
    """Return the side of an equation of which a mark is a part, `2\\boxed{3}`; None if it is all of it."""
    before = response[max(0, last.start - _LONGEST_BETWEEN) : last.start].rstrip()
    may_belong = before and (before[-1].isalnum() or before[-1] in _ENDS_OF_PARTS)
    if not ((may_belong and _PART_BEFORE.search(before)) or _PART_BEHIND.match(response, last.end)):
        return None
    formula = next((match for match in FORMULA.finditer(response) if match.end() >= last.end), None)
    if formula is None or formula.start() > last.start:
        return None
    inside = [mark for mark in marks if formula.start() <= mark.start and mark.end <= formula.end()]
    text, position, edges = "", formula.start(), [0]
    for mark in inside:
        edges += [len(text) + edge.end() for edge in _EDGE.finditer(response[position : mark.start])]
        text += response[position : mark.start]
        if mark is last:
            break
        text, position = text + _unboxed(mark), mark.end
    start = edges[-1]
    edge = _EDGE.search(response, last.end)
    side = (text[start:] + _unboxed(last) + response[last.end : edge.start() if edge else None]).strip(" .")
    return side if balanced_braces(side) and not _HALF.search(side) else None


def _unboxed(mark: Mark) -> str:
    return mark.text if _PLAIN.fullmatch(mark.text) else f"({mark.text})"


def _named(response: str, mark: Mark) -> str:
    """Return the value with the name before its box, `y_1 = \\boxed{…}`, unless it has its own."""
    name = _NAME_BEFORE.search(response[max(0, mark.start - _LONGEST_NAME) : mark.start])
    return f"{name[1].replace('&', '')} {mark.text}" if name and "=" not in mark.text else mark.text


def _with_its_signs(response: str, mark: Mark) -> str:
    """Return the value with a minus before and a percent or degree sign behind its box."""
    behind = _BEHIND.match(response, mark.end)
    before = response[max(0, mark.start - _LONGEST_NAME) : mark.start]
    minus = contains_any(before, _PARTS_OF_NEGATIONS) and _NEGATED.search(before)
    text = mark.text + (behind[0] if behind else "")
    return text if not minus else f"-{text}" if _PLAIN.fullmatch(mark.text) else f"-({text})"
