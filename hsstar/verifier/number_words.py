"""Numbers in English words: `twenty-five`, `two hundred and six`, `three fourths`, `two and a half`."""

import re
from fractions import Fraction

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
    """The number that a text names as a whole, None if it names none. An ordinal names none."""
    text = text.strip().casefold()
    words = _WORD.findall(text)
    if not 0 < len(words) <= _MOST_WORDS or _NO_WORD.search(text):
        return None
    if words[0] in ("minus", "negative"):
        value = _positive(words[1:])
        return None if value is None else -value
    return _positive(words)


def ordinal_in_words(text: str) -> int | None:
    """The place that an ordinal up to the twelfth names: 3 for `third`."""
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
    """A whole number: groups of hundreds, tens and units between falling scales."""
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
