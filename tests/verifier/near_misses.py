"""Answers with one reference that means the same and one that nearly does, drawn for every kind of slip."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from random import Random
from typing import NamedTuple

_UNITS = (
    ("g", "kg", 1000), ("J", "kJ", 1000), ("cm", "m", 100), ("minutes", "hours", 60), ("mA", "A", 1000),
    ("W", "MW", 10**6), ("seconds", "minutes", 60), ("inches", "feet", 12), ("m", "km", 1000),
)  # fmt: skip


class NearMiss(NamedTuple):
    """An answer, a reference it equals, and a reference from which it differs by one slip."""

    answer: str
    equal: str
    unequal: str


def sign(random: Random) -> NearMiss:
    """Flip one sign of a polynomial, a product behind a function, a root or a fraction."""
    a, b, c = (random.choice([-1, 1]) * random.randint(1, 12) for _ in range(3))
    wrong = list(random.choice([(-a, b, c), (a, -b, c), (a, b, -c)]))
    return random.choice(
        [
            NearMiss(polynomial(a, b, c), f"{c}+({b})x+({a})x^2", polynomial(*wrong)),
            NearMiss(
                rf"{a}\sin x\cdot x^{abs(b)}", rf"{a}x^{{{abs(b)}}}\sin x", rf"{-a}x^{{{abs(b)}}}\sin x"
            ),
            NearMiss(rf"\sqrt[3]{{{a**3}}}\cdot x", f"{a}x", f"{-a}x"),
            NearMiss(rf"\frac{{{a}}}{{{abs(b) + 9}}}", f"{a}/{abs(b) + 9}", f"{-a}/{abs(b) + 9}"),
            NearMiss(f"{a}+{abs(b)}i", rf"\overline{{{a}-{abs(b)}i}}", f"{a}-{abs(b)}i"),
        ]
    )


def order(random: Random) -> NearMiss:
    """Swap the coordinates of a point, the entries of a matrix, the sides of a ratio or named values."""
    a, b, c, d = random.sample(range(1, 1000), 4)
    return random.choice(
        [
            NearMiss(f"({a}, {b})", f"x={a}, y={b}", f"({b}, {a})"),
            NearMiss(f"({a},{b},{c})", f"\\langle {a}, {b}, {c}\\rangle", f"({a},{c},{b})"),
            NearMiss(f"{a}:{b}", f"{2 * a}:{2 * b}", f"{b}:{a}"),
            NearMiss(matrix(a, b, c, d), f"[[{a},{b}],[{c},{d}]]", matrix(a, c, b, d)),
            NearMiss(f"p={a}, q={b}", f"q={b}, p={a}", f"p={b}, q={a}"),
            NearMiss(f"({a},{b})+t({c},{d})", f"({a + c},{b + d})+s({c},{d})", f"({b},{a})+t({c},{d})"),
        ]
    )


def bound(random: Random) -> NearMiss:
    """Open a closed end, move an end, or turn an inequality around."""
    low = random.randint(-20, 20)
    middle, high = low + random.randint(1, 9), low + random.randint(11, 30)
    moved = random.choice(
        [f"[{low},{high + 1})", f"[{low - 1},{high})", f"({low},{high})", f"[{low},{high}]"]
    )
    return random.choice(
        [
            NearMiss(f"[{low},{high})", rf"{low}\le x<{high}", moved),
            NearMiss(rf"x\ge {low}, x<{high}", f"[{low},{high})", moved),
            NearMiss(rf"[{low},{middle}]\cup({middle},{high})", f"[{low},{high})", moved),
            NearMiss(
                rf"[{low},{high})\setminus\{{{middle}\}}",
                rf"[{low},{middle})\cup({middle},{high})",
                f"[{low},{high})",
            ),
            NearMiss(f"x>{low}", rf"({low},\infty)", random.choice([f"x<{low}", rf"x\ge {low}"])),
            NearMiss(f"y>{low}x+{high}", f"{low}x-y+{high}<0", f"y<{low}x+{high}"),
        ]
    )


def element(random: Random) -> NearMiss:
    """Change, drop or add one element of a list or a set, or run two together."""
    items = random.sample(range(100, 1000), random.randint(2, 4))
    turned = [*items[1:], items[0]]
    wrong = random.choice([items[:-1], [*items, 5], [items[0] + 1, *items[1:]]])
    return random.choice(
        [
            NearMiss(listed(items), listed(turned), listed(wrong)),
            NearMiss(rf"\{{{listed(items)}\}}", listed(turned), rf"\{{{listed(wrong)}\}}"),
            NearMiss("x=" + ", x=".join(map(str, items)), listed(turned), listed(wrong)),
            NearMiss(listed(items), listed(turned), "".join(map(str, items))),
            NearMiss(rf"\pm{items[0]}", f"-{items[0]}, {items[0]}", str(items[0])),
        ]
    )


def unit(random: Random) -> NearMiss:
    """Convert a quantity by a wrong factor, or miscount the smaller of two units."""
    small, large, factor = random.choice(_UNITS)
    number, rest = random.randint(2, 40), random.randint(1, factor - 1)
    wrong = random.choice([number * factor * 10, number * factor + 1, number, number * factor - 1])
    return random.choice(
        [
            NearMiss(f"{number} {large}", f"{number * factor} {small}", f"{wrong} {small}"),
            NearMiss(
                f"{number} {large} {rest} {small}",
                rf"{number * factor + rest}\text{{ {small}}}",
                rf"{number * factor + rest + random.choice([-1, 1, factor])}\text{{ {small}}}",
            ),
            NearMiss(f"{number} m/s", f"{number * 18}/5 km/h", f"{number} km/h"),
            NearMiss(rf"{number}\%", f"{number}/100", f"{number + 1}/100"),
        ]
    )


def rounding(random: Random) -> NearMiss:
    """Miss the last digit, or only come close to an integer or an exact fraction."""
    denominator = random.choice([7, 9, 11, 13, 17, 19, 23])
    value = Fraction(random.randrange(denominator + 1, 9 * denominator), denominator)
    if value.denominator == 1:
        value += Fraction(1, denominator)
    digits = random.choice([2, 3])
    step, rounded = Fraction(1, 10**digits), round(value, digits)
    off = decimal(rounded + random.choice([-1, 1]) * step, digits)
    exact = rf"\frac{{{value.numerator}}}{{{value.denominator}}}"
    integer = random.randint(2, 2000)
    return random.choice(
        [
            NearMiss(exact, decimal(rounded, digits), off),
            NearMiss(decimal(round(value, 8), 8), exact, decimal(rounded, digits) + "9"),
            NearMiss(str(integer), f"{integer}.0", f"{integer}.{random.choice(['4', '04', '51'])}"),
            NearMiss(f"{integer}.{'0' * digits}", str(integer), str(integer + 1)),
            NearMiss(
                rf"\frac{{{value.numerator}}}{{{100 * value.denominator}}}",
                rf"{decimal(rounded, digits)}\%",
                rf"{off}\%",
            ),
            NearMiss(f"{integer}x+0.5", rf"{integer}x+\frac12", f"{integer}x"),
        ]
    )


def name(random: Random) -> NearMiss:
    """Name another quantity, or another argument of the same function."""
    number, first, second = random.randint(1, 999), *random.sample(range(1, 9), 2)
    word, other = random.sample(["area", "perimeter", "volume", "slope", "minimum", "maximum", "speed"], 2)
    return random.choice(
        [
            NearMiss(f"f({first})={number}", str(number), f"f({second})={number}"),
            NearMiss(f"{word} = {number}", rf"\text{{{word}}}={number}", f"{other} = {number}"),
            NearMiss(f"The {word} is {number}", str(number), rf"\text{{{other}}}={number}"),
            NearMiss(f"m+n={number}", str(number), str(number + 1)),
            NearMiss(f"AB:CD={first}:{second}", f"{first}:{second}", f"{second}:{first}"),
            NearMiss(f"f(t)={number}t^2", f"f(x)={number}x^2", f"g(x)={number}x^2"),
            NearMiss(
                rf"P(A)=\frac{{1}}{{{number + 1}}}", f"1/{number + 1}", rf"P(B)=\frac{{1}}{{{number + 1}}}"
            ),
        ]
    )


def assumption(random: Random) -> NearMiss:
    """Take more for granted than a rule does: a factor of an equation, an integer, a positive root."""
    a, b = random.randint(2, 60), random.randint(2, 60)
    return random.choice(
        [
            NearMiss(
                rf"\frac{{\pi}}{{{a}}}+{b}k\pi",
                rf"\frac{{\pi}}{{{a}}}+{b}n\pi",
                rf"\frac{{\pi}}{{{a}}}+{b + 1}n\pi",
            ),
            NearMiss(rf"(-1)^{{{2 * a}n}}", "1", "(-1)^n"),
            NearMiss(rf"\sin({a}n\pi)", "0", rf"\cos({a}n\pi)" if a % 2 else rf"\sin({a}x\pi)"),
            NearMiss(rf"\sqrt{{{a}x}}\sqrt{{y}}", rf"\sqrt{{{a}xy}}", rf"\sqrt{{{a}x+y}}"),
            NearMiss(rf"|{a}x|", rf"\sqrt{{{a * a}x^2}}", f"{a}x"),
            NearMiss(f"y={a}", f"{b}y={a * b}", f"xy={a}x"),
            NearMiss(f"x={a}", f"{b}x={a * b}", f"|x|={a}"),
            NearMiss(rf"\lfloor x\rfloor+{a}", rf"\lfloor x+{a}\rfloor", rf"\lceil x\rceil+{a - 1}"),
            NearMiss(rf"\sum_{{k=1}}^n {a}k", rf"\frac{{{a}n(n+1)}}{{2}}", rf"\frac{{{a}n(n-1)}}{{2}}"),
            NearMiss(
                rf"\frac{{1}}{{{a}^{{4000}}}}", rf"{a}^{{-4000}}", random.choice(["0", rf"{a}^{{-4001}}"])
            ),
        ]
    )


def word(random: Random) -> NearMiss:
    """Leave out a word that multiplies, negates, bounds or converts a number, in one of several languages."""
    a, b = random.randint(2, 999), random.randint(2, 99)
    scale, size = random.choice([("million", 10**6), ("thousand", 1000), ("dozen", 12), ("hundred", 100)])
    foreign, factor = random.choice(
        [("万", 10**4), (" millones", 10**6), (" тысяч", 1000), (" Millionen", 10**6)]
    )
    return random.choice(
        [
            NearMiss(f"{a} {scale}", str(a * size), str(a)),
            NearMiss(f"{a}{foreign}", str(a * factor), str(a)),
            NearMiss(f"minus {a}", f"-{a}", str(a)),
            NearMiss(f"负{a}", f"-{a}", str(a)),
            NearMiss(f"at least {a}", rf"x\ge {a}", str(a)),
            NearMiss(f"twice {a}", str(2 * a), str(a)),
            NearMiss(f"{a} plus {b}", str(a + b), str(a)),
            NearMiss(f"{b} squared", str(b * b), str(b)),
            NearMiss(f"Alice has {a} apples", f"{a} apples", str(a + 1)),
            NearMiss(f"最大值是{a}", str(a), f"最小值是{a}"),
            NearMiss(f"{a} Äpfel", str(a), f"{a} Birnen"),
        ]
    )


def renaming(random: Random) -> NearMiss:
    """Rename a parameter, a constant or a variable, and then use it otherwise."""
    a, b, c = (random.choice([-1, 1]) * random.randint(2, 60) for _ in range(3))
    return random.choice(
        [
            NearMiss(f"({a}t,{b}t{c:+d})", f"({a}s,{b}s{c:+d})", f"({a}s,{c}s{b:+d})" if b != c else "(s,s)"),
            NearMiss(f"x={a}+{abs(b)}t, y=t", f"x={a}+{abs(b)}s, y=s", f"x={a}-{abs(b)}s, y=s"),
            NearMiss(rf"Ke^{{{a}x}}", rf"Ce^{{{a}x}}", rf"Ce^{{{-a}x}}"),
            NearMiss(rf"Ae^{{{a}x}}+B", rf"C_1e^{{{a}x}}+C_2", rf"C_1e^{{{a}x}}+C_2x"),
            NearMiss(
                f"f(t)={a}t^2{b:+d}t", f"f(x)={a}x^2{b:+d}x", f"f(x)={b}x^2{a:+d}x" if a != b else "f(x)=x"
            ),
            NearMiss(f"a_k={a}k{b:+d}", f"a_n={a}n{b:+d}", f"b_n={a}n{b:+d}"),
        ]
    )


KINDS: tuple[Callable[[Random], NearMiss], ...] = (
    sign, order, bound, element, unit, rounding, name, assumption, word, renaming,
)  # fmt: skip


def near_misses(kind: Callable[[Random], NearMiss], number: int) -> Iterator[NearMiss]:
    """Yield different near misses of a kind, the same ones every time."""
    random, seen = Random(kind.__name__), set[NearMiss]()
    while len(seen) < number:
        drawn = kind(random)
        if drawn not in seen:
            seen.add(drawn)
            yield drawn


def polynomial(a: int, b: int, c: int) -> str:
    return f"{a}x^2{b:+d}x{c:+d}"


def matrix(a: int, b: int, c: int, d: int) -> str:
    return rf"\begin{{pmatrix}}{a}&{b}\\{c}&{d}\end{{pmatrix}}"


def listed(items: list[int]) -> str:
    return ", ".join(map(str, items))


def decimal(value: Fraction, digits: int) -> str:
    return f"{float(value):.{digits}f}"
