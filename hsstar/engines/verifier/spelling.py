r"""One spelling for texts that mean the same, and what may reach a parser at all.

Answers come from a model and are untrusted. Nothing here evaluates them, and everything here takes time
linear in their length.
"""

import re

from hsstar.domain.answers import balanced_braces, strip_math_delimiters

LONGEST_ANSWER = 10_000
"""Answers with more characters than this are not read as mathematics."""

_DEEPEST_NESTING = 30  # the parser takes seconds beyond it
_MOST_BRACES = 4

_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys(map(chr, [0xAD, *range(0x200B, 0x2010), *range(0x202A, 0x202F), 0x2060, 0xFEFF])),
        **dict.fromkeys(map(chr, [0xA0, *range(0x2000, 0x200B), 0x202F, 0x3000]), " "),
        **dict(zip("−–‐‑‒", "-----", strict=True)),
        **dict(zip("０１２３４５６７８９，．（）＝＋％：", "0123456789,.()=+%:", strict=True)),
        **dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹", (f"^{digit}" for digit in range(10)), strict=True)),
        "½": r"\frac{1}{2}",
        "¼": r"\frac{1}{4}",
        "¾": r"\frac{3}{4}",
        "×": r"\times ",
        "·": r"\cdot ",
        "⋅": r"\cdot ",
        "∙": r"\cdot ",
        "÷": "/",
        "∕": "/",
        "⁄": "/",
        "≤": r"\le ",
        "⩽": r"\le ",
        "≥": r"\ge ",
        "⩾": r"\ge ",
        "≠": r"\ne ",
        "∞": r"\infty ",
        "∪": r"\cup ",
        "∩": r"\cap ",
        "∈": r"\in ",
        "∅": r"\emptyset ",
        "±": r"\pm ",
        "∓": r"\mp ",
        "π": r"\pi ",
        "θ": r"\theta ",
        "°": r"^\circ ",
        "√": r"\sqrt ",
        "ℝ": r"\mathbb{R}",
    }
)
_MONEY = re.compile(r"(?<!\\)\$")
_DELIMITERS = re.compile(r"(?<!\\)\\[()\[\]](?!\s*\d*\s*(?:pt|em|ex|mm|cm)\])")
_FONT = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|mbox|hbox|math(?:rm|bf|it|sf|tt|cal)|boldsymbol|operatorname\*?)"
    r"(?![A-Za-z])\s*\{([^{}]*)\}"
)
_BOLD = re.compile(r"\\(?:math(?:bf|it|sf|tt|cal)|boldsymbol|textbf|textit)")
_FUNCTION_NAME = re.compile(r"(?:arc)?(?:sin|cos|tan|cot|sec|csc)h?|log|ln|exp|lcm|gcd|det")
_WORD = re.compile(r"[A-Za-z]{2}")
_LETTER = re.compile(r"[A-Za-z]")
_NESTED_FONT = re.compile(
    r"\\(?:text(?:bf|it|rm|normal)|mbox|math(?:rm|bf|it)|boldsymbol|boxed|fbox)(?=\s*\{)"
)
_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|\\,|\\ |,\\!\s?|\\!,)(?=\d{3}(?!\d))")
_SPELLINGS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:left|right)(?:\.|(?![A-Za-z]))", ""),
        (r"\\[Bb]igg?[lrm]?(?![A-Za-z])|\\(?:display|text)style(?![A-Za-z])|\\limits(?![A-Za-z])", ""),
        (r"(?<!\\)\\(?:[,!;: \n]|q?quad(?![A-Za-z]))|~|\\h(?:space|skip)\{[^{}]*\}", " "),
        (r"(\d)\1{1,20}\s?(?:\.\.\.|\\[lc]?dots|…)\s*\Z", r"\\overline{\1}"),
        (r"(?<=\d)\s?(?:\.\.\.|\\[lc]?dots|…)\s*\Z", ""),
        (r"\\[pb]?mod(?![A-Za-z])\s*\{?\s*(\d+)\s*\}?", r"\\text{mod \1}"),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\le(?:q|qslant)(?![A-Za-z])|(?<![<=])<=", r"\\le "),
        (r"\\ge(?:q|qslant)(?![A-Za-z])|>=", r"\\ge "),
        (r"\\neq(?![A-Za-z])|!=", r"\\ne "),
        (r"\\lt(?![A-Za-z])", "<"),
        (r"\\gt(?![A-Za-z])", ">"),
        (r"\\lbrace(?![A-Za-z])", r"\\{"),
        (r"\\rbrace(?![A-Za-z])", r"\\}"),
        (r"\\[lr]?vert(?![A-Za-z])|\\mid(?![A-Za-z])", "|"),
        (r"\\colon(?![A-Za-z])", ":"),
        (r"\\varnothing(?![A-Za-z])", r"\\emptyset "),
        (r"\\(?:vec|overrightarrow|bm|pmb)\{([A-Za-z])\}", r"\1"),
        (r"\\%", "%"),
        (r"(?:\{\})?\^\{?\s*\\circ\s*\}?|\\degree(?![A-Za-z])", r"^\\circ "),
        (r"\\frac\s*(\d|[A-Za-z](?=\s*[\d{]))\s*(?=[\dA-Za-z{])", r"\\frac{\1}"),
        (r"\\frac\s*(\{[^{}]*\})\s*([\dA-Za-z])", r"\\frac\1{\2}"),
        (r"\{([^{}]+?)\\choose\s*([^{}]+)\}", r"\\binom{\1}{\2}"),
        (r"\\sqrt\s*(\d|[A-Za-z])", r"\\sqrt{\1}"),
        (r"(?<!\*)\*\*(?!\*)", "^"),
        (r"([\^_])\s*(-?\d+(?:\.\d+)?|[A-Za-z])", r"\1{\2}"),
    )
)
_SPACE_TO_KEEP = re.compile(r"(?<=[A-Za-z}])\s+(?=[A-Za-z\d])|(?<=\d)\s+(?=\d)")
_FULL_STOP = re.compile(r"(?<=[^.\s])[.;,]\Z")
_FORBIDDEN = re.compile(r"__|[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]|(?<=\w)\s*\.\s*[A-Za-z_]\w*\s*\(")
_BRACKETS = re.compile(r"\\begin\b|\\end\b|[(\[{]|[)\]}]")


