"""Read equations, inequalities and memberships: what they name, and which interval they mean."""

import re
from itertools import pairwise

from hsstar.verifier.forms import (
    Approximated,
    Form,
    Formula,
    Infinite,
    IntervalForm,
    Named,
    Reader,
    Relation,
    Sequence,
    Unreadable,
    Words,
)
from hsstar.verifier.intervals import intersected, united
from hsstar.verifier.names import denies, has_variable, is_name, name_of, renamed, says_nothing, was_asked
from hsstar.verifier.numeric import Number, read_number
from hsstar.verifier.spelling import inside_brackets, split
from hsstar.verifier.wording import COMMAND, LETTER, letters_of, says_words

MEMBER = r"\\in(?![A-Za-z])"
_EQUALS = r"=|\\(?:equiv|approx)(?![A-Za-z])"
_ORDER = r"\\(?:le|ge|ne)(?![A-Za-z])|[<>]"
_UPWARDS = ("<", r"\le")
_DOWNWARDS = (">", r"\ge")
_MIRRORED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le", r"\ne": r"\ne"}
_MAPSTO = re.compile(r"(?:f\s?:\s?)?([a-z])\s?\\mapsto(?![A-Za-z])\s?")
_ABSOLUTE = re.compile(r"\|(?P<name>[A-Za-z])(?P<shift>[-+][^|A-Za-z]+)?\|")
_COMPUTED = re.compile(
    r"\\(?:int|lim|sum|prod|det)(?![A-Za-z])|\\frac\{d(?:\^\{\d\})?\}\{d[a-z](?:\^\{\d\})?\}"
)
_SAYS = re.compile(r".*\s(?:is|are)\s(?P<symbol>[^\s{}]+)\Z")
_INTEGER = re.compile(
    r"[,;]?\s?\(?(?:\\text\{,?\s?(?:where|for|with)\s?\}|where|for)?\s?"
    r"(?:(?P<member>[a-z])\\in\s?(?:\\mathbb\{Z\}|Z(?![A-Za-z^_]))"
    r"|(?P<said>[a-z])(?:\\text\{\s?)?\s?is an integer\}?)\)?\Z"
)


def interval_between(
    low: Form | None, high: Form | None, low_closed: bool, high_closed: bool
) -> IntervalForm:
    """Return the interval between two ends; an end that is infinite, or None, is open."""
    if isinstance(low, Infinite) and not low.positive:
        low, low_closed = None, False
    if isinstance(high, Infinite) and high.positive:
        high, high_closed = None, False
    return IntervalForm(low, high, low_closed, high_closed)


def as_part(form: Form) -> Form:
    """Return a form as a part of a union, where a pair is an open interval."""
    if isinstance(form, Sequence) and form.kind == "tuple" and len(form.items) == 2:
        return IntervalForm(*form.items, low_closed=False, high_closed=False)
    return form


def read_member(source: str, read: Reader) -> Form | None:
    r"""Read `x \in (1,2)`, which is named like `x=…`."""
    pieces, separators = split(source, MEMBER)
    if len(separators) != 1 or not is_name(pieces[0]):
        return None
    return Named(name_of(pieces[0]), as_part(read(pieces[1])))


def read_with_integer(source: str, read: Reader) -> Form | None:
    r"""Read a formula with the remark that its parameter is an integer: `2k\pi, k\in\mathbb{Z}`."""
    remark = _INTEGER.search(source)
    if remark is None:
        return None
    letter, before = remark["member"] or remark["said"], source[: remark.start()]
    if not re.search(rf"(?<!\\){letter}", COMMAND.sub(" ", before)):
        return None
    return read(renamed(before, letter, "n") or before)


def read_equation(source: str, read: Reader) -> Form | None:
    """Read an equation: a named value, the last part of a chain, or a relation."""
    if function := _MAPSTO.match(source):
        return Named(f"f({function[1]})", read(source[function.end() :]))
    sides, signs = split(source, _EQUALS)
    if not signs:
        return None
    if not sides[0] and len(sides) == 2:
        return read(sides[1])  # \approx 0.055
    if not all(sides):
        return Unreadable()
    if split(source, _ORDER)[1]:
        return Words(letters_of(source))
    first, last = sides[0], sides[-1]
    if is_name(first) and (says_words(first) or not first.isascii()) and denies(first):
        return Words(letters_of(source))
    if _COMPUTED.match(first) and not _COMPUTED.match(last):
        return _last_value(sides, signs, read)
    if is_name(first):
        if len(sides) > 2 and is_name(sides[1]) and says_nothing(first):
            sides, signs = sides[1:], signs[1:]  # the solution = x = 3
        said = _SAYS.match(sides[0])  # the result is A = 5
        name = said["symbol"] if said and is_name(said["symbol"]) else sides[0]
        return Named(name_of(name), _last_value(sides, signs, read))
    if len(sides) > 2:
        if has_variable(last) and all(map(has_variable, sides)) and _are_equations(sides):
            return Sequence("list", tuple(Relation("=", side, last) for side in sides[:-1]))
        return _last_value(sides, signs, read)
    is_constant = not has_variable(first)
    if is_name(last) and is_constant:
        return Named(name_of(last), read(first))
    computes_matrix = r"\begin{" in first and inside_brackets(last) is not None
    if computes_matrix or is_constant:
        return _last_value(sides, signs, read)
    if not has_variable(last) and was_asked(first):
        return Named(first, read(last))
    return Relation("=", first, last)


