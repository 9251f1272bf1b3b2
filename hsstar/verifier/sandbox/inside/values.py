"""Plain values as JSON: what passes between a program, its tests, and the process outside.

Nothing that is decoded runs code of the other side. Numbers, texts, true, false and null stand for
themselves; everything else is a list of its kind and its content.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

LONGEST_ITERATOR = 1_000_000


class NotPlainError(Exception):
    """The value is an object that cannot leave its process, or the text stands for no value."""


def encode(value: Any, keep: Callable[[Any], list[Any]] | None = None) -> Any:
    """Return a value as JSON; `keep` encodes what is no plain value, else NotPlainError is raised."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)

    def parts(values: Any) -> list[Any]:
        return [encode(part, keep) for part in values]

    match value:
        case complex():
            return ["complex", value.real, value.imag]
        case bytes() | bytearray():
            return ["bytes", bytes(value).hex()]
        case tuple():
            return ["tuple", parts(value)]
        case list():
            return ["list", parts(value)]
        case deque():
            return ["deque", parts(value)]
        case frozenset():
            return ["frozenset", parts(value)]
        case set() | Set():
            return ["set", parts(value)]
        case Mapping():
            return ["dict", [[encode(key, keep), encode(held, keep)] for key, held in value.items()]]
        case range():
            return ["range", value.start, value.stop, value.step]
        case Fraction() | Decimal():
            return [type(value).__name__, str(value)]
        case datetime() | date() | time():
            return [type(value).__name__, value.isoformat()]
        case timedelta():
            return ["timedelta", value.days, value.seconds, value.microseconds]
        case Iterator():
            held = [held for held, _ in zip(value, range(LONGEST_ITERATOR), strict=False)]
            return ["iterator", parts(held)]
        case Sequence():
            return ["list", parts(value)]
    if keep is None:
        raise NotPlainError(f"a value of the kind {type(value).__name__} cannot be passed on")
    return keep(value)


def decode(sent: Any, kept: Callable[[list[Any]], Any] | None = None) -> Any:
    """Return the value that JSON stands for; `kept` decodes what `keep` has encoded.

    Raise NotPlainError if it stands for none.
    """
    if not isinstance(sent, list):
        if isinstance(sent, dict):
            raise NotPlainError("an object of JSON stands for no value")
        return sent
    try:
        return _decode(sent, kept)
    except (TypeError, ValueError, ArithmeticError, IndexError) as error:
        raise NotPlainError(f"no value: {error}") from None


def _decode(sent: list[Any], kept: Callable[[list[Any]], Any] | None) -> Any:
    def parts(values: list[Any]) -> list[Any]:
        return [decode(part, kept) for part in values]

    match sent:
        case ["complex", real, imaginary]:
            return complex(real, imaginary)
        case ["bytes", digits]:
            return bytes.fromhex(digits)
        case [kind, list() as held] if kind in _COLLECTIONS:
            return _COLLECTIONS[kind](parts(held))
        case ["dict", list() as pairs]:
            return {decode(key, kept): decode(held, kept) for key, held in pairs}
        case ["range", start, stop, step]:
            return range(start, stop, step)
        case [kind, text] if kind in _FROM_TEXT:
            return _FROM_TEXT[kind](text)
        case ["timedelta", days, seconds, microseconds]:
            return timedelta(days, seconds, microseconds)
    if kept is None:
        raise NotPlainError("an object, not a plain value")
    return kept(sent)


_COLLECTIONS: dict[Any, Callable[[list[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "deque": deque,
    "set": set,
    "frozenset": frozenset,
    "iterator": iter,
}
_FROM_TEXT: dict[Any, Callable[[str], Any]] = {
    "Fraction": Fraction,
    "Decimal": Decimal,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
}
