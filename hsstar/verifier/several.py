r"""Read answers of several parts: lists, sets, tuples, intervals, unions, `\pm`, matrices, systems, cases."""

import re
from itertools import product
from math import prod

from hsstar.verifier.forms import (
    Form,
    Infinite,
    IntervalForm,
    Matrix,
    Named,
    Reader,
    Sequence,
    Union,
    Unreadable,
    Words,
)
from hsstar.verifier.intervals import EMPTY, REALS, intersected, united, without
from hsstar.verifier.names import is_name, name_of
from hsstar.verifier.numeric import Number
from hsstar.verifier.relations import MEMBER, as_part, interval_between
from hsstar.verifier.spelling import inside_brackets, split

_MOST_SIGNS = 3
_MOST_COMBINATIONS = 16
_MOST_CONDITIONS = 100

_COMMA = r"[,;]"
_COMMA_OF_LIST = r";|,(?!(?<=\d,)\d{3}(?!\d))"  # the comma of 1,000 separates nothing
_AND_OR = (
    r",?\s?(?:\\text\{,?\s?(?:and|or)\s?\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])"
    r"|\\(?:lor|land|vee|wedge)(?![A-Za-z]))"
)
_OR = r",?\s?(?:\\text\{,?\s?or\s?\}|(?<![A-Za-z\\])or(?![A-Za-z])|\\(?:lor|vee)(?![A-Za-z]))"
_CONNECTIVE = re.compile(r"\\(?:land|lor|wedge|vee)")
_STATEMENT = re.compile(r"(?:\\(?:neg|lnot)\s?)?[A-Za-z]")
_CUP = r"\\cup(?![A-Za-z])"
_CAP = r"\\cap(?![A-Za-z])"
_WITHOUT = r"\\(?:setminus|backslash)(?![A-Za-z])|-(?=\\\{)"
_INDEXED_UNION = re.compile(
    r"\\bigcup(?P<range>_\{[^{}]{1,60}\}\^\{[^{}]{1,60}\})\s?(?P<part>[(\[\\].*)", re.DOTALL
)
_SIGN = re.compile(r"\\(?:pm|mp)(?![A-Za-z])\s?")
_POINT = re.compile(r"(?P<name>[A-Z]'?)(?=\()")
_ROW = r"\\\\(?:\[[^\]]*\])?"
_MATRIX_BEGINS = re.compile(r"\\begin\{(?:[pbB]?matrix|smallmatrix|array)\}")
_COLUMNS = re.compile(r"\A\{[lcr| ]*\}")
_ROWS_BEGIN = re.compile(r"\\begin\{(?:d?cases|aligned|align\*?|gathered|split)\}|\\\{(?=\\begin\{array\})")
_CONDITION = re.compile(r"\A(?:\\text\{\s?(?:if|for|when)\s?\}|(?:if|for|when)(?![A-Za-z]))\s?")
_OTHERWISE = re.compile(r"(?:\\text\{\s?)?(?:otherwise|else)\s?\}?", re.IGNORECASE)
_TRANSPOSED = re.compile(r"\^(?:T|\{\s?(?:\\text\{T\}|T|\\top)\s?\})\Z")
_ANY_REAL = re.compile(r"[a-z](?:,[a-z])?\s?\\in\s?\\mathbb\{R\}")
_AXES = "ijk"
_UNIT_VECTOR = re.compile(
    r"(?P<factor>.*?)(?:\\cdot|\*)?\s?(?P<hat>\\hat\{)?(?P<axis>[ijk])(?(hat)\})", re.DOTALL
)
_AXIS_IN_FACTOR = re.compile(r"\\hat|(?<![A-Za-z\\])[ijk](?![A-Za-z])")


def read_solutions(source: str, read: Reader) -> Form | None:
    """Read solutions of several names each, `p=5, q=2; p=7, q=2`, as a list of tuples."""
    pieces, separators = split(source, rf";|{_OR}")
    solutions = [[split(value, "=")[0] for value in split(piece, ",")[0]] for piece in pieces]
    if not separators or not all(len(sides) == 2 for values in solutions for sides in values):
        return None
    names = [sorted(name_of(name) for name, _ in values if is_name(name)) for values in solutions]
    if len(names[0]) < 2 or len(names[0]) < len(solutions[0]) or any(mine != names[0] for mine in names):
        return None
    ordered = (sorted(values, key=lambda sides: name_of(sides[0])) for values in solutions)
    return Sequence(
        "list",
        tuple(Sequence("tuple", tuple(read(value) for _, value in values)) for values in ordered),
    )


