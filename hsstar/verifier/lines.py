r"""Lines in vector form, `(1,2)+t(3,4)`: read, and compared as sets of points."""

import re
from collections import Counter
from collections.abc import Sequence as Items
from fractions import Fraction
from itertools import combinations

from hsstar.verifier.forms import Form, Formula, Line, Reader, Scalar, Sequence, source_of
from hsstar.verifier.names import letters, renamed
from hsstar.verifier.numeric import Number
from hsstar.verifier.spelling import split

_SHALLOW = re.compile(r"(?:[^()]*\([^()]*\)){1,2}[^()]*|[^()]*")  # what is read twice must not nest
_PARAMETERS = {*"stuknm", r"\lambda", r"\mu", r"\alpha", r"\beta"}
_PARAMETER = re.compile(r"(?P<factor>-?(?:[a-z]|\\(?:lambda|mu|alpha|beta)))\s?(?:\\cdot|\*)?\s?(?=[(\\])")


def read_line(source: str, read: Reader) -> Form | None:
    """Read a point plus a parameter times a direction."""
    pieces, signs = split(source, r"\+|-(?=[a-z])")
    if len(signs) != 1 or not _SHALLOW.fullmatch(source):
        return None
    for first, second in ((pieces[0], pieces[1]), (pieces[1], pieces[0])):
        if parameter := _PARAMETER.match(second):
            point, direction = read(first), read(second[parameter.end() :])
            factor = ("-" if signs[0] == "-" else "") + parameter["factor"]
            return _line(point, direction, factor.replace("--", ""))
    return None


def _line(point: Form, direction: Form, factor: str) -> Form | None:
    match point, direction:
        case Sequence(kind="tuple", items=places), Sequence(kind="tuple", items=steps) if len(places) == len(
            steps
        ):
            start = tuple(place for place in places if isinstance(place, Number | Formula))
            step = tuple(part for part in steps if isinstance(part, Number | Formula))
            if len(start) == len(step) == len(places):
                return Line(start, step, factor)
    return None


def points_of(line: Line) -> Sequence:
    """Return a line as the tuple of its coordinates, with its parameter."""
    return Sequence(
        "tuple", tuple(map(_coordinate, line.point, line.direction, [line.factor] * len(line.point)))
    )


def _coordinate(place: Scalar, step: Scalar, factor: str) -> Formula:
    return Formula(f"{source_of(place)}+({factor})({source_of(step)})")


def same_line(mine: Line, theirs: Line) -> bool:
    """Decide whether two lines with numbers as coordinates have the same points."""
    lines = [[_numbers(line.point), _numbers(line.direction)] for line in (mine, theirs)]
    [[start, step], [origin, direction]] = lines
    if not (start and step and origin and direction) or len(start) != len(origin) or not any(step):
        return False
    between = [one - other for one, other in zip(start, origin, strict=True)]
    return any(direction) and _parallel(step, direction) and _parallel(between, direction)


def with_parameter_of(mine: Items[Form], theirs: Items[Form]) -> list[Form]:
    """Return coordinates with the name that the others have for their parameter: (t,2t) is (s,2s).

    Return nothing unless each has one letter of its own, in two coordinates or more.
    """
    my_letters, their_letters = _letters_of(mine), _letters_of(theirs)
    alone, wanted = my_letters.keys() - their_letters.keys(), their_letters.keys() - my_letters.keys()
    if len(mine) != len(theirs) or len(alone) != 1 or len(wanted) != 1:
        return []
    [old], [new] = alone, wanted
    if my_letters[old] < 2 or their_letters[new] < 2 or not {old, new} & _PARAMETERS:
        return []
    renamings = [renamed(part.source, old, new) if isinstance(part, Formula) else part for part in mine]
    return [Formula(part) if isinstance(part, str) else part for part in renamings if part is not None]


def _letters_of(vector: Items[Form]) -> Counter[str]:
    """Count in how many coordinates each letter stands."""
    return Counter(letter for part in vector if isinstance(part, Formula) for letter in letters(part.source))


def _numbers(vector: tuple[Scalar, ...]) -> list[Fraction]:
    numbers = [part.value for part in vector if isinstance(part, Number)]
    return numbers if len(numbers) == len(vector) else []


def _parallel(mine: list[Fraction], theirs: list[Fraction]) -> bool:
    pairs = combinations(range(len(mine)), 2)
    return all(mine[i] * theirs[j] == mine[j] * theirs[i] for i, j in pairs)
