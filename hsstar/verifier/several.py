r"""Reading answers of several parts: lists, sets, tuples, intervals, unions, and what `\pm` stands for."""

import re
from itertools import pairwise, product
from math import prod

from hsstar.verifier.brackets import inside_brackets, split
from hsstar.verifier.forms import (
    Form,
    Infinite,
    Interval,
    Named,
    Reader,
    Sequence,
    Union,
    Unreadable,
    Words,
)
from hsstar.verifier.numeric import Number
from hsstar.verifier.relations import MEMBER, as_part, interval_between, is_name
from hsstar.verifier.wording import EMPTY, REALS

_MOST_SIGNS = 3
_MOST_COMBINATIONS = 16

_COMMA = r"[,;]"
_COMMA_OF_LIST = r";|,(?!(?<=\d,)\d{3}(?!\d))"  # the comma of 1,000 separates nothing
_AND_OR = (
    r",?\s?(?:\\text\{,?\s?(?:and|or)\s?\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])"
    r"|\\(?:lor|land|vee|wedge)(?![A-Za-z]))"
)
_CUP = r"\\cup(?![A-Za-z])"
_WITHOUT = r"\\(?:setminus|backslash)(?![A-Za-z])|-(?=\\\{)"
_INDEXED_UNION = re.compile(
    r"\\bigcup(?P<range>_\{[^{}]{1,60}\}\^\{[^{}]{1,60}\})\s?(?P<part>[(\[\\].*)", re.DOTALL
)
_SIGN = re.compile(r"\\(?:pm|mp)(?![A-Za-z])\s?")
_POINT = re.compile(r"(?P<name>[A-Z]'?)(?=\()")


def read_list(source: str, read: Reader) -> Form | None:
    """Several answers between commas, or joined by "and" or "or"."""
    pieces, separators = split(source, f"{_AND_OR}|{_COMMA_OF_LIST}")
    pieces = [piece for piece in pieces if piece.strip()]
    if not separators or not pieces:
        return None
    if len(pieces) == 1:
        return read(pieces[0])
    items = flat([read(piece) for piece in pieces])
    names = [item.name for item in items if isinstance(item, Named)]
    if not names or not isinstance(items[0], Named) or len(set(names)) > 1:
        return _listed(items, "or" in "".join(separators))
    values = [item.value if isinstance(item, Named) else item for item in items]
    if len(values) == 2 and "and" in separators[0]:
        first, second = values
        if isinstance(first, Interval) and isinstance(second, Interval):
            return Named(names[0], _both(first, second))
    return Named(names[0], _listed(flat(values), "or" in "".join(separators)))


def _listed(items: list[Form], alternatives: bool) -> Form:
    if all(isinstance(item, Interval | Union) for item in items):
        return Union(tuple(items))
    if alternatives and any(isinstance(item, Interval | Union) for item in items):
        return Union(tuple(map(as_part, items)))
    return Sequence("set" if alternatives else "list", tuple(items))


def _both(first: Interval, second: Interval) -> Form:
    """What two half-lines joined by "and" mean: their intersection, or, if there is none, both of them."""
    low, high = (first, second) if first.high is None else (second, first)
    if low.high is not None or high.low is not None:
        return Union((first, second))
    if isinstance(low.low, Number) and isinstance(high.high, Number) and low.low.value > high.high.value:
        return Union((first, second))
    return Interval(low.low, high.high, low.low_closed, high.high_closed)


def read_union(source: str, read: Reader) -> Form | None:
    """A union of intervals and sets."""
    pieces, separators = split(source, _CUP)
    return Union(tuple(as_part(read(piece)) for piece in pieces)) if separators else None


def read_indexed_union(source: str, read: Reader) -> Form | None:
    r"""A union over an index, as the pair of the index with its range and what is united."""
    match = _INDEXED_UNION.match(source)
    return Sequence("tuple", (Words(match["range"]), as_part(read(match["part"])))) if match else None


