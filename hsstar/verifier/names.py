r"""Names of values: which sides of equations are names, and which names may stand for the same thing.

Symbols (`x`, `f(2)`, `\angle ABC`, `a_{3}`) and phrases (`area of the square`) are names. An expression whose
value was asked, `m+n=12`, serves as one.
"""

import re

from hsstar.verifier.wording import COMMAND, LETTER, OTHER_LETTER, TEXT, says_words

_ARGUMENT = r"\((?:[A-Za-z]|-?\d+(?:\.\d+)?)\)"
_SYMBOL = re.compile(
    rf"(?:[xyzrt]'*(?:\^\{{-1\}})?{_ARGUMENT}|(?:[A-Z]{{1,4}}|[A-Za-z]|m?\\angle\s?[A-Z]{{1,3}}"
    r"|\|[A-Z]{1,3}\||\\\|[^|]{1,40}\\\||\\#\s?[A-Z]"
    r"|\\(?!frac|sqrt|sin|cos|tan|cot|sec|csc|log|ln|exp|infty|pi(?![A-Za-z]))[A-Za-z]+(?:\s?[A-Z]+)?)"
    r"(?:\{[A-Za-z ]*\})?(?:_\{[^{}]*\}|_[A-Za-z0-9]|'|\^\{-1\}|(?<![xyzrt])\([^()]*\))*)"
)
_DERIVATIVE = re.compile(
    r"\\frac\{(?:d|\\partial\s?)(?:\^\{\d\})?[A-Za-z]\}\{(?:(?:d|\\partial\s?)[A-Za-z](?:\^\{\d\})?)+\}"
)
_TUPLE = re.compile(r"\([A-Za-z](?:,[A-Za-z])+\)")
_COMPOSED = re.compile(r"[f-h]\([f-h]\([a-z\d]\)\)|\(?[f-h]\\circ\s?[f-h]\)?\([a-z\d]\)")
_PHRASE = re.compile(r"(?:\\text\{[^{}]*\}|\\(?:triangle|angle|max|min)(?![A-Za-z])|[^\W\d_]|['\s])++")
_SHORT_PHRASES = frozenset({"sum", "gcd", "lcm"})
_GREEK = re.compile(
    r"\\(?:alpha|beta|gamma|delta|(?:var)?epsilon|theta|lambda|mu|rho|sigma|tau|(?:var)?phi|psi|omega)"
    r"(?![A-Za-z])"
)
_WAVE = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")
_COORDINATES = frozenset("xyz")
_POWERS = re.compile(r"\^\{\d\}")
_FUNCTION = re.compile(
    r"(?P<head>[A-Za-z](?:_\{[^{}]*\}|'|\^\{-1\})*)(?:\((?P<argument>[A-Za-z])\)|_\{?(?P<index>[a-z])\}?)"
)

_GENERIC = frozenset(
    re.findall(
        "[a-z]+",
        "a an the of is are be it its this that he she they you i there in on for to by with from at "
        "and we get find final correct answer result value total number amount "
        "required desired solution thus so hence exact",
    )
)
_ALIKE = {
    **dict.fromkeys(("min", "minimal", "least", "smallest", "lowest", "shortest"), "minimum"),
    **dict.fromkeys(("max", "maximal", "greatest", "largest", "highest", "longest", "most"), "maximum"),
    **dict.fromkeys(("gcf", "hcf"), "gcd"),
}
_DENIAL = re.compile(
    r"\b(?:if|unless|when|where|for|than|not|no|never|\w+n['’]t|cannot|without|except|impossible|false|untrue|wrong"
    r"|incorrect|invalid|extraneous|let|try|(?:contradict|assum|suppos)\w*|(?:exclud|reject|discard|eliminat)\w*|nicht|keine?|nie|niemals|ohne|pas|jamais|sans"
    r"|ne|не|нет|menos|moins|nunca|jamás|sin)\b|\bn['’]"
    r"|排除|舍去|舍弃|假设|假如|若|除|当|descart|verw[ei]rf|rejet|отбрас|исключ",
    re.IGNORECASE,
)
_CALL = re.compile(r"\\?[A-Za-z]+\(.*\)")
_WORD = re.compile(r"[^\W\d_]+")
_WITHOUT_SPACES = re.compile(r"[\u3041-\u30ff\u3400-\u9fff]")  # Chinese and Japanese
_LENGTH = re.compile(r"\|([A-Z]{2})\|")  # |AB| is AB
_LONG_WORD = re.compile(r"(?<![\\A-Za-z])(?=[A-Z]*[a-z]{2})[A-Za-z]{3,}")


def is_name(source: str) -> bool:
    r"""Decide whether a side of an equation names the other: `x`, `f(x)`, `(x,y)`, `\text{area}`, `area`."""
    symbol = any(pattern.fullmatch(source) for pattern in (_SYMBOL, _TUPLE, _DERIVATIVE, _COMPOSED))
    return symbol or _is_phrase(source)


def name_of(source: str) -> str:
    """Return the name that a side of an equation is."""
    if _is_phrase(source):
        return " ".join(TEXT.sub(r" \1 ", source).split())
    return TEXT.sub(r"\1", source).replace(" ", "")


