"""Samples as others publish them: each layout is read, and what is none is refused with the way out."""

import json
from pathlib import Path
from typing import Any

import pytest

from hsstar.data.bad_rows import BadRows
from hsstar.data.mapping import ColumnMap
from hsstar.data.sample_layouts import SAMPLE_LAYOUTS, detect_samples
from hsstar.data.samples import SampleFiles, digest_of
from hsstar.domain.errors import BadInputError
from hsstar.domain.problems import ImportedResponse, ImportedSamples, Problem

CASES = Path(__file__).parent / "field_files"

BODY = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}]}
LEGACY = {"choices": [{"text": "a", "finish_reason": "length"}, {"text": "b", "finish_reason": "stop"}]}
THINKING = {"choices": [{"message": {"content": "a", "reasoning_content": "hm"}, "finish_reason": "stop"}]}
CUT_THINKING = {"choices": [{"message": {"content": None, "reasoning": "hm"}, "finish_reason": "length"}]}


def request(name: str, body: Any, error: Any = None) -> dict[str, Any]:
    return {"id": "vllm-1", "custom_id": name, "response": {"status_code": 200, "body": body}, "error": error}


def named(name: str, *responses: ImportedResponse) -> ImportedSamples:
    return ImportedSamples(Problem("", "", source_id=name), responses)


CUT = ImportedResponse("a", "length")
ROWS: list[tuple[str, dict[str, Any], ImportedSamples]] = [
    ("vLLM, OpenAI: batch output", request("7", BODY), named("7", ImportedResponse("a", "stop"))),
    (
        "vLLM, OpenAI: batch output",
        request("8", LEGACY),
        named("8", CUT, ImportedResponse("b", "stop")),
    ),
    (
        "vLLM, OpenAI: batch output",
        request("9", THINKING),
        named("9", ImportedResponse("<think>\nhm\n</think>\n\na", "stop")),
    ),
    (
        "vLLM, OpenAI: batch output",
        request("10", CUT_THINKING),
        named("10", ImportedResponse("<think>\nhm", "length")),
    ),
    (
        "hsstar",
        {"problem": "q", "answer": "5", "responses": ["a", {"response": "a", "finish_reason": "length"}]},
        ImportedSamples(Problem("q", "5"), (ImportedResponse("a"), CUT)),
    ),
    (
        "hsstar",
        {"question": "q", "responses": ["a"]},  # the dataset tells the reference
        ImportedSamples(Problem("q", ""), (ImportedResponse("a"),)),
    ),
    (
        "RLHFlow",
        {"prompt": "q", "gt": "5", "responses": ["a", "b"], "rewards": [1, 0]},
        ImportedSamples(Problem("q", "5"), (ImportedResponse("a"), ImportedResponse("b"))),
    ),
    (
        "RLHFlow",
        {"prompt": [{"role": "user", "content": "q"}], "gt": 5.0, "responses": ["a"]},
        ImportedSamples(Problem("q", "5"), (ImportedResponse("a"),)),
    ),
    (
        "OpenR1-Math",
        {"problem": "q", "answer": "5", "generations": ["a", "b"], "is_reasoning_complete": [False, True]},
        ImportedSamples(Problem("q", "5"), (CUT, ImportedResponse("b"))),
    ),
    (
        "OpenR1-Math",
        {"problem": "q", "answer": "5", "generations": ["a"], "finish_reasons": ["length"], "uuid": "u1"},
        ImportedSamples(Problem("q", "5", source_id="u1"), (CUT,)),
    ),
    (
        "HS-STaR",
        {"query": "q", "resp": "a", "ref_ans": "5", "finish_reason": "length"},
        ImportedSamples(Problem("q", "5"), (CUT,)),
    ),
    (
        "DART-Math",
        {"query": "q", "response": "a", "ref_ans": "5", "temperature": 1.6},
        ImportedSamples(Problem("q", "5"), (ImportedResponse("a"),)),
    ),
    (
        "DART-Math",
        {"query": "q", "response": "a"},
        ImportedSamples(Problem("q", ""), (ImportedResponse("a"),)),
    ),
    (
        "NeMo-Skills",
        {"problem": "q", "expected_answer": 5, "generation": "a", "finish_reason": "length"},
        ImportedSamples(Problem("q", "5"), (CUT,)),
    ),
    (
        "NeMo-Skills",
        {"question": "q", "expected_answer": "$5$", "generation": "a", "id": 3},
        ImportedSamples(Problem("q", "5", source_id="3"), (ImportedResponse("a"),)),
    ),
    (
        "OpenMathReasoning",
        {"problem": "q", "expected_answer": "5", "generated_solution": "a"},
        ImportedSamples(Problem("q", "5"), (ImportedResponse("a"),)),
    ),
    (
        "OpenRLHF",
        {"input": "q", "output": "a", "reward": 0.5},
        ImportedSamples(Problem("q", ""), (ImportedResponse("a"),)),
    ),
    (
        "OpenRLHF",
        {"input": "q", "output": "a", "label": "5"},
        ImportedSamples(Problem("q", "5"), (ImportedResponse("a"),)),
    ),
]


