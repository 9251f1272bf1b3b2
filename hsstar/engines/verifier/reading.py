r"""Reading an answer: from its text to a form.

Reading is recursive descent over the brackets of the text; formulas that need algebra stay as they are
written (`forms.Expression`). It decides what a text means, never whether it is right.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from itertools import product
from math import prod

from hsstar.engines.verifier.brackets import inside_brackets, split
from hsstar.engines.verifier.forms import (
    Choice,
    Expression,
    Form,
    Infinite,
    Interval,
    Matrix,
    Named,
    Numeral,
    Quantity,
    Ratio,
    Relation,
    Sequence,
    Union,
    Unreadable,
    Words,
)
from hsstar.engines.verifier.numeric import MOST_DIGITS, Number, read_number
from hsstar.engines.verifier.spelling import parsable_source, strip_braces
from hsstar.engines.verifier.units import DEGREE, DOLLAR, is_known_unit, read_unit
from hsstar.engines.verifier.wording import (
    COMMAND,
    EMPTY,
    FUNCTION_WORDS,
    LETTER,
    TEXT,
    WORD,
    count_words,
    letters_of,
    meaning_of,
    number_of,
    says_words,
)

_MOST_WORDS = 12
_MOST_SIGNS = 3
_MOST_COMBINATIONS = 16

_COMMA = r"[,;]"
_COMMA_OF_LIST = r";|,(?!(?<=\d,)\d{3}(?!\d))"  # the comma of 1,000 separates nothing
_AND_OR = (
    r",?\s?(?:\\text\{,?\s?(?:and|or)\s?\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])"
    r"|\\(?:lor|land|vee|wedge)(?![A-Za-z]))"
)
_EQUALS = r"=|\\(?:equiv|approx)(?![A-Za-z])"
_ORDER = r"\\(?:le|ge|ne)(?![A-Za-z])|[<>]"
_MEMBER = r"\\in(?![A-Za-z])"
_CUP = r"\\cup(?![A-Za-z])"

_CHOICE = re.compile(
    r"(?:(?:option|choice|answer)\s?)?(?:\((?P<round>[A-Ja-j])\)|(?P<bare>[A-J]))[.:)]?", re.IGNORECASE
)
_CHOICE_WITH_CONTENT = re.compile(r"(?:\((?P<round>[A-J])\)|(?P<bare>[A-J])[.):])(?P<content>.+)", re.DOTALL)
_NUMERAL = re.compile(r"\(?(?P<digits>[0-9A-F]{1,60})\)?_\{(?:\\text\{)?(?P<base>\d{1,2}|[a-z]+)\}?\}")
_NAME = re.compile(
    r"(?:\\text\{[^{}]*\}|[A-Z]{1,4}|[A-Za-z]"
    r"|\\(?!frac|sqrt|sin|cos|tan|cot|sec|csc|log|ln|exp|infty|pi(?![A-Za-z]))[A-Za-z]+(?:\s?[A-Z]+)?)"
    r"(?:\{[A-Za-z ]*\})?(?:_\{[^{}]*\}|_[A-Za-z0-9]|'|\^\{-1\}|\^\{\\prime\}|\([^()]*\))*"
)
_TUPLE_OF_NAMES = re.compile(r"\([A-Za-z](?:,[A-Za-z])+\)")
_HALF_READ = re.compile(r"[-+*/^_=<>(\[{&]\Z|\A[*/^_=<>)\]}&!]|\?|\.\.\Z|\\frac\{\}|\{\}\Z|\\\Z")
_SUBSTANCE = re.compile(r"[A-Za-z0-9]")
_UNIT_START = re.compile(r"\\text\{|(?<![A-Za-z\\])[A-Za-z]{2,}|%|\^\\circ|[€£]|\\\$")
_ONLY_DIGITS = re.compile(r"-?\d+(?:\.\d+)?", re.ASCII)
_MONEY = re.compile(r"(-?)(?:\\\$|([€£]))(-?)")
_SIGN = re.compile(r"\\(?:pm|mp)(?![A-Za-z])\s?")
_TO = re.compile(r"(?<=\d)\s?(?:\\text\{to\}|to)\s?(?=\d)")
_POINT = re.compile(r"(?P<name>[A-Z]'?)(?=\()")
_ABSOLUTE = re.compile(r"\|(?P<name>[A-Za-z])\|")
_FUNCTION_OF_DEGREES = re.compile(r"\\[a-z]*(?:sin|cos|tan|cot|sec|csc)")
_ROW = r"\\\\(?:\[[^\]]*\])?"
_MATRIX = re.compile(
    r"\\begin\{(?P<kind>[pbB]?matrix|smallmatrix|array)\}(?:\{[lcr| ]*\})?(?P<body>.*)\\end\{(?P=kind)\}",
    re.DOTALL,
)
_PHRASE = re.compile(r"\A(?:\\text\{)?(?:the )?(?:final )?answer(?: is|:| is:)\s?\}?", re.IGNORECASE)


@lru_cache(maxsize=4_096)
def read(text: str) -> Form:
    """The form of an answer as written; `Unreadable` where it has none."""
    source = parsable_source(text)
    if source is None or count_words(source) > _MOST_WORDS:
        return Unreadable()
    try:
        return _read(source)
    except RecursionError:
        return Unreadable()


def is_readable(form: Form) -> bool:
    """Whether a form has no unreadable part (its formulas may still be beyond algebra)."""
    return all(not isinstance(part, Unreadable) for part in parts_of(form))


def parts_of(form: Form) -> list[Form]:
    """A form and everything in it."""
    match form:
        case Sequence(items=children) | Union(parts=children):
            inside: tuple[Form | None, ...] = children
        case Matrix():
            inside = tuple(cell for row in form.rows for cell in row)
        case Named() | Quantity():
            inside = (form.value,)
        case Interval():
            inside = (form.low, form.high)
        case Choice():
            inside = (form.content,)
        case Relation():
            inside = (Expression(form.left), Expression(form.right))
        case _:
            inside = ()
    return [form, *(part for child in inside if child is not None for part in parts_of(child))]


def _read(source: str) -> Form:
    source = strip_braces(source.strip())
    whole_text = TEXT.fullmatch(source)
    if whole_text:
        source = whole_text[1].strip()
    source = _PHRASE.sub("", source, count=1)
    if not source:
        return Unreadable()
    for reader in _READERS:
        form = reader(source)
        if form is not None:
            return form
    if (whole_text and LETTER.search(source)) or says_words(source):
        letters = letters_of(source)
        return Words(letters) if letters else Unreadable()
    return Unreadable() if _HALF_READ.search(source) or not _SUBSTANCE.search(source) else Expression(source)


def _read_long_number(source: str) -> Form | None:
    """A number with more digits than anybody computes with, compared digit by digit."""
    return Words(source) if len(source) > MOST_DIGITS and _ONLY_DIGITS.fullmatch(source) else None


def _read_choice(source: str) -> Form | None:
    if len(source) > 400:
        return None
    plain = TEXT.sub(r"\1", source)
    if match := _CHOICE.fullmatch(plain):
        letter = match["round"] or match["bare"]
        if match["round"] or "A" <= letter <= "E" or len(plain) > len("b."):
            return Choice(letter.upper())
    match = _CHOICE_WITH_CONTENT.fullmatch(plain)
    if match is None or match["content"].startswith("(") or _CHOICE_WITH_CONTENT.match(match["content"]):
        return None
    content = _read(match["content"].strip())
    return None if isinstance(content, Unreadable) else Choice(match["round"] or match["bare"], content)


def _read_list(source: str) -> Form | None:
    pieces, separators = split(source, f"{_AND_OR}|{_COMMA_OF_LIST}")
    pieces = [piece for piece in pieces if piece.strip()]
    if not separators or not pieces:
        return None
    if len(pieces) == 1:
        return _read(pieces[0])
    items = _flat([_read(piece) for piece in pieces])
    names = [item.name for item in items if isinstance(item, Named)]
    if not names or not isinstance(items[0], Named) or len(set(names)) > 1:
        return _listed(items, "or" in "".join(separators))
    values = [item.value if isinstance(item, Named) else item for item in items]
    if len(values) == 2 and "and" in separators[0]:
        first, second = values
        if isinstance(first, Interval) and isinstance(second, Interval):
            return Named(names[0], _both(first, second))
    return Named(names[0], _listed(_flat(values), "or" in "".join(separators)))


def _listed(items: list[Form], alternatives: bool) -> Form:
    if all(isinstance(item, Interval | Union) for item in items):
        return Union(tuple(items))
    if alternatives and any(isinstance(item, Interval | Union) for item in items):
        return Union(tuple(map(_as_part, items)))
    return Sequence("list", tuple(items))


def _both(first: Interval, second: Interval) -> Form:
    """What two half-lines joined by "and" mean: their intersection, or, if there is none, both of them."""
    low, high = (first, second) if first.high is None else (second, first)
    if low.high is not None or high.low is not None:
        return Union((first, second))
    if isinstance(low.low, Number) and isinstance(high.high, Number) and low.low.value > high.high.value:
        return Union((first, second))
    return Interval(low.low, high.high, low.low_closed, high.high_closed)


def _read_union(source: str) -> Form | None:
    pieces, separators = split(source, _CUP)
    return Union(tuple(_as_part(_read(piece)) for piece in pieces)) if separators else None


def _as_part(form: Form) -> Form:
    """A pair within a union is an open interval."""
    if isinstance(form, Sequence) and form.kind == "tuple" and len(form.items) == 2:
        return Interval(*form.items, low_closed=False, high_closed=False)
    return form


def _read_member(source: str) -> Form | None:
    pieces, separators = split(source, _MEMBER)
    if len(separators) != 1 or not is_name(pieces[0]):
        return None
    return Named(_name(pieces[0]), _as_part(_read(pieces[1])))


def _read_equation(source: str) -> Form | None:
    sides, signs = split(source, _EQUALS)
    if not signs:
        return None
    if not sides[0] and len(sides) == 2:
        return _read(sides[1])  # \approx 0.055
    if not all(sides):
        return Unreadable()
    if split(source, _ORDER)[1]:
        return Words(letters_of(source))
    first, last = sides[0], sides[-1]
    if is_name(first):
        return Named(_name(first), _read(last))
    if len(sides) > 2:
        return _read(last)
    if is_name(last) and not LETTER.search(COMMAND.sub("", first)):
        return Named(_name(last), _read(first))
    if not LETTER.search(COMMAND.sub("", first)):
        return _read(last)
    return Relation("=", first, last)


def _read_inequality(source: str) -> Form | None:
    sides, signs = split(split(source, ":")[0][0], _ORDER)  # x<1:(-\infty,1) says it twice
    if not signs:
        return None
    if not all(sides):
        return Unreadable()
    if len(sides) == 3 and is_name(sides[1]) and signs[0] in _UPWARDS and signs[1] in _UPWARDS:
        closed = [sign == r"\le" for sign in signs]
        return Named(_name(sides[1]), _interval(_read(sides[0]), _read(sides[2]), *closed))
    if len(sides) == 3 and is_name(sides[1]) and signs[0] in _DOWNWARDS and signs[1] in _DOWNWARDS:
        closed = [sign == r"\ge" for sign in signs]
        return Named(_name(sides[1]), _interval(_read(sides[2]), _read(sides[0]), closed[1], closed[0]))
    if len(sides) != 2:
        return Words(letters_of(source))
    left, right, sign = *sides, signs[0]
    if (absolute := _ABSOLUTE.fullmatch(left)) and sign != r"\ne":
        return _read_absolute(absolute["name"], sign, right)
    if is_name(right) and not is_name(left):
        left, right, sign = right, left, _MIRRORED[sign]
    if is_name(left) and not LETTER.search(COMMAND.sub("", right)):
        return Named(_name(left), _half_line(sign, _read(right)))
    if sign == r"\ne":
        return Words(letters_of(source))
    if sign in _DOWNWARDS:
        left, right, sign = right, left, _MIRRORED[sign]
    return Relation("<" if sign == "<" else "<=", left, right)


def _read_absolute(name: str, sign: str, right: str) -> Form | None:
    high, closed = _read(right), sign in (r"\le", r"\ge")
    if not isinstance(high, Number | Expression):
        return None
    low = Number(-high.value, high.decimals) if isinstance(high, Number) else Expression(f"-({right})")
    if sign in _UPWARDS:
        return Named(name, _interval(low, high, closed, closed))
    return Named(name, Union((_interval(None, low, False, closed), _interval(high, None, closed, False))))


_UPWARDS = ("<", r"\le")
_DOWNWARDS = (">", r"\ge")
_MIRRORED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le", r"\ne": r"\ne"}


def _half_line(sign: str, end: Form) -> Form:
    match sign:
        case "<" | r"\le":
            return _interval(None, end, False, sign == r"\le")
        case ">" | r"\ge":
            return _interval(end, None, sign == r"\ge", False)
        case _:
            return Union((_interval(None, end, False, False), _interval(end, None, False, False)))


def _interval(low: Form | None, high: Form | None, low_closed: bool, high_closed: bool) -> Interval:
    if isinstance(low, Infinite) and not low.positive:
        low, low_closed = None, False
    if isinstance(high, Infinite) and high.positive:
        high, high_closed = None, False
    return Interval(low, high, low_closed, high_closed)


def _read_brackets(source: str) -> Form | None:
    brackets = inside_brackets(source)
    if brackets is None:
        return None
    opening, inside, closing = brackets
    match opening, closing:
        case r"\{", r"\}":
            return _read_set(inside)
        case (r"\langle", r"\rangle"):
            return _tuple([_read(piece) for piece in split(inside, _COMMA)[0]])
        case "(" | "[", ")" | "]":
            return _read_tuple_or_interval(inside, opening, closing)
        case _:
            return None


def _read_point(source: str) -> Form | None:
    match = _POINT.match(source)
    form = _read_brackets(source[match.end() :]) if match else None
    return Named(match["name"], form) if match and isinstance(form, Sequence) else None


def _read_set(inside: str) -> Form:
    pieces, separators = split(inside, r"\||:")
    if len(separators) == 1 and (is_name(pieces[0]) or split(pieces[0], _MEMBER)[1]):
        return _read(pieces[1])
    if not inside:
        return EMPTY
    items = _flat([_read(piece) for piece in split(inside, _COMMA)[0]])
    return Sequence("set", tuple(items))


def _read_tuple_or_interval(inside: str, opening: str, closing: str) -> Form | None:
    pieces = split(inside, _COMMA)[0]
    if len(pieces) == 1:
        return _read(inside) if (opening, closing) in (("(", ")"), ("[", "]")) else None
    items = [_read(piece) for piece in pieces]
    if len(items) == 2:
        infinite = any(isinstance(item, Infinite) for item in items)
        if infinite or (opening, closing) != ("(", ")"):
            return _interval(items[0], items[1], opening == "[", closing == "]")
    return _tuple(items)


def _tuple(items: list[Form]) -> Form:
    """A tuple; one with `±` in it is the list of tuples that it stands for."""
    choices = [
        item.items if isinstance(item, Sequence) and item.kind == "list" else (item,) for item in items
    ]
    if prod(map(len, choices)) > _MOST_COMBINATIONS:
        return Unreadable()
    tuples = tuple(Sequence("tuple", chosen) for chosen in product(*choices))
    return tuples[0] if len(tuples) == 1 else Sequence("list", tuples)


def _read_matrix(source: str) -> Form | None:
    match = _MATRIX.fullmatch(source)
    if match is None:
        return None
    rows = [split(row, "&")[0] for row in split(match["body"], _ROW)[0] if row.strip()]
    if (
        not rows
        or len({len(row) for row in rows}) > 1
        or not all(cell.strip() for row in rows for cell in row)
    ):
        return Unreadable()
    return Matrix(tuple(tuple(map(_read, row)) for row in rows))


def _read_signs(source: str) -> Form | None:
    signs = _SIGN.findall(source)
    if not signs:
        return None
    if len(signs) > _MOST_SIGNS:
        return Unreadable()
    linked = any(sign.startswith(r"\mp") for sign in signs)
    choices = (
        [(True,) * len(signs), (False,) * len(signs)] if linked else product((True, False), repeat=len(signs))
    )
    items = [_read(_signed(source, plus)) for plus in choices]
    return Sequence("list", tuple(_flat(items)))


def _signed(source: str, plus: tuple[bool, ...]) -> str:
    """The source with its signs chosen; a plus that nothing stands before goes."""
    upper = iter(plus)

    def sign(match: re.Match[str]) -> str:
        positive = next(upper) == match[0].startswith(r"\pm")
        begins = match.start() == 0 or source[match.start() - 1] in "({[,="
        return ("" if begins else "+") if positive else "-"

    return _SIGN.sub(sign, source)


def _read_ratio(source: str) -> Form | None:
    source = _TO.sub(":", source)
    if ":" not in source or len(source) > 200:
        return None
    parts = [read_number(part) for part in source.split(":")]
    numbers = tuple(part for part in parts if part is not None)
    if len(numbers) < len(parts):
        return None
    clock = bool(re.fullmatch(r"\d{1,2}(?::[0-5]\d){1,2}", source))
    return Ratio(numbers, clock)


def _read_numeral(source: str) -> Form | None:
    match = _NUMERAL.fullmatch(source)
    if match is None or not re.search(r"\d", match["digits"]):
        return None
    base = int(match["base"]) if match["base"].isdecimal() else number_of(match["base"])
    return None if base is None else Numeral(match["digits"], base)


def _read_quantity(source: str) -> Form | None:
    if (money := _MONEY.match(source)) and money.end() < len(source):
        return _read_money(money[1] + money[3], money[2], source[money.end() :])
    starts = (start for start in _UNIT_START.finditer(source, 1) if start[0] not in FUNCTION_WORDS)
    start = next(starts, None)
    if start is None:
        return None
    word, text = start[0], source[start.start() :]
    value = _read_value(source[: start.start()].rstrip(" ").removesuffix(r"\cdot").removesuffix("-"))
    if value is None or (word[0].isalpha() and not is_known_unit(word) and not _counts(value, text)):
        return None
    unit = read_unit(text)
    if unit is None or (unit == DEGREE and _FUNCTION_OF_DEGREES.search(source)):
        return None
    return Quantity(value, unit)


def _read_money(sign: str, currency: str | None, rest: str) -> Form | None:
    value: Form | None = _read_value(sign + rest)
    if value is None and not _MONEY.match(rest):
        said_twice = _read_quantity(rest)  # $5 dollars
        value = said_twice.value if isinstance(said_twice, Quantity) and said_twice.unit == DOLLAR else None
    unit = DOLLAR if currency is None else read_unit(currency)
    return None if value is None or unit is None else Quantity(value, unit)


def _read_value(source: str) -> Number | Expression | None:
    """The value before a unit: a number or a formula, without words and without another unit."""
    if number := read_number(source):
        return number
    half_read = not source or _HALF_READ.search(source) or _UNIT_START.search(COMMAND.sub(" ", source))
    return None if half_read or not _SUBSTANCE.search(source) or says_words(source) else Expression(source)


def _counts(value: Form, text: str) -> bool:
    """Whether bare words behind a number are what it counts, rather than a product of letters."""
    words = WORD.findall(text)
    return isinstance(value, Number) and (len(words) > 1 or bool(words and len(words[0]) > 3))


def is_name(source: str) -> bool:
    """Whether a side of an equation names the other one: `x`, `f(x)`, `AB`, `(x,y)`, `\text{area}`."""
    return bool(_NAME.fullmatch(source) or _TUPLE_OF_NAMES.fullmatch(source))


def _name(source: str) -> str:
    return TEXT.sub(r"\1", source).replace(" ", "")


def _flat(items: list[Form]) -> list[Form]:
    """Items with lists among them opened: `1, ±2` is 1, 2, -2."""
    flat: list[Form] = []
    for item in items:
        if isinstance(item, Sequence) and item.kind == "list":
            flat += item.items
        elif isinstance(item, Named) and isinstance(item.value, Sequence) and item.value.kind == "list":
            flat += [Named(item.name, value) for value in item.value.items]
        else:
            flat.append(item)
    return flat


_READERS: tuple[Callable[[str], Form | None], ...] = (
    read_number,
    _read_long_number,
    meaning_of,
    _read_choice,
    _read_list,
    _read_member,
    _read_equation,
    _read_inequality,
    _read_union,
    _read_brackets,
    _read_point,
    _read_matrix,
    _read_signs,
    _read_ratio,
    _read_numeral,
    _read_quantity,
)
