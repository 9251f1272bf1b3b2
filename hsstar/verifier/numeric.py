r"""Numbers that are read without algebra: integers, decimals, fractions, mixed numbers, powers of ten.

All patterns expect the normal spelling (`spelling.normal_spelling`).
"""

import re
from dataclasses import dataclass
from fractions import Fraction

RELATIVE_TOLERANCE = Fraction(1, 10_000)
"""How far a decimal may lie from what it is compared with, as a share of the reference."""

_INTEGER_TOLERANCE = Fraction(1, 100)
MOST_DIGITS = 2_000
_LARGEST_EXPONENT = 2_000


@dataclass(frozen=True, slots=True)
class Number:
    """A rational number.

    Attributes:
        value: exact.
        decimals: digits after the decimal point, where it was written as a decimal; None for integers,
            fractions and whatever else is exact.
    """

    value: Fraction
    decimals: int | None = None

    @property
    def exact(self) -> bool:
        """Whether it was written in a form that stands for one number only."""
        return self.decimals is None

    @classmethod
    def of(cls, integer: int) -> "Number":
        """An integer as a number."""
        return cls(Fraction(integer))

    def __str__(self) -> str:
        return f"{self.value} (decimal)" if not self.exact else str(self.value)


def read_number(text: str) -> Number | None:
    """The number that a text in normal spelling stands for as a whole, None if it is not such a number."""
    if len(text) > MOST_DIGITS:
        return None
    text = text.replace("{,}", ",").removeprefix("+")
    for pattern, read in _READERS:
        if match := pattern.fullmatch(text):
            return read(match)
    return None


def numbers_equal(answer: Number, reference: Number) -> bool:
    """Whether two numbers are the same, or close enough where one of them is a decimal."""
    if answer.value == reference.value:
        return True
    if answer.exact and reference.exact:
        return False
    return is_close(answer.value, answer.exact and not _ends(answer.value), reference)


def is_close(answer: Fraction, endless: bool, reference: Number) -> bool:
    """Whether a number is close to a reference, one of the two being a decimal.

    Close is a relative distance of 1e-4. An integer reference has to be met to 0.01 as well. A reference
    with two decimals or more also stands for what rounds to it, if that is exact and no decimal could be
    (`endless`).
    """
    distance = abs(answer - reference.value)
    if distance <= RELATIVE_TOLERANCE * abs(reference.value):
        is_integer = reference.exact and reference.value.denominator == 1
        return not is_integer or distance <= _INTEGER_TOLERANCE
    if not endless or reference.decimals is None or reference.decimals < 2:
        return False
    return round(answer, reference.decimals) == reference.value


def _ends(value: Fraction) -> bool:
    """Whether the decimal expansion of a fraction ends."""
    rest = value.denominator
    for factor in (2, 5):
        while rest % factor == 0:
            rest //= factor
    return rest == 1


_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)"
_DECIMAL = rf"-?(?:{_DIGITS}(?:\.\d*)?|\.\d+)"
_POWER_OF_TEN = r"(?:\\times|\\cdot|\*|x)\s?10\^(?:\{(?P<power>[-+]?\d+)\}|(?P<bare>\d))"


def _decimal(text: str) -> Number:
    digits = text.replace(",", "").replace(" ", "")
    point = digits.find(".")
    decimals = None if point < 0 else len(digits) - point - 1
    return Number(Fraction(digits), decimals)


def _read_decimal(match: re.Match[str]) -> Number:
    return _decimal(match[0])


def _read_scientific(match: re.Match[str]) -> Number | None:
    exponent = int(match["power"] or match["bare"])
    if abs(exponent) > _LARGEST_EXPONENT:
        return None
    mantissa = _decimal(match["mantissa"])
    decimals = None if mantissa.exact else max(mantissa.decimals or 0, 0) - exponent
    return Number(mantissa.value * Fraction(10) ** exponent, None if decimals is None else max(decimals, 0))


def _read_e_notation(match: re.Match[str]) -> Number | None:
    exponent = int(match["power"])
    if abs(exponent) > _LARGEST_EXPONENT:
        return None
    mantissa = _decimal(match["mantissa"])
    return Number(mantissa.value * Fraction(10) ** exponent, max((mantissa.decimals or 0) - exponent, 0))


def _read_fraction(match: re.Match[str]) -> Number | None:
    numerator, denominator = _decimal(match["numerator"]), _decimal(match["denominator"])
    if denominator.value == 0:
        return None
    value = numerator.value / denominator.value
    sign = -1 if match["sign"] else 1
    exact = numerator.exact and denominator.exact
    return Number(sign * value, None if exact else 0)


def _read_mixed(match: re.Match[str]) -> Number | None:
    whole, numerator, denominator = (int(match[name]) for name in ("whole", "numerator", "denominator"))
    if not 0 < numerator < denominator:
        return None
    value = whole + Fraction(numerator, denominator)
    return Number(-value if match["sign"] else value)


def _read_power(match: re.Match[str]) -> Number | None:
    base, exponent = int(match["base"]), int(match["exponent"])
    if base == 0 or base.bit_length() * abs(exponent) > _LARGEST_EXPONENT:
        return None
    value = Fraction(base) ** exponent
    return Number(-value if match["sign"] else value)


def _read_repeating(match: re.Match[str]) -> Number:
    before, period = match["before"] or "", match["period"]
    whole = int(match["whole"] or 0)
    scale = 10 ** len(before)
    value = whole + Fraction(int(before or 0), scale) + Fraction(int(period), scale * (10 ** len(period) - 1))
    return Number(-value if match["sign"] else value)


_SIGNED = r"(?P<sign>-?)"
_READERS = (
    (re.compile(_DECIMAL, re.ASCII), _read_decimal),
    (
        re.compile(
            rf"{_SIGNED}\\frac\{{(?P<numerator>{_DECIMAL})\}}\{{(?P<denominator>{_DECIMAL})\}}", re.ASCII
        ),
        _read_fraction,
    ),
    (
        re.compile(rf"{_SIGNED}\(?(?P<numerator>{_DECIMAL})\)?/\(?(?P<denominator>{_DECIMAL})\)?", re.ASCII),
        _read_fraction,
    ),
    (
        re.compile(
            rf"{_SIGNED}(?P<whole>\d+)(?:\s?\\frac\{{(?P<numerator>\d+)\}}\{{(?P<denominator>\d+)\}})",
            re.ASCII,
        ),
        _read_mixed,
    ),
    (
        re.compile(rf"{_SIGNED}(?P<whole>\d+)\s(?P<numerator>\d+)/(?P<denominator>\d+)", re.ASCII),
        _read_mixed,
    ),
    (re.compile(rf"(?P<mantissa>{_DECIMAL})\s?{_POWER_OF_TEN}", re.ASCII), _read_scientific),
    (re.compile(rf"(?P<mantissa>{_DECIMAL})[eE](?P<power>[-+]?\d+)", re.ASCII), _read_e_notation),
    (re.compile(rf"{_SIGNED}(?P<base>\d+)\^\{{(?P<exponent>-?\d+)\}}", re.ASCII), _read_power),
    (
        re.compile(
            rf"{_SIGNED}(?P<whole>\d*)\.(?P<before>\d*)\\(?:overline|bar|dot)\{{(?P<period>\d+)\}}", re.ASCII
        ),
        _read_repeating,
    ),
)
