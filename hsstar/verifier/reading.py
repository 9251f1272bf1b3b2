"""Read an answer by recursive descent over its brackets: from its text to a form.

It decides what a text means, never whether it is right. Formulas that need algebra stay as they are written
(`forms.Formula`). `_READERS` sets the order of the readers in `relations`, `several` and `measures`.
"""

import re
from collections.abc import Callable
from functools import lru_cache

from hsstar.domain.answers import balanced_braces, contains_any
from hsstar.verifier import measures, relations, several
from hsstar.verifier.forms import Choice, Form, Formula, Named, Reader, Sequence, Unreadable, Words
from hsstar.verifier.lines import read_line
from hsstar.verifier.names import denies, has_variable, says_nothing
from hsstar.verifier.numeric import MOST_DIGITS, Number, number_in_words, read_number
from hsstar.verifier.spelling import parsable_source, strip_braces
from hsstar.verifier.spoken import read_spoken
from hsstar.verifier.wording import (
    LETTER,
    OTHER_LETTER,
    TEXT,
    count_words,
    letters_of,
    looks_like_formula,
    meaning_of,
    says_words,
)

_MOST_WORDS = 12
_LONGEST_CHOICE = 400
_ONLY_DIGITS = re.compile(r"-?\d+(?:\.\d+)?", re.ASCII)
_ONLY_DOTS = re.compile(r"(?:\\[cl]?dots\s?|\.)+")
_CHOICE = re.compile(
    r"(?:(?:option|choice|answer)\s?)?(?:\((?P<round>[A-Ja-j])\)|(?P<bare>[A-J]))[.:)]?"
    r"(?:\sis (?:the )?(?:correct|right)(?: answer| choice| option)?)?",
    re.IGNORECASE,
)
_CHOICE_WITH_CONTENT = re.compile(
    r"(?:(?:[Oo]ption|[Cc]hoice)\s?)?(?:\((?P<round>[A-J])\)|(?P<bare>[A-J])[.):])(?P<content>(?!\s?(?:[,;]|and\b|or\b)).+)",
    re.DOTALL,
)
_PHRASE = re.compile(
    r"\A(?:\\text\{)?(?:the )?(?:final |correct )?(?:answer|option|choice)(?: is|:| is:)\s?\}?", re.IGNORECASE
)
_ABOUT = re.compile(
    r"\A(?:\\text\{\s?)?(?=[^\W\d_])(?:(?:so|thus|hence|therefore|then)\b,?\s?)?"
    r"(?:(?:it['’]s|it is|is|equals|we (?:get|have))\s)?"
    r"(?:about|around|approximately|approx\.?|roughly|exactly|precisely|just|(?:a |the )?total of"
    r"|the (?:number|value)|in(?: the year)?|the year|etwa|ungefähr|rund|circa|ca\.|genau|exakt"
    r"|environ|exactement|aproximadamente|exactamente|около|примерно|приблизительно|ровно"
    r"|there (?:is|are)|hay|es (?:gibt|sind)|il y a)?"
    r"\s?\}?\s?(?=[-+.\d\\])",
    re.IGNORECASE,
)
_DOES = (
    r"has|have|had|needs?|gets?|got|gives?|costs?|takes?|weighs?|earns?|earned|pays?|paid|makes?|made|buys|bought"
    r"|sells|sold|ate|ran|runs|read|spent|spends|walks|walked|drove|scored|travels|contains|remain|becomes?|saves?"
    r"|saved|ist|sind|beträgt|hat|haben|misst|wiegt|kostet|lautet|lauten|est|sont|vaut|mesure|pèse|coûte|donne|es|son"
    r"|vale|tiene|tienen|mide|pesa|cuesta|равна|равен|равно|составляет"
)
_EXACTLY = (
    r"about|approximately|exactly|etwa|rund|ungefähr|genau|gleich|environ|de|d'environ|exactement|égale?s? à"
    r"|aproximadamente|exactamente|de|igual(?:es)? a"
)
_SAYING = re.compile(
    rf"\A(?:\\text\{{\s?)?(?:(?P<subject>(?:[^\W\d_](?:[^\W\d_]|['’-])*\s){{1,7}}?)"
    rf"(?:is|are|equals|{_DOES})(?![^\W\d_])(?:\s(?:{_EXACTLY})(?![^\W\d_]))?\s?:?"
    r"|(?P<label>[A-Za-z'-]{3,}(?:\s[A-Za-z'-]+){0,6})\s?:"
    r"|\\?(?P<extremum>(?:local |absolute )?m(?:ax|in))(?:imum)?(?:\.|\.?\s?at(?![A-Za-z])))"
    r"\s?\}?\s?(?P<rest>[^A-Za-z\s}:=].*|[a-z]=.*)",
    re.DOTALL,
)
_OF_TWO = re.compile(  # the sum of x and y is 12
    r"\A(?P<subject>(?:[a-z][a-z'-]*\s){1,4}(?:of|between)\s[^,=]{1,60}?and\s?[^,=]{1,60}?)\s?(?:is|equals)"
    r"(?![^\W\d_])\s?:?(?P<rest>.+)\Z",
    re.DOTALL | re.IGNORECASE,
)
_REASON = re.compile(
    r"(?<=\S)[,;]?\s?\(?(?:\\text\{\s?)?,?\s?\(?(?<![A-Za-z])(?:since|because)(?![A-Za-z]).*\Z",
    re.DOTALL | re.IGNORECASE,
)
_WHERE = re.compile(  # x^2+1, where x > 0
    r"\A(?P<value>(?:(?![<>]|\\[lgn]e(?![A-Za-z])).)+?),\s?(?:\\text\{\s?)?(?:where|with|for)\s?\}?\s?[a-z]\s?"
    r"(?:[<>]|\\[lgn]e(?![A-Za-z]))[^,;]*\Z"
)
_ONLY = re.compile(
    r"(?<=\S),?\s?(?:\\text\{,?\s?(?:only|respectively)\s?\}|(?<![A-Za-z])(?:only|respectively))\Z|\A(?:only|both)\s",
    re.IGNORECASE,
)
_NOTE = re.compile(r"(?P<value>[^()]*\d[^()]*?)\s?\((?P<note>[A-Za-z][A-Za-z -]+)\)")
_AGAIN = re.compile(
    r"(?P<value>.*[^(\s])\s?\(\s?(?:(?P<about>\\(?:approx|simeq)(?![A-Za-z])|approximately|approx\.?|about)|or|i\.e\.,?"
    r"|that is,?|equivalently,?|=)\s?(?P<again>[^()]+)\)",
    re.DOTALL,
)
_PLAIN_NOTES = frozenset(
    {"answer", "approx", "approximately", "exact", "exactly", "exact value", "simplified", "in simplest form"}
    | {"see above", "see below", "shown above", "total", "the total", "in total", "final answer"}
)
_MORE = re.compile(r"\d\s?(?:more|fewer|less|extra|other|out of)(?![A-Za-z])", re.IGNORECASE)
_MOST_WORDS_BEHIND = 2
_DECIMAL_COMMA = re.compile(
    r"-?[0-9]+,(?=[0-9]*[1-9])(?:[0-9]{1,2}|[0-9]{4,})(?:\s?(?:\\?%|\\text\{[^{}]*\}|[^\W\d_]{1,20}|[€£$]))?"
)
_ANGLE = re.compile(r"m?\\angle\s?(?P<corners>[A-Z]|[A-Z]{3})")
_DASHED_CHOICE = re.compile(r"(?P<letter>[A-J])-(?P<content>.+)", re.DOTALL)
_SECOND_READINGS = (
    (re.compile(r"\A(.+)\\approx(?![A-Za-z])[^=]+\Z"), r"\1"),
    (re.compile(r"(?<=\d),(?=[1-9]\d{2}(?!\d))"), ";"),
    (
        re.compile(r"\A(-?\d+)\s?(?:\\text\{\s?and\s?\}|and)\s?(?:(\d+)/(\d+)|\\frac\{(\d+)\}\{(\d+)\})\Z"),
        r"\1\\frac{\2\4}{\3\5}",
    ),
    (re.compile(r"\A_?C\((\d+),(\d+)\)\Z"), r"\\binom{\1}{\2}"),
    (re.compile(r"\AP\((\d+),(\d+)\)\Z"), r"\\frac{\1!}{(\1-\2)!}"),
)


