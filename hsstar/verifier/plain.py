r"""Read plain formulas, far faster than Math-Verify's parser and into the very same sympy objects.

Plain are numbers and letters, also Greek ones and ones with an index, `+ - * / ! ^`, brackets, absolute
values, roots, binomials, the usual functions, sums and matrices. Everything else is left to Math-Verify, and
so is what its grammar reads in a way of its own: `f(x)`, `x^{2}^{3}`, `|x||y|`, `\frac{d}{dx}`. Nothing here
evaluates more than Math-Verify does: the methods of its converter put the parts together.
"""

from collections.abc import Callable
from operator import truediv
from typing import Any

import sympy
from latex2sympy2_extended.latex2sympy2 import _Latex2Sympy
from latex2sympy2_extended.symbols import GREEK_LETTER_MAP, get_symbol

from hsstar.verifier.pieces import ARRAY, NotPlainError, pieces_of

_GREEK = {name for name in GREEK_LETTER_MAP if name[1:].isalpha()} - {r"\gamma", r"\Gamma"}  # functions
_SYMBOLS = {*_GREEK, r"\ell", r"\angle", r"\triangle"}
_INVERTIBLE = ("sin", "cos", "tan", "csc", "sec", "cot", "sinh", "cosh", "tanh")
_INVERSES = {rf"\{name}": getattr(sympy, f"a{name}") for name in _INVERTIBLE}
_FUNCTIONS = {
    **{rf"\{name}": getattr(sympy, name) for name in ("exp", "log", *_INVERTIBLE)},
    **{rf"\arc{name[1:]}": function for name, function in _INVERSES.items()},
    r"\ln": sympy.log,
}
_SEVERAL = (r"\gcd", r"\lcm", r"\max", r"\min")
_LARGE = {r"\sum": sympy.Sum, r"\prod": sympy.Product}
_MARKED = (r"\hat{", r"\bar{")
_BRACKETS = {"(": ")", "[": "]", "{": "}", "|": "|", r"\lfloor": r"\rfloor", r"\lceil": r"\rceil"}
_MATRICES = {
    **{rf"\begin{{{kind}matrix}}": rf"\end{{{kind}matrix}}" for kind in ("", "p", "b", "v")},
    ARRAY: r"\end{array}",
}
_NO_FUNCTIONS = {*_BRACKETS, *_MATRICES, *_SYMBOLS, r"\infty", r"\frac", r"\binom"}
_ALL_FUNCTIONS = {*_FUNCTIONS, *_SEVERAL, *_LARGE, r"\sqrt", "e"}
_NAMES_OF_FUNCTIONS = frozenset("abcfghijklmnopqrstuvwxyzABCDFGHJKLMNOPQRSTUVWXYZ")  # not d, e, E, I
_TIMES = ("*", r"\times", r"\cdot")
_OVER = ("/", ":", r"\div", r"\over")
_BEFORE_BARS = {*_TIMES, *_OVER, *_FUNCTIONS, "+", "-", "(", "[", "{"}


def read_plain(latex: str, converter: _Latex2Sympy) -> Any:
    """Return the sympy object of a formula; raise NotPlainError if it is not plain."""
    pieces = pieces_of(latex)
    _refuse_ambiguous(pieces)
    reader = _Reader(pieces, converter)
    formula = reader.sum()
    reader.expect("")
    return formula


def _refuse_ambiguous(pieces: list[str]) -> None:
    """Raise NotPlainError for braces around everything, which are a set, derivatives, and `|a|b|c|`."""
    if next(piece for piece in pieces if piece not in ("(", "[")) == "{":
        raise NotPlainError
    if r"\frac" in pieces and any(len(piece) == 2 and piece.isalpha() for piece in pieces):
        raise NotPlainError
    bars = [index for index, piece in enumerate(pieces) if piece == "|"]
    if any(pieces[bar - 1] not in _BEFORE_BARS for bar in bars[2::2]):
        raise NotPlainError


