r"""A grammar of final answers as models write them, right or wrong; the caller draws the choices."""

import re
from collections.abc import Callable

_DEEPEST = 5

_GRAMMAR = {
    "answer": [
        "<expression>",
        "<expression><unit>",
        "<letter>=<expression>",
        "<expression>=<expression>",
        "<expression>,<expression>",
        "<expression>, <answer>",
        "<expression><or><expression>",
        "(<expression>,<expression>)",
        "<open><bound>,<bound><close>",
        r"<open><bound>,<bound><close>\cup<open><bound>,<bound><close>",
        r"\{<expression>,<expression>\}",
        r"\{<letter>\mid <letter><order><expression>\}",
        "<letter><order><expression>",
        "<expression><order><letter><order><expression>",
        r"<letter>\in<open><bound>,<bound><close>",
        r"\begin{pmatrix}<expression>&<expression>\\<expression>&<expression>\end{pmatrix}",
        r"\begin{cases}<expression>&<letter><order><number>\\<expression>\end{cases}",
        r"\text{<word>}",
        r"<word>",
        r"\text{(<letter>)}",
        "$<answer>$",
        r"\(<answer>\)",
        "<answer>.",
        r"\boxed{<answer>}",
        "<answer> <answer>",
    ],
    "expression": [
        "<number>",
        "<letter>",
        "<number><letter>",
        "-<expression>",
        "<expression>+<expression>",
        "<expression>-<expression>",
        "<expression><times><expression>",
        "<expression>/<expression>",
        r"\frac{<expression>}{<expression>}",
        r"\frac<digit><digit>",
        r"<number>\frac{<digit>}{<digit>}",
        r"\sqrt{<expression>}",
        r"\sqrt[<digit>]{<expression>}",
        r"\sqrt<digit>",
        "(<expression>)",
        r"\left(<expression>\right)",
        "|<expression>|",
        r"\lfloor<expression>\rfloor",
        "{<expression>}",
        "<expression>^<digit>",
        "<expression>^{<expression>}",
        "<letter>_<digit>",
        "<letter>_{<expression>}",
        "<function><expression>",
        "<function>(<expression>)",
        r"\log_<digit> <expression>",
        r"<expression>\pm<expression>",
        "<digit>!",
        r"\binom{<expression>}{<expression>}",
        r"\sum_{n=1}^{<digit>}<expression>",
        r"\overline{<number>}",
        "<expression> <expression>",
    ],
    "number": [
        "<digit>",
        "<digit><digit>",
        "<digit><number>",
        "<digit>.<digit><digit>",
        ".<digit>",
        "<digit>,<digit>00",
        "<digit>{,}<digit><digit>0",
        r"<digit>\times10^{<digit>}",
        "<digit>e<digit>",
        r"<number>\%",
        r"\$<number>",
        r"<number>^\circ",
        r"0.\overline{<digit><digit>}",
        "<digit>/<digit>",
        "<digit>_{<digit>}",
        "<digit>:<digit>",
        r"\pi",
        r"\infty",
        "-<number>",
    ],
    "bound": ["<number>", r"-\infty", r"\infty", "<expression>"],
    "digit": list("7102345689"),
    "letter": ["x", "y", "n", "a", "A", "e", "i", "E", r"\theta", r"\pi", "f(x)", "I", "S", "O"],
    "word": ["yes", "no", "Monday", "seven", "blue whale", "none of these", "True", "infinitely many", ""],
    "unit": [r"\text{ cm}", r"\text{ cm}^2", " dollars", "%", r"\text{ (mod }<digit>)", r"\,\mathrm{m}", "°"],
    "times": [r"\cdot ", r"\times ", "*", ""],
    "order": ["<", ">", r"\leq ", r"\ge", r"\neq ", r"\approx ", "≤"],
    "or": [" or ", r"\text{ or }", r"\text{ and }", r"\quad", ";"],
    "open": ["(", "["],
    "close": [")", "]"],
    "function": [r"\sin ", r"\ln ", r"\arctan", r"\log", "cos", r"\exp", r"\operatorname{lcm}", r"\gcd"],
}
_SYMBOL = re.compile(r"<([a-z]+)>")


def written_answer(choose: Callable[[int], int]) -> str:
    """Write an answer by the grammar; `choose(n)` returns a number below n, and 0 is the simplest choice."""
    return _expanded("<answer>", choose, 0)


def damaged(text: str, choose: Callable[[int], int], noise: str) -> str:
    """Return a text with a piece removed, doubled, moved or replaced by noise."""
    start = choose(len(text) + 1)
    end = start + choose(min(len(text) - start, 8) + 1)
    before, piece, after = text[:start], text[start:end], text[end:]
    return [before + after, before + piece * 2 + after, piece + before + after, before + noise + after][
        choose(4)
    ]


def _expanded(template: str, choose: Callable[[int], int], depth: int) -> str:
    def expand(symbol: re.Match[str]) -> str:
        templates = _GRAMMAR[symbol[1]]
        template = templates[choose(len(templates)) if depth < _DEEPEST else 0]
        return _expanded(template, choose, depth + 1)

    return _SYMBOL.sub(expand, template)
