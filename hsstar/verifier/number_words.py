"""Numbers in the words of Spanish, German, French, Russian and Korean: `treinta y dos`, `einundzwanzig`."""

import re
from dataclasses import dataclass
from itertools import product


@dataclass(frozen=True, slots=True)
class _Language:
    """Its words of numbers; `whole` matches a number, `word` each word in it."""

    values: dict[str, int]
    whole: re.Pattern[str]
    word: re.Pattern[str]


def _values(entries: str) -> dict[str, int]:
    pairs = (entry.replace("_", " ").partition("=") for entry in entries.split())
    return {word: int(value) for word, _, value in pairs}


def _language(values: dict[str, int], between: str) -> _Language:
    words = "|".join(sorted(values, key=len, reverse=True))
    return _Language(values, re.compile(rf"(?:{words})(?:{between}(?:{words}))*"), re.compile(words))


_GERMAN_UNITS = _values("ein=1 zwei=2 drei=3 vier=4 fünf=5 sechs=6 sieben=7 acht=8 neun=9")
_GERMAN_TENS = _values(
    "zwanzig=20 dreißig=30 vierzig=40 fünfzig=50 sechzig=60 siebzig=70 achtzig=80 neunzig=90"
)
_GERMAN_PAIRS = {
    f"{unit}und{ten}": value + tens
    for (unit, value), (ten, tens) in product(_GERMAN_UNITS.items(), _GERMAN_TENS.items())
}
_LANGUAGES = (
    _language(
        _values("""
        cero=0 uno=1 un=1 dos=2 tres=3 cuatro=4 cinco=5 seis=6 siete=7 ocho=8 nueve=9 diez=10 once=11
        doce=12 trece=13 catorce=14 quince=15 dieciséis=16 diecisiete=17 dieciocho=18 diecinueve=19
        veinte=20 veintiuno=21 veintidós=22 veintitrés=23 veinticuatro=24 veinticinco=25 veintiséis=26
        veintisiete=27 veintiocho=28 veintinueve=29 treinta=30 cuarenta=40 cincuenta=50 sesenta=60
        setenta=70 ochenta=80 noventa=90 cien=100 ciento=100 doscientos=200 trescientos=300
        cuatrocientos=400 quinientos=500 seiscientos=600 setecientos=700 ochocientos=800 novecientos=900
        mil=1000
        """),
        r"\s(?:y\s)?",
    ),
    _language(
        _values("""
        eins=1 eine=1 zehn=10 elf=11 zwölf=12 dreizehn=13 vierzehn=14 fünfzehn=15 sechzehn=16 siebzehn=17
        achtzehn=18 neunzehn=19 hundert=100 tausend=1000
        """)
        | _GERMAN_UNITS
        | _GERMAN_TENS
        | _GERMAN_PAIRS,
        r"\s?(?:und)?",
    ),
    _language(
        _values("""
        zéro=0 un=1 une=1 deux=2 trois=3 quatre=4 cinq=5 six=6 sept=7 huit=8 neuf=9 dix=10 onze=11
        douze=12 treize=13 quatorze=14 quinze=15 seize=16 vingt=20 trente=30 quarante=40 cinquante=50
        soixante=60 septante=70 quatre-vingts=80 quatre-vingt=80 quatre_vingts=80 quatre_vingt=80
        nonante=90 cent=100 cents=100 mille=1000
        """),
        r"[\s-](?:et[\s-])?",
    ),
    _language(
        _values("""
        ноль=0 один=1 одна=1 одно=1 два=2 две=2 три=3 четыре=4 пять=5 шесть=6 семь=7 восемь=8 девять=9
        десять=10 одиннадцать=11 двенадцать=12 тринадцать=13 четырнадцать=14 пятнадцать=15 шестнадцать=16
        семнадцать=17 восемнадцать=18 девятнадцать=19 двадцать=20 тридцать=30 сорок=40 пятьдесят=50
        шестьдесят=60 семьдесят=70 восемьдесят=80 девяносто=90 сто=100 двести=200 триста=300 четыреста=400
        пятьсот=500 шестьсот=600 семьсот=700 восемьсот=800 девятьсот=900 тысяча=1000 тысячи=1000
        тысяч=1000
        """),
        r"\s",
    ),
    _language(
        _values("""
        하나=1 둘=2 셋=3 넷=4 다섯=5 여섯=6 일곱=7 여덟=8 아홉=9 열=10 스물=20 서른=30 마흔=40 쉰=50
        예순=60 일흔=70 여든=80 아흔=90
        """),
        "",
    ),
    _language(_values("영=0 일=1 이=2 삼=3 사=4 오=5 육=6 칠=7 팔=8 구=9 십=10 백=100 천=1000"), ""),
)
_NEGATIVE = re.compile(r"(?:menos|minus|moins|минус|마이너스)\s?")
_PLACES = (10, 100, 1000)
_LONGEST = 60
_SIXTY_AND_EIGHTY = (60, 80)  # soixante-dix, quatre-vingt-onze


def read_number_words(text: str) -> str | None:
    """Return the number that a text says as a whole, in digits; None if it says none."""
    if len(text) > _LONGEST or not text[:1].isalpha():
        return None
    text = text.lower().replace("dreissig", "dreißig")
    negative = _NEGATIVE.match(text)
    words = text[negative.end() :] if negative else text
    for language in _LANGUAGES:
        if language.whole.fullmatch(words):
            value = _value([language.values[word] for word in language.word.findall(words)])
            return None if value is None else f"{'-' if negative else ''}{value}"
    return None


def _value(parts: list[int]) -> int | None:
    """Return the sum of falling parts; a smaller part before a hundred, thousand or ten multiplies it."""
    if 0 in parts and len(parts) > 1:
        return None
    total = group = 0
    for part in parts:
        if part == 1000:
            if total:
                return None
            total, group = (group or 1) * part, 0
        elif part in _PLACES and group % part and group % part < 10:
            group += (group % part) * (part - 1)
        elif group and not _fits_behind(group, part):
            return None
        else:
            group += part
    return total + group


def _fits_behind(group: int, part: int) -> bool:
    if group % 100 in _SIXTY_AND_EIGHTY and part < 20:
        return True
    return part > 0 and any(part < place and not group % place for place in _PLACES)
