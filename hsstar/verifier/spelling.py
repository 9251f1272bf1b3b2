"""One spelling for texts that mean the same, what may reach a parser, and splitting outside of brackets.

Answers come from a model and are untrusted: nothing here evaluates them; all takes time linear in length.
"""

import re
from collections.abc import Callable
from functools import lru_cache, partial

from hsstar.domain.answers import balanced_braces, strip_math_delimiters
from hsstar.verifier.characters import in_latex
from hsstar.verifier.languages import in_english

LONGEST_ANSWER = 10_000
"""Answers with more characters than this are not read as mathematics."""

_DEEPEST_NESTING = 30  # the parser takes seconds beyond it
_MOST_BRACES = 4
_LONGEST_KEPT = 1_000
_PLAIN_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:/\d+)?", re.ASCII)

_NEXT_FORMULA = re.compile(
    r"(?<=[^\s$])\$\s{0,9}\n\s{0,9}\$(?=[^\s$])|\n[ \t]*(?=[A-Za-z](?:_\w|_\{\w+\})?\s*=)"
)
_MONEY = re.compile(r"(?<!\\)\$")
_DELIMITERS = re.compile(r"(?<!\\)\\[()\[\]](?!\s*\d*\s*(?:pt|em|ex|mm|cm)\])")
_FONT = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|mbox|hbox|math(?:rm|bf|it|sf|tt|cal)|boldsymbol|operatorname\*?)"
    r"(?![A-Za-z])\s*\{([^{}]*)\}"
)
_BOLD = re.compile(r"\\(?:math(?:bf|it|sf|tt|cal)|boldsymbol|textbf|textit)")
_FUNCTIONS = r"(?:arc)?(?:sin|cos|tan|cot|sec|csc)h?|cis|log|ln|exp|lcm|gcd|det"
_FUNCTION_NAME = re.compile(_FUNCTIONS)
_GREEK = r"\\(?:pi|theta|alpha|beta|gamma|lambda|mu|sigma|omega|phi|tau|rho)(?![A-Za-z])"
_ARGUMENT = r"\(((?:[^()]|\([^()]*\)){1,200}+)\)"  # of a function, in parentheses
_POWER = re.compile(r"(\^\{?-?\d+\}?)")
_ACCENTED = r"\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0400-\u04ff"  # Latin and Cyrillic letters
_WORD = re.compile(rf"[A-Za-z{_ACCENTED}]{{2}}")
_LETTER = re.compile(r"[A-Za-z]")
_NESTED_FONT = re.compile(
    r"\\(?:text(?:bf|it|rm|normal)|mbox|math(?:rm|bf|it)|boldsymbol|boxed|fbox)(?=\s*\{)"
)
_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|\\,|\\ |,\\!\s?|\\!,|['’_])(?=\d{3}(?!\d))")
_Replacement = str | Callable[[re.Match[str]], str]
_MODULE = re.compile(r"(?<![\w.\\])(?:np|numpy|math|sympy)\.(?=[a-z])")  # np.arcsin(1/2)
_Spelling = tuple[tuple[str, ...], re.Pattern[str], _Replacement]
"""Texts of which one is in whatever matches, a pattern, and its replacement."""


def _ohm(match: re.Match[str]) -> str:
    return rf"\text{{{(match[1] or '').replace(chr(92) + 'mu', 'u')}ohm}}"


def _hexadecimal(match: re.Match[str]) -> str:
    return f"{match[1].upper()}_{{16}}"


def _compiled(*spellings: tuple[str, str, _Replacement]) -> list[_Spelling]:
    return [
        (tuple(needed.split()) or ("",), re.compile(pattern), replacement)
        for needed, pattern, replacement in spellings
    ]


_BEFORE_FONTS = _compiled(
    (
        "begin{",
        r"\\(?:begin|end)\s?\{(?:equation|displaymath|math|multline|center|answer)\*?\}",
        "",
    ),
    ("const", r"(?<=[+-])\s?(?:\\(?:text|mathrm)\s?\{\s?)?const(?:ant|\.)?(?![A-Za-z])\s?\}?", "C"),
    ("| : mid \\in", r"\A\s*\{(\s*[a-z]\s*(?:\||:|\\mid|\\in)[^{}]*)\}\s*\Z", r"\\{\1\\}"),
    ("oo", r"(?<![A-Za-z\\])oo(?![A-Za-z])", r"\\infty "),
    ("&=", r"\A([^&\\]{1,60})&=", r"\1="),
    (r"\ensuremath", r"\\ensuremath\s?\{([^{}]*)\}", r"\1"),
    ("mathrm operatorname", r"\\(?:mathrm|operatorname)\s?\{\s?([eid])\s?\}", r"{\1}"),
    (
        r"\ >",
        r"\A\s*(?:\\(?:therefore|(?:Long)?[rR]ightarrow|implies|to|hence)(?![A-Za-z])|[=-]+>(?!=))\s*",
        "",
    ),
    ("* ` _", r"\A\s*(\*{1,3}|`+|_(?=[^_]+_\s*\Z))\s*([^*`]+?)\s*\1\s*\Z", r"\2"),  # Markdown
    ("'", r"\A\s*'([^']+)'\s*\Z", r"\1"),
    (  # parts of one answer: (a) 5, (b) 6
        "(b)",
        r"\A\(a\)\s?(?=[-+\d\\$.])(.{1,200}?)[,;]?\s(?:and\s)?\(b\)\s?(?=[-+\d\\$.])",
        r"\1, ",
    ),
    ("—", r"\A\s*([A-J])\s?—\s?", r"\1-"),
    ("", r"\A(?:\\ |\{\}|&|\s)+|(?<![\\&\s])[\\&\s]+\Z", ""),
    (
        "hfill surd nonumber notag tag phantom",
        r"\\(?:hfill|surd(?=\s*\Z)|nonumber|notag)(?![A-Za-z])|\\tag\*?\s?\{[^{}]*\}|\\h?phantom\s?\{[^{}]*\}",
        "",
    ),
    ("underbrace", r"\\underbrace\s?\{([^{}]*)\}\s?_\s?\{(?:[^{}]|\{[^{}]*\})*\}", r"\1"),
    ("overset stackrel", r"\\(?:overset|stackrel)\s?\{[^{}]*\}\s?\{([^{}]*)\}", r"\1"),
    ("colorbox", r"\\f?colorbox\s?\{[^{}]*\}(?:\{[^{}]*\}(?=\s?\{))?\s?\{([^{}]*)\}", r"\1"),
    ("surd [", r"\\sqrt\s?\[\s*\]|\\surd(?![A-Za-z])", r"\\sqrt"),
    ('" “ ” « „', r"\A\s*[\"“”«„]([^\"“”«»„]+)[\"“”»]\s*\Z", r"\1"),
    (  # arguments without braces
        r"\math \bold \bm \vec \hat \bar \overline",
        r"\\(mathbb|math(?:bf|rm|cal|it)|boldsymbol|bm|vec|hat|bar|overline)(?:\s+([A-Za-z])(?![A-Za-z])|\s*(\d))",
        r"\\\1{\2\3}",
    ),
    ("^{", r"\^\{(-?\d)\}", r"^\1"),
    (
        r"\vec \bm \bold \mathbf \hat",
        r"\\(?:vec|bm|boldsymbol|mathbf|hat)\s*\{\s*(?:\\hat\s*)?\\?([ijk])(?:math)?\s*\}",
        r"\\hat{\1}",
    ),
    ("color underline checkmark", r"\\(?:text)?color\s*\{[^{}]*\}|\\(?:underline|checkmark)(?![A-Za-z])", ""),
    (
        "\\",
        r"\\(?:tiny|scriptsize|footnotesize|small|normalsize|[lL]arge|LARGE|[hH]uge)(?![A-Za-z])"
        r"|\\(?:left|right)(?:\.|(?![A-Za-z]))"
        r"|\\[Bb]igg?[lrm]?(?![A-Za-z])|\\(?:display|text)style(?![A-Za-z])|\\limits(?![A-Za-z])",
        "",
    ),
)
_SPELLINGS = _compiled(
    (r"\ ~", r"(?<!\\)\\(?:[,!;: \n]|q?quad(?![A-Za-z]))|~|\\h(?:space|skip)\{[^{}]*\}", " "),
    ("... dots …", r"(\d)\1{1,20}\s?(?:\.\.\.|\\[lc]?dots|…)\s*\Z", r"\\overline{\1}"),
    ("... dots …", r"(?<=\d)\s?(?:\.\.\.|\\[lc]?dots|…)\s*\Z", ""),
    ("... …", r"(?<!\.)\.\.\.(?!\.)|…", r"\\ldots "),
    ("mod", r"\(\s*(?:\\[pb]?mod|(?:\\text\{)?\s?mod\s?\}?)\s*(\d+)\s*\)", r"\\text{mod \1}"),
    ("mod", r"\\[pb]?mod(?![A-Za-z])\s*\{?\s*(\d+)\s*\}?", r"\\text{mod \1}"),
    ("frac binom", r"\\([dtc]?)(frac|binom)(?![A-Za-z])", r"\\\2"),
    ("nicefrac sfrac xfrac", r"\\(?:nice|s|x)frac(?![A-Za-z])", r"\\frac"),
    ("frac", r"\\frac\s+([A-Za-z\d])\s*([A-Za-z\d])", r"\\frac{\1}{\2}"),
    (r"\sim \approx", r"\A\s*\\(?:sim|approx|simeq)(?![A-Za-z])", ""),
    (r"\var", r"\\var(epsilon|theta|phi|rho|sigma|kappa|pi)(?![A-Za-z])", r"\\\1"),
    (r"\ell", r"\\ell(?![A-Za-z])", "l"),
    (r"\leq <=", r"\\le(?:q|qslant)(?![A-Za-z])|(?<![<=])<=", r"\\le "),
    (r"\geq >=", r"\\ge(?:q|qslant)(?![A-Za-z])|>=", r"\\ge "),
    (r"\neq !=", r"\\neq(?![A-Za-z])|!=", r"\\ne "),
    (r"\lg", r"\\lg(?![A-Za-z])", r"\\log_{10}"),
    (r"\ast \star", r"\\(?:ast|star)(?![A-Za-z])(?=\s*[\d(a-z\\])", r"\\cdot "),
    ("/d", r"(?<![A-Za-z\\])d([a-z])\s?/\s?d([a-z])(?![A-Za-z])", r"\\frac{d\1}{d\2}"),
    (r"\lt", r"\\lt(?![A-Za-z])", "<"),
    (r"\gt", r"\\gt(?![A-Za-z])", ">"),
    ("<", r"(?<![\w)}\]|!'])\s*<([^<>,]*(?:,[^<>,]*)+)>(?!\s*[\w(\\{|])", r"\\langle \1\\rangle "),
    ("]", r"(?<![\w)}\]])\]([^][(),]*,[^][(),]*)(?=[\[\]])", r"(\1"),  # ]1,2[ is (1,2)
    ("[", r"(?<=[(\[])([^][(),]*,[^][(),]*)\[(?!\w)", r"\1)"),
    (r"\lbrace", r"\\lbrace(?![A-Za-z])", r"\\{"),
    (r"\rbrace", r"\\rbrace(?![A-Za-z])", r"\\}"),
    (r"vert \mid", r"\\[lr]?vert(?![A-Za-z])|\\mid(?![A-Za-z])", "|"),
    (r"\colon", r"\\colon(?![A-Za-z])", ":"),
    (r"\varnothing \oslash", r"\\varnothing(?![A-Za-z])|\\oslash(?![A-Za-z])", r"\\emptyset "),
    (r"\big", r"\\big(c[ua]p)(?![A-Za-z])(?!\s*_)", r"\\\1 "),
    ("U", r"(?<=[)\]}])\s*U\s*(?=[(\[{\\])", r"\\cup "),
    (r"\vec \over \bm \pmb", r"\\(?:vec|overrightarrow|bm|pmb)\{([A-Za-z]|0)\}", r"\1"),
    (r"\%", r"\\%", "%"),
    (r"\circ \degree", r"(?:\{\})?\^\{?\s*\\circ\s*\}?|\\degree(?![A-Za-z])", r"^\\circ "),
    (r"\prime", r"\^\s*\{?\s*((?:\\prime\s*)+)\}?", lambda primes: "'" * primes[1].count("p")),
    (
        "sin cos tan cot sec csc cis log ln exp lcm gcd det sqrt",
        rf"(?<![A-Za-z\\])(?!cost\s?[=:]|sind\s)({_FUNCTIONS}|sqrt)(?=\s*(?:[(^_\d\\{{]|[A-Za-z](?![A-Za-z])))",
        r"\\\1 ",
    ),
    ("pi", r"(?<![A-Za-z\\])pi(?![A-Za-z])", r"\\pi "),
    ("sqrt √", rf"(?:\\sqrt|√)\s*{_ARGUMENT}", r"\\sqrt{\1}"),
    ("√", r"√\s*(\d+(?:\.\d+)?)", r"\\sqrt{\1}"),
    ("√", r"√", r"\\sqrt "),
    ("sqrt", rf"\\sqrt\s*(?:(\[[^\[\]]*\])\s*)?(\d|[A-Za-z]|{_GREEK})", r"\\sqrt\1{\2}"),
    ("/", r"\+\s?/\s?-", r"\\pm "),
    ("+-", r"\A\s*\+-(?=\s?[\d\\])", r"\\pm "),
    ("frac", rf"\\frac\s*(\d|[A-Za-z](?=\s*[\d{{])|{_GREEK})\s*(?=[\dA-Za-z{{\\])", r"\\frac{\1}"),
    (
        "frac",
        rf"\\frac\s*(\{{(?:[^{{}}]|\{{[^{{}}]*\}}){{0,200}}+\}})\s*([\dA-Za-z]|{_GREEK})",
        r"\\frac\1{\2}",
    ),
    ("binom", r"\\binom\s*(\d)\s*(\d)", r"\\binom{\1}{\2}"),
    (r"\choose", r"\{([^{}]+?)\\choose\s*([^{}]+)\}", r"\\binom{\1}{\2}"),
    (r"\choose", r"\A([^{}]{1,60}?)\\choose\s*([^{}]+)\Z", r"\\binom{\1}{\2}"),
    ("**", r"(?<!\*)\*\*(?!\*)", "^"),
    ("^", rf"\^\s*{_ARGUMENT}", r"^{\1}"),
    (r"\Omega", r"(?<=\d)\s{0,2}(?:\\text\{)?\s?([kMGmun]|\\mu(?![A-Za-z]))?\s?\}?\s?\\Omega\s{0,2}\Z", _ohm),
    (r"\mu", r"(?<=\d)\s{0,2}\\mu\s{0,2}(?:\\text\{)?(s|m|g|L|A|V|C|F|W|J|N)\}?\s{0,2}\Z", r"\\text{u\1}"),
    ("^ _", r"([\^_])\s*(-?\d+(?:\.\d+)?|[A-Za-z])", r"\1{\2}"),
    ("C", r"(?:\{\})?[\^_]\{(\d+)\}\s*C\s*_\{(\d+)\}", r"\\binom{\1}{\2}"),
    ("P", r"(?:\{\})?[\^_]\{(\d+)\}\s*P\s*_\{(\d+)\}", r"\\frac{\1!}{(\1-\2)!}"),
    (
        "C nc",
        r"(?<![\w}.,])(\d{1,4})\s?C\s?(\d{1,4})(?![\w.,])|\An[Cc][rR]\((\d+),\s*(\d+)\)\Z",
        r"\\binom{\1\3}{\2\4}",
    ),
    ("_{", r"\A(\(?\w+\)?)_\{(?:\\text\{)?\s?(?:\(\s?(\w+)\s?\)|base\s?\}?\s?(\w+))\s?\}?\}\Z", r"\1_{\2\3}"),
    (
        "base",
        r"\A(?:\\text\{)?(\w+),?\s?\(?(?:\\text\{)?\s?(?:in\s)?(?:base|to base)[-\s]?(\w+)\s?\}?\)?\Z",
        r"\1_{\2}",
    ),
    ("0x 0X", r"\A0[xX]([0-9A-Fa-f]+)\Z", _hexadecimal),
    ("0o", r"\A0o([0-7]+)\Z", r"\1_{8}"),
    ("base", r"\Abase\s?(\w+):\s?(\w+)\Z", r"\2_{\1}"),
    ("_{16}", r"\A([0-9a-f]*[a-f][0-9a-f]*)(?=_\{16\}\Z)", lambda digits: digits[1].upper()),
    ("0b", r"\A0b([01]+)\Z", r"\1_{2}"),
    (r"\cup \cap", r"(\\c[ua]p)\s*\{([^{}\\]+)\}", r"\1\\{\2\\}"),
    (r"\cup \cap", r"\A\s*\{([^{}\\]+)\}(?=\s*\\c[ua]p)", r"\\{\1\\}"),
)
_SPACE_TO_KEEP = re.compile(
    rf"(?<=[A-Za-z}}{_ACCENTED}])\s+(?=[A-Za-z\d{_ACCENTED}])"
    r"|(?<=\d,)\s+(?=[1-9]\d{2}(?!\d))|(?<=\d)\s+(?=\d|[mgshLNJWVAKTF](?![A-Za-z])|[a-z]{1,3}/[a-z])"
)
_FULL_STOP = re.compile(r"(?<=[^.\s])[.;,]\Z")
_FORBIDDEN = re.compile(r"__|[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]|(?<=\w)\s*\.\s*[A-Za-z_]\w*\s*\(")
_BRACKET = re.compile(
    r"(?P<open>\\begin\{[A-Za-z]+\*?\}|\\\{|\\(?:langle|lfloor|lceil)(?![A-Za-z])|[(\[{])"
    r"|(?P<close>\\end\{[A-Za-z]+\*?\}|\\\}|\\(?:rangle|rfloor|rceil)(?![A-Za-z])|[)\]}])"
)
_NESTING = re.compile(r"\\begin\b|\\end\b|[(\[{]|[)\]}]")


def normal_spelling(text: str) -> str:
    r"""Return one spelling for texts that differ only in how they are set.

    It has no white space, delimiters, sizes and fonts, and one command for synonyms (`\dfrac`, `\leq`, `−`).
    Words stay in `\text{…}`. `$` that opens no formula becomes `\$`.
    """
    if _PLAIN_NUMBER.fullmatch(text):
        return text
    text = strip_math_delimiters(_NEXT_FORMULA.sub(", ", text))
    text = _MONEY.sub(r"\\$" if len(_MONEY.findall(text)) % 2 else "", text)
    text = _THOUSANDS.sub(",", _DELIMITERS.sub("", text))
    text = _respelled(text, _BEFORE_FONTS)
    text = _respelled(_NESTED_FONT.sub("", _FONT.sub(_plain_font, text)), _SPELLINGS)
    words = _SPACE_TO_KEEP.sub("\x00", text.strip())
    text = _FULL_STOP.sub("", "".join(words.split()).replace("\x00", " "))
    return strip_braces(text)


def _respelled(text: str, spellings: list[_Spelling]) -> str:
    """Replace the patterns one by one; to look for a needed text is far faster than for a pattern."""
    for needed, pattern, replacement in spellings:
        for part in needed:
            if part in text:
                text = pattern.sub(replacement, text)
                break
    return text


def strip_braces(text: str) -> str:
    """Remove braces that enclose the whole text, a few pairs at most."""
    for _ in range(_MOST_BRACES):
        if not (text.startswith("{") and text.endswith("}") and balanced_braces(text[1:-1])):
            break
        text = text[1:-1]
    return text


def parsable_source(text: str) -> str | None:
    """Return the normal spelling; None if the text is empty, too long, nested too deeply or unbalanced, or
    has what could mean something to Python: double underscores, attribute calls, control characters, lone
    surrogates.
    """
    return _kept_source(text) if len(text) <= _LONGEST_KEPT else _source(text)


def _source(text: str) -> str | None:
    text = _MODULE.sub("", in_english(in_latex(text)))
    if len(text) > LONGEST_ANSWER or _FORBIDDEN.search(text):
        return None
    source = normal_spelling(text)
    if not source or not balanced_braces(source) or source.count(r"\begin{") != source.count(r"\end{"):
        return None
    return source if _nesting(source) <= _DEEPEST_NESTING else None


_kept_source = lru_cache(maxsize=4_096)(_source)  # a reference comes back with every response


def _plain_font(font: re.Match[str]) -> str:
    content = " ".join(font[1].replace("~", " ").split())
    if "^" not in content:
        return _plain_words(content, font[0])
    pieces = _POWER.split(content)  # powers of units, between words
    pieces[::2] = [_plain_words(piece, font[0]) for piece in pieces[::2]]
    return "".join(pieces)


def _plain_words(content: str, font: str) -> str:
    if _FUNCTION_NAME.fullmatch(content):
        return f"\\{content} "
    if _WORD.search(content) or (_LETTER.search(content) and not _BOLD.match(font)):
        return rf"\text{{{content}}}"
    return content


def _nesting(text: str) -> int:
    depth = deepest = 0
    for bracket in _NESTING.finditer(text):
        depth += 1 if bracket[0] in ("(", "[", "{", r"\begin") else -1
        deepest = max(deepest, depth)
    return deepest


def split(source: str, separators: str) -> tuple[list[str], list[str]]:
    """Split at a pattern outside of all brackets; return the pieces and the separators."""
    if not _pattern(separators).search(source):
        return [source.strip()], []
    pieces, matched, depth, start = list[str](), list[str](), 0, 0
    for match in _scanner(separators).finditer(source):
        if match["open"]:
            depth += 1
        elif match["close"]:
            depth -= 1
        elif match["separator"] and depth == 0:
            pieces.append(source[start : match.start()].strip())
            matched.append(match["separator"])
            start = match.end()
    return [*pieces, source[start:].strip()], matched


def inside_brackets(source: str) -> tuple[str, str, str] | None:
    """Return opening bracket, content and closing bracket if one pair, even a mixed one, encloses all."""
    opening = _BRACKET.match(source)
    if opening is None or not opening["open"]:
        return None
    depth = 0
    for match in _BRACKET.finditer(source):
        depth += 1 if match["open"] else -1
        if depth == 0:
            whole = match.end() == len(source)
            return (opening[0], source[opening.end() : match.start()], match[0]) if whole else None
    return None


_pattern = lru_cache(partial(re.compile, flags=re.DOTALL))


@lru_cache
def _scanner(separators: str) -> re.Pattern[str]:
    return re.compile(rf"(?P<separator>{separators})|{_BRACKET.pattern}|\\[A-Za-z]+|\\.", re.DOTALL)
