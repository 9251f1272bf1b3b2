r"""Find the final answer in a response.

Four rules search a response, from the surest to the weakest; the first that finds an answer wins. Every rule
runs in time linear in the length of the response.

1. the last `\boxed{…}` (also `\fbox`, `\framebox`, and `\boxed` without braces);
2. the last "final answer is …" or "final answer: …", or a heading "Final answer";
3. the last "the answer is …" or "answer: …", or a line "#### …" as in GSM8K;
4. the last number.
"""

import re
from dataclasses import dataclass
from enum import StrEnum


class ExtractionRule(StrEnum):
    """The rule that found an answer, from the surest to the weakest."""

    BOXED = "boxed"
    FINAL_ANSWER = "final_answer"
    ANSWER = "answer"
    LAST_NUMBER = "last_number"


@dataclass(frozen=True, slots=True)
class ExtractedAnswer:
    """A final answer, and the rule that found it."""

    text: str
    """As written, without its box, math delimiters and surrounding white space."""
    rule: ExtractionRule


def extract_answer(response: str, truncated: bool = False) -> ExtractedAnswer | None:
    """Return the final answer of a response, None if it has none.

    A response with an open box at its end has no answer: what stands before the box is work, not an answer. A
    response that was cut at its token limit (`truncated`) must hold its whole answer: an answer that reaches
    the cut may lack its end, and the last number is only the last before the cut.
    """
    boxes = _Boxes(response, truncated)
    if boxes.open_at_end:
        return None
    if boxes.last is not None:
        return ExtractedAnswer(boxes.last, ExtractionRule.BOXED)
    for rule, phrase in _PHRASES.items():
        text = _after_last_phrase(response, phrase, truncated)
        if text:
            return ExtractedAnswer(text, rule)
    number = None if truncated else _last_number(response)
    return ExtractedAnswer(number, ExtractionRule.LAST_NUMBER) if number else None


_BOX = re.compile(r"\\(?:boxed|fbox|framebox)(?![A-Za-z])\s*")
_BOX_OR_BRACE = re.compile(r"(?P<box>\\(?:boxed|fbox|framebox)(?![A-Za-z])\s*\{)|\\.|[{}]", re.DOTALL)
_BARE_CONTENT = re.compile(r"[-+\d(]|\.\d|\\[A-Za-z]")
_END_OF_BARE_BOX = re.compile(r"\$|\\\)|\\\]|\n")


class _Boxes:
    """The boxes of a response, read in one pass.

    `last` is the content of the box that was closed last (the outermost of nested boxes), None without any;
    `open_at_end` says that the box that was opened last is not closed.
    """

    def __init__(self, response: str, truncated: bool) -> None:
        self.open_at_end = False
        self._spans: list[tuple[int, int]] = []
        position = 0
        while opening := _BOX.search(response, position):
            position = opening.end()
            if response.startswith("{", position):
                position = self._read_braces(response, opening.start())
            elif _BARE_CONTENT.match(response, position):
                position = self._read_bare(response, position, truncated)
        contents = (strip_math_delimiters(response[start:end]) for start, end in reversed(self._spans))
        self.last = next(filter(None, contents), None)  # an empty box may quote the instruction

    def _read_braces(self, response: str, start: int) -> int:
        open_braces: list[int | None] = []  # content start of a box, None for any other brace
        for token in _BOX_OR_BRACE.finditer(response, start):
            if token["box"]:
                open_braces.append(token.end())
                self.open_at_end = True
            elif token[0] == "{":
                open_braces.append(None)
            elif token[0] == "}":
                content_start = open_braces.pop()
                if content_start is not None:
                    self._close(content_start, token.start())
                if not open_braces:
                    return token.end()
        return len(response)

    def _read_bare(self, response: str, start: int, truncated: bool) -> int:
        r"""Read `\boxed 5`, which ends with its formula or line; return the position after it."""
        end = _END_OF_BARE_BOX.search(response, start)
        if end is None and truncated:
            self.open_at_end = True
            return len(response)
        stop = end.start() if end else len(response)
        self._close(start, stop)
        return stop

    def _close(self, start: int, end: int) -> None:
        self.open_at_end = False
        self._spans.append((start, end))


