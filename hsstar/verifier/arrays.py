"""Reading what is set in rows: matrices, systems of equations, cases; and sums of unit vectors."""

import re

from hsstar.verifier.brackets import inside_brackets, split
from hsstar.verifier.forms import Form, Interval, Matrix, Reader, Sequence, Unreadable
from hsstar.verifier.numeric import Number
from hsstar.verifier.relations import is_name
from hsstar.verifier.several import flat

_ROW = r"\\\\(?:\[[^\]]*\])?"
_MATRIX_BEGINS = re.compile(r"\\begin\{(?:[pbB]?matrix|smallmatrix|array)\}")
_COLUMNS = re.compile(r"\A\{[lcr| ]*\}")
_ROWS_BEGIN = re.compile(r"\\begin\{(?:d?cases|aligned|align\*?|gathered|split)\}|\\\{(?=\\begin\{array\})")
_CONDITION = re.compile(r"\A(?:\\text\{\s?(?:if|for|when)\s?\}|(?:if|for|when)(?![A-Za-z]))\s?")
_OTHERWISE = re.compile(r"(?:\\text\{\s?)?(?:otherwise|else)\s?\}?", re.IGNORECASE)
_TRANSPOSED = re.compile(r"\^(?:T|\{\s?(?:\\text\{T\}|T|\\top)\s?\})\Z")
_COMMA = r"[,;]"
_AXES = "ijk"
_UNIT_VECTOR = re.compile(
    r"(?P<factor>.*?)(?:\\cdot|\*)?\s?(?P<hat>\\hat\{)?(?P<axis>[ijk])(?(hat)\})", re.DOTALL
)
_AXIS_IN_FACTOR = re.compile(r"\\hat|(?<![A-Za-z\\])[ijk](?![A-Za-z])")


def read_rows(source: str, read: Reader) -> Form | None:
    """Equations or cases below each other: the list of them. A case is the pair of value and condition."""
    begins = _ROWS_BEGIN.match(source)
    if begins is None:
        return None
    brackets = inside_brackets(source[begins.end() :] if begins[0] == r"\{" else source)
    if brackets is None:
        return None
    rows = list[list[str]]()
    for row in _rows(brackets[1]):
        line = "".join(row)
        if line.startswith("=") and rows:  # a chain of equations goes on
            before = "".join(rows[-1])
            rows[-1] = [before + line if "=" in before or is_name(before) else line[1:]]
        elif line:
            rows.append(row)
    return Sequence("list", tuple(flat([_read_row(row, read) for row in rows]))) if rows else Unreadable()


def read_matrix(source: str, read: Reader) -> Form | None:
    """A matrix in an environment of LaTeX, or written as a list of rows."""
    brackets = inside_brackets(source)
    if brackets is None:
        return None
    if brackets[0] == "[":
        return _read_list_of_rows(brackets[1], read)
    if not _MATRIX_BEGINS.fullmatch(brackets[0]):
        return None
    rows = [row for row in _rows(brackets[1]) if any(row)]
    if not rows or len({len(row) for row in rows}) > 1 or not all(cell for row in rows for cell in row):
        return Unreadable()
    return Matrix(tuple(tuple(map(read, row)) for row in rows))


def read_transposed(source: str, read: Reader) -> Form | None:
    """A transposed matrix, or a tuple that is to be written as a column."""
    turned = _TRANSPOSED.search(source)
    if turned is None or inside_brackets(source[: turned.start()]) is None:
        return None
    match read(source[: turned.start()]):
        case Matrix(rows=rows):
            return Matrix(tuple(zip(*rows, strict=True)))
        case Sequence(kind="tuple") as vector:
            return vector
        case Interval(low=low, high=high) if low is not None and high is not None:
            return Sequence("tuple", (low, high))
        case _:
            return None


def read_unit_vectors(source: str, read: Reader) -> Form | None:
    r"""A sum of multiples of the unit vectors i, j and k, as the tuple of its coordinates.

    Without hats it has to hold a j: `2+3i` is a complex number, `2i+3j` is not.
    """
    if len(source) > 400 or not ("j" in source or r"\hat" in source):
        return None
    pieces, signs = split(source, r"[-+]")
    if not pieces[0] and signs:
        pieces = pieces[1:]
    else:
        signs = ["+", *signs]
    coordinates = dict[str, Form]()
    hats = 0
    for sign, piece in zip(signs, pieces, strict=True):
        match = _UNIT_VECTOR.fullmatch(piece)
        if match is None or match["axis"] in coordinates or _AXIS_IN_FACTOR.search(match["factor"]):
            return None
        hats += match["hat"] is not None
        sign_before = "-" if sign == "-" else ""
        coordinates[match["axis"]] = read(f"{sign_before}{match['factor'].strip() or '1'}")
    if not hats and len(coordinates) < 2:
        return None
    axes = _AXES if "k" in coordinates else _AXES[:2]
    return Sequence("tuple", tuple(coordinates.get(axis, Number.of(0)) for axis in axes))


def _rows(body: str) -> list[list[str]]:
    """The cells of each row."""
    return [split(row, "&")[0] for row in split(_COLUMNS.sub("", body), _ROW)[0]]


def _read_row(row: list[str], read: Reader) -> Form:
    cells = [cell for cell in row if cell]
    if len(cells) < 2 or cells[1][0] in "=<>" or cells[1].startswith((r"\le", r"\ge")):
        return read("".join(cells).rstrip(",;."))
    condition = "".join(cells[1:]).rstrip(",;.")
    if _OTHERWISE.fullmatch(condition):
        condition = r"\text{otherwise}"
    pair = (read(cells[0].rstrip(",; ")), read(_CONDITION.sub("", condition)))
    return Sequence("tuple", pair)


def _read_list_of_rows(inside: str, read: Reader) -> Form | None:
    """`[1,2],[3,4]`, the inside of a matrix in square brackets."""
    rows = list[tuple[Form, ...]]()
    for piece in split(inside, _COMMA)[0]:
        brackets = inside_brackets(piece)
        if brackets is None or (brackets[0], brackets[2]) != ("[", "]"):
            return None
        rows.append(tuple(map(read, split(brackets[1], _COMMA)[0])))
    return Matrix(tuple(rows)) if len(rows) > 1 and len({len(row) for row in rows}) == 1 else None
