"""What addresses say after the question mark, read with one clear error for what is wrong."""

from collections.abc import Collection, Iterable
from typing import TypeVar

from starlette.requests import Request

from hsstar.domain.errors import BadInputError
from hsstar.domain.suggestions import did_you_mean

_MOST_DIGITS = 18
Choice = TypeVar("Choice", bound=str)


def check_names(request: Request, known: Collection[str]) -> None:
    """Raise BadInputError if the address has a parameter that its page does not know."""
    for name in request.query_params:
        if name not in known:
            raise BadInputError(f"this page knows no parameter {name!r}{did_you_mean(name, known)}")


def text_of(request: Request, name: str) -> str | None:
    """Return a text; None if it is missing or empty."""
    return request.query_params.get(name, "").strip() or None


def whole_of(request: Request, name: str, least: int = 0, most: int | None = None) -> int | None:
    """Return a whole number; None if it is missing or empty."""
    if (given := text_of(request, name)) is None:
        return None
    is_number = given.isascii() and given.isdigit() and len(given) <= _MOST_DIGITS
    if not is_number or int(given) < least or (most is not None and int(given) > most):
        bounds = f" from {least} on" if most is None else f" from {least} to {most}"
        raise BadInputError(f"{name} must be a whole number{bounds}, not {given!r}")
    return int(given)


def share_of(request: Request, name: str) -> float | None:
    """Return a number from 0 to 1; None if it is missing or empty."""
    if (given := text_of(request, name)) is None:
        return None
    try:
        number = float(given)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise BadInputError(f"{name} must be a number from 0 to 1, not {given!r}")
    return number


def choice_of(request: Request, name: str, choices: Iterable[Choice]) -> Choice | None:
    """Return one of these; None if it is missing or empty."""
    if (given := text_of(request, name)) is None:
        return None
    known = list(choices)
    for choice in known:
        if choice == given:
            return choice
    raise BadInputError(
        f"{name} must be one of {', '.join(known)}, not {given!r}{did_you_mean(given, known)}"
    )


def flag_of(request: Request, name: str) -> bool:
    """Tell whether a switch is on."""
    return choice_of(request, name, ("0", "1")) == "1"
