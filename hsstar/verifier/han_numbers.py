"""Numbers in the words of Chinese and Japanese: 四十二, 三分之二, 百分之二十, 负三, 二点五."""

import re

_DIGITS = {digit: value for value, digit in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "兩": 2}
_PLACES = {"十": 10, "百": 100, "千": 1_000}
_GROUPS = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
_WHOLE = rf"[{''.join((*_DIGITS, *_PLACES, *_GROUPS))}]{{1,20}}"
_NUMBER = re.compile(
    rf"(?P<sign>[负負])?(?:(?P<denominator>{_WHOLE})分[之の](?P<numerator>{_WHOLE})|(?P<whole>{_WHOLE})"
    rf"(?:[点點](?P<decimals>[{''.join(_DIGITS)}]{{1,20}}))?|(?P<digits>\d+(?:\.\d+)?))"
    r"\s?[个個只位人元种岁名本张条天年倍]?"
)


def read_han_number(text: str) -> str | None:
    """Return the number that a text says as a whole, in digits; None if it says none."""
    match = _NUMBER.fullmatch(text)
    if match is None or (match["digits"] and not match["sign"]):
        return None
    sign = "-" if match["sign"] else ""
    if match["digits"]:
        return sign + match["digits"]
    if match["denominator"] == "百":
        return rf"{sign}{_whole(match['numerator'])}\%"
    if match["denominator"]:
        return rf"{sign}\frac{{{_whole(match['numerator'])}}}{{{_whole(match['denominator'])}}}"
    decimals = "".join(str(_DIGITS[digit]) for digit in match["decimals"] or "")
    return f"{sign}{_whole(match['whole'])}{'.' if decimals else ''}{decimals}"


def _whole(text: str) -> int:
    """Read groups of thousands, hundreds, tens and units; without places, a row of digits (二〇二四)."""
    if all(character in _DIGITS for character in text):
        return int("".join(str(_DIGITS[character]) for character in text))
    total = group = digit = 0
    for character in text:
        if character in _DIGITS:
            digit = _DIGITS[character]
        elif character in _PLACES:
            group, digit = group + (digit or 1) * _PLACES[character], 0
        else:
            size, part = _GROUPS[character], group + digit
            total = total + part * size if total >= size else (total + part) * size
            group = digit = 0
    return total + group + digit