def read_list(source: str, read: Reader) -> Form | None:
    """Read several answers between commas, or joined by "and" or "or"."""
    pieces, separators = split(source, f"{_AND_OR}|{_COMMA_OF_LIST}")
    pieces = [piece for piece in pieces if piece.strip()]
    if not separators or not pieces:
        return None
    if all(map(_CONNECTIVE.match, separators)) and all(map(_STATEMENT.fullmatch, pieces)):
        return Words(source.replace(" ", ""))
    if len(pieces) == 1:
        return read(pieces[0])
    items = flat([read(piece) for piece in pieces])
    names = [item.name for item in items if isinstance(item, Named)]
    if not names or not isinstance(items[0], Named) or len(set(names)) > 1:
        return _listed(items, "or" in "".join(separators))
    values = flat([item.value if isinstance(item, Named) else item for item in items])
    alternatives = "or" in "".join(separators)
    if not alternatives and all(isinstance(value, IntervalForm | Union) for value in values):
        return Named(names[0], _conditions(values))
    return Named(names[0], _listed(values, alternatives))


def _listed(items: list[Form], alternatives: bool) -> Form:
    if all(isinstance(item, IntervalForm | Union) for item in items):
        return united(items)
    if alternatives and any(isinstance(item, IntervalForm | Union) for item in items):
        return united(map(as_part, items))
    return Sequence("set" if alternatives else "list", tuple(items))


def _conditions(values: list[Form]) -> Form:
    """Return what fulfils all conditions on one name, `x>1, x<5`, or else all that fulfils one."""
    if len(values) > _MOST_CONDITIONS:
        return Unreadable()
    common = intersected(values)
    if common is None and len(values) == 2:
        common = _between(*values)
    return united(values) if common in (None, EMPTY) else common


def _between(first: Form, second: Form) -> Form | None:
    match first, second:
        case (IntervalForm(high=None) as low, IntervalForm(low=None) as high) | (
            IntervalForm(low=None) as high,
            IntervalForm(high=None) as low,
        ):
            return IntervalForm(low.low, high.high, low.low_closed, high.high_closed)
        case _:
            return None


def read_union(source: str, read: Reader) -> Form | None:
    """Read a union of intervals and sets."""
    pieces, separators = split(source, _CUP)
    return united(as_part(read(piece)) for piece in pieces) if separators else None


def read_intersection(source: str, read: Reader) -> Form | None:
    """Read an intersection of intervals and sets."""
    pieces, separators = split(source, _CAP)
    return intersected(as_part(read(piece)) for piece in pieces) if separators else None


def read_indexed_union(source: str, read: Reader) -> Form | None:
    """Read a union over an index, as the pair of the range of the index and the part."""
    match = _INDEXED_UNION.match(source)
    return Sequence("tuple", (Words(match["range"]), as_part(read(match["part"])))) if match else None


def read_pairing(source: str, read: Reader) -> Form | None:
    r"""Read two forms that belong together, `v \leftrightarrow 3`, as a pair."""
    pieces, separators = split(source, r"\\leftrightarrow(?![A-Za-z])")
    return _tuple(list(map(read, pieces))) if len(separators) == 1 else None


def read_without(source: str, read: Reader) -> Form | None:
    r"""Read a set without another: `\mathbb{R}\setminus\{2\}` is a union of intervals."""
    pieces, separators = split(source, _WITHOUT)
    if len(separators) != 1 or not all(pieces):
        return None
    whole, missing = map(as_part, map(read, pieces))
    if (rest := without(whole, missing)) is not None:
        return rest
    match whole, missing:
        case IntervalForm(low=None, high=None), Sequence(kind="set", items=(point,)):
            return Union(
                (
                    IntervalForm(None, point, low_closed=False, high_closed=False),
                    IntervalForm(point, None, low_closed=False, high_closed=False),
                )
            )
        case _:
            return None


