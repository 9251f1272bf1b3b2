r"""Mathematics in words: `3 million`, `5 plus 6`, `minus 5`, `3 halves`, `x squared`, `5 and a half`."""

import re
from collections.abc import Callable
from fractions import Fraction

from hsstar.domain.answers.changing_words import SCALES
from hsstar.verifier.forms import Form, Reader
from hsstar.verifier.numeric import number_in_words
from hsstar.verifier.wording import TEXT

_LONGEST = 200
_NUMBER = r"\d[\d,]*(?:\.\d+)?"
_OPERAND = rf"(?:{_NUMBER}|\\[a-z]+(?:\{{[^{{}}]*\}}){{1,2}}|\([^()]*\)|[A-Za-z](?![A-Za-z]))"
_ENDS = r"(?<=[\d)}A-Za-z])\s?(?<![A-Za-z]{2})"
_PARTS = r"half|halves|(?:third|quarter|fourth|fifth|sixth|seventh|eighth|ninth|tenth|hundredth|thousandth)s?"
_DIGIT = r"one|two|three|four|five|six|seven|eight|nine"
_SMALL = rf"an?|{_DIGIT}"
_SCALE = "|".join(SCALES)
_LENGTH = "(?:centi|milli|kilo|[ckm])?(?:met|m(?![A-Za-z])|feet|foot|ft|inch|yard|mile|unit)"
_NUMBER_WORDS = rf"(?:{_DIGIT}|ten|eleven|twelve|twenty|half)(?: and (?:a half|a quarter|three quarters))?"
_RESULTS = {"sum": "+", "difference": "-", "product": r"\cdot ", "quotient": "/"}
_BOUNDS = {
    "(?:greater|more|larger) than or equal to|at least|(?:not|no) (?:less|fewer|smaller) than": r"\\ge ",
    "(?:less|fewer|smaller) than or equal to|at most|(?:not|no) (?:greater|more|larger) than": r"\\le ",
    "(?:greater|more|larger) than": "> ",
    "(?:less|fewer|smaller) than": "< ",
}
_Replacement = str | Callable[[re.Match[str]], str]


def _scaled(match: re.Match[str]) -> str:
    value = Fraction(match["count"].replace(",", "")) if match["count"][0].isdigit() else Fraction(1)
    value *= SCALES[match["scale"].casefold()]
    return str(value) if value.denominator == 1 else match[0]


def _sum(match: re.Match[str]) -> str:
    """Return `3 million 200 thousand` as one number, whose parts must fall."""
    scale = SCALES[match["scale"].casefold()]
    rest = int(match["rest"]) * (SCALES[match["rest_scale"].casefold()] if match["rest_scale"] else 1)
    value = Fraction(match["count"].replace(",", "")) * scale + rest
    return str(value) if rest < scale and value.denominator == 1 else match[0]


def _part(match: re.Match[str]) -> str:
    word = match["part"].casefold()
    size = number_in_words(f"one {'half' if word == 'halves' else word.removesuffix('s')}")
    return match[0] if size is None else rf"\frac{{{match['count']}}}{{{1 / size}}}"


def _mixed(match: re.Match[str]) -> str:
    part = number_in_words(f"{match['count']} {match['part']}")
    return match[0] if part is None else rf"{match['whole']}\frac{{{part.numerator}}}{{{part.denominator}}}"


def _with_point(match: re.Match[str]) -> str:
    digits = [number_in_words(word) for word in match["digits"].split()]
    whole = number_in_words(match["whole"])
    return match[0] if whole is None or None in digits else f"{whole}.{''.join(map(str, digits))}"


def _all_but(match: re.Match[str]) -> str:
    return rf"\mathbb{{R}}\setminus\{{{match['rest'].strip()}\}}"


def _scaled_words(match: re.Match[str]) -> str:
    """Return `two dozen` or `two and a half million` as one number."""
    count = None if match["scale"].casefold() == "hundred" else number_in_words(match["count"])
    value = None if count is None else count * SCALES[match["scale"].casefold()]
    return str(value) if value is not None and value.denominator == 1 else match[0]


def _percent(match: re.Match[str]) -> str:
    number = number_in_words(match["words"])
    return match[0] if number is None else f"{number}%"


def _share(match: re.Match[str]) -> str:
    return rf"\frac{{{match['top']}}}{{{match['bottom']}}}" if match["bottom"].strip("0") else match[0]


def _result(match: re.Match[str]) -> str:
    return f"({match[2]}){_RESULTS[match['name'].casefold()]}({match[3]})"


def _part_of(match: re.Match[str]) -> str:
    part = number_in_words(f"one {match['part']}")
    return match[0] if part is None else rf"\frac{{{match['whole'].replace(',', '')}}}{{{part.denominator}}}"


def _power(match: re.Match[str]) -> str:
    return f"{match['base']}^{{{match[2]}}}"


