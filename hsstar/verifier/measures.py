"""Read measures: quantities with their units, money, ratios, times of day, digits in a base."""

import re

from hsstar.verifier.forms import Form, Formula, Numeral, Quantity, Ratio
from hsstar.verifier.numeric import Number, number_in_words, read_number
from hsstar.verifier.units import DEGREE, DOLLAR, is_known_unit, is_unit_of_letters, read_unit, time_unit
from hsstar.verifier.wording import COMMAND, FUNCTION_WORDS, TEXT, WORD, looks_like_formula, says_words

_UNIT_START = re.compile(
    r"\\text\{|(?<![A-Za-z\\])[A-Za-z]{2,}|(?<=\d )[A-Za-z](?![A-Za-z])|%|\^\\circ|[€£]|\\\$"
)
_MONEY = re.compile(r"(-?)(?:\\\$|([€£]))(-?)")
_TO = re.compile(r"(?<=\d)\s?(?:\\text\{to\}|to)\s?(?=\d)")
_CLOCK = re.compile(r"\d{1,2}(?::[0-5]\d){1,2}")
_TIME = re.compile(r"(\d{1,2})(?::([0-5]\d))?\s?([ap])\.?\s?m\.?", re.IGNORECASE | re.ASCII)
_LONGEST_RATIO = 200
_FUNCTION_OF_DEGREES = re.compile(r"\\[a-z]*(?:sin|cos|tan|cot|sec|csc|cis)")
_NUMERAL = re.compile(r"\(?(?P<digits>[0-9A-F]{1,60})\)?_\{(?:\\text\{)?(?P<base>\d{1,2}|[a-z]+)\}?\}")


def read_ratio(source: str) -> Form | None:
    """Read a ratio of numbers, `3:4` or `3 to 4`; it may also be a time of day."""
    source = _TO.sub(":", source)
    if ":" not in source or len(source) > _LONGEST_RATIO:
        return None
    parts = [read_number(part) for part in source.split(":")]
    numbers = tuple(part for part in parts if part is not None)
    if len(numbers) < len(parts):
        return None
    return Ratio(numbers, clock=bool(_CLOCK.fullmatch(source)))


def read_time(source: str) -> Form | None:
    """Read a time of day with its half: `7:30 pm`, `7 p.m.`."""
    match = _TIME.fullmatch(TEXT.sub(r"\1", source)) if len(source) < _LONGEST_RATIO else None
    if match is None:
        return None
    hours, minutes = (Number.of(int(part or 0)) for part in match.group(1, 2))
    return Quantity(Ratio((hours, minutes), clock=True), time_unit(f"{match[3]}m".casefold()))


def read_numeral(source: str) -> Form | None:
    """Read digits with their base."""
    match = _NUMERAL.fullmatch(TEXT.sub(r"\1", source, count=1) if source.startswith(r"\text{") else source)
    if match is None or not re.search(r"\d", match["digits"]):
        return None
    base = int(match["base"]) if match["base"].isdecimal() else number_in_words(match["base"])
    return None if base is None else Numeral(match["digits"], int(base))


def read_quantity(source: str) -> Form | None:
    """Read a value with its unit."""
    if (money := _MONEY.match(source)) and money.end() < len(source):
        return _read_money(money[1] + money[3], money[2], source[money.end() :])
    starts = _UNIT_START.finditer(source, 1)
    start = next((unit for unit in starts if unit[0] not in FUNCTION_WORDS or source.endswith(unit[0])), None)
    if start is None:
        return None
    text = source[start.start() :]
    value = _read_value(source[: start.start()].rstrip(" ").removesuffix(r"\cdot").removesuffix("-"))
    if value is None or not _is_unit_of(value, start[0], text):
        return None
    unit = read_unit(text)
    if unit is None or (unit == DEGREE and _FUNCTION_OF_DEGREES.search(source)):
        return None
    return Quantity(value, unit)


def _read_money(sign: str, currency: str | None, rest: str) -> Form | None:
    value: Form | None = _read_value(sign + rest)
    if value is None and not _MONEY.match(rest):
        said_twice = read_quantity(rest)  # $5 dollars
        value = said_twice.value if isinstance(said_twice, Quantity) and said_twice.unit == DOLLAR else None
    unit = DOLLAR if currency is None else read_unit(currency)
    return None if value is None or unit is None else Quantity(value, unit)


def _read_value(source: str) -> Number | Formula | None:
    if number := read_number(source):
        return number
    if _UNIT_START.search(COMMAND.sub(" ", source)) or says_words(source):
        return None
    return Formula(source) if looks_like_formula(source) else None


def _is_unit_of(value: Number | Formula, word: str, text: str) -> bool:
    if not word[0].isalpha() or is_known_unit(word):
        return True
    if not isinstance(value, Number):
        return False
    words = WORD.findall(text)
    return is_unit_of_letters(text) or len(words) > 1 or bool(words and len(words[0]) > 3)
