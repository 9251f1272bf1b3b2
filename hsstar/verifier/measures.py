"""Read measures: quantities with their units, money, ratios, times of day, digits in a base."""

import re
from fractions import Fraction

from hsstar.verifier.forms import Form, Formula, Numeral, Quantity, Ratio, Words
from hsstar.verifier.numeric import Number, number_in_words, read_number
from hsstar.verifier.units import (
    DEGREE,
    DOLLAR,
    UNIT_LETTER,
    Unit,
    is_known_unit,
    is_unit_of_letters,
    read_unit,
    time_unit,
)
from hsstar.verifier.wording import COMMAND, FUNCTION_WORDS, TEXT, looks_like_formula, says_words

_UNIT_START = re.compile(
    rf"\\text\{{|(?<![A-Za-z\\]){UNIT_LETTER}{{2,}}|(?<=[\d}}] )[A-Za-z](?![A-Za-z])|%|\^\\circ|[€£₹¥₩₽]|\\\$"
)
_WORD = re.compile(rf"{UNIT_LETTER}{{2,}}")
_MONEY = re.compile(
    r"(-?)(?:(?:US|CA|A|NZ|HK)?\\\$|(?:\\text\{)?([€£₹¥₩₽]|Rs\.?|USD|EUR|GBP|INR|RMB|CNY|JPY)\}?\s?(?=[-\d.]))(-?)"
)
_TO = re.compile(r"(?<=\d)\s?(?:\\text\{to\}|to)\s?(?=\d)")
_ODDS = re.compile(r"(?<=\d)\s?(?:\\text\{\s?)?(?:odds|ratio)\s?\}?\Z")
_CLOCK = re.compile(r"\d{1,2}(?::[0-5]\d){1,2}")
_OCLOCK = re.compile(r"(\d{1,2})\s?o(?:'|\^\{?\\prime\}?)clock")
_ISO_DATE = re.compile(r"(?P<year>\d{4})-(?P<month>0[1-9]|1[0-2])-(?P<day>0[1-9]|[12]\d|3[01])", re.ASCII)
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_TIME = re.compile(r"(\d{1,2})(?::([0-5]\d))?\s?([ap])\.?\s?m\.?", re.IGNORECASE | re.ASCII)
_PART_OF_HOUR = re.compile(
    r"(?:(half)|(?:a\s)?quarter)\s(?:(past)|to)\s(?P<hour>[a-z]+|1?\d)", re.IGNORECASE | re.ASCII
)
_NOON = re.compile(r"(?:12\s?)?(?:(noon)|midnight)", re.IGNORECASE)
_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?:,?\s?(?P<year>\d{4}))?"
_DATES = [
    re.compile(pattern, re.IGNORECASE | re.ASCII)
    for pattern in (rf"{_MONTH}\s?{_DAY}{_YEAR}", rf"(?:the\s)?{_DAY}\s?(?:of\s)?{_MONTH}{_YEAR}")
]
_PART_OF_SUM = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s?(?P<unit>[A-Za-z]+)\.?(?:\s|,|and(?![A-Za-z]))*")
_MINUTES_OF_ARC = re.compile(r"(?P<degrees>\d+)\^\\circ\s?(?P<minutes>\d+)'(?:(?P<seconds>\d+)(?:''|\"))?")
_FEET_AND_INCHES = re.compile(r"(?P<feet>\d+)'\s?(?P<inches>\d+)(?:''|\")")
_MONTH_OF_YEAR = re.compile(rf"{_MONTH},?\s?(?:of\s)?(?P<year>\d{{4}})", re.IGNORECASE | re.ASCII)
_INCHES = re.compile(r"(\d+(?:\.\d+)?)\"")
_DOLLARS_AND_CENTS = re.compile(r"\\\$(\d+) ?(?:and )?(\d{1,2}) ?cents?")
_LARGE_MONEY = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<size>[kKMB])", re.ASCII)
_SIZES_OF_MONEY = {"k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9}
_MOST_PARTS = 4
_LONGEST_RATIO = 200
_FUNCTION_OF_DEGREES = re.compile(r"\\[a-z]*(?:sin|cos|tan|cot|sec|csc|cis)")
_IN_HEXADECIMAL = re.compile(r"\(?[A-F]{2,}\)?_\{16\}")
_NUMERAL = re.compile(r"\(?(?P<digits>[0-9A-Z]{1,60})\)?_\{(?:\\text\{)?(?P<base>\d{1,2}|[a-z]+)\}?\}")
_LETTER_BEYOND_F = re.compile("[G-Z]")
_BASES = {"hex": 16, "hexadecimal": 16, "oct": 8, "octal": 8, "bin": 2, "binary": 2}


def read_ratio(source: str) -> Form | None:
    """Read a ratio of numbers, `3:4` or `3 to 4`; it may also be a time of day."""
    if ":" not in source and "to" not in source:
        return None
    source = _ODDS.sub("", _TO.sub(":", source))
    if ":" not in source or len(source) > _LONGEST_RATIO:
        return None
    parts = [read_number(part) for part in source.split(":")]
    numbers = tuple(part for part in parts if part is not None)
    if len(numbers) < len(parts):
        return None
    return Ratio(numbers, clock=bool(_CLOCK.fullmatch(source)))


def read_time(source: str) -> Form | None:
    """Read a time of day with its half: `7:30 pm`, `7 p.m.`, `noon`."""
    if len(source) > _LONGEST_RATIO:
        return None
    plain = TEXT.sub(r"\1", source)
    if hour := _OCLOCK.fullmatch(plain):
        return Ratio((Number.of(int(hour[1])), Number.of(0)), clock=True)
    if part := _PART_OF_HOUR.fullmatch(plain):
        return _part_of_hour(part)
    if noon := _NOON.fullmatch(plain):
        plain = "12pm" if noon[1] else "12am"
    match = _TIME.fullmatch(plain)
    if match is None:
        return None
    hours, minutes = (Number.of(int(part or 0)) for part in match.group(1, 2))
    return Quantity(Ratio((hours, minutes), clock=True), time_unit(f"{match[3]}m".casefold()))


def _part_of_hour(part: re.Match[str]) -> Ratio | None:
    """Read `quarter to four`; half an hour is told after the full one alone."""
    hour = int(part["hour"]) if part["hour"].isdecimal() else number_in_words(part["hour"])
    if hour is None or hour not in range(1, 13) or (part[1] and not part[2]):
        return None
    full = Number.of(int(hour) if part[2] else int(hour) - 1 or 12)
    return Ratio((full, Number.of(30 if part[1] else 15 if part[2] else 45)), clock=True)


def half_of_day(time: Ratio) -> Quantity | None:
    """Return a time of day that shows its half, `15:30`, as one of twelve hours; None for any other ratio."""
    hours, *rest = time.parts
    if not time.clock or not (hours.value == 0 or 12 < hours.value < 24):
        return None
    twelve = Number.of(int(hours.value) % 12 or 12)
    return Quantity(Ratio((twelve, *rest), clock=True), time_unit("am" if hours.value == 0 else "pm"))


def read_date(source: str) -> Form | None:
    """Read a day of a month, `July 4th`, `4 July 2020`, as words of one order."""
    if len(source) > _LONGEST_RATIO:
        return None
    plain = TEXT.sub(r" \1 ", source).strip()
    if iso := _ISO_DATE.fullmatch(plain):
        return Words(f"{_MONTHS[int(iso['month']) - 1]} {int(iso['day'])} {iso['year']}")
    if plain[-4:].isdecimal() and (match := _MONTH_OF_YEAR.fullmatch(plain)):
        return Words(f"{match['month'][:3].casefold()} {match['year']}")
    for date in _DATES:
        if match := date.fullmatch(plain):
            return Words(f"{match['month'][:3].casefold()} {int(match['day'])} {match['year'] or ''}".strip())
    return None


def read_sum(source: str) -> Form | None:
    """Read a quantity in several units, `1 hour 30 minutes`, as one in the last of them."""
    if len(source) > _LONGEST_RATIO:
        return None
    plain = " ".join(TEXT.sub(r" \1 ", source).split())
    if plain.endswith('"') and (match := _INCHES.fullmatch(plain)):
        return read_quantity(rf"{match[1]}\text{{ inches}}")
    if plain.startswith("\\") and (match := _DOLLARS_AND_CENTS.fullmatch(plain)):
        plain = f"{match[1]} dollars {match[2]} cents"
    if match := _FEET_AND_INCHES.fullmatch(plain):
        plain = f"{match['feet']} ft {match['inches']} in"
    if match := _MINUTES_OF_ARC.fullmatch(plain):
        degrees, minutes, seconds = (int(part or 0) for part in match.groups())
        return Quantity(Number(degrees + Fraction(minutes, 60) + Fraction(seconds, 3600)), DEGREE)
    parts = list(_PART_OF_SUM.finditer(plain))
    if not 1 < len(parts) <= _MOST_PARTS or "".join(part[0] for part in parts) != plain:
        return None
    numbers = [Fraction(part["number"]) for part in parts]
    units = [unit for part in parts if (unit := read_unit(part["unit"])) and not unit.counted]
    if len(units) < len(parts) or len({unit.dimensions for unit in units}) > 1:
        return None
    if any(
        lower.factor * number >= higher.factor
        for higher, lower, number in zip(units, units[1:], numbers[1:], strict=False)
    ):
        return None  # 3 m and 5 m are two lengths
    last = DOLLAR if units[-1].dimensions == DOLLAR.dimensions else units[-1]
    whole = sum(number * unit.factor for number, unit in zip(numbers, units, strict=True))
    decimals = parts[-1]["number"].partition(".")[2]
    return Quantity(Number(whole / last.factor, len(decimals) or None), last)


def read_numeral(source: str) -> Form | None:
    """Read digits with their base."""
    match = _NUMERAL.fullmatch(TEXT.sub(r"\1", source, count=1) if source.startswith(r"\text{") else source)
    if match is None or not (re.search(r"\d", match["digits"]) or _IN_HEXADECIMAL.fullmatch(match[0])):
        return None
    name = match["base"]
    base = int(name) if name.isdecimal() else _BASES.get(name) or number_in_words(name)
    numeral = None if base is None else Numeral(match["digits"], int(base))
    if numeral and _LETTER_BEYOND_F.search(numeral.digits) and numeral.value() is None:
        return None  # 2X_{12} is a product
    return numeral


def read_quantity(source: str) -> Form | None:
    """Read a value with its unit."""
    if (money := _MONEY.match(source)) and money.end() < len(source):
        return _read_money(money[1] + money[3], money[2], source[money.end() :])
    starts = _UNIT_START.finditer(source, 1)
    start = next((unit for unit in starts if unit[0] not in FUNCTION_WORDS or source.endswith(unit[0])), None)
    if start is None:
        return None
    text = source[start.start() :]
    before = source[: start.start()].rstrip(" ").removesuffix(r"\cdot").removesuffix("-")
    unit = read_unit(text)
    value = _read_value(before) or _number_before(unit, before)
    if value is None or not _is_unit_of(value, start[0], text):
        return None
    if unit is None or (unit == DEGREE and _FUNCTION_OF_DEGREES.search(source)):
        return None
    return Quantity(value, unit)


def _read_money(sign: str, currency: str | None, rest: str) -> Form | None:
    if large := _LARGE_MONEY.fullmatch(rest):
        rest = str(Fraction(large["number"]) * _SIZES_OF_MONEY[large["size"]])
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


def _number_before(unit: Unit | None, source: str) -> Number | None:
    """Return the number in words before a known unit: `twenty percent`."""
    number = None if unit is None or unit.counted else number_in_words(TEXT.sub(r"\1", source))
    return None if number is None else Number(number)


def _is_unit_of(value: Number | Formula, word: str, text: str) -> bool:
    if not word[0].isalpha() or is_known_unit(word):
        return True
    if not isinstance(value, Number):
        return False
    words = _WORD.findall(text)
    return (
        is_unit_of_letters(text)
        or len(words) > 1
        or bool(words and (len(words[0]) > 3 or not text.isascii()))
    )