_IS = (
    r"(?:\b[^.\n:=]{0,60}?\bis\b(?:,?\s+(?:therefore|thus|hence|simply|just|equal\s+to|given\s+by)\b,?)?|\s*[:=])"
    r"[\s:*_]*"
)
_HEADING = r"^[ \t#*_]*final\s+answer[ \t*_]*\n\s*"
_PHRASES = {
    ExtractionRule.FINAL_ANSWER: re.compile(rf"\bfinal\s+answer\b\W{{0,4}}?{_IS}|{_HEADING}", re.I | re.M),
    ExtractionRule.ANSWER: re.compile(rf"\banswer\b\W{{0,4}}?{_IS}|^####[ \t]*", re.I | re.M),
}
# A lone dollar sign is money: the signs around a formula touch it.
_FORMULA = re.compile(
    r"\$\$[^$]+\$\$|(?<!\\)\$(?!\s)[^$\n]+(?<![\s\\])\$(?!\d)|\\\(.+?\\\)|\\\[.+?\\\]", re.DOTALL
)
_END_OF_SENTENCE = re.compile(r"\n|[.;!?](?=\s|\*|$)|,?\s+I hope\b|\s+because\b")
_SENTENCE_BEFORE_FORMULA = re.compile(r"\d|\n|[.;!?]\s")
_AMOUNT_THEN_WORDS = re.compile(
    r"([-+]?[$€£]?\s?\d[\d,]*(?:\.\d+)?(?:/\d+)?%?)\s+"
    r"(?!(?:sqrt|pi|and|or|plus|minus|times|over|mod|sin|cos|tan|log|ln|exp)\b)[A-Za-z]{2,}"
)
_LONGEST_SENTENCE = 2_000


def _after_last_phrase(response: str, phrase: re.Pattern[str], truncated: bool) -> str | None:
    """Return what follows the last occurrence of a phrase, up to the end of its formula or sentence."""
    start = None
    for match in phrase.finditer(response):
        start = match.end()
    if start is None:
        return None
    sentence = response[start : start + _LONGEST_SENTENCE]
    end = _END_OF_SENTENCE.search(sentence)
    formula = _FORMULA.search(sentence)
    if formula and not _SENTENCE_BEFORE_FORMULA.search(sentence, 0, formula.start()):
        return strip_math_delimiters(formula[0])
    if truncated and (end is None or start + end.end() == len(response)):
        return None
    text = strip_math_delimiters(sentence[: end.start() if end else None].strip(" \t*_"))
    amount = _AMOUNT_THEN_WORDS.match(text)
    return amount[1] if amount else text


_NUMBER = re.compile(r"(?:(?<![\w)}.])-)?\d+(?:,\d{3})*(?:\.\d+)?(?:/\d+)?%?")


def _last_number(response: str) -> str | None:
    last = None
    for match in _NUMBER.finditer(response):
        last = match
    return last[0] if last else None


_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))


def strip_math_delimiters(text: str) -> str:
    """Remove white space and one pair of LaTeX math delimiters around the whole text."""
    text = text.strip()
    for opening, closing in _DELIMITERS:
        if text.startswith(opening) and text.endswith(closing) and len(text) >= len(opening) + len(closing):
            inner = text[len(opening) : -len(closing)]
            if opening not in inner and closing not in inner:
                return inner.strip()
    return text


_ESCAPED_OR_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


def balanced_braces(text: str) -> bool:
    """Decide whether every unescaped brace of a LaTeX text has its partner."""
    depth = 0
    for part in _ESCAPED_OR_BRACE.finditer(text):
        depth += {"{": 1, "}": -1}.get(part[0], 0)
        if depth < 0:
            return False
    return depth == 0