_PHRASES: tuple[tuple[str, _Replacement], ...] = (
    (
        rf"(?P<whole>[a-z]+) point (?P<digits>(?:zero|{_DIGIT})(?: (?:zero|{_DIGIT}))*)(?![A-Za-z])",
        _with_point,
    ),
    (r"(?:(?:a )?half (?:of )?|one half of )(?=a\s|\d)", r"\\frac{1}{2}\\cdot "),
    (r"(?:double|twice) (?=\d)", r"2\\cdot "),
    (r"(?:triple|thrice) (?=\d)", r"3\\cdot "),
    (
        rf"(?P<count>{_NUMBER}) (?P<scale>{_SCALE}) (?:and )?(?P<rest>\d{{1,3}})"
        rf"(?: (?P<rest_scale>{_SCALE}))?"
        r"(?![A-Za-z\d.,^]| ?[-+*/^\\])",
        _sum,
    ),
    (rf"(?P<whole>\d+) and (?P<count>{_SMALL}) (?P<part>{_PARTS})(?![A-Za-z])", _mixed),
    (rf"(?P<count>{_NUMBER}|\ban?) (?P<scale>{_SCALE})s?(?![A-Za-z])", _scaled),
    (rf"(?P<count>{_NUMBER_WORDS}) (?P<scale>{_SCALE})s?(?![A-Za-z])", _scaled_words),
    (r"(?P<top>\d+) out of (?P<bottom>\d+)\Z", _share),
    (r"(?P<top>1) in (?P<bottom>\d+)\Z", _share),
    (rf"(?:the )?(?P<name>{'|'.join(_RESULTS)}) of ({_OPERAND}) and ({_OPERAND})\Z", _result),
    (rf"(?:the )?square of ({_OPERAND})", r"(\1)^{2}"),
    (rf"(?:the )?cube of ({_OPERAND})", r"(\1)^{3}"),
    (rf"(?:one|a) (?P<part>{_PARTS}) of (?P<whole>{_NUMBER})\Z", _part_of),
    (rf"(?P<first>{_NUMBER}) less (?=\d)", r"\g<first>-"),
    (r"(?P<whole>-?\d*)\.(?P<digit>\d) (?:repeating|recurring)\Z", r"\g<whole>.\\overline{\g<digit>}"),
    (r"(?P<words>[a-z]+(?:-[a-z]+)?) per ?cent(?![A-Za-z])", _percent),
    (rf"(?:x (?:is |lies )?)?between ({_OPERAND}) and ({_OPERAND})\Z", r"\1<x<\2"),
    (rf"(?P<count>\d+) (?P<part>{_PARTS})(?![A-Za-z])(?! (?:of|and|in)\b)", _part),
    (r"plus or minus (?=[\d\\(A-Za-z])", r"\\pm "),
    (r"(?:minus|negative) (?=[\d\\(]|[A-Za-z](?![A-Za-z]))", "-"),
    (r"plus (?=[\d\\(]|[A-Za-z](?![A-Za-z]))", "+"),
    (r"(?:times|multiplied by) (?=[\d\\(]|[A-Za-z](?![A-Za-z]))", r"\\cdot "),
    (r"(?:divided by|over) (?=[\d\\(]|[A-Za-z](?![A-Za-z]))", "/"),
    (r"(?P<top>\d+) choose (\d+)", r"\\binom{\g<top>}{\2}"),
    (rf"(?:the )?square root of ({_OPERAND})", r"\\sqrt{\1}"),
    (rf"(?:the )?cube root of ({_OPERAND})", r"\\sqrt[3]{\1}"),
    (rf"(?P<base>{_OPERAND}) ?squared(?![A-Za-z])(?! {_LENGTH})", r"\g<base>^{2}"),
    (rf"(?P<base>{_OPERAND}) ?cubed(?![A-Za-z])", r"\g<base>^{3}"),
    (rf"(?P<base>{_OPERAND}) factorial(?![A-Za-z])", r"\g<base>!"),
    (
        rf"(?P<base>{_OPERAND}) (?:raised )?to the (?:power of )?(\d+)(?:th power|th)?(?![A-Za-z\d])",
        _power,
    ),
    *((rf"(?:is )?(?:{words}) (?=[-\d\\])", sign) for words, sign in _BOUNDS.items()),
    (r"(?:all )?(?:the )?real numbers except (?:for )?(?P<rest>[^A-Za-z]+)\Z", _all_but),
    (r"(?:with )?(?:a )?remainder(?: of)? (?=\d)", "R "),
)
_SPOKEN = tuple(
    (re.compile(rf"(?<![A-Za-z\\]){pattern}".replace(" ", " ?"), re.IGNORECASE), replacement)
    for pattern, replacement in _PHRASES
)
_WORD = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{2}")
_QUICK = re.compile(
    rf"(?<![A-Za-z\\])(?:{_SCALE}|{_PARTS}|plus|minus|negative|times|multiplied|divided|over|choose|root"
    r"|squared|cubed|factorial|raised|to the|(?:with )?(?:a )?remainder|point|double|twice|triple|thrice"
    r"|(?:less|greater|more|fewer|larger|smaller) than|at least|at most|real numbers except|out of"
    r"|1 ?in |less \d|(?:sum|difference|product|quotient|square|cube) of|between|per ?cent"
    r"|repeating|recurring)",
    re.IGNORECASE,
)


def read_spoken(source: str, read: Reader) -> Form | None:
    """Read a text whose words are operations, scales or parts as the formula or number that they say."""
    if len(source) > _LONGEST or not (_WORD.search(source) and _QUICK.search(source)):
        return None
    plain = spoken = " ".join(TEXT.sub(r" \1 ", source).split())
    for pattern, replacement in _SPOKEN:
        spoken = pattern.sub(replacement, spoken)
    return None if spoken == plain else read(spoken.replace(" ^", "^").strip())
