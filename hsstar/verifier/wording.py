"""Answers in words: which texts are words, how they are compared, and which stand for mathematics."""

import re

from hsstar.verifier.forms import Form, Infinite, Words
from hsstar.verifier.intervals import EMPTY, POSITIVE, REALS
from hsstar.verifier.numeric import Number, number_in_words, ordinal_in_words

TEXT = re.compile(r"\\text\{([^{}]*)\}")
COMMAND = re.compile(r"\\(?:begin|end)\{[A-Za-z]+\*?\}(?:\{[lcr| ]*\})?|\\[A-Za-z]+")
WORD = re.compile(r"[A-Za-z]{2,}")
_COEFFICIENT = re.compile(r"[A-DKMNP][xyzt]")  # Ax + B
_WHOLE_WORD = re.compile(r"[A-Za-z]{2,}(?![A-Za-z^_])")  # Ce^x is none
LETTER = re.compile(r"[A-Za-z]")
OTHER_LETTER = re.compile(r"[^\W_](?<![\x00-\x7f])")

FUNCTION_WORDS = frozenset(
    {"sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh"}
    | {"log", "ln", "exp", "lim", "max", "min", "gcd", "lcm", "mod", "det", "dim"}
)
_SHORT_WORDS = frozenset(
    {"yes", "no", "not", "dne", "one", "two", "six", "ten"}
    | {"all", "day", "is", "it", "odd", "red", "the", "up"}
)
_NOTHING = ("nosolution", "nosolutions", "norealsolution", "norealsolutions", "nosolutionexists", "none")
_SPECIAL_WORDS: dict[str, Form] = {
    **dict.fromkeys((*_NOTHING, "nosolutionsexist", "norealsolutionsexist", "emptyset", "nullset"), EMPTY),
    **dict.fromkeys(("infinity", "inf", "infinite", "positiveinfinity"), Infinite(positive=True)),
    **dict.fromkeys(("minusinfinity", "negativeinfinity"), Infinite(positive=False)),
    **dict.fromkeys(
        ("allrealnumbers", "allreals", "allreal", "realnumbers", "reals", "anyrealnumber"), REALS
    ),
    **dict.fromkeys(("allpositiverealnumbers", "positiverealnumbers", "allpositivereals"), POSITIVE),
    **dict.fromkeys(("doesnotexist", "dne"), Words("doesnotexist")),
    **dict.fromkeys(
        ("infinitelymany", "infinitelymanysolutions", "infinitenumberofsolutions", "infinitesolutions"),
        Words("infinitelymany"),
    ),
}
_SPECIAL_COMMANDS: dict[str, Form] = {
    r"\emptyset": EMPTY,
    r"\{\}": EMPTY,
    r"\mathbb{R}": REALS,
    **dict.fromkeys((r"\mathbb{R}^{+}", r"\mathbb{R}^+"), POSITIVE),
    r"\infty": Infinite(positive=True),
    r"+\infty": Infinite(positive=True),
    r"-\infty": Infinite(positive=False),
}
_LONGEST_SPECIAL = 60
_NUMBER_SET = re.compile(r"\\mathbb\{[A-Z]\}(?:[\^_]\{?[A-Za-z0-9+*]\}?)*")
_THOUSANDS_COMMA = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_BETWEEN_DIGITS = re.compile(r"(?<=\d)(?!\.\d)[^\w+*/=<>^\\-]+(?=\d)")
_BRACKETS = "()[]{}"
_WITHOUT_BRACKETS = str.maketrans("", "", _BRACKETS)
_PUNCTUATION = re.compile(rf"\\text|(?!(?<=\d)\.\d)[^\w+*/=<>^|\\{re.escape(_BRACKETS)}-]")
_OPERATOR = re.compile(r"[+*/=<>^_\\]|-(?=[\d\\(])")
_LEADING = re.compile(
    r"\A(?:(?![-+]\s?[\d\\(]|[(\[{\\])\W)*(?:there (?:is|are)\s+)?(?:(?:the|an|a)\s+)?"
    r"(?:(?:on|in|at)\s+(?:the\s+|(?=(?-i:[A-Z]))))?",
    re.IGNORECASE,
)
_ALL = re.compile(r"(?<!not )(?<![A-Za-z])all (?:the )?(?=[A-Za-z]{2})(?!of )", re.IGNORECASE)
_SUBJECT = re.compile(
    r"\A(?:(?:(?:the|this|that|our) (?:[A-Za-z]+ ){1,3}?|it |they )(?:(?:is|are) "
    r"|(?=(?:con|di)verges?(?![A-Za-z])|exists?(?![A-Za-z])|(?:in|de)creases?(?![A-Za-z])|does ))"
    r"|(?:is|are) )",
    re.IGNORECASE,
)
_ASSENT = re.compile(
    r"\A(?:(yes),? ?(?:it|they|that|this|there) (?:is|are|does|do|can|will|has|have)(?! not|n't)"
    r"|(no),? ?(?:it|they|that|this|there) (?:is|are|does|do|can|will|has|have)(?:n't| not))"
    r"(?: [a-z]+){0,3}\W*\Z",
    re.IGNORECASE,
)
_WINNER = re.compile(
    r"\A(?P<who>(?:[Tt]he )?(?:[A-Za-z]+ )?(?:player|team)|[A-Z][a-z]+) (?:always |will )?"
    r"(?:wins?|won|is the winner|has (?:a|the) winning strategy)(?: the (?:game|match|race))?[.!]?\Z"
)
_ROMAN = re.compile(r"(?=[IVX]{2})X{0,3}(?:IX|IV|V?I{0,3})")
_ORDINAL = re.compile(r"(?<=\d)(?:st|nd|rd|th)(?![A-Za-z])", re.ASCII)
_PLACE = re.compile(r"\d*(?:1st|2nd|3rd|\dth)", re.ASCII)
_HALF_READ = re.compile(r"[-+*/^_=<>(\[{&]\Z|\A[*/^_=<>)\]}&!]|\?|\.\.\Z|\\frac\{\}|\{\}\Z|\\\Z")
_SUBSTANCE = re.compile(r"[A-Za-z0-9]")


