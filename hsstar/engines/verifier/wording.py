r"""Answers in words: what is one, what it is compared by, and which words stand for mathematics."""

import re
from fractions import Fraction

from hsstar.engines.verifier.forms import Form, Infinite, Interval, Sequence, Words
from hsstar.engines.verifier.numeric import Number

REALS = Interval(None, None, low_closed=False, high_closed=False)
EMPTY = Sequence("set", ())
TEXT = re.compile(r"\\text\{([^{}]*)\}")
COMMAND = re.compile(r"\\[A-Za-z]+")
WORD = re.compile(r"[A-Za-z]{2,}")
LETTER = re.compile(r"[A-Za-z]")

FUNCTION_WORDS = frozenset(
    {"sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh"}
    | {"log", "ln", "exp", "lim", "max", "min", "gcd", "lcm", "mod", "det", "dim"}
)
_SHORT_WORDS = frozenset(
    {
        "yes",
        "no",
        "odd",
        "not",
        "all",
        "one",
        "two",
        "six",
        "ten",
        "the",
        "red",
        "day",
        "dne",
        "up",
        "is",
        "it",
    }
)
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven")
_NUMBER_WORDS = {word: value for value, word in enumerate((*_NUMBERS, "twelve"))} | {"sixteen": 16}
_NOTHING = ("nosolution", "nosolutions", "norealsolution", "norealsolutions", "nosolutionexists", "none")
_SPECIAL_WORDS: dict[str, Form] = {
    **dict.fromkeys((*_NOTHING, "nosolutionsexist", "norealsolutionsexist", "emptyset", "nullset"), EMPTY),
    **dict.fromkeys(("infinity", "inf", "infinite", "positiveinfinity"), Infinite(positive=True)),
    **dict.fromkeys(("minusinfinity", "negativeinfinity"), Infinite(positive=False)),
    **dict.fromkeys(("allrealnumbers", "allreals", "allreal", "realnumbers", "anyrealnumber"), REALS),
    **dict.fromkeys(("doesnotexist", "dne"), Words("doesnotexist")),
    **{word: Number(Fraction(value)) for word, value in _NUMBER_WORDS.items()},
}
_SPECIAL_COMMANDS: dict[str, Form] = {
    r"\emptyset": EMPTY,
    r"\{\}": EMPTY,
    r"\mathbb{R}": REALS,
    r"\infty": Infinite(positive=True),
    r"+\infty": Infinite(positive=True),
    r"-\infty": Infinite(positive=False),
}
_LONGEST_SPECIAL = 60
_PUNCTUATION = re.compile(r"\\text|[^A-Za-z0-9+*/=<>^_\\-]")
_LEADING = re.compile(r"\A\W*(?:there (?:is|are)\s+)?(?:(?:the|an|a)\s+)?", re.IGNORECASE)


def meaning_of(source: str) -> Form | None:
    r"""What a command or words stand for: `\emptyset` and "no solution", `\infty`, "five"; else None."""
    if len(source) > _LONGEST_SPECIAL:
        return None
    if source in _SPECIAL_COMMANDS:
        return _SPECIAL_COMMANDS[source]
    is_text = WORD.search(source) and "\\" not in TEXT.sub("", source)
    return _SPECIAL_WORDS.get(letters_of(source)) if is_text else None


def number_of(word: str) -> int | None:
    """The number that a word names, None if it names none."""
    return _NUMBER_WORDS.get(word)


def says_words(source: str) -> bool:
    r"""Whether a source says something in words, bare or in `\text{…}`, and is no formula."""
    if any(WORD.search(text) for text in TEXT.findall(source)):
        return True
    return any(map(_is_word, WORD.findall(COMMAND.sub(" ", source))))


def count_words(source: str) -> int:
    """How many words a source has, names of functions and the words of lists aside."""
    bare = COMMAND.sub(" ", TEXT.sub(r" \1 ", source))
    return sum(word not in FUNCTION_WORDS and word not in ("and", "or") for word in WORD.findall(bare))


def letters_of(source: str) -> str:
    """The letters, digits and operators by which texts are compared."""
    plain = _LEADING.sub("", TEXT.sub(r" \1 ", source))
    return _PUNCTUATION.sub("", plain).strip("-").casefold()


def _is_word(word: str) -> bool:
    """Whether letters in a row are a word rather than a product: long, capitalised, or a known short one."""
    if word in FUNCTION_WORDS:
        return False
    capitalised = word[:1].isupper() and word[1:].islower()
    return len(word) > 3 or capitalised or word.casefold() in _SHORT_WORDS
