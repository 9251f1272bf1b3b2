"""Numbers that are read without algebra: in digits, and in English words.

Digits are in the normal spelling (`spelling.normal_spelling`): integers, decimals, fractions, mixed numbers
and powers. Words are such as `two hundred and six`, `three fourths`, `two and a half`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

RELATIVE_TOLERANCE = Fraction(1, 10_000)
"""The largest distance of a decimal from a reference, as a share of the reference."""

_INTEGER_TOLERANCE = Fraction(1, 1_000)
_DECIMALS_OF_ROUNDED = 2
_DECIMALS_OF_CUT_OFF = 4
_ROUNDING_NOISE = Fraction(1, 1_000_000)
MOST_DIGITS = 2_000
_LARGEST_EXPONENT = 2_000


@dataclass(frozen=True, slots=True)
class Number:
    """A rational number; `decimals` counts the digits after the point, None for forms that are exact."""

    value: Fraction
    decimals: int | None = None

    @property
    def exact(self) -> bool:
        """Say whether the number was written in a form that stands for it alone."""
        return self.decimals is None

    @classmethod
    def of(cls, integer: int) -> "Number":
        """Return an integer as a number."""
        return cls(Fraction(integer))

    def __str__(self) -> str:
        return f"{self.value} (decimal)" if not self.exact else str(self.value)


def read_number(text: str) -> Number | None:
    """Read a text in normal spelling as one number, None if it is none."""
    if len(text) > MOST_DIGITS:
        return None
    text = text.replace("{,}", ",").removeprefix("+")
    for pattern, read in _READERS:
        if match := pattern.fullmatch(text):
            return read(match)
    return None


def numbers_equal(answer: Number, reference: Number) -> bool:
    """Decide whether two numbers are the same, or close if one is a decimal and neither an integer."""
    if answer.value == reference.value:
        return True
    if answer.exact and reference.exact:
        return False
    if answer.exact and answer.value.denominator == 1:
        return _is_noise(answer.value - reference.value, answer.value)
    return is_close(answer.value, answer.exact, not _ends(answer.value), reference)


def is_close(answer: Fraction, exact: bool, endless: bool, reference: Number) -> bool:
    """Decide whether a number is close to a reference; one of the two is a decimal.

    Close is a relative distance of at most 1e-4. An integer reference wants the integer, up to the noise of
    floating point: a relative distance of at most 1e-6, and at most 0.001. A decimal reference sets its own
    precision: a decimal differs by at most one in the last place, and an exact number (`exact`) has to round
    to the reference, which needs two decimals if no decimal can express the number (`endless`).
    """
    distance = abs(answer - reference.value)
    close = distance <= RELATIVE_TOLERANCE * abs(reference.value)
    if reference.exact and reference.value.denominator == 1:
        return close and _is_noise(distance, reference.value)
    if not reference.decimals:
        return close
    if not exact:
        return close and distance * 10**reference.decimals <= 1
    if round(answer, reference.decimals) == reference.value:
        return close or (endless and reference.decimals >= _DECIMALS_OF_ROUNDED)
    cut_off = Fraction(int(answer * 10**reference.decimals), 10**reference.decimals) == reference.value
    return close and cut_off and reference.decimals >= _DECIMALS_OF_CUT_OFF


def _is_noise(distance: Fraction, integer: Fraction) -> bool:
    return abs(distance) <= min(_INTEGER_TOLERANCE, _ROUNDING_NOISE * abs(integer))


def _ends(value: Fraction) -> bool:
    rest = value.denominator
    for factor in (2, 5):
        while rest % factor == 0:
            rest //= factor
    return rest == 1


_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d{1,2}(?:,\d{2})+,\d{3}|\d{1,3}(?: \d{3})+|\d+)"
_DECIMAL = rf"-?(?:{_DIGITS}(?:\.\d*)?|\.\d+)"
_SIGN = r"(?P<sign>-?)"
_POWER_OF_TEN = r"(?:\\times|\\cdot|\*|x)\s?10\^(?:\{(?P<power>[-+]?\d+)\}|(?P<bare>\d))"


def _decimal(text: str) -> Number:
    digits = text.replace(",", "").replace(" ", "")
    point = digits.find(".")
    decimals = None if point < 0 else len(digits) - point - 1
    return Number(Fraction(digits), decimals)


def _european(match: re.Match[str]) -> Number:
    return _decimal(match[0].replace(".", "").replace(",", "."))


def _read_scientific(match: re.Match[str]) -> Number | None:
    r"""Read `2.5\times10^{3}` or `2.5e3`; `2\times10^{3}` is exact, `2e3` is a decimal."""
    exponent = int(match["power"] or match["bare"] or match["e_power"])
    if abs(exponent) > _LARGEST_EXPONENT:
        return None
    mantissa = _decimal(match["mantissa"])
    exact = mantissa.exact and match["e_power"] is None
    decimals = None if exact else max((mantissa.decimals or 0) - exponent, 0)
    return Number(mantissa.value * Fraction(10) ** exponent, decimals)


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
    before, period = match["before"] or "", match["period"] or match["cycle"]
    whole = int(match["whole"] or 0)
    scale = 10 ** len(before)
    value = whole + Fraction(int(before or 0), scale) + Fraction(int(period), scale * (10 ** len(period) - 1))
    return Number(-value if match["sign"] else value)


_NUMERATOR, _DENOMINATOR = rf"(?P<numerator>{_DECIMAL})", rf"(?P<denominator>{_DECIMAL})"
_PATTERNS: tuple[tuple[str, Callable[[re.Match[str]], Number | None]], ...] = (
    (_DECIMAL, lambda match: _decimal(match[0])),
    (r"-?\d{1,3}(?:\.\d{3}){2,}(?:,\d+)?|-?\d{1,3}\.\d{3},\d{1,2}", _european),
    (rf"{_SIGN}\\frac\{{{_NUMERATOR}\}}\{{{_DENOMINATOR}\}}", _read_fraction),
    (rf"{_SIGN}\(?{_NUMERATOR}\)?/\(?{_DENOMINATOR}\)?", _read_fraction),
    (rf"{_SIGN}(?P<whole>\d+)\s?\\frac\{{(?P<numerator>\d+)\}}\{{(?P<denominator>\d+)\}}", _read_mixed),
    (rf"{_SIGN}(?P<whole>\d+)\s(?P<numerator>\d+)/(?P<denominator>\d+)", _read_mixed),
    (rf"(?P<mantissa>{_DECIMAL})(?:\s?{_POWER_OF_TEN}|[eE](?P<e_power>[-+]?\d+))", _read_scientific),
    (rf"{_SIGN}(?P<base>\d+)\^\{{(?P<exponent>-?\d+)\}}", _read_power),
    (
        rf"{_SIGN}(?P<whole>\d*)\.(?P<before>\d*)(?:\\(?:overline|bar|dot)\{{(?P<period>\d+)\}}|\((?P<cycle>\d+)\))",
        _read_repeating,
    ),
)
_READERS = [(re.compile(pattern, re.ASCII), reader) for pattern, reader in _PATTERNS]

_SMALL = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven")
_TEENS = ("twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
_TIMES_TEN = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_PLACES = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_UNITS = {word: value for value, word in enumerate((*_SMALL, *_TEENS))}
_TENS = {word: 10 * value for value, word in enumerate(_TIMES_TEN, start=2)}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_ORDINALS = {word: value for value, word in enumerate((*_PLACES, "eleventh", "twelfth"), start=1)}
_PARTS = {"half": 2, "quarter": 4, "hundredth": 100, "thousandth": 1000} | {
    word: value for word, value in _ORDINALS.items() if value > 2
}
_WORD = re.compile(r"[a-z]+")
_NO_WORD = re.compile(r"[^a-z\s-]")
_MOST_WORDS = 20


def number_in_words(text: str) -> Fraction | None:
    """Return the number that a text names as a whole, None if it names none, as an ordinal does."""
    text = text.strip().casefold()
    words = _WORD.findall(text)
    if not 0 < len(words) <= _MOST_WORDS or _NO_WORD.search(text):
        return None
    negative = text.startswith("-")
    if words[0] in ("minus", "negative"):
        negative, words = not negative, words[1:]
    value = _positive(words)
    return -value if negative and value is not None else value


def ordinal_in_words(text: str) -> int | None:
    """Return the place that an ordinal up to the twelfth names: 3 for `third`."""
    return _ORDINALS.get(text.strip().casefold())


def _positive(words: list[str]) -> Fraction | None:
    if not words:
        return None
    size = _PARTS.get(words[-1].removesuffix("s") if words[-1] != "halves" else "half")
    if size is None:
        whole = _whole(words)
        return None if whole is None else Fraction(whole)
    if "and" in words:  # two and a half
        start = words.index("and")
        whole = _whole(words[:start])
        part = _positive(words[start + 1 :])
        return None if whole is None or part is None or part >= 1 else whole + part
    count = 1 if words[:-1] in (["a"], ["an"]) or words == ["half"] else _whole(words[:-1])
    if count is None or (count == 1) == words[-1].endswith("s"):  # twenty-fifth is a place
        return None
    return Fraction(count, size)


def _whole(words: list[str]) -> int | None:
    """Read a whole number: groups of hundreds, tens and units between falling scales."""
    total, smallest_scale = 0, 10**15
    group, room = 0, 1_000  # what may still be added to the group is below its room
    for position, word in enumerate(words):
        if word == "and":
            if position == 0 or words[position - 1] not in ("hundred", *_SCALES):
                return None
        elif word in _SCALES:
            if not group or _SCALES[word] >= smallest_scale:
                return None
            smallest_scale = _SCALES[word]
            total, group, room = total + group * smallest_scale, 0, 1_000
        elif word == "hundred":
            if not 0 < group < 10:
                return None
            group, room = 100 * group, 100
        else:
            value = _UNITS.get(word, _TENS.get(word))
            if value is None or value >= room or (value == 0 and len(words) > 1):
                return None
            group, room = group + value, 10 if word in _TENS else 1
    return total + group if words and words[-1] != "and" else None