@lru_cache(maxsize=4_096)
def read(text: str) -> Form:
    """Return the form of an answer as written; `Unreadable` if it has none."""
    source = parsable_source(text)
    return Unreadable() if source is None else _read_whole(source)


@lru_cache(maxsize=4_096)
def _read_whole(source: str) -> Form:
    """Return the form of a whole answer in normal spelling, which many answers share."""
    if _ONLY_DOTS.fullmatch(source) or count_words(source) > _MOST_WORDS:
        return Unreadable()
    try:
        return _read(source)
    except RecursionError:
        return Unreadable()


@lru_cache(maxsize=4_096)
def read_otherwise(text: str, is_answer: bool) -> Form | None:
    """Return what an answer means by its second reading, None if it has one only.

    `1,100` may be two numbers, `2 and 1/2` one, and `C(10,3)` a binomial coefficient. In answers, not in
    references, `3,5` may be 3.5, and `B - 12` the choice B.
    """
    source = parsable_source(text)
    if source is None or len(source) > _LONGEST_CHOICE:
        return None
    if is_answer and _DECIMAL_COMMA.fullmatch(text.strip(" $")):
        return _read(source.replace(",", "."))
    if is_answer and (choice := _DASHED_CHOICE.fullmatch(TEXT.sub(r"\1", source))):
        content = _read(choice["content"])
        source = content.source if isinstance(content, Formula) else ""
        is_content = not (isinstance(content, Unreadable | Choice) or has_variable(source))
        return Choice(choice["letter"]) if is_content else None
    for pattern, replacement in _SECOND_READINGS:
        if pattern.search(source):
            return _read(pattern.sub(replacement, source))
    return None


