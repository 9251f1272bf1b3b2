r"""Rewrite a formula for Math-Verify's grammar, which misunderstands some spellings or cannot read them.

`\sin x\cdot e^{x}` is the product of the sine with the power, C_{10}^{3} a binomial coefficient, 5!! a double
factorial, and \overline{1+i} a conjugate.
"""

import re
from math import prod

_FUNCTION = re.compile(
    r"\\(?:(?:arc|ar)?(?:sin|cos|tan|cot|sec|csc)h?|log|ln|exp)(?![A-Za-z])"
    r"(?:\s?[_^]\s?(?:\{[^{}]*\}|[A-Za-z\d]))*\s?"
)
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\s+|.", re.DOTALL)
_OPENING, _CLOSING = (
    ("(", "{", "[", r"\{", r"\lfloor", r"\lceil"),
    (")", "}", "]", r"\}", r"\rfloor", r"\rceil"),
)
_TIMES = (r"\cdot", r"\times", r"\ast", "*", r"\div")
_ENDS = frozenset(
    ["+", "-", "=", ",", ";", "<", ">", "&", "|", r"\pm", r"\mp", r"\le", r"\ge", r"\ne", r"\\"]
)
_BARS = re.compile(r"\|[^|]*\|")
_LETTERS = re.compile(r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])")
_I = re.compile(r"(?<![A-Za-z\\])i(?![A-Za-z])")
_LARGEST_FACTORIAL = 300
_SMALL = r"\{?(\d{1,4}|[a-z](?:[-+]\d)?)\}?"


def _double_factorial(match: re.Match[str]) -> str:
    number = int(match[1])
    return match[0] if number > _LARGEST_FACTORIAL else str(prod(range(number, 0, -2)))


def _conjugate(match: re.Match[str]) -> str:
    return "(" + _I.sub("(-i)", match[1]) + ")"


_REWRITINGS = (
    (re.compile(r"(?<=[\d)])\((?=-?\d)"), r"\\cdot("),
    (re.compile(r"\\text\{([^{}]*)\}"), r"\1"),
    (re.compile(r"(\d+(?:\.\d+)?|[A-Za-z])\^\\circ\s?"), r"(\1\\frac{\\pi}{180})"),
    (re.compile(r"(?<![A-Za-z\\])E(?=_)"), r"\\varepsilon"),
    (re.compile(r"([A-Za-z])('+)"), lambda primed: f"{primed[1]}_{{{'p' * len(primed[2])}rime}}"),
    (re.compile(r"\\[cl]?dots(?![A-Za-z])"), "D_{dots}"),
    (re.compile(r"\\cis\s*\(((?:[^()]|\([^()]*\)){1,200}+)\)"), r"(\\cos(\1)+i\\sin(\1))"),
    (
        re.compile(r"\\cis\s*(\\frac\{[^{}]*\}\{[^{}]*\}|\(\d+\\frac\{\\pi\}\{180\}\)|\\[a-z]+|[a-z])"),
        r"(\\cos(\1)+i\\sin(\1))",
    ),
    (
        re.compile(r"(\\(?:sin|cos|tan|cot|sec|csc)(?:\^\{\d\})?)\s*([a-z]|\\[a-z]+)\s*/\s*(?=\\[a-z]{3}\b)"),
        r"\1(\2)/",
    ),
    (re.compile(r"\\binom\s?([a-zA-Z\d])\s?(?=[a-zA-Z\d{])"), r"\\binom{\1}"),
    (re.compile(r"(\\binom\{[^{}]*\})\s?([a-zA-Z\d])"), r"\1{\2}"),
    (re.compile(rf"(?<![A-Za-z\\])C_{_SMALL}\^{_SMALL}"), r"\\binom{\1}{\2}"),
    (re.compile(rf"(?<![A-Za-z\\])C\^{_SMALL}_{_SMALL}"), r"\\binom{\2}{\1}"),
    (re.compile(r"(?<![A-Za-z\\])A_\{(\d+)\}\^\{(\d+)\}"), r"\\frac{\1!}{(\1-\2)!}"),
    (re.compile(r"(?<![A-Za-z\\\d.])(\d{1,3})!!(?!!)"), _double_factorial),
    (re.compile(r"((?<![A-Za-z\\\d.])\d+|(?<![A-Za-z\\])[a-z])!\^"), r"(\1!)^"),
    (
        re.compile(r"\\overline\{([^{}]*(?<![A-Za-z\\])i(?![A-Za-z])[^{}]*)\}"),
        _conjugate,
    ),
)


def parser_dialect(source: str) -> str:
    """Return a formula in normal spelling as the grammar reads it in its common meaning."""
    for pattern, replacement in _REWRITINGS:
        source = pattern.sub(replacement, source)
    return _with_arguments_in_brackets(source)


def _with_arguments_in_brackets(source: str) -> str:
    """Put the argument of a function in brackets where a product sign ends it, the innermost first."""
    for function in reversed(list(_FUNCTION.finditer(source))):
        end = _end_of_argument(source, function.end())
        if end is not None:
            argument = source[function.end() : end].strip()
            source = f"{source[: function.end()].rstrip()}({argument}){source[end:]}"
    return source


def _end_of_argument(source: str, start: int) -> int | None:
    """Return where an argument without round brackets ends; None if no product sign ends it."""
    if source.startswith("(", start):
        return None
    bars = _BARS.match(source, start)
    depth = 0
    for token in _TOKEN.finditer(source, bars.end() if bars else start):
        text, position = token[0], token.start()
        if text in _OPENING:
            depth += 1
        elif text in _CLOSING:
            depth -= 1
            if depth < 0:
                return None
        elif depth or not text.strip():
            continue
        elif text in _TIMES:
            return position if position > start else None
        elif text == "/" and _divides(source[start:position], source[token.end() :]):
            return position
        elif text in _ENDS or (position > start and _FUNCTION.match(source, position)):
            return None
    return None


def _divides(argument: str, denominator: str) -> bool:
    r"""Decide whether a slash ends the argument: `\ln x/x`, `\ln x/\ln 2`, but not `\sin x/2`."""
    if _FUNCTION.match(denominator.lstrip()):
        return True
    divisor = _LETTERS.match(denominator)
    return divisor is not None and divisor[0] in _LETTERS.findall(argument)
