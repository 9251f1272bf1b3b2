"""Data files in and out, whole or absent, and what a row has to hold; what is refused, and how."""

import json
import os
import resource
import sys
from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow.parquet
import pytest

from hsstar.data.columns import Row
from hsstar.data.files import (
    read_json_lines,
    read_problems,
    read_rows,
)
from hsstar.data.layouts import detect_format, read_problem
from hsstar.data.sample_layouts import group_samples, read_samples
from hsstar.data.samples import SampleFiles
from hsstar.data.writing import ExportFormat, write_rows
from hsstar.domain.errors import BadInputError, MissingDependencyError
from hsstar.domain.problems import ImportedResponse, ImportedSamples, Problem, ProblemFormat
from tests.unit.tables import tables

ROWS = [{"problem": "1+1?", "answer": "2"}, {"problem": "é ∑", "answer": "0.5"}]
FORMATS: list[ExportFormat] = ["jsonl", "parquet"]


def file_with(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def json_lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", json_lines(ROWS)),
        ("rows.jsonl", json_lines(ROWS).removesuffix(b"\n")),
        ("rows.jsonl", b"\xef\xbb\xbf" + json_lines(ROWS).replace(b"\n", b"\r\n\r\n")),
        ("rows.json", json.dumps(ROWS, indent=2).encode()),
        ("rows.json", json_lines(ROWS)),
        ("rows.unknown", json_lines(ROWS)),
        ("rows.csv", 'problem,answer\n1+1?,2\n"é ∑",0.5\n'.encode()),
    ],
)
def test_rows_are_read_from_text_files(tmp_path: Path, name: str, content: bytes) -> None:
    assert [row for _, row in read_rows(file_with(tmp_path, name, content))] == ROWS


def test_rows_carry_their_line_or_place_and_come_before_a_broken_one(tmp_path: Path) -> None:
    assert next(read_rows(file_with(tmp_path, "rows.jsonl", b'{"a": 1}\nbroken\n'))) == (1, {"a": 1})
    for name, content, places in (
        ("rows.jsonl", b'{"a": "1"}\n\n{"a": "2"}\n', (1, 3)),
        ("rows.json", b'\n[{"a": "1"}, {"a": "2"}]', (1, 2)),
        ("rows.csv", b"a\n1\n\n2\n", (2, 4)),
    ):
        rows = list(read_rows(file_with(tmp_path, name, content)))
        assert rows == list(zip(places, ({"a": "1"}, {"a": "2"}), strict=True))
    write_rows(tmp_path / "rows.parquet", [{"a": "1"}, {"a": "2"}], "parquet")
    assert list(read_rows(tmp_path / "rows.parquet")) == [(1, {"a": "1"}), (2, {"a": "2"})]


def test_json_lines_are_read_under_any_suffix_and_from_a_stream(tmp_path: Path) -> None:
    path = file_with(tmp_path, "rows.csv", json_lines(ROWS))
    with path.open("rb") as stream:
        assert list(read_json_lines(path)) == list(read_json_lines(stream)) == list(enumerate(ROWS, start=1))
        with pytest.raises(BadInputError, match=r"rows\.csv holds no rows"):
            list(read_json_lines(stream))


