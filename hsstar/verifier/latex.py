"""From LaTeX to sympy: plain formulas by `plain`, all others by Math-Verify's parser."""

import re
from typing import Any

import sympy
from antlr4.atn.PredictionMode import PredictionMode
from latex2sympy2_extended.latex2sympy2 import ConversionConfig, _Latex2Sympy

from hsstar.verifier.pieces import NotPlainError
from hsstar.verifier.plain import read_plain

_CONVERSION = ConversionConfig(lowercase_symbols=False)
_NUMBER_WITH_COMMAS = re.compile(r"\s*-?\d{1,3}(?:,\d{3})+(?:\.\d+)?\s*", re.ASCII)


class LatexParser(_Latex2Sympy):  # type: ignore[misc]
    """Math-Verify's parser without its only use of `eval`, by which sympy reads numbers as Python.

    The faster `mode` SLL gives the same trees, or an error where LL may give none.
    """

    def __init__(self, mode: int = PredictionMode.LL) -> None:
        super().__init__(is_real=True, config=_CONVERSION)
        self._mode = mode

    def create_parser(self, latex: str) -> Any:
        """Return a parser that works in the mode."""
        parser = super().create_parser(latex)
        parser._interp.predictionMode = self._mode
        return parser

    def parse(self, latex: str) -> Any:
        """Return what a formula means; raise an error of any kind if it means nothing."""
        return self.parse_number(latex) if _NUMBER_WITH_COMMAS.fullmatch(latex) else super().parse(latex)

    def parse_number(self, text: str) -> Any:
        """Return a number; commas are left out."""
        digits = text.replace(",", "").strip()
        return sympy.Integer(digits) if digits.lstrip("-").isdecimal() else sympy.Float(digits)


def parse_latex(latex: str) -> Any:
    """Return what a formula means to Math-Verify's parser; None if it means nothing."""
    try:
        return read_plain(latex, LatexParser())
    except NotPlainError:
        pass
    for mode in (PredictionMode.SLL, PredictionMode.LL):
        try:
            return LatexParser(mode).parse(latex)
        except (MemoryError, RecursionError):
            raise
        except Exception:  # noqa: S112 - the parser's own errors are of every kind
            continue
    return None
