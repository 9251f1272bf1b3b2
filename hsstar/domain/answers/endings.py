"""The answer of a response that marks and announces none: its last line, formula or number."""

import re
from collections import deque
from dataclasses import dataclass

from hsstar.domain.answers.announced import joined_formulas
from hsstar.domain.answers.changing_words import BOUND_BEHIND, CHANGED_BEHIND, MONTH, changed_before
from hsstar.domain.answers.delimiters import FORMULA, strip_math_delimiters

_LONGEST_END = 4_000
_LONGEST_BARE = 200
_LONGEST_LIST = 8
_LONGEST_DATE = 25
_SUBSTANCE = re.compile(r"[^\W_]")
_BULLET = re.compile(
    r"\s*(?:[-*•+]|\d{1,2}[.)]|(?:[Cc]ase|[Ss]olution)\s\(?(?:\d|I{1,3}|IV|V)\)?[.:])\s+(?P<item>\S.*)"
)
_OPENS_LINES = re.compile(r"\b(?:are|solutions|values|roots|zeros|answers)\s?[:：]\W*\Z", re.IGNORECASE)
_EMPHASIS = re.compile(  # not the sign of a power, 2**3
    r"(?<![^\s(\[{\"'“:=,;$*_`])(?:\*\*|__|`)(?=\S)|(?<=\S)(?:\*\*|__|`)(?=[\s.,;:!?)\]}\"'”$*_`]|\Z)"
    r"|(?<!\S)\*(?=[^\s*])|(?<=[^\s*])\*(?!\S)"
)
_AROUND = " \t*_>#`\"“”'👉✅➡"
_CHOICE = re.compile(
    r"(?:[Oo]ption\s|[Cc]hoice\s)?\(?[A-J]\)?[.)]?|\([a-j]\)|(?:\([A-J]\)|[A-J][.)])\s?[-\d$\\(][^A-Za-z]{0,40}"
)
_CHOSEN = re.compile(
    r"(?:\A|(?<=[.!?\n])|(?<=[.!?\n]\s))(?:(?i:I(?:\swould\s|['’]d\s|\s)(?:choose|pick|select)|so|hence|thus|therefore),?\s)"
    r"(?P<choice>(?i:option\s|choice\s)?\(?[B-J]\)?)[.!]?\s*\Z"
)
_FEW_WORDS = re.compile(
    r"[^\w\\]*[^\W\d_]{2,}(?:\s[^\W\d_]{2,})?[^\w\\]*|\s*\$?\\(?:emptyset|varnothing|infty)\$?\W*"
)
_COMMAND = re.compile(r"\\(?:text|mathrm|operatorname)\{[^{}]*\}|\\(?:begin|end)\{[a-z]+\*?\}|\\[A-Za-z]+")
_NO_WORD = re.compile(
    r"(?<![A-Za-z])(?:(?:arc)?(?:sin|cos|tan|cot|sec|csc)h?|log|ln|exp|sqrt|pi|max|min|gcd|lcm|mod|and|or)(?![A-Za-z])"
)
_WORD = re.compile(r"[^\W\d_]{2}")
_LONG_WORD = re.compile(r"[^\W\d_]{4}|[\u3041-\u30ff\uac00-\ud7a3]{2}")
_MATHEMATICAL = re.compile(r"[\d\\+*/=<>^()|√π∞-]")
_NUMBER = re.compile(r"(?:(?<![\w)}.])[-−])?(?:\d+(?:,\d{3})*(?:\.\d+)?|(?<![\w.])\.\d+)(?:/\d+)?%?")
_SAYS = re.compile(r"(?:\b(?:is|are|be|equals?|gets?|gives?|obtain|have)|[=:：])[\s*]*\Z", re.IGNORECASE)
_OPENS_LIST = re.compile(r"(?:is|are|were|be|between|from|either|=|[^\s]*[:：])\Z", re.IGNORECASE)
_OPERATORS = "=+*/×·÷<>≤≥±≠^−-"
_OPERATOR = r"\\(?:times|cdot|leq?|geq?|approx|pm|div)(?![A-Za-z])"
_OPERATOR_BETWEEN = re.compile(rf"{_OPERATOR}\s|\s{_OPERATOR}")
_ROWS = re.compile(r"\\begin\{(?:aligned|align\*?|gathered|split)\}")
_END_OF_ROWS = re.compile(r"\\end\{(?:aligned|align\*?|gathered|split)\}")
_POINT = re.compile(r"\([^()\s]{1,60}\)")
_POINTS_BEFORE = re.compile(r"(?:\([^()$]{1,40},[^()$]{1,40}\)(?:,\s|,?\s(?:and|or)\s))+\Z")
_EQUATION = r"(?<![\w$\\^])[A-Za-z](?:_\d)?\s?=\s?[-−]?[\d./]+"
_EQUATIONS_BEFORE = re.compile(rf"(?:{_EQUATION},\s)*{_EQUATION},?\s(?:and|or)\s\Z")
_ONE_EQUATION = re.compile(_EQUATION)
_SYMBOL = re.compile(r"[A-Za-z](?:_\{?\w\}?)?")
_MIXED_MEASURE = re.compile(  # 2 hours and 30 minutes
    r"(?<![\d.$])\d+\s(?:"
    + "|".join(
        rf"(?:{large}),?\s(?:and\s)?\d+(?:\.\d+)?\s(?:{small})\b"
        for large, small in (
            (r"weeks?|days?", r"days?|hours?"),
            (r"hours?|hrs?", r"minutes?|mins?"),
            (r"minutes?|mins?", r"seconds?|secs?"),
            (r"feet|foot|ft", r"inch(?:es)?|in"),
            (r"pounds?|lbs?", r"ounces?|oz"),
            (r"meters?|m", r"centimeters?|cm"),
            (r"kilometers?|km", r"meters?|m"),
            (r"dollars?", r"cents?"),
        )
    )
    + ")"
)
_VERDICT = re.compile(  # There is no solution. The series diverges. Yes, it is.
    r"(?:\A|(?<=[.!?\n]))\s*(?:(?:so|thus|hence|therefore|then|finally)\b,?\s*)?(?P<said>(?:yes|no)\b[^.!?\n\d$\\]{0,40}"
    r"|(?:the|this|that|it|our)\s[^.!?\n\d$\\,]{0,60}?(?:diverges?|converges?(?:\s\w+ly)?|does\snot\sexist|is\sundefined)"
    r"|(?:the|this|that)\s(?:\w+\s)?(?:statement|claim|assertion|proposition|conjecture)\sis\s(?:true|false)"
    r"|(?:there\s(?:is|are)\s)?no\s(?:real\s|such\s|integer\s)?solutions?(?:\sexists?)?)[.!*]{0,3}\s*\Z",
    re.IGNORECASE,
)
_NOT_OTHERS = re.compile(
    r"(?P<value>(?<![\w.])[-−]?\d[\d,]*(?:\.\d+)?(?:/\d+)?)(?:\s[a-z]{2,}s)?(?:,\s(?:and\s)?|\s\()not\s\Z"
)
_JOINED_BY_WORD = re.compile(r"\s(?:and|or|und|y|et|и)\s")
_REASON = re.compile(r"(?<=\S)\s?\((?:since|because|as)\s[^()]{1,80}\)[.\s]*\Z")
_THEREFORE = re.compile(r"\A(?:因此|所以|于是|从而|综上|则|即)[，,、:：]?\s?(?=[$\\])")
_QUESTION = re.compile(r"[$*]?\s?[?？]")
_LEADING_EQUALS = re.compile(r"\A(?:=\s?)+")
_DATE = re.compile(
    rf"(?:{MONTH}\s\d{{1,2}}(?:st|nd|rd|th)?(?:,?\s\d{{4}})?"
    rf"|\d{{1,2}}(?:st|nd|rd|th)?\s(?:of\s)?{MONTH},?\s\d{{4}})\Z",
    re.IGNORECASE,
)
_HALF_OF_DAY = re.compile(r"[ap]\.?m\b\.?", re.IGNORECASE)
_TRAILING = ".,;:!?。，；！？"
_FACTORIAL = re.compile(r"[\w)]![.,;]+\Z")  # 10!. is no exclamation
_END_OF_SENTENCE = re.compile(r"\n|[.;!?](?=\s|$)|[。！？；]")
_BOUND_BEHIND_WORDS = re.compile(rf"(?:\s+[^\W\d_]+){{1,3}}\s+{BOUND_BEHIND.pattern}", re.IGNORECASE)
_SPOKEN_OPERATOR = re.compile(
    r"(?<=\S)\s+(?:plus|minus|times|over|mod|modulo|choose|remainder|(?:divided|multiplied)\s+by"
    r"|(?:raised\s+)?to\s+the\s+power\s+of|(?<=\d\s)out\s+of|(?<=\b1\s)in|(?:in\s+)?base)\s+\Z",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Ending:
    """An answer at the end of a response; `number`: it is a plain number."""

    text: str
    number: bool


def ending(response: str) -> Ending | None:
    """Return the answer at the end of a response, None if it has none.

    It is the last line if that is a formula, a choice or a list without words; else the last formula with
    signs around it, if no number follows it; else the last number with the formula that it is part of. Words
    that change it ("not 5", "5 or more") belong to it.
    """
    text = response[-_LONGEST_END:].rstrip()
    if text.endswith((")", ").")):
        text = _REASON.sub("", text)
    answer = _last_line(text) or (text.strip() if _FEW_WORDS.fullmatch(response) else None)
    if answer is None:
        answer = _said(text)
    if answer is None:
        numbers = deque(_NUMBER.finditer(text), maxlen=1)
        number = numbers[0] if numbers else None
        span = _last_formulas(text, number) or (number and _around(text, number))
        answer = _with_changing_words(text, *span) if span else None
    return Ending(answer, bool(_NUMBER.fullmatch(answer))) if answer else None


def _said(text: str) -> str | None:
    """Return what the last sentence says in words: a choice, or "there is no solution"."""
    if not text.rstrip(".!*) ")[-1:].isalpha():
        return None
    start = max(0, len(text) - _LONGEST_BARE)
    if chosen := _CHOSEN.search(text, start):
        return chosen["choice"]
    verdict = _VERDICT.search(text, start)
    return verdict["said"] if verdict else None


def _last_line(text: str) -> str | None:
    """Return the last line, or the list that ends with it, if it has no words."""
    lines = [line for line in text.splitlines() if _SUBSTANCE.search(line) and not line.startswith("```")]
    items = list[str]()
    while lines and len(items) < _LONGEST_LIST:
        line = lines.pop()
        bullet = _BULLET.match(line)
        bare = _bare(bullet["item"] if bullet else line)
        if bare is None or (items and bullet is None):
            break
        items.append(bare)
        if bullet is None:
            items += _lines_of_list(lines)
            break
    return ", ".join(reversed(items)) or None


def _lines_of_list(lines: list[str]) -> list[str]:
    """Return the formulas, from the last, that are all of the last lines behind "The solutions are:"."""
    items = list[str]()
    for line in reversed(lines[-_LONGEST_LIST:]):
        if _OPENS_LINES.search(line):
            return items
        if (bare := _bare(line)) is None:
            break
        items.append(bare)
    return []


def _bare(line: str) -> str | None:
    """Return a line without emphasis and signs of formulas if it is mathematics alone, or a choice."""
    text = _THEREFORE.sub("", _EMPHASIS.sub("", line).strip(_AROUND).rstrip(".,;。"))
    text = strip_math_delimiters(text)
    if len(text) > _LONGEST_BARE or text.count("$") % 2:
        return None
    if _CHOICE.fullmatch(text):
        return text
    plain = _NO_WORD.sub("", _COMMAND.sub(" ", text))
    words = _WORD if " " in text else _LONG_WORD
    return (
        text if _MATHEMATICAL.search(text) and _SUBSTANCE.search(plain) and not words.search(plain) else None
    )


def _last_formulas(text: str, number: re.Match[str] | None) -> tuple[int, int] | None:
    """Return where the last formula lies, with those joined to it, unless the last number is the answer."""
    formulas = deque(FORMULA.finditer(text), maxlen=_LONGEST_LIST)
    if not formulas or (number and number.start() >= formulas[-1].end()):
        return None
    end = formulas[-1].end()
    last = formulas[-1]
    for formula in reversed(formulas):
        if joined_formulas(text, formula)[1] != end or not _of_one_kind(text, formula, last):
            break
        start = formula.start()
    if number is None or number.start() < start:
        says_so = "=" in text[start:end] or (_SAYS.search(text, 0, start) and end - start > len("$x$"))
        return (start, end) if says_so else None
    return start, end


def _of_one_kind(text: str, first: re.Match[str], last: re.Match[str]) -> bool:
    """Decide whether two formulas are values of one name, or of two names joined by "and" or "or"."""
    names = _name(first[0]), _name(last[0])
    if names[0] == names[1]:
        return True
    joined_by_word = _JOINED_BY_WORD.search(text, first.end(), last.start())
    return bool(joined_by_word) and all(map(_SYMBOL.fullmatch, names))


def _name(formula: str) -> str:
    """Return the left side of an equation, nothing for other formulas: values of one name are one answer."""
    return formula.partition("=")[0].strip("$ ") if "=" in formula else ""


def _around(text: str, number: re.Match[str]) -> tuple[int, int]:
    """Return where the formula without signs around it lies that the last number is part of."""
    line_start = text.rfind("\n", 0, number.start()) + 1
    line_end = text.find("\n", number.end())
    line = text[line_start : len(text) if line_end < 0 else line_end]
    for measure in _MIXED_MEASURE.finditer(line) if text.startswith(" ", number.end()) else ():
        if line_start + measure.start() <= number.start() < line_start + measure.end():
            return line_start + measure.start(), line_start + measure.end()
    chunks = [(match[0], match.start(), match.end()) for match in re.finditer(r"\S+", line)]
    last = next(index for index, chunk in enumerate(chunks) if line_start + chunk[2] >= number.end())
    if not _is_mathematics(chunks[last][0]):
        return number.span()
    if date := _DATE.search(
        line[: chunks[last][1] + len(number[0])], max(0, chunks[last][1] - _LONGEST_DATE)
    ):
        return line_start + date.start(), number.end()
    first = last
    while first and _bound(chunks[first - 1][0], chunks[first][0]):
        first -= 1
    while last + 1 < len(chunks) and _bound(chunks[last][0], chunks[last + 1][0]):
        last += 1
    while spoken := _SPOKEN_OPERATOR.search(line, max(0, chunks[first][1] - 60), chunks[first][1]):
        before = next(index for index, chunk in enumerate(chunks) if chunk[2] >= spoken.start())
        if not _is_mathematics(chunks[before][0]):
            break
        first = before
    first = _opening(chunks, first, last)
    if first == last:
        first = _first_of_list([chunk[0] for chunk in chunks[: last + 1]])
    if joined := _joined_before(line, chunks[first][1], chunks[last][2]):
        return line_start + joined, line_start + chunks[last][2]
    if last + 1 < len(chunks) and _HALF_OF_DAY.fullmatch(chunks[last + 1][0]):
        last += 1
    return line_start + chunks[first][1], line_start + chunks[last][2]


def _joined_before(line: str, start: int, end: int) -> int:
    """Return where a list of equations or points begins that ends with a part of a line; 0 without any."""
    part = line[start:end].rstrip(_TRAILING)
    pattern = _EQUATIONS_BEFORE if _ONE_EQUATION.fullmatch(part) else _POINTS_BEFORE
    if pattern is _POINTS_BEFORE and not (part.startswith("(") and "," in part and part.endswith(")")):
        return 0
    before = pattern.search(line, max(0, start - _LONGEST_BARE), start)
    return before.start() if before else 0


def _is_mathematics(chunk: str) -> bool:
    return not _WORD.search(_NO_WORD.sub("", _COMMAND.sub(" ", chunk)))


def _bound(left: str, right: str) -> bool:
    """Decide whether two neighbours are parts of one formula: an operator stands between them."""
    if not (_is_mathematics(left) and _is_mathematics(right)):
        return False
    by_sign = ":" in (left, right) or left[-1] in _OPERATORS or right[0] in _OPERATORS
    return by_sign or bool(_OPERATOR_BETWEEN.search(f"{left} {right}"))


def _opening(chunks: list[tuple[str, int, int]], first: int, last: int) -> int:
    """Return the index of the chunk with the brackets that the chunks close, `first` if there is none."""
    depth = 0
    for index in range(last, max(-1, last - _LONGEST_LIST), -1):
        chunk = chunks[index][0]
        if not _is_mathematics(chunk):
            break
        depth += sum(map(chunk.count, ")]}")) - sum(map(chunk.count, "([{"))
        if index <= first and depth <= 0:
            return index
    return first


def _first_of_list(chunks: list[str]) -> int:
    """Return the index at which a list that ends with the last chunk begins: `are 3, 5 and 7`."""
    last = first = len(chunks) - 1
    while first:
        before = first - 1
        if chunks[before].casefold() in ("and", "or") and before:
            before -= 1
        elif not chunks[before].endswith(","):
            break
        if not (_NUMBER.fullmatch(item := chunks[before].strip(",")) or _POINT.fullmatch(item)):
            break
        first = before
    opened = first < last and first and _OPENS_LIST.search(chunks[first - 1])
    if opened and chunks[first - 1].casefold() in ("between", "from", "either"):
        return first - 1
    return first if opened else last


def _with_changing_words(text: str, start: int, end: int) -> str:
    """Return a part of the text with the words that change it, without the signs around it."""
    sentence_start = max(text.rfind("\n", 0, start) + 1, start - _LONGEST_BARE)
    if changed := changed_before(text, sentence_start, start):
        if instead := _NOT_OTHERS.search(text, sentence_start, start):
            return instead["value"]
        start = changed.start()
    if CHANGED_BEHIND.match(text, end) or _BOUND_BEHIND_WORDS.match(text, end):
        sentence_end = _END_OF_SENTENCE.search(text, end)
        end = sentence_end.start() if sentence_end else len(text)
    part = text[start:end].strip(_AROUND)
    end_of_part = "!" if _FACTORIAL.search(part) else ""
    part = strip_math_delimiters(f"{part.rstrip(_TRAILING)}{end_of_part}".strip(_AROUND))
    part = _LEADING_EQUALS.sub("", part)
    if _QUESTION.match(text, end) or text[start:end].rstrip(" *$").endswith(("?", "？")):
        return f"{part}?"
    if _ROWS.search(part):  # of a chain of equations the last one
        part = _END_OF_ROWS.sub("", part).rstrip("\\ \n").rpartition(r"\\")[2].replace("&", "").strip(" \n.,")
    if sum(map(part.count, "([")) != sum(map(part.count, ")]")):
        part = part.removeprefix("(") if part.startswith("(") else part.removesuffix(")")
    return part