def read_brackets(source: str, read: Reader) -> Form | None:
    """Read what one pair of brackets encloses: a set, a tuple, an interval, or a single form."""
    brackets = inside_brackets(source)
    if brackets is None:
        return None
    opening, inside, closing = brackets
    match opening, closing:
        case r"\{", r"\}":
            return _read_set(inside, read)
        case (r"\langle", r"\rangle"):
            return _tuple([read(piece) for piece in split(inside, _COMMA)[0]])
        case "(" | "[", ")" | "]":
            return _read_tuple_or_interval(inside, opening, closing, read)
        case _:
            return None


def read_point(source: str, read: Reader) -> Form | None:
    """Read a point with its name: `A(1,2)`."""
    match = _POINT.match(source)
    form = read_brackets(source[match.end() :], read) if match else None
    return Named(match["name"], form) if match and isinstance(form, Sequence) else None


def _read_set(inside: str, read: Reader) -> Form:
    pieces, separators = split(inside, r"\||:")
    if len(separators) == 1 and pieces[0].startswith("(") and _ANY_REAL.fullmatch(pieces[1]):
        return read(pieces[0])  # {(t, 2t) : t real} is a line
    if len(separators) == 1 and (is_name(pieces[0]) or split(pieces[0], MEMBER)[1]):
        return read(pieces[1])
    if not inside:
        return EMPTY
    items = flat([read(piece) for piece in split(inside, _COMMA)[0]])
    return Sequence("set", tuple(items))


def _read_tuple_or_interval(inside: str, opening: str, closing: str, read: Reader) -> Form | None:
    pieces = split(inside, _COMMA)[0]
    if len(pieces) == 1:
        return read(inside) if (opening, closing) in (("(", ")"), ("[", "]")) else None
    items = [read(piece) for piece in pieces]
    if len(items) == 2:
        infinite = any(isinstance(item, Infinite) for item in items)
        if infinite or (opening, closing) != ("(", ")"):
            return interval_between(items[0], items[1], opening == "[", closing == "]")
    return _tuple(items)


def _tuple(items: list[Form]) -> Form:
    """Return a tuple; with `±` in it, the list of tuples that it stands for."""
    choices = [
        item.items if isinstance(item, Sequence) and item.kind == "list" else (item,) for item in items
    ]
    if prod(map(len, choices)) > _MOST_COMBINATIONS:
        return Unreadable()
    tuples = tuple(Sequence("tuple", chosen) for chosen in product(*choices))
    return tuples[0] if len(tuples) == 1 else Sequence("list", tuples)


def read_signs(source: str, read: Reader) -> Form | None:
    r"""Read the values that `\pm` stands for, as a list."""
    signs = _SIGN.findall(source)
    if not signs:
        return None
    if len(signs) > _MOST_SIGNS:
        return Unreadable()
    linked = any(sign.startswith(r"\mp") for sign in signs)
    choices = (
        [(True,) * len(signs), (False,) * len(signs)] if linked else product((True, False), repeat=len(signs))
    )
    items = [read(_signed(source, plus)) for plus in choices]
    return Sequence("list", tuple(flat(items)))


def _signed(source: str, plus: tuple[bool, ...]) -> str:
    """Return the source with its signs chosen, without a plus at the beginning of a term."""
    upper = iter(plus)

    def sign(match: re.Match[str]) -> str:
        positive = next(upper) == match[0].startswith(r"\pm")
        begins = match.start() == 0 or source[match.start() - 1] in "({[,="
        return ("" if begins else "+") if positive else "-"

    return _SIGN.sub(sign, source)


def flat(items: list[Form]) -> list[Form]:
    """Open the lists among items: `1, ±2` is 1, 2, -2."""
    flat = list[Form]()
    for item in items:
        match item:
            case Sequence(kind="list", items=parts):
                flat += parts
            case Named(name=name, value=Sequence(kind="list", items=parts)):
                flat += [Named(name, part) for part in parts]
            case _:
                flat.append(item)
    return flat