class _Reader:
    """Recursive descent. `bare` arguments of functions (`\\sin 2x`) end before the next function."""

    def __init__(self, pieces: list[str], converter: _Latex2Sympy) -> None:
        self._pieces, self._converter, self._at = pieces, converter, 0
        self._in_bars = self._in_several = False

    @property
    def _next(self) -> str:
        return self._pieces[self._at]

    def _take(self, *expected: str) -> str:
        """Move over one of the expected pieces; return it, or an empty text if none is there."""
        piece = self._next
        if piece not in expected:
            return ""
        self._at += 1
        return piece

    def expect(self, piece: str) -> None:
        """Move over a piece that has to be there."""
        if self._next != piece:
            raise NotPlainError
        self._at += 1

    def sum(self) -> Any:
        total = self._product()
        while sign := self._take("+", "-"):
            term = self._product()
            matrices = _is_matrix(total) or _is_matrix(term)
            if sign == "-":
                term = self._negative(term, matrices)
            total = _build(
                self._converter.mat_add_flat if matrices else self._converter.add_flat, total, term
            )
        return total

    def _negative(self, term: Any, as_matrix: bool) -> Any:
        if as_matrix:
            return _build(self._converter.mat_mul_flat, -1, term)
        return -term if term.is_Number else _build(self._converter.mul_flat, -1, term)

    def _times(self, left: Any, right: Any) -> Any:
        matrices = _is_matrix(left) or _is_matrix(right)
        return _build(self._converter.mat_mul_flat if matrices else self._converter.mul_flat, left, right)

    def _over(self, top: Any, bottom: Any) -> Any:
        if not (_is_matrix(top) or _is_matrix(bottom)) and top.is_Integer and bottom.is_Integer:
            return _build(sympy.Rational, top, bottom)
        product = sympy.MatMul if _is_matrix(top) or _is_matrix(bottom) else sympy.Mul
        return _build(product, top, _power(bottom, -1), evaluate=False)

    def _product(self, bare: bool = False) -> Any:
        product = self._signed(bare)
        while sign := self._take(*_TIMES, *_OVER):
            factor = self._signed(bare)
            product = self._times(product, factor) if sign in _TIMES else self._over(product, factor)
        return product

    def _signed(self, bare: bool) -> Any:
        if self._take("+"):
            return self._signed(bare)
        if self._take("-"):
            factor = self._signed(bare)
            return self._negative(factor, _is_matrix(factor))
        factors = [self._power(bare)]
        while self._starts_factor(bare):
            factors.append(self._power(bare))
        product = factors.pop()
        while factors:
            product = self._beside(factors.pop(), product)
        return product

    def _beside(self, left: Any, right: Any) -> Any:
        """Return a product without a sign; an integer beside a positive fraction is a mixed number."""
        if (
            not (_is_matrix(left) or _is_matrix(right))
            and left.is_Integer
            and right.is_Rational
            and right.p > 0
        ):
            return sympy.Rational(left * right.q + (-right.p if left < 0 else right.p), right.q)
        return self._times(left, right)

    def _starts_factor(self, bare: bool) -> bool:
        piece = self._next
        if piece == "|":
            return not self._in_bars
        if (
            piece in _NO_FUNCTIONS
            or piece[:1].isdigit()
            or piece.startswith(_MARKED)
            or piece[:1] == "."
            or piece in _ALL_FUNCTIONS
        ):
            return not (bare and piece in _ALL_FUNCTIONS)
        return piece.isalpha()

    def _power(self, bare: bool) -> Any:
        symbol, start = self._next, self._at
        is_symbol = (len(symbol) == 1 and symbol.isalpha() and symbol not in "eE") or symbol in _SYMBOLS
        base = self._factor()
        is_alone = is_symbol and self._at == start + 1
        name = symbol if is_alone else f"{symbol}_{{{self._pieces[start + 1][1:]}}}"
        if is_symbol and not bare and self._next == "(" and (application := self._application(name)):
            base, is_symbol, is_alone = application, False, False
        if self._next == "^":
            exponent = self._exponent(may_precede_index=is_alone)
            if self._next[:1] == "_":
                base = self._indexed(symbol)
            base = _power(base, exponent)
        if is_symbol:
            self._refuse_application()
        while self._take("!"):
            base = _build(sympy.factorial, base, evaluate=False)
        return base

    def _exponent(self, may_precede_index: bool = False) -> Any:
        self.expect("^")
        if self._take(r"\infty"):
            exponent = sympy.oo
        elif self._next in _SYMBOLS:
            exponent = self._symbol()
        elif self._take("{"):
            if self._pieces[self._at : self._at + 2] == ["T", "}"]:  # transposed
                raise NotPlainError
            exponent = self.sum()
            self.expect("}")
        else:
            raise NotPlainError
        if self._next[:1] == "^" or (self._next[:1] == "_" and not may_precede_index):
            raise NotPlainError
        return exponent

    def _application(self, name: str) -> Any:
        """Return a function of one symbol or number, `f(x)`; None if a bracket of another kind is there."""
        if self._pieces[self._at + 2 :][:1] != [")"]:
            return None
        argument = self._pieces[self._at + 1]
        is_symbol = argument in _SYMBOLS or (len(argument) == 1 and argument.isalpha() and argument != "e")
        if not is_symbol and not argument[:1].isdigit():
            return None
        if name[0] not in _NAMES_OF_FUNCTIONS:
            raise NotPlainError
        self._at += 1
        value = self._symbol() if is_symbol else self._factor()
        self.expect(")")
        if self._next[:1] in ("(", "[", "_"):
            raise NotPlainError
        return sympy.Function(name)(value)

    def _refuse_application(self) -> None:
        """Raise if a bracket behind a symbol makes the grammar take the symbol as a function: `f(x)`."""
        start = self._at
        if self._take("{") and self._next not in ("(", "["):
            self._at = start
        if self._take("(", "["):
            if self._next in _SYMBOLS or (self._next.isalpha() and self._next != "e"):
                self._symbol()
                if self._next == "^":
                    self._exponent()
            elif self._next[:1].isdigit() or self._next[:1] == "." or self._next == r"\infty":
                self._at += 1
            if self._next in (")", "]"):
                raise NotPlainError
        self._at = start

    def _factor(self) -> Any:
        piece = self._next
        if piece in _FUNCTIONS:
            return self._function()
        if piece.isalpha() or piece in _SYMBOLS:
            return self._exponential() if piece == "e" else self._symbol()
        if piece in _BRACKETS:
            return self._brackets()
        self._at += 1
        if piece[:1].isdigit() or piece[:1] == ".":
            return _build(self._converter.parse_number, piece)
        if piece in _SEVERAL:
            return self._function_of_several(piece[1:])
        if piece in _LARGE:
            return self._large(_LARGE[piece])
        if piece in _MATRICES:
            return self._matrix(_MATRICES[piece])
        match piece:
            case r"\infty":
                return sympy.oo
            case _ if piece.startswith(_MARKED) and self._next[:1] not in ("(", "[", "_", "^"):
                return get_symbol(piece[1:], is_real=True)
            case r"\frac":
                return self._over(self._argument(), self._argument())
            case r"\binom":
                return _build(sympy.binomial, self._argument(), self._argument())
            case r"\sqrt":
                degree = self._brackets() if self._next == "[" else None
                radicand = self._argument()
                return _power(radicand, sympy.S.Half if degree is None else _build(truediv, 1, degree))
        raise NotPlainError

    def _symbol(self) -> Any:
        letter = self._next
        self._at += 1
        if letter == "I" and self._next[:1] not in ("^", "_"):
            return sympy.I
        if self._next[:1] != "_" and letter != "I":
            return get_symbol(letter, is_real=True)
        return self._indexed(letter)

    def _indexed(self, letter: str) -> Any:
        if letter in ("E", "I") or len(letter) == 2 or self._next[:2] == "_{":
            raise NotPlainError
        index = self._next[1:]
        self._at += 1
        return get_symbol(f"{letter}_{index}" if len(index) == 1 else f"{letter}_{{{index}}}", is_real=True)

    def _exponential(self) -> Any:
        self._at += 1
        return _build(sympy.exp, self._exponent() if self._next == "^" else 1)

    def _argument(self) -> Any:
        if self._next != "{":
            raise NotPlainError
        return self._brackets()

    def _brackets(self) -> Any:
        opening = self._next
        self._at += 1
        outside, self._in_bars = self._in_bars, opening == "|"
        content = self.sum()
        self._in_bars = outside
        self.expect(_BRACKETS[opening])
        match opening:
            case "|":
                return _build(sympy.Abs, content, evaluate=False)
            case r"\lfloor":
                return _build(self._converter.handle_floor, content)
            case r"\lceil":
                return _build(self._converter.handle_ceil, content)
        return content

    def _function(self) -> Any:
        name = self._next
        self._at += 1
        function, base, power = _FUNCTIONS[name], sympy.E if name == r"\ln" else 10, None
        if self._next[:1] == "_":
            base = self._base(function)
        if self._next == "^":
            power = self._exponent()
        if self._take("("):
            self._at -= 1
            argument = self._brackets()
        else:
            argument = self._product(bare=True)
        if power == -1 and name in _INVERSES:
            function, power = _INVERSES[name], None
        arguments = (argument, base) if function is sympy.log else (argument,)
        value = _build(function, *arguments, evaluate=False)
        return _power(value, power) if power else value

    def _function_of_several(self, name: str) -> Any:
        if self._in_several:  # Math-Verify reads none in another
            raise NotPlainError
        self._in_several = True
        self.expect("(")
        arguments = [self.sum()]
        while self._take(","):
            arguments.append(self.sum())
        self.expect(")")
        self._in_several = False
        if name in ("gcd", "lcm"):
            return _build(self._converter.handle_gcd_lcm, name, arguments)
        if not all(isinstance(argument, sympy.Expr) for argument in arguments):
            raise NotPlainError
        if len(set(arguments)) < len(arguments):  # of equal ones sympy makes now one object, now another
            raise NotPlainError
        return _build(sympy.Max if name == "max" else sympy.Min, *arguments, evaluate=False)

    def _base(self, function: Any) -> Any:
        index = self._next[1:] if function is sympy.log else ""
        self._at += 1
        if index == "{":
            base = self.sum()
            self.expect("}")
            return base
        if index.isdigit():
            return _build(self._converter.parse_number, index)
        if index.isalpha() and len(index) == 1 and index not in "eI":
            return get_symbol(index, is_real=True)
        raise NotPlainError

    def _large(self, kind: Any) -> Any:
        if self._next[:2] != "_{":
            raise NotPlainError
        variable = get_symbol(self._next[2], is_real=True)
        self._at += 1
        low = self.sum()
        self.expect("}")
        high = self._exponent()
        return _build(kind, self._product(), (variable, low, high))

    def _matrix(self, end: str) -> Any:
        rows = [[self.sum()]]
        while self._next != end:
            if self._take("&"):
                rows[-1].append(self.sum())
            else:
                self.expect(r"\\")
                if self._next != end:
                    rows.append([self.sum()])
        self.expect(end)
        matrix = _build(sympy.Matrix, rows)
        return _build(matrix.det) if end == r"\end{vmatrix}" else matrix


def _build(make: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Let sympy make an object. What it refuses is left to Math-Verify, which refuses it as well."""
    try:
        return make(*arguments, **options)
    except (MemoryError, RecursionError):
        raise
    except Exception as error:
        raise NotPlainError from error


def _power(base: Any, exponent: Any) -> Any:
    return _build(sympy.Pow, base, exponent, evaluate=False)


def _is_matrix(formula: Any) -> bool:
    return bool(formula.is_Matrix)
