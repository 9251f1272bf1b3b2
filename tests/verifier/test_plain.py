"""The parser of plain formulas gives the very objects that Math-Verify's parser gives, or declines."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sympy
from antlr4.atn.PredictionMode import PredictionMode
from hypothesis import example, given
from hypothesis import strategies as st

from hsstar.data.files import read_problems
from hsstar.data.samples import SampleFiles
from hsstar.domain.answers import extract_answer
from hsstar.verifier.judging import formulas
from hsstar.verifier.latex import LatexParser
from hsstar.verifier.pieces import NotPlainError
from hsstar.verifier.plain import read_plain
from hsstar.verifier.process import RECURSION_LIMIT
from hsstar.verifier.reading import read
from tests.generated import examples

HERE = Path(__file__).parent
SHARED = HERE.parents[1].parent / "shared"
BENCHMARKS = sorted((SHARED / "data" / "benchmarks").glob("*.jsonl"))
RESPONSES = sorted((SHARED / "data" / "responses").glob("*.jsonl"))
FIELD_CASES = SHARED / "cases" / "verifier" / "cases.jsonl"
DECLINED = "left to Math-Verify"
LEAST_PLAIN_SHARE = 0.85


@pytest.fixture(autouse=True)
def recursion_as_in_a_checking_process() -> Iterator[None]:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(RECURSION_LIMIT)
    yield
    sys.setrecursionlimit(before)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def sources(texts: list[str]) -> list[str]:
    """Return the different formulas in answers."""
    return list(dict.fromkeys(part.source for text in texts for part in formulas(read(text))))


def shape(parsed: Any) -> object:
    """Return all of an object, in its order: comparing and printing would evaluate what it holds."""
    if isinstance(parsed, sympy.MatrixBase):
        return type(parsed), parsed.shape, [shape(entry) for entry in parsed.flat()]
    return type(parsed), [shape(part) for part in parsed.args] or parsed


def seen_by(parse: Any, source: str) -> object:
    """Return what a parser makes of a formula, or its error."""
    try:
        return shape(parse(source))
    except Exception as error:
        return type(error)


def by_plain(source: str) -> object:
    """Return what the parser of plain formulas makes of a formula; it raises nothing but NotPlainError."""
    try:
        return shape(read_plain(source, LatexParser()))
    except NotPlainError:
        return DECLINED


def by_math_verify(source: str) -> object:
    return seen_by(LatexParser().parse, source)


def assert_identical(texts: list[str]) -> float:
    """Compare all formulas of answers; return the share of the readable ones that are plain."""
    plain = declined = 0
    for source in sources(texts):
        expected, found = by_math_verify(source), by_plain(source)
        assert found in (expected, DECLINED), source
        plain += found != DECLINED
        declined += found == DECLINED and not isinstance(expected, type)
    return plain / (plain + declined)


def test_the_formulas_of_the_case_tables_are_read_identically_and_nearly_all_are_plain() -> None:
    cases, forms = rows(HERE / "verdict_cases.jsonl"), rows(HERE / "read_forms.jsonl")
    texts = [case[side] for case in cases for side in ("answer", "reference")]
    assert assert_identical(texts + [row["text"] for row in forms]) >= LEAST_PLAIN_SHARE


@pytest.mark.skipif(not FIELD_CASES.exists(), reason="the cases from the field are not at hand")
def test_the_formulas_of_cases_from_the_field_are_read_identically() -> None:
    cases = rows(FIELD_CASES)
    responses = [extract_answer(case["response"]) for case in cases if "response" in case]
    texts = [case[side] for case in cases for side in ("answer", "reference") if side in case]
    texts += [extracted.text for extracted in responses if extracted]
    assert assert_identical(texts) >= LEAST_PLAIN_SHARE


@pytest.mark.heavy
@pytest.mark.skipif(not BENCHMARKS, reason="the published benchmarks and responses are not at hand")
def test_the_formulas_of_published_references_and_responses_are_read_identically() -> None:
    references = [problem.reference or "" for path in BENCHMARKS for problem in read_problems(path)]
    samples = SampleFiles(RESPONSES).by_problem()
    answers = [extract_answer(response.text) for sample in samples for response in sample.responses]
    texts = references + [answer.text for answer in answers if answer]
    assert assert_identical(texts) >= LEAST_PLAIN_SHARE


def test_the_quick_mode_of_math_verify_gives_the_same_trees_or_an_error() -> None:
    cases = rows(HERE / "verdict_cases.jsonl")
    for source in sources([case["answer"] for case in cases]):
        if by_plain(source) == DECLINED:
            quick = seen_by(LatexParser(PredictionMode.SLL).parse, source)
            assert isinstance(quick, type) or quick == by_math_verify(source), source


@pytest.mark.parametrize(
    "source",
    [
        "f^{2}(x)", "f(x,y)", "d(x)", r"\pi(x)", r"\hat{x}(y)", "f(x)(y)", r"\sin f(x)",
        "x^{2}(y)", r"\pi(2)", "x(dt)", r"\frac{d}{dx}", r"d\theta", "d x", "I^{2}", "x^{2}^{3}",
        "3E5", "|x||y|", "a|b|c|d|", "{x}", "({x})", "[{x}+1]", r"\{x\}", "1,2", "x=2", "x!=2", "5.",
        r"\gamma", "gcd", r"\text{m}", "A^{T}", "x'", "x_{1}^{2}_{3}", "5_{3}", "50%", r"\pm1", r"\sqrt",
        r"\frac12", "x^2", "²", "(1", "1)", "", "()", "1+", "(1]", r"\begin{pmatrix}1&2\end{matrix}", "e_{1}",
        "E_{1}", r"\sin_{2} x", r"\log_{n-1} x", r"\sum_{k} k", r"\sum k", "^{2}", "x^", "__",
        r"\operatorname{tr}A",
    ],
)  # fmt: skip
def test_what_has_another_reading_or_none_is_left_to_math_verify(source: str) -> None:
    assert by_plain(source) == DECLINED


ATOMS = (
    *"012xyaneiktdEI",
    *(
        "12",
        "3.5",
        ".5",
        r"\pi",
        r"\theta ",
        r"\infty",
        "dx",
        "dt",
        "x_{1}",
        "a_{12}",
        "a_{n}",
        "c_{n-1}",
        "xy",
        "x_{prime}",
        "f(x)",
        "h(2)",
        "f_{1}(t)",
        "x^{2}_{1}",
        r"\hat{t}",
        r"\gcd(4,6)",
        r"\begin{array}{l}1\\x\end{array}",
    ),
)
FRAMES = (
    *("{}+{}", "{}-{}", "{}{}", "({})", "[{}]", "{}^{{{}}}", "({})^{{{}}}", "{}/{}", "{}:{}", "{}*{}", "{}!"),
    *(
        "|{}|",
        "|{}|+|{}|",
        "|{}|^{{2}}-|{}|^{{2}}",
        "|{}||{}|",
        "-{}",
        "+{}",
        "{}({})",
        "{{{}}}",
        "{}_{{{}}}",
    ),
    *(r"{} {}", r"\frac{{{}}}{{{}}}", r"{}\cdot {}", r"{}\div {}", r"\sqrt{{{}}}", r"\sqrt[{}]{{{}}}"),
    *(
        r"\sin {}",
        r"\cos({})",
        r"\tan^{{2}} {}",
        r"\sin^{{-1}}({})",
        r"\ln {}",
        r"\log_{{2}} {}",
        r"\log({})",
    ),
    *(
        r"\arcsin {}",
        r"\exp({})",
        r"\sinh {}",
        r"e^{{{}}}",
        r"{}^\pi",
        r"\lfloor {}\rfloor",
        r"\binom{{{}}}{{2}}",
    ),
    *(r"\sum_{{k=1}}^{{{}}} {}", r"\prod_{{n=1}}^{{4}}{}", r"\begin{{pmatrix}}{}&{}\\{}&{}\end{{pmatrix}}"),
    *(r"\ln|{}|", r"\ln|{}|-\ln|{}|", r"\frac{{\ln|{}|}}{{2}}+{}|{}|", "|{}|+|{}|-|{}|+|{}|", r"|{}|\ln|{}|"),
    r"[\begin{{array}}{{rr}}{}&{}\\{}&{}\end{{array}}]",
    *(
        r"\max({},{})",
        r"\gcd({},{})",
        r"\ln|{}|",
        r"\sin|{}|+\cos|{}|",
        r"\log_{{\frac{{1}}{{2}}}} {}",
        r"{}^{{2}}_{{3}}",
    ),
    *(r"\sin {}\cdot {}", r"\cos {}\sin {}", r"\ln({}){}", r"\begin{{bmatrix}}{}\\{}\end{{bmatrix}}"),
)


def framed(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    frames = st.sampled_from(FRAMES)
    return st.builds(
        lambda frame, inside: frame.format(*inside), frames, st.lists(parts, min_size=4, max_size=4)
    )


@examples(150)
@example(r"\max(0,{0})")
@example(r"\max(0,1+\min(2,1))")
@example(r"\gcd(2,\gcd(4,6))")
@example(r"\max(0,\begin{pmatrix}1\\2\end{pmatrix})")
@given(st.recursive(st.sampled_from(ATOMS), framed, max_leaves=12).filter(lambda source: len(source) < 90))
def test_generated_formulas_are_read_identically_or_declined(source: str) -> None:
    found = by_plain(source)
    assert found == DECLINED or found == by_math_verify(source)