@pytest.mark.parametrize(("published", "row", "samples"), ROWS)
def test_a_published_layout_is_read(published: str, row: dict[str, Any], samples: ImportedSamples) -> None:
    layout = detect_samples([row])
    assert (layout.published, layout.read(row)) == (published, samples)


def test_every_layout_is_tried() -> None:
    tried = {published for published, _, _ in ROWS}
    assert {layout.published for layout in SAMPLE_LAYOUTS} - tried == {"hsstar, and rows read by `--map`"}


def lines(folder: Path, *rows: Any, name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


UNFIT: list[tuple[dict[str, Any], str]] = [
    (request("7", None, "overloaded"), r"rows\.jsonl:2: the request 7 has no response: overloaded"),
    (request("7", {"error": "no such model"}), r":2: the request 7 has no response: no such model"),
    (request("7", {"choices": [3]}), r":2: expected choices as objects, found a number"),
    (request("7", {"choices": [{"message": {"content": None}}]}), r":2: expected a response as text"),
]


@pytest.mark.parametrize(("row", "message"), UNFIT)
def test_a_request_without_response_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        list(SampleFiles([lines(tmp_path, request("6", BODY), row)]))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"text": "a"},
            r"rows\.jsonl:1: expected rows with a problem and response.*found keys text; .*--map",
        ),
        ({"problem": "q", "answer": "5", "responses": "a"}, "expected a list under responses, found text"),
        ({"problem": "q", "expected_answer": "5", "generation": 7}, "expected a response as text"),
        ({"problem": "q", "answer": "5", "generations": [None]}, "expected a response as text"),
        ({"query": " ", "resp": "a", "ref_ans": "5"}, "expected a statement under query, found empty text"),
    ],
)
def test_what_is_no_sample_is_refused(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        list(SampleFiles([lines(tmp_path, row)]))


def test_columns_of_any_other_layout_are_mapped(tmp_path: Path) -> None:
    row = {"ask": {"q": "1+1"}, "key": 2, "out": [{"text": "\\boxed{2}", "why": "length"}]}
    options = ("statement=ask.q", "reference=key", "response=out.0.text", "finish_reason=out.0.why")
    mapping = ColumnMap.parse(options, ("statement",), ("response", "responses"))
    (samples,) = SampleFiles([lines(tmp_path, row, row)], mapping).by_problem()
    assert samples.problem == Problem("1+1", "2")
    assert samples.responses == (ImportedResponse("\\boxed{2}", "length"),) * 2
    several = ColumnMap.parse(("statement=ask.q", "reference=key", "responses=texts"))
    rows = lines(tmp_path, row | {"texts": ["a", "b"]})
    (samples,) = SampleFiles([rows], several).by_problem()
    assert [response.text for response in samples.responses] == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "problems", "responses"),
    [
        ("samp_nemo", {"3*2*2=?": "12", "8*3*8=?": "192"}, 8),
        ("samp_rlhflow", {"3*2*2=?": "12", "8*3*8=?": "192"}, 8),
        ("samp_conflict", {"3*2*2=?": "12"}, 2),
        ("samp_truncated_chosen", {"3*2*2=?": "12"}, 2),
    ],
)
def test_the_cases_are_read(name: str, problems: dict[str, str], responses: int) -> None:
    samples = list(SampleFiles([CASES / f"{name}.jsonl"]).by_problem())
    assert {entry.problem.statement: entry.problem.reference for entry in samples} == problems
    assert sum(len(entry.responses) for entry in samples) == responses