def read_pairing(source: str, read: Reader) -> Form | None:
    r"""Two forms that belong together, `v \leftrightarrow 3`, as a pair."""
    pieces, separators = split(source, r"\\leftrightarrow(?![A-Za-z])")
    return _tuple(list(map(read, pieces))) if len(separators) == 1 else None


def read_without(source: str, read: Reader) -> Form | None:
    r"""The real numbers without some: `\mathbb{R}\setminus\{2\}` is a union of intervals."""
    pieces, separators = split(source, _WITHOUT)
    if len(separators) != 1 or not pieces[0] or read(pieces[0]) != REALS:
        return None
    missing = read(pieces[1])
    if not isinstance(missing, Sequence) or missing.kind != "set" or not missing.items:
        return None
    numbers = [item for item in missing.items if isinstance(item, Number)]
    if len(missing.items) > max(1, len(numbers)):
        return None  # nobody knows which of two formulas is the smaller one
    points: tuple[Form, ...] = (*sorted(numbers, key=lambda number: number.value),) or missing.items
    ends = pairwise([None, *points, None])
    return Union(tuple(Interval(low, high, low_closed=False, high_closed=False) for low, high in ends))


def read_brackets(source: str, read: Reader) -> Form | None:
    """What one pair of brackets encloses: a set, a tuple, an interval, or a single form."""
    brackets = inside_brackets(source)
    if brackets is None:
        return None
    opening, inside, closing = brackets
    match opening, closing:
        case r"\{", r"\}":
            return _read_set(inside, read)
        case (r"\langle", r"\rangle"):
            return _tuple([read(piece) for piece in split(inside, _COMMA)[0]])
        case "(" | "[", ")" | "]":
            return _read_tuple_or_interval(inside, opening, closing, read)
        case _:
            return None


def read_point(source: str, read: Reader) -> Form | None:
    """A point with its name: `A(1,2)`."""
    match = _POINT.match(source)
    form = read_brackets(source[match.end() :], read) if match else None
    return Named(match["name"], form) if match and isinstance(form, Sequence) else None


def _read_set(inside: str, read: Reader) -> Form:
    pieces, separators = split(inside, r"\||:")
    if len(separators) == 1 and (is_name(pieces[0]) or split(pieces[0], MEMBER)[1]):
        return read(pieces[1])
    if not inside:
        return EMPTY
    items = flat([read(piece) for piece in split(inside, _COMMA)[0]])
    return Sequence("set", tuple(items))


def _read_tuple_or_interval(inside: str, opening: str, closing: str, read: Reader) -> Form | None:
    pieces = split(inside, _COMMA)[0]
    if len(pieces) == 1:
        return read(inside) if (opening, closing) in (("(", ")"), ("[", "]")) else None
    items = [read(piece) for piece in pieces]
    if len(items) == 2:
        infinite = any(isinstance(item, Infinite) for item in items)
        if infinite or (opening, closing) != ("(", ")"):
            return interval_between(items[0], items[1], opening == "[", closing == "]")
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


def read_signs(source: str, read: Reader) -> Form | None:
    r"""The values that `\\pm` stands for, as a list."""
    signs = _SIGN.findall(source)
    if not signs:
        return None
    if len(signs) > _MOST_SIGNS:
        return Unreadable()
    linked = any(sign.startswith(r"\mp") for sign in signs)
    choices = (
        [(True,) * len(signs), (False,) * len(signs)] if linked else product((True, False), repeat=len(signs))
    )
    items = [read(_signed(source, plus)) for plus in choices]
    return Sequence("list", tuple(flat(items)))


def _signed(source: str, plus: tuple[bool, ...]) -> str:
    """The source with its signs chosen; a plus that nothing stands before goes."""
    upper = iter(plus)

    def sign(match: re.Match[str]) -> str:
        positive = next(upper) == match[0].startswith(r"\pm")
        begins = match.start() == 0 or source[match.start() - 1] in "({[,="
        return ("" if begins else "+") if positive else "-"

    return _SIGN.sub(sign, source)


def flat(items: list[Form]) -> list[Form]:
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
