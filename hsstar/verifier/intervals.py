"""Sets of real numbers between known ends: united, intersected, taken from each other, in one form."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from math import inf

from hsstar.verifier.forms import Form, IntervalForm, Sequence, Union
from hsstar.verifier.numeric import Number

_MOST_PARTS = 100
EMPTY = Sequence("set", ())
REALS = IntervalForm(None, None, low_closed=False, high_closed=False)
POSITIVE = IntervalForm(Number.of(0), None, low_closed=False, high_closed=False)


@dataclass(frozen=True, slots=True)
class _Cut:
    """A place between numbers: just before (`after` False) or just after a value."""

    place: Fraction | float
    after: bool = False
    number: Number | None = None


_Piece = tuple[_Cut, _Cut]
"""All numbers between two cuts, the lower one first."""


def united(parts: Iterable[Form]) -> Form:
    """Return the union of parts, in one form if their ends are numbers."""
    parts = tuple(parts)
    pieces = _pieces_of_all(parts)
    if pieces is not None:
        return _form_of([piece for part in pieces for piece in part])
    return _chained(parts)


def intersected(parts: Iterable[Form]) -> Form | None:
    """Return what parts have in common; None if an end is no number, or if there are too many parts."""
    pieces = _pieces_of_all(parts)
    return None if pieces is None or len(pieces) > _MOST_PARTS else _form_of(reduce(_common, pieces))


def without(whole: Form, missing: Form) -> Form | None:
    """Return a set without another; None if an end is no number."""
    pieces = _pieces_of_all((whole, missing))
    if pieces is None:
        return None
    cuts = [_Cut(-inf), *(cut for piece in _merged(pieces[1]) for cut in piece), _Cut(inf)]
    rest = list(zip(cuts[::2], cuts[1::2], strict=True))
    return _form_of(_common(pieces[0], rest))


def _pieces_of_all(parts: Iterable[Form]) -> list[list[_Piece]] | None:
    found = list(map(_pieces_of, parts))
    known = [pieces for pieces in found if pieces is not None]
    return known if len(known) == len(found) else None


def _pieces_of(form: Form) -> list[_Piece] | None:
    match form:
        case IntervalForm(low=Number() | None as low, high=Number() | None as high):
            lower = _Cut(-inf) if low is None else _Cut(low.value, not form.low_closed, low)
            upper = _Cut(inf) if high is None else _Cut(high.value, form.high_closed, high)
            return [(lower, upper)] if _order(lower) < _order(upper) else None
        case Union(parts=parts):
            pieces = _pieces_of_all(parts)
            return None if pieces is None else [piece for part in pieces for piece in part]
        case Sequence(kind="set", items=items):
            numbers = [item for item in items if isinstance(item, Number)]
            points = [(_Cut(item.value, False, item), _Cut(item.value, True, item)) for item in numbers]
            return points if len(points) == len(items) else None
        case _:
            return None


def _common(mine: list[_Piece], theirs: list[_Piece]) -> list[_Piece]:
    return _merged(
        [
            (max(low, lower, key=_order), min(high, higher, key=_order))
            for low, high in mine
            for lower, higher in theirs
        ]
    )


def _order(cut: _Cut) -> tuple[Fraction | float, bool]:
    return cut.place, cut.after


def _merged(pieces: list[_Piece]) -> list[_Piece]:
    """Return the pieces in order, without empty ones, those that touch as one."""
    merged = list[_Piece]()
    for low, high in sorted(pieces, key=lambda piece: _order(piece[0])):
        if _order(low) >= _order(high):
            continue
        if merged and _order(low) <= _order(merged[-1][1]):
            low, before = merged.pop()
            high = max(before, high, key=_order)
        merged.append((low, high))
    return merged


def _form_of(pieces: list[_Piece]) -> Form:
    points, parts = list[Form](), list[Form]()
    for low, high in _merged(pieces):
        if low.number is not None and low.place == high.place:
            points.append(low.number)
        else:
            parts.append(IntervalForm(low.number, high.number, _closes(low, False), _closes(high, True)))
    if points or not parts:
        parts.append(Sequence("set", tuple(points)))
    return parts[0] if len(parts) == 1 else Union(tuple(parts))


def _closes(cut: _Cut, after: bool) -> bool:
    return cut.number is not None and cut.after is after


def _chained(parts: tuple[Form, ...]) -> Form:
    """Join intervals where one ends with the formula with which the next begins: [0, a] and (a, b)."""
    chained = list(parts[:1])
    for part in parts[1:]:
        last = chained[-1]
        match last, part:
            case IntervalForm(), IntervalForm() if (
                last.high is not None and last.high == part.low and (last.high_closed or part.low_closed)
            ):
                chained[-1] = IntervalForm(last.low, part.high, last.low_closed, part.high_closed)
            case _:
                chained.append(part)
    return chained[0] if len(chained) == 1 else Union(tuple(chained))
