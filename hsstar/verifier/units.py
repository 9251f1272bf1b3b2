r"""Units of measurement behind a number: which text is a unit, and which units convert into which.

A unit may be missing on one side, because the problem has named it; two different units are not equal. Words
that only count things (`42 \text{ apples}`) are kept as they are.
"""

import re
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import product

from hsstar.domain.answers.changing_words import CHANGES_NUMBER

_TABLE = """
length   1         m meter meters metre metres
length   1/100     cm centimeter centimeters centimetre centimetres
length   1/1000    mm millimeter millimeters millimetre millimetres
length   1/10      dm decimeter decimeters decimetre decimetres
length   1000      km kilometer kilometers kilometre kilometres
length   127/5000  in inch inches
length   381/1250  ft foot feet
length   1143/1250 yd yard yards
length   201168/125 mi mile miles
time     1         s sec secs second seconds
time     60        min mins minute minutes
time     3600      h hr hrs hour hours
time     86400     day days
time     604800    week weeks
month    1         month months
month    12        yr yrs year years
month    120       decade decades
month    1200      century centuries
mass     1         g gram grams
mass     1000      kg kilogram kilograms
mass     1/1000    mg milligram milligrams
weight   1         oz ounce ounces
weight   16        lb lbs pound pounds
gallon   1         gal gallon gallons
gallon   1/4       quart quarts
gallon   1/8       pint pints
gallon   1/16      cup cups
money    1         $ dollar dollars USD
money    1/100     cent cents
euro     1         € euro euros EUR
sterling 1         £ GBP
rupee    1         rupee rupees Rs Rs. INR ₹
yen      1         ¥ yen JPY
won      1         ₩ won KRW
ruble    1         ₽ ruble rubles RUB
yuan     1         yuan RMB CNY
angle    1         degree degrees deg ^\\circ
radian   1         rad radian radians
celsius  1         ^\\circC °C Celsius
kelvin   1         K kelvin kelvins
fahrenheit 1       ^\\circF °F Fahrenheit
percent  1         % percent pct
current  1         A ampere amperes amp amps
amount   1         mol mole moles
ev       1         eV
unit     1         unit units
ton      1         ton tons
data     1         bit bits
data     8         byte bytes
decibel  1         dB
beats    1         bpm
turn     1         rpm
light    1         cd candela candelas
lux      1         lux
"""
_DERIVED = """
1      kg m s^{-2}  N newton newtons
1      N m          J joule joules
1      J/s          W watt watts
1/1000  m^{3}       L l liter liters litre litres
1/1000000  m^{3}    mL ml milliliter milliliters cc
1      A s          C coulomb coulombs
1      W/A          V volt volts
1      V/A          ohm ohms
1      s^{-1}       Hz hertz
1      N/m^{2}      Pa pascal pascals
3600   J            Wh
101325  Pa          atm atmosphere atmospheres
100000  Pa          bar bars
4184/1000  J        cal calorie calories
1      V s/m^{2}    T tesla teslas
1      V s          Wb weber webers
1      V s/A        H henry henries
1      A s/V        F farad farads
1      mile/gallon  mpg
1      mile/hour    mph
1      km/hour      kph
1000   kg           tonne tonnes
10000  m^{2}        hectare hectares
4840   yd^{2}       acre acres
"""
_SIZES = {
    **dict.fromkeys(("k", "kilo"), Fraction(10**3)),
    **dict.fromkeys(("M", "mega"), Fraction(10**6)),
    **dict.fromkeys(("G", "giga"), Fraction(10**9)),
    **dict.fromkeys(("m", "milli"), Fraction(1, 10**3)),
    **dict.fromkeys(("u", "micro"), Fraction(1, 10**6)),
    **dict.fromkeys(("n", "nano"), Fraction(1, 10**9)),
    **dict.fromkeys(("p", "pico"), Fraction(1, 10**12)),
}
_SHORT_UNITS = "m g s L N J W C V A T H F Hz Pa Wb mol eV ohm Wh cal"
_LONG_UNITS = (
    "meter meters metre metres gram grams second seconds liter liters litre litres newton newtons joule "
    "joules watt watts coulomb coulombs volt volts ampere amperes amp amps hertz pascal pascals mole moles "
    "ohm ohms farad farads henry henries tesla teslas weber webers"
)
_PERCENT_WORDS = re.compile(r"percentage points?|per ?cent")


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit as sorted powers of dimensions, or of the words of counted things; `written` is not compared.

    `factor` is the size in the first unit of the dimension.
    """

    dimensions: tuple[tuple[str, int], ...]
    factor: Fraction = Fraction(1)
    counted: bool = False
    written: str = field(default="", compare=False)

    def __str__(self) -> str:
        return self.written


def _power(unit: Unit, power: int) -> Unit:
    return Unit(tuple((name, power * own) for name, own in unit.dimensions), unit.factor**power)


def _product(left: Unit, right: Unit) -> Unit:
    powers = dict(left.dimensions)
    for name, power in right.dimensions:
        powers[name] = powers.get(name, 0) + power
    return Unit(tuple(sorted(item for item in powers.items() if item[1])), left.factor * right.factor)


_UNITS = dict[str, Unit]()
_PREFIXES = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_SUFFIXES = {"squared": 2, "cubed": 3}
_TOKEN = re.compile(
    r"\^\\circ\s?[CF]?|°[CF]|\^\{?(-?\d)\}?|[A-Za-z]+|[%$€£₹¥₩₽/]|\s+|[.*]|\\cdot|\\%|\\\$", re.ASCII
)
UNIT_LETTER = r"[A-Za-z\u00c0-\u024f\u0400-\u04ff]"  # Latin, also with accents, and Cyrillic
_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_COUNTED = re.compile(rf"{UNIT_LETTER}(?:{UNIT_LETTER}|[0-9' -])*(?:{UNIT_LETTER}|[0-9])")
_LETTERS = re.compile(r"[A-Za-z]{1,3}(?:\^\{-?\d\})?(?:[/ ][A-Za-z]{1,3}(?:\^\{-?\d\})?)?", re.ASCII)
_MODULUS = re.compile(r"mod \d+")
_NUMBER_BEHIND = re.compile(r"(?<![A-Za-z0-9'-])\d")
_LONGEST_UNIT = 80


def read_unit(text: str) -> Unit | None:
    r"""Read a text in normal spelling as a unit (`\text{m}/\text{s}^{2}`, `square feet`), or None."""
    if len(text) > _LONGEST_UNIT:
        return None
    source = _PERCENT_WORDS.sub("%", _TEXT.sub(r" \1 ", text).strip())
    unit = _read_known(source) or _read_counted(source)
    return None if unit is None else replace(unit, written=" ".join(source.split()))


def is_known_unit(word: str) -> bool:
    r"""Decide whether a word outside of `\text{…}` is a unit and no product of letters."""
    return len(word) > 1 and word in _CLEAR_UNITS


def is_unit_of_letters(text: str) -> bool:
    r"""Decide whether letters behind a number, outside of `\text{…}`, are a unit: `m`, `m/s^{2}`."""
    return bool(_LETTERS.fullmatch(text)) and _read_known(text) is not None


def time_unit(half: str) -> Unit:
    """Return the half of the day, `am` or `pm`, as the unit of a time."""
    return Unit(((half, 1),), counted=True, written=half)


def _read_known(source: str) -> Unit | None:
    result, last, sign, prefix, position = Unit(()), None, 1, 1, 0
    while position < len(source):
        token = _TOKEN.match(source, position)
        if token is None:
            return None
        position = token.end()
        word = token[0].strip().removeprefix("\\").replace(" ", "") if token[0] != r"\cdot" else "*"
        if token[1] is not None or word in _SUFFIXES:
            if last is None and token[1] is None:
                prefix = _SUFFIXES[word]  # 5 squared meters
                continue
            if last is None:
                return None
            power = int(token[1]) if token[1] is not None else _SUFFIXES[word]
            result = _product(result, _power(last, sign * (power - 1)))
            last = None
        elif word in ("/", "per"):
            sign = -1
        elif word in _PREFIXES:
            prefix = _PREFIXES[word]
        elif known := _UNITS.get(word) or (_UNITS.get(word.lower()) if len(word) > 3 else None):
            last = _power(known, prefix)
            result, prefix = _product(result, _power(last, sign)), 1
        elif word not in ("", ".", "*"):
            return None
    return result if result.dimensions else None


def _read_counted(source: str) -> Unit | None:
    words = " ".join(source.split())
    changed = CHANGES_NUMBER.search(words) or _NUMBER_BEHIND.search(words)
    if changed and not _MODULUS.fullmatch(words):
        return None
    return Unit(((words.casefold(), 1),), counted=True) if _COUNTED.fullmatch(words) else None


def _add_units() -> None:
    """Fill the table: units with a dimension of their own, those that others define, those with a prefix."""
    for line in _TABLE.strip().splitlines():
        dimension, factor, *words = line.split()
        _UNITS.update(dict.fromkeys(words, Unit(((dimension, 1),), Fraction(factor))))
    for line in _DERIVED.strip().splitlines():
        factor, definition, names = re.split(r"\s{2,}", line)
        unit = _read_known(definition)
        if unit is not None:
            sized = Unit(unit.dimensions, unit.factor * Fraction(factor))
            _UNITS.update(dict.fromkeys(names.split(), sized))
    for names, is_long in ((_SHORT_UNITS, False), (_LONG_UNITS, True)):
        for name, size in product(names.split(), _SIZES):
            if (len(size) > 1) is is_long:
                unit = _UNITS[name]
                _UNITS.setdefault(size + name, Unit(unit.dimensions, unit.factor * _SIZES[size]))


_add_units()
_CLEAR_UNITS = {name for name in _UNITS if len(name) > 3 or name in f"{_TABLE} {_DERIVED}".split()}
PERCENT = replace(_UNITS["%"], written="%")
DEGREE = replace(_UNITS["degree"], written="degrees")
RADIAN = _UNITS["rad"]
DOLLAR = replace(_UNITS["$"], written="dollars")