def _last_value(sides: list[str], signs: list[str], read: Reader) -> Form:
    """Return the value at the end of a chain; with the constant that it is only near, 22/7 of π, both."""
    last = read(sides[-1])
    is_fraction = isinstance(last, Number) and last.exact and last.value.denominator > 1
    if not (is_fraction or isinstance(last, Formula)) or has_variable(sides[-2]):
        return last
    if not signs[-1].startswith(r"\approx"):
        return last
    near = read_number(sides[-2]) or read(sides[-2])
    return Approximated(last, near) if isinstance(near, Number | Formula) else last


def _are_equations(sides: list[str]) -> bool:
    """Decide whether the sides of a chain have different variables: x/2 = y/3 = z is no computation."""
    letters = [set(LETTER.findall(COMMAND.sub(" ", side))) for side in sides]
    return all(mine - theirs for mine, theirs in pairwise(letters))


def read_inequality(source: str, read: Reader) -> Form | None:
    """Read an inequality: an interval of what it names, or a relation."""
    sides, signs = split(split(source, ":")[0][0], _ORDER)  # x<1:(-\infty,1) says it twice
    if not signs:
        return None
    if not sides[0] and len(sides) == 2 and sides[1] and signs[0] != r"\ne":
        return _half_line(signs[0], read(sides[1]))  # \le 3
    if not all(sides):
        return Unreadable()
    if all(sign in _DOWNWARDS for sign in signs) and len(sides) == 3:
        sides, signs = sides[::-1], [_MIRRORED[sign] for sign in reversed(signs)]
    if all(sign in _UPWARDS for sign in signs) and len(sides) == 3 and is_name(sides[1]):
        closed = [sign == r"\le" for sign in signs]
        return Named(name_of(sides[1]), interval_between(read(sides[0]), read(sides[2]), *closed))
    if all(sign in _UPWARDS for sign in signs) and len(sides) == 3 and _ABSOLUTE.fullmatch(sides[1]):
        outside = read_inequality(f"{sides[1]}{_MIRRORED[signs[0]]}{sides[0]}", read)
        inside = read_inequality(f"{sides[1]}{signs[1]}{sides[2]}", read)
        if isinstance(outside, Named) and isinstance(inside, Named):
            common = intersected((outside.value, inside.value))
            return None if common is None else Named(inside.name, common)
    if len(sides) != 2:
        return Words(letters_of(source))
    left, right, sign = *sides, signs[0]
    if (absolute := _ABSOLUTE.fullmatch(left)) and sign != r"\ne":
        return _read_absolute(absolute, sign, right, read)
    if is_name(right) and not is_name(left):
        left, right, sign = right, left, _MIRRORED[sign]
    if is_name(left) and not has_variable(right):
        return Named(name_of(left), _half_line(sign, read(right)))
    if sign == r"\ne":
        return Words(letters_of(source))
    if sign in _DOWNWARDS:
        left, right, sign = right, left, _MIRRORED[sign]
    return Relation("<" if sign == "<" else "<=", left, right)


def _read_absolute(absolute: re.Match[str], sign: str, right: str, read: Reader) -> Form | None:
    name, closed = absolute["name"], sign in (r"\le", r"\ge")
    shift = read_number(absolute["shift"] or "0")
    if shift is None:
        return None
    low: Form
    high: Form
    match read(right):
        case Number(value=value, decimals=decimals):
            low, high = (Number(end - shift.value, decimals) for end in (-value, value))
        case Formula() as high if not absolute["shift"]:
            low = Formula(f"-({right})")
        case _:
            return None
    if sign in _UPWARDS:
        return Named(name, interval_between(low, high, closed, closed))
    below, above = interval_between(None, low, False, closed), interval_between(high, None, closed, False)
    return Named(name, united((below, above)))


def _half_line(sign: str, end: Form) -> Form:
    below = interval_between(None, end, False, sign == r"\le")
    above = interval_between(end, None, sign == r"\ge", False)
    if sign == r"\ne":
        return united((below, above))
    return below if sign in _UPWARDS else above