def read_rows(source: str, read: Reader) -> Form | None:
    """Read equations or cases below each other as a list; a case is the pair of value and condition."""
    begins = _ROWS_BEGIN.match(source)
    if begins is None:
        return None
    brackets = inside_brackets(source[begins.end() :] if begins[0] == r"\{" else source)
    if brackets is None:
        return None
    rows = list[list[str]]()
    for row in _rows(brackets[1]):
        line = "".join(row)
        if line.startswith("=") and rows:  # it continues a chain of equations
            before = "".join(rows[-1])
            rows[-1] = [before + line if "=" in before or is_name(before) else line[1:]]
        elif line:
            rows.append(row)
    return (
        Sequence("list", _completed(flat([_read_row(row, read) for row in rows]))) if rows else Unreadable()
    )


def _completed(rows: list[Form]) -> tuple[Form, ...]:
    """Return cases with "otherwise" written out, if the other conditions are on one real number."""
    others = [row for row in rows if not _is_otherwise(row)]
    conditions = [row.items[1] for row in others if isinstance(row, Sequence) and len(row.items) == 2]
    named = [condition for condition in conditions if isinstance(condition, Named)]
    if len(others) != len(rows) - 1 or len(named) < len(others) or len({form.name for form in named}) != 1:
        return tuple(rows)
    rest = without(REALS, united(form.value for form in named))
    if rest is None:
        return tuple(rows)
    return tuple(
        Sequence("tuple", (row.items[0], Named(named[0].name, rest)))
        if isinstance(row, Sequence) and _is_otherwise(row)
        else row
        for row in rows
    )


def _is_otherwise(row: Form) -> bool:
    return isinstance(row, Sequence) and len(row.items) == 2 and row.items[1] == Words("otherwise")


def read_matrix(source: str, read: Reader) -> Form | None:
    """Read a matrix in an environment of LaTeX, or written as a list of rows."""
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
    """Read a transposed matrix, or a tuple that is transposed to a column."""
    turned = _TRANSPOSED.search(source)
    if turned is None or inside_brackets(source[: turned.start()]) is None:
        return None
    match read(source[: turned.start()]):
        case Matrix(rows=rows):
            return Matrix(tuple(zip(*rows, strict=True)))
        case Sequence(kind="tuple") as vector:
            return vector
        case IntervalForm(low=low, high=high) if low is not None and high is not None:
            return Sequence("tuple", (low, high))
        case _:
            return None


def read_unit_vectors(source: str, read: Reader) -> Form | None:
    """Read a sum of multiples of unit vectors i, j, k as a tuple; without hats only with a j: not `2+3i`."""
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
        factor = match["factor"].strip() or "1"
        coordinates[match["axis"]] = read(f"-{factor}" if sign == "-" else factor)
    if not hats and len(coordinates) < 2:
        return None
    axes = _AXES if "k" in coordinates else _AXES[:2]
    return Sequence("tuple", tuple(coordinates.get(axis, Number.of(0)) for axis in axes))


def _rows(body: str) -> list[list[str]]:
    return [split(row, "&")[0] for row in split(_COLUMNS.sub("", body), _ROW)[0]]


def _read_row(row: list[str], read: Reader) -> Form:
    cells = [cell for cell in row if cell]
    if len(cells) < 2 or cells[1][0] in "=<>" or cells[1].startswith((r"\le", r"\ge")):
        return read("".join(cells).rstrip(",;."))
    condition = "".join(cells[1:]).rstrip(",;.")
    if _OTHERWISE.fullmatch(condition):
        condition = r"\text{otherwise}"
    return Sequence("tuple", (read(cells[0].rstrip(",; ")), read(_CONDITION.sub("", condition))))


def _read_list_of_rows(inside: str, read: Reader) -> Form | None:
    rows = list[tuple[Form, ...]]()
    by_semicolon = [split(row, ",")[0] for row in split(inside, ";")[0]]
    if len(by_semicolon) > 1 and len({len(row) for row in by_semicolon}) == 1 and len(by_semicolon[0]) > 1:
        return Matrix(tuple(tuple(map(read, row)) for row in by_semicolon))
    for piece in split(inside, _COMMA)[0]:
        brackets = inside_brackets(piece)
        if brackets is None or (brackets[0], brackets[2]) != ("[", "]"):
            return None
        rows.append(tuple(map(read, split(brackets[1], _COMMA)[0])))
    return Matrix(tuple(rows)) if len(rows) > 1 and len({len(row) for row in rows}) == 1 else None