def meaning_of(source: str) -> Form | None:
    r"""Return the form of a command or words with a meaning: `\emptyset`, "no solution", "five"."""
    if len(source) > _LONGEST_SPECIAL:
        return None
    if source in _SPECIAL_COMMANDS:
        return _SPECIAL_COMMANDS[source]
    if _NUMBER_SET.fullmatch(source):
        return Words(source)
    plain = TEXT.sub(r"\1", source)
    if "\\" in plain or not WORD.search(plain):
        return None
    if assent := _ASSENT.match(plain):
        return Words((assent[1] or assent[2]).casefold())
    if _ROMAN.fullmatch(plain):
        return Words(plain)
    if (number := number_in_words(plain)) is not None:
        return Number(number)
    if (place := ordinal_in_words(plain)) is not None:
        return Words(str(place))
    if _PLACE.fullmatch(plain):
        return Words(letters_of(plain))
    form = _SPECIAL_WORDS.get(letters_of(source))
    if isinstance(form, Infinite) and plain.lstrip().startswith("-"):
        return Infinite(positive=not form.positive)
    return form


def says_words(source: str) -> bool:
    r"""Decide whether a source has words, bare or in `\text{…}`, and so is no formula."""
    if any(WORD.search(text) for text in TEXT.findall(source)):
        return True
    return any(map(_is_word, _WHOLE_WORD.findall(COMMAND.sub(" ", source))))


def looks_like_formula(source: str) -> bool:
    """Decide whether a source may be a whole formula: nothing is missing at its ends or in brackets."""
    if sum(map(source.count, "([")) != sum(map(source.count, ")]")):
        return False
    return bool(_SUBSTANCE.search(source)) and not _HALF_READ.search(source)


def count_words(source: str) -> int:
    """Count the words of a source, without names of functions and the words of lists."""
    bare = COMMAND.sub(" ", TEXT.sub(r" \1 ", source))
    return sum(word not in FUNCTION_WORDS and word not in ("and", "or") for word in WORD.findall(bare))


def letters_of(source: str) -> str:
    """Return the letters, digits and operators by which texts are compared."""
    said = " ".join(TEXT.sub(r" \1 ", source).split())
    if winner := _WINNER.match(said):
        said = winner["who"]
    plain = _LEADING.sub("", _ALL.sub("", _SUBJECT.sub("", said)))
    plain = _BETWEEN_DIGITS.sub("|", _THOUSANDS_COMMA.sub("", _ORDINAL.sub("", plain)))
    letters = _PUNCTUATION.sub("", plain)
    if not _OPERATOR.search(letters):
        letters = letters.translate(_WITHOUT_BRACKETS)
    return letters.rstrip("-").casefold()


def _is_word(word: str) -> bool:
    """Tell a word from a product of letters: it is long, capitalised, or a known short one."""
    if word in FUNCTION_WORDS:
        return False
    capitalised = word[:1].isupper() and word[1:].islower() and not _COEFFICIENT.fullmatch(word)
    return len(word) > 3 or capitalised or word.casefold() in _SHORT_WORDS