def normal_spelling(text: str) -> str:
    r"""One spelling for texts that differ in nothing but how they are set.

    White space, delimiters, sizes and fonts go; synonyms of commands (`\dfrac`, `\leq`, `−`) become one.
    Words stay in `\text{…}`. `$` that opens no formula becomes `\$`.
    """
    text = strip_math_delimiters(text.translate(_CHARACTERS))
    text = _MONEY.sub(r"\\$" if len(_MONEY.findall(text)) % 2 else "", text)
    text = _THOUSANDS.sub(",", _DELIMITERS.sub("", text))
    text = _NESTED_FONT.sub("", _FONT.sub(_plain_font, text))
    for pattern, replacement in _SPELLINGS:
        text = pattern.sub(replacement, text)
    words = _SPACE_TO_KEEP.sub("\x00", text.strip())
    text = _FULL_STOP.sub("", "".join(words.split()).replace("\x00", " "))
    return strip_braces(text)


def strip_braces(text: str) -> str:
    """The text without braces that enclose the whole of it (a few pairs: nobody writes more)."""
    for _ in range(_MOST_BRACES):
        if not (text.startswith("{") and text.endswith("}") and balanced_braces(text[1:-1])):
            break
        text = text[1:-1]
    return text


def parsable_source(text: str) -> str | None:
    """The normal spelling of a text, None if no parser must get it.

    Refused are texts that are empty, too long, nested too deeply or without balance, and whatever could mean
    something to Python: double underscores, calls of attributes, control characters, lone surrogates.
    """
    if len(text) > LONGEST_ANSWER or _FORBIDDEN.search(text):
        return None
    source = normal_spelling(text)
    if not source or not balanced_braces(source) or source.count(r"\begin{") != source.count(r"\end{"):
        return None
    return source if _nesting(source) <= _DEEPEST_NESTING else None


def _plain_font(font: re.Match[str]) -> str:
    """What a font command stands for: words stay words, a formula in another font is that formula."""
    content = " ".join(font[1].replace("~", " ").split())
    if _FUNCTION_NAME.fullmatch(content):
        return f"\\{content} "
    if _WORD.search(content):
        return rf"\text{{{content}}}"
    if _LETTER.search(content) and not _BOLD.match(font[0]):
        return rf"\text{{{content}}}"
    return content


def _nesting(text: str) -> int:
    depth = deepest = 0
    for bracket in _BRACKETS.finditer(text):
        depth += 1 if bracket[0] in ("(", "[", "{", r"\begin") else -1
        deepest = max(deepest, depth)
    return deepest
