"""Cut a plain formula into the pieces that its reader (`plain`) takes one by one."""

import re

ARRAY = r"\begin{array}"
_PIECE = re.compile(
    r"[ \t\r\n]*(?:(?P<number>\d+(?:\.\d+)?|\.\d+)|(?P<letters>[A-Za-z]+)"
    r"|_\{(?P<index>[A-Za-z\d]+(?:[-+][A-Za-z\d]+)*)\}"
    r"|(?P<array>\\begin\{array\}\{[lcr]+\})|(?P<sign>\\(?:begin|end)\{[a-z]+\}"
    r"|_\{[a-cf-z]=|_\{(?=\\)|\\(?:hat|bar)\{[a-z]\}|\\[A-Za-z]+|\\\\|[-+*/:!^|&(),\[\]{}]))[ \t\r\n]*",
    re.ASCII,
)
_LETTERS = re.compile(
    r"(?P<name>tr|eig|eye|gcd|lcm|svd|SVD|ones|cols|rows|zeros|diag|norm|rank|rref|orth|floor|ceil|[hv]stack"
    r"|nullspace|[pbv]?matrix|arc?(?:sin|cos|tan)h)|d[A-Za-z]|[A-Za-z]"
)


class NotPlainError(Exception):
    """A formula that is left to Math-Verify."""


def pieces_of(latex: str) -> list[str]:
    """Return numbers, letters, differentials (`dx`), indices (`_12`), signs; last an empty text."""
    pieces = list[str]()
    position = 0
    while position < len(latex):
        match = _PIECE.match(latex, position)
        if match is None:
            raise NotPlainError
        position = match.end()
        if match["letters"]:
            if match["letters"][0] == "E" and pieces and pieces[-1][-1].isdigit():
                raise NotPlainError  # 3E5
            pieces += _letters(match["letters"])
            if pieces[-1] == "d" and re.match(r"[A-Za-z\\]", latex[position:]):
                raise NotPlainError  # d x, d\theta
        elif match["index"]:
            _letters(match["index"])
            pieces.append(f"_{match['index']}")
        else:
            pieces.append(match["number"] or match["sign"] or ARRAY)
    pieces.append("")
    return pieces


def _letters(text: str) -> list[str]:
    """Split a text at what the grammar takes as one; raise NotPlainError at the name of a function."""
    pieces = list[str]()
    for piece in _LETTERS.finditer(text):
        if piece["name"]:
            raise NotPlainError
        pieces.append(piece[0])
    return pieces