def test_generations_of_openr1_are_responses() -> None:
    first, *_ = SampleFiles([CASES / "openr1.jsonl"]).by_problem()
    assert (first.problem.statement, first.problem.reference) == ("What is 2+3?", "5")
    assert [response.text.partition("\\boxed")[2] for response in first.responses] == ["{5}", "{99}"]


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    rows = [{"query": "q", "ref_ans": "5", "resp": text} for text in "ab"]
    together = {"problem": "q", "answer": "5", "responses": ["b", "a"]}
    files = [
        lines(tmp_path, *rows),
        lines(tmp_path, *rows[::-1], name="other.jsonl"),
        lines(tmp_path, together, name="together.jsonl"),
        lines(tmp_path, rows[0], name="part.jsonl"),
        lines(tmp_path, *rows, rows[0], name="more.jsonl"),
    ]
    digests = (digest_of(row.samples for row in SampleFiles([file])) for file in files)
    first, second, third, *others = digests
    assert first == second == third
    assert len({first, *others}) == 3


GOOD = {"query": "q", "ref_ans": "5", "resp": "a"}


@pytest.mark.parametrize(
    ("rows", "line", "message"),
    [
        ((GOOD, GOOD | {"resp": 7}), 2, "expected a response as text"),
        ((GOOD, GOOD | {"query": ""}), 2, "found empty text"),
        ((GOOD, ["no object"]), 2, "expected a JSON object, found a list"),
        (({"resp": "a"}, GOOD), 1, "expected query, found keys resp"),
        ((*[GOOD] * 20, {"query": "q"}), 21, "expected resp, found keys query"),
        ((request("6", BODY), request("7", None, "overloaded")), 2, "the request 7 has no response"),
    ],
)
def test_one_bad_row_ends_the_reading_or_is_left_out_and_named(
    tmp_path: Path, rows: tuple[Any, ...], line: int, message: str
) -> None:
    file = lines(tmp_path, *rows)
    with pytest.raises(BadInputError, match=r"rows\.jsonl:"):
        list(SampleFiles([file]))
    files = SampleFiles([file], bad=BadRows(1))
    assert {row.line for row in files} == {*range(1, len(rows) + 1)} - {line}
    assert files.bad.count == 1
    assert f"rows.jsonl:{line}: " in files.bad.messages[0]
    assert message in files.bad.messages[0]


def test_a_row_that_lacks_a_mapped_column_is_left_out(tmp_path: Path) -> None:
    mapping = ColumnMap.parse(("statement=q", "response=out.0"))
    rows: list[Any] = [{"q": "1+1", "out": []}, *({"q": "1+1", "out": [text]} for text in "ab")]
    files = SampleFiles([lines(tmp_path, *rows)], mapping, BadRows(5))
    (samples,) = files.by_problem()
    assert [response.text for response in samples.responses] == ["a", "b"]
    assert files.bad.messages[0].endswith(
        "rows.jsonl:1: no value under out.0 for response, found keys out, q"
    )


def test_several_files_are_read_as_one(tmp_path: Path) -> None:
    rows = [GOOD, GOOD | {"resp": "b"}, {"problem": "p", "answer": "6", "responses": ["c", "d"]}]
    files = SampleFiles([lines(tmp_path, row, name=f"{n}.jsonl") for n, row in enumerate(rows)])
    assert files.name == "0.jsonl and 2 more"
    texts = {entry.problem.statement: [one.text for one in entry.responses] for entry in files.by_problem()}
    assert texts == {"q": ["a", "b"], "p": ["c", "d"]}