TOO_DEEP, TOO_LONG = "[" * 100_000, '{"a": ' + "1" * 5_000 + "}"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        *tables("files")["refused"],
        pytest.param("x.jsonl", TOO_DEEP, ":1: cannot read the JSON", id="too deep"),
        pytest.param("x.jsonl", TOO_LONG, ":1: cannot read the JSON", id="too long a number"),
    ],
)
def test_a_broken_file_is_refused_in_one_line_with_its_place(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(BadInputError) as refusal:
        list(read_rows(path))
    assert message in str(refusal.value)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_locked_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = file_with(tmp_path, "locked.jsonl", b"{}")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root, who may run the tests, reads every file
    with pytest.raises(BadInputError, match=r"cannot read .*locked\.jsonl: Permission denied"):
        list(read_rows(locked))


def test_a_row_that_is_no_problem_is_named_by_file_and_line(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [*ROWS, {"problem": "q", "answer": None}, {"problem": "t"}]
    path = file_with(tmp_path, "rows.jsonl", json_lines(rows))
    with pytest.raises(
        BadInputError, match=r"rows\.jsonl:4: expected answer, final_answer, ref_ans or solution"
    ):
        list(read_problems(path, ProblemFormat.MATH))
    with pytest.raises(BadInputError, match=r"rows\.jsonl:1: expected .* found keys answer, problem"):
        list(read_problems(path))


def test_imported_samples_are_read_in_both_layouts(tmp_path: Path) -> None:
    by_problem: list[dict[str, Any]] = [{"problem": "q", "answer": "5", "responses": ["a", "b"]}]
    by_sample: list[dict[str, Any]] = [{"query": "q", "ref_ans": "5", "resp": text} for text in "ab"]
    files = (file_with(tmp_path, "a.jsonl", json_lines(rows)) for rows in (by_problem, by_sample))
    first, second = (list(SampleFiles([file]).by_problem()) for file in files)
    assert first == second
    broken = file_with(tmp_path, "c.jsonl", json_lines([{"problem": "q", "answer": "5"}]))
    with pytest.raises(BadInputError, match=r"c\.jsonl:1: expected rows with a problem and response"):
        list(SampleFiles([broken]))


@pytest.mark.parametrize("file_format", FORMATS)
def test_what_is_written_can_be_read_back(tmp_path: Path, file_format: ExportFormat) -> None:
    rows = [{"number": number, "text": f"é {number}", "steps": [0.5, 1.0]} for number in range(2_500)]
    path = tmp_path / f"out.{file_format}"
    assert write_rows(path, iter(rows), file_format) == 2_500
    assert [row for _, row in read_rows(path)] == rows
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("file_format", FORMATS)
def test_rows_go_to_a_stream_as_well(tmp_path: Path, file_format: ExportFormat) -> None:
    path = tmp_path / f"out.{file_format}"
    with path.open("wb") as stream:
        assert write_rows(stream, ROWS, file_format) == 2
        assert [row for _, row in read_rows(path)] == ROWS  # nothing is left in the stream's buffer


def test_values_that_json_does_not_know_become_text_or_numbers(tmp_path: Path) -> None:
    values = {"at": datetime(2026, 1, 2, 3, 4), "day": date(2026, 1, 2), "hour": time(5, 6)}
    write_rows(path := tmp_path / "out.jsonl", [values | {"half": Decimal("0.5"), "id": UUID(int=7)}])
    written = {"at": "2026-01-02T03:04:00", "day": "2026-01-02", "hour": "05:06:00", "half": 0.5}
    assert json.loads(path.read_text()) == written | {"id": "00000000-0000-0000-0000-000000000007"}


def test_no_rows_are_an_empty_file(tmp_path: Path) -> None:
    assert write_rows(tmp_path / "out.jsonl", []) == write_rows(tmp_path / "out.parquet", [], "parquet") == 0
    assert (tmp_path / "out.jsonl").read_bytes() == b""
    assert pyarrow.parquet.read_table(tmp_path / "out.parquet").shape == (0, 0)


def test_a_parquet_column_takes_the_type_that_fits_all_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    rows: list[dict[str, Any]] = [{"reward": None, "tokens": 1}] * 1_500
    write_rows(path, [*rows, {"reward": 0.5, "tokens": 1.5, "verdict": "correct"}], "parquet")
    table = pyarrow.parquet.read_table(path)
    assert table.num_rows == 1_501
    assert table.slice(1_500).to_pylist() == [{"reward": 0.5, "tokens": 1.5, "verdict": "correct"}]
    with pytest.raises(BadInputError, match="do not fit one Parquet table"):
        write_rows(path, [*rows, {"reward": None, "tokens": "text"}], "parquet")
    assert pyarrow.parquet.read_table(path).num_rows == 1_501


@pytest.mark.parametrize("file_format", FORMATS)
def test_an_export_that_breaks_off_leaves_the_old_file(tmp_path: Path, file_format: ExportFormat) -> None:
    path = file_with(tmp_path, "out", b"old")

    def breaking_off() -> Iterator[dict[str, Any]]:
        yield from ROWS * 1_000
        raise RuntimeError("the source broke off")

    with pytest.raises(RuntimeError, match="broke off"):
        write_rows(path, breaking_off(), file_format)
    assert path.read_bytes() == b"old"
    assert [*tmp_path.iterdir()] == [path]


def test_a_stream_gets_its_lines_batch_by_batch_and_keeps_those_before_an_error(tmp_path: Path) -> None:
    path = tmp_path / "out"

    def breaking_off() -> Iterator[dict[str, Any]]:
        yield from ROWS * 500
        assert len(path.read_bytes().splitlines()) == 1_000
        yield ROWS[0]
        raise RuntimeError("the source broke off")

    with path.open("wb") as stream, pytest.raises(RuntimeError, match="broke off"):
        write_rows(stream, breaking_off())
    assert [row for _, row in read_json_lines(path)] == [*ROWS * 500, ROWS[0]]


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Lets no file grow beyond 64 KiB, which fails as a full disk does: in the middle of a write."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_full_disk_leaves_no_half_file(tmp_path: Path, full_disk: None, file_format: ExportFormat) -> None:
    rows = ({"text": os.urandom(200).hex()} for _ in range(10_000))
    with pytest.raises(BadInputError, match=r"cannot write .*out: File too large"):
        write_rows(tmp_path / "out", rows, file_format)
    assert [*tmp_path.iterdir()] == []


def test_a_target_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="No such file or directory"):
        write_rows(tmp_path / "none" / "out.jsonl", ROWS)
    with pytest.raises(BadInputError, match="is a folder"):
        write_rows(tmp_path, ROWS)
    with pytest.raises(BadInputError, match="cannot write /dev/full: No space left on device"):
        write_rows(Path("/dev/full"), ROWS)
    message = "cannot write the output: No space left"
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(BadInputError, match=message):
        write_rows(full, ROWS)


def test_a_device_is_written_to_and_not_replaced() -> None:
    write_rows(Path("/dev/null"), ROWS)
    assert Path("/dev/null").is_char_device()


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=r"hsstar\[parquet\]"):
        write_rows(tmp_path / "out.parquet", ROWS, "parquet")
    with pytest.raises(MissingDependencyError, match=r"hsstar\[parquet\]"):
        list(read_rows(file_with(tmp_path, "in.parquet", b"PAR1")))