def has_variable(source: str) -> bool:
    r"""Decide whether a formula has a letter, Latin or Greek; π is none."""
    return bool(letters(source))


def was_asked(expression: str) -> bool:
    r"""Decide whether an equation with a number gives its left side a value: `m+n=12`, not `2x=12`.

    One letter, or coordinates with coefficients, make an equation to solve, or a curve; sines of angles no.
    """
    found = letters(expression)
    if _WAVE.search(expression) and not any(letter.islower() and len(letter) == 1 for letter in found):
        return True
    if found & _COORDINATES and re.search(r"\d", _POWERS.sub("", expression)):
        return False
    return len(found) > 1


def may_be_curve(name: str) -> bool:
    """Decide whether an equation with this left side may be asked for itself: `x^2+y^2=4`."""
    return not is_name(name) and bool(_COORDINATES & letters(name))


def same_name(mine: str, theirs: str) -> bool:
    """Decide whether two names may stand for the same: `area` may be `A`, and `the area` the `area of it`.

    Two symbols have to be the same; the words of one phrase have to be among those of the other, and a
    phrase may name a symbol: `the value of x`.
    """
    my_words, their_words = _words(mine), _words(theirs)
    if my_words is None and their_words is None:
        return _symbol(mine) == _symbol(theirs) or _is_graph(mine, theirs) or _is_graph(theirs, mine)
    if my_words is None:
        return _may_stand_for(their_words or set(), mine)
    if their_words is None:
        return _may_stand_for(my_words, theirs)
    if _WITHOUT_SPACES.search(mine + theirs):
        shorter, longer = sorted(("".join(my_words), "".join(their_words)), key=len)
        return bool(shorter) and shorter in longer
    return my_words <= their_words or their_words <= my_words


def _may_stand_for(words: set[str], symbol: str) -> bool:
    """Decide whether a symbol may be what a phrase says: S the `sum of x`, but y not the `value of x`."""
    letter = next(iter(words)) if len(words) == 1 else ""
    plain = _symbol(symbol)
    if len(letter) != 1 or not re.fullmatch(r"[A-Za-z](?:_.*)?", plain):
        return True
    return plain[0].casefold() == letter


def denies(name: str) -> bool:
    """Decide whether words before a value deny it or set a condition: `no solutions with x`."""
    return bool(_DENIAL.search(name))


def says_nothing(name: str) -> bool:
    """Decide whether a name is words that any value may have: `the solution`."""
    return _words(name) == set()


def _is_graph(mine: str, theirs: str) -> bool:
    """Decide whether one name is y and the other that of a function of x, whose graph y is."""
    return mine == "y" and argument_of(theirs) in (("f", "x"), ("g", "x"), ("h", "x"))


def argument_of(name: str) -> tuple[str, str] | None:
    """Return a function and its variable, `f` and `x` for `f(x)`."""
    function = _FUNCTION.fullmatch(name)
    return (function["head"], function["argument"] or function["index"]) if function else None


def renamed(source: str, old: str, new: str) -> str | None:
    """Return a formula with another name for its variable, None if the formula has the new name already."""
    letter = re.compile(rf"\\[A-Za-z]+|(?P<new>{re.escape(new)})|{re.escape(old)}")
    if any(match["new"] or match[0] == new for match in letter.finditer(source)):
        return None
    return letter.sub(lambda match: new if match[0] == old else match[0], source)


def _is_phrase(source: str) -> bool:
    if not _PHRASE.fullmatch(source):
        return False
    if TEXT.match(source) or source.startswith((r"\max", r"\min")) or source in _SHORT_PHRASES:
        return True
    return says_words(source) or bool(OTHER_LETTER.search(source))


def letters(source: str) -> set[str]:
    """Return the Latin and Greek letters of a formula; π is none."""
    plain = TEXT.sub("", source)
    return {*LETTER.findall(COMMAND.sub(" ", plain)), *_GREEK.findall(plain)}


def _words(name: str) -> set[str] | None:
    """Return the words of a phrase that tell it from others, None for a symbol."""
    if _CALL.fullmatch(name) or (
        not (_LONG_WORD.search(name) or OTHER_LETTER.search(name))
        and name.strip("\\") not in (*_SHORT_PHRASES, "min", "max")
    ):
        return None
    words = (word.casefold() for word in _WORD.findall(name))
    return {_ALIKE.get(word, word).removesuffix("s") for word in words} - _GENERIC


def _symbol(name: str) -> str:
    """Return one spelling of a symbol: AB is BA, and the angle ABC is the angle at B."""
    plain = re.sub(r"\s|\\(?:overline|vec|mathrm)(?![A-Za-z])|[{}]", "", name).removeprefix("m\\")
    plain = _LENGTH.sub(r"\1", plain)
    plain = plain.removeprefix("\\")
    if angle := re.fullmatch(r"angle([A-Z]{1,3})", plain):
        corners = angle[1]
        return f"angle {corners if len(corners) < 3 else corners[1]}"
    return "".join(sorted(plain)) if re.fullmatch(r"[A-Z]{2}", plain) else plain