def _read(source: str) -> Form:
    source = strip_braces(source.strip())
    whole_text = TEXT.fullmatch(source)
    if whole_text:
        source = whole_text[1].strip()
    source = _ABOUT.sub("", _PHRASE.sub("", source, count=1), count=1)
    source = _ONLY.sub("", _REASON.sub("", source, count=1))
    if "," in source and contains_any(source, ("where", "with", "for")):
        source = _WHERE.sub(r"\g<value>", source)
    if not source:
        return Unreadable()
    for reader in _READERS:
        form = reader(source)
        if form is not None:
            return form
    if (whole_text and LETTER.search(source)) or says_words(source) or OTHER_LETTER.search(source):
        letters = letters_of(source)
        return Words(letters) if letters else Unreadable()
    return Formula(source) if looks_like_formula(source) else Unreadable()


def _read_long_number(source: str) -> Form | None:
    """Read a number with too many digits to compute with as words, compared digit by digit."""
    return Words(source) if len(source) > MOST_DIGITS and _ONLY_DIGITS.fullmatch(source) else None


def _read_angle(source: str) -> Form | None:
    r"""Read the name of an angle, which is no product of letters: `\angle ABC` is the one at B."""
    angle = _ANGLE.fullmatch(source)
    return Words(f"angle at {angle['corners'][len(angle['corners']) // 2]}") if angle else None


def _read_choice(source: str) -> Form | None:
    if len(source) > _LONGEST_CHOICE:
        return None
    plain = TEXT.sub(r"\1", source)
    if match := _CHOICE.fullmatch(plain):
        letter = match["round"] or match["bare"]
        if match["round"] or "A" <= letter <= "E" or len(plain) > len("b.") or plain.endswith(")"):
            return Choice(letter.upper())
    match = _CHOICE_WITH_CONTENT.fullmatch(plain)
    if match is None or match["content"].startswith("(") or _CHOICE_WITH_CONTENT.match(match["content"]):
        return None
    content = _read(match["content"].strip())
    return None if isinstance(content, Unreadable) else Choice(match["round"] or match["bare"], content)


def _read_note(source: str) -> Form | None:
    """Read a value that is said again: `42 (forty-two)`, `0.5 (or 50%)`, `\\sqrt{2} (\\approx 1.41)`."""
    plain = TEXT.sub(r" \1 ", source)
    if len(source) <= _LONGEST_CHOICE and (match := _AGAIN.fullmatch(plain)):
        value = _read(match["value"])
        return value if match["about"] else Sequence("set", (value, _read(match["again"])))
    match = _NOTE.fullmatch(TEXT.sub(r"\1", source))
    if match is None:
        return None
    if match["note"].casefold() in _PLAIN_NOTES:
        return _read(match["value"])
    said = number_in_words(match["note"])
    if said is None:
        return None
    value = _read(match["value"])
    return value if isinstance(value, Number) and value.value == said else Unreadable()


def _read_saying(source: str) -> Form | None:
    """Read a value with words that name it: `The area is 12`, `center: (1,2)`."""
    match = _SAYING.match(source)
    if match is None or not balanced_braces(match["rest"]) or _MORE.search(match["rest"]):
        return None
    if count_words(match["rest"]) > _MOST_WORDS_BEHIND:
        return None
    name = (match["subject"] or match["label"] or match["extremum"]).strip()
    if denies(name):
        return None
    value = _read(match["rest"])
    if isinstance(value, Words | Unreadable):
        return None
    if isinstance(value, Choice) or (isinstance(value, Named) and says_nothing(name)):
        return value
    return Named(name.casefold(), value)


def _read_of_two(source: str) -> Form | None:
    """Read a value of two things, whose "and" joins no answers: `The sum of x and y is 12`."""
    match = _OF_TWO.match(source)
    if match is None or denies(match["subject"]):
        return None
    value = _read(match["rest"])
    return None if isinstance(value, Words | Unreadable) else Named(match["subject"].casefold(), value)


def _recursive(reader: Callable[[str, Reader], Form | None]) -> Callable[[str], Form | None]:
    return lambda source: reader(source, _read)


_READERS: tuple[Callable[[str], Form | None], ...] = (
    read_number,
    _read_long_number,
    meaning_of,
    _recursive(read_spoken),
    _read_angle,
    _read_choice,
    _read_note,
    measures.read_time,
    measures.read_date,
    measures.read_sum,
    _read_of_two,
    _recursive(several.read_rows),
    _recursive(relations.read_with_integer),
    _recursive(several.read_solutions),
    _recursive(several.read_list),
    _read_saying,
    _recursive(relations.read_member),
    _recursive(relations.read_equation),
    _recursive(relations.read_inequality),
    _recursive(several.read_union),
    _recursive(several.read_intersection),
    _recursive(several.read_indexed_union),
    _recursive(several.read_without),
    _recursive(several.read_pairing),
    _recursive(several.read_matrix),
    _recursive(several.read_transposed),
    _recursive(several.read_brackets),
    _recursive(several.read_point),
    _recursive(read_line),
    _recursive(several.read_signs),
    measures.read_ratio,
    measures.read_numeral,
    measures.read_quantity,
    _recursive(several.read_unit_vectors),
)