PROBLEMS = tables("problems")


@pytest.mark.parametrize(("problem_format", "row", "problem"), PROBLEMS["read"])
def test_a_problem_is_what_its_row_says(problem_format: str, row: Row, problem: dict[str, Any]) -> None:
    expected = Problem(**problem)
    assert read_problem(row, ProblemFormat(problem_format)) == expected
    assert read_problem(row, ProblemFormat.AUTO) == expected


def test_a_format_that_is_told_need_not_show() -> None:
    row = {"question": "q", "ref_ans": "5", "data_topic": "t"}
    assert read_problem(row, ProblemFormat.MATH) == Problem("q", "5", subject="t")


def test_problems_with_equal_statements_are_duplicates() -> None:
    assert Problem(" What  is\n1 +1? ", "2").key == Problem("What is 1 +1?", "3").key
    assert len({Problem(statement, "2").key for statement in ("What is 1 +1?", "What is 1+1?", "1+1?")}) == 3


def test_the_format_shows_in_the_first_rows() -> None:
    assert [[row, detect_format([row, row])] for row, _ in PROBLEMS["detected"]] == PROBLEMS["detected"]


def test_one_row_of_another_format_decides() -> None:
    rows = [{"question": "q", "answer": "#### 18"}, {"question": "q", "answer": "18"}]
    assert detect_format(rows) is detect_format(rows[::-1]) is ProblemFormat.MATH


@pytest.mark.parametrize(("problem_format", "row", "message"), PROBLEMS["unfit"])
def test_an_unfit_row_is_refused_in_one_line_saying_why(problem_format: str, row: Row, message: str) -> None:
    with pytest.raises(BadInputError) as refusal:
        read_problem(row, ProblemFormat(problem_format))
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("row", PROBLEMS["samples"])
def test_imported_samples_come_with_their_problem(row: Row) -> None:
    responses = (ImportedResponse("a"), ImportedResponse("b"))
    assert read_samples(row) == ImportedSamples(Problem("q", "5"), responses)


def test_published_samples_of_one_query_are_put_together_in_order() -> None:
    rows: list[Row] = [
        {"query": "q", "ref_ans": "5", "resp": "a", "finish_reason": "length", "cumulative_logprob": -3.5},
        {"query": "other", "ref_ans": "6", "resp": "c"},
        {"query": "q", "ref_ans": "5", "resp": "b", "finish_reason": 1, "cumulative_logprob": "low"},
    ]
    assert list(group_samples(map(read_samples, rows))) == [
        ImportedSamples(Problem("q", "5"), (ImportedResponse("a", "length", -3.5), ImportedResponse("b"))),
        ImportedSamples(Problem("other", "6"), (ImportedResponse("c"),)),
    ]


@pytest.mark.parametrize(("row", "message"), PROBLEMS["unfit samples"])
def test_unfit_samples_are_refused(row: Row, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        read_samples(row)
