"""Files as people have them: packed, encoded and laid out in many ways; what is no answer; rows left out."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from hsstar.data.bad_rows import BadRows
from hsstar.data.columns import Row
from hsstar.data.files import ProblemFiles, read_rows
from hsstar.data.layouts import LAYOUTS, detect_format, read_problem
from hsstar.data.mapping import ColumnMap
from hsstar.data.references import is_sentence, says_nothing, value_of_sentence
from hsstar.data.rows import count_rows
from hsstar.data.sources import files_of, total_rows
from hsstar.domain.errors import BadInputError
from hsstar.domain.problems import Problem, ProblemFormat
from tests.unit.tables import tables

FIELD_FILES = Path(__file__).parent / "field_files"
TABLES = tables("layouts")
LINES = b'{"problem": "1+1?", "answer": "2"}\n{"problem": "\xc3\xa9?", "answer": "3"}\n'
READ = [Problem("1+1?", "2"), Problem("é?", "3")]


def problems_of(*names: Path | str, skip_bad: int = 0) -> list[Problem]:
    return list(ProblemFiles(files_of(names), bad=BadRows(skip_bad)))


@pytest.mark.parametrize(("name", "layout", "references"), TABLES["field files"])
def test_files_from_the_field_are_read(name: str, layout: str, references: list[str]) -> None:
    source = ProblemFiles(files_of([FIELD_FILES / name]))
    assert [problem.reference for problem in source] == references
    assert source.recognised == {ProblemFormat(layout): len(references)}


@pytest.mark.parametrize(("layout", "row", "problem"), TABLES["rows"])
def test_a_published_layout_is_recognised_and_read(layout: str, row: Row, problem: dict[str, Any]) -> None:
    row = {key.strip(): value for key, value in row.items()}
    assert read_problem(row, ProblemFormat.AUTO) == Problem(**problem)
    assert read_problem(row, ProblemFormat(layout)) == Problem(**problem)


def test_every_layout_has_rows_here_or_among_the_problems() -> None:
    shown = {ProblemFormat(name) for name, *_ in (*TABLES["rows"], *tables("problems")["read"])}
    assert shown == {layout.format for layout in LAYOUTS} == {*ProblemFormat} - {ProblemFormat.AUTO}


def test_choices_count_also_where_only_some_rows_have_them(tmp_path: Path) -> None:
    rows = [
        {"question": "q", "options": [], "answer": "5"},
        {"question": "r", "options": [4, 7], "answer": "B"},
    ]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert problems_of(tmp_path / "p.jsonl") == [Problem("q", "5"), Problem("r\n\n(A) 4\n(B) 7", "B")]
    bare = {"question": "q", "choices": ["4", "7"], "answer": 1}
    assert read_problem(bare, ProblemFormat.MATH).reference == "B"


def test_a_missing_answer_written_as_nan_leaves_it_to_the_solution() -> None:
    row = {"problem": "q", "answer": float("nan"), "solution": r"so \boxed{3}"}
    assert read_problem(row, ProblemFormat.MATH).reference == "3"


@pytest.mark.parametrize(("layout", "row", "message"), TABLES["unfit"])
def test_an_unfit_row_is_refused(layout: str, row: Row, message: str) -> None:
    with pytest.raises(BadInputError) as refusal:
        read_problem(row, ProblemFormat(layout))
    assert message in str(refusal.value)


@pytest.mark.parametrize("text", TABLES["nothing"])
def test_what_says_that_there_is_no_answer_is_no_reference_in_any_layout(text: str) -> None:
    assert says_nothing(text)
    rows: list[tuple[ProblemFormat, Row]] = [
        (ProblemFormat.MATH, {"problem": "q", "answer": text, "solution": r"\boxed{1}"}),
        (ProblemFormat.NUMINA, {"problem": "q", "answer": text, "solution": r"\boxed{1}", "source": "s"}),
        (ProblemFormat.VERL, {"prompt": "q", "reward_model": {"ground_truth": text}}),
        (ProblemFormat.OPENMATHREASONING, {"problem": "q", "expected_answer": text}),
        (ProblemFormat.TRL, {"prompt": "q", "answer": text}),
        (ProblemFormat.GSM8K, {"question": "q", "answer": f"w\n#### {text}"}),
        (ProblemFormat.MATH, {"problem": "q", "solution": rf"\boxed{{{text}}}"}),
    ]
    for layout, row in rows:
        assert read_problem(row, layout).reference == "", layout


@pytest.mark.parametrize("text", TABLES["something"])
def test_a_short_answer_is_not_taken_for_none(text: str) -> None:
    assert read_problem({"problem": "q", "answer": text}, ProblemFormat.MATH).reference == text


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_is_none_is_no_reference(tmp_path: Path, number: str) -> None:
    (tmp_path / "p.jsonl").write_text(f'{{"problem": "q", "answer": {number}}}\n')
    assert problems_of(tmp_path / "p.jsonl") == [Problem("q", "")]


@pytest.mark.parametrize(("text", "value"), TABLES["sentences"])
def test_a_sentence_gives_its_one_value(text: str, value: str) -> None:
    assert is_sentence(text)
    assert value_of_sentence(text) == value


@pytest.mark.parametrize("text", TABLES["no sentences"])
def test_a_value_or_a_name_is_no_sentence(text: str) -> None:
    assert not is_sentence(text)


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [
        (".gz", gzip.compress),
        (".bz2", bz2.compress),
        (".xz", lzma.compress),
        (".zst", lambda raw: pyarrow.compress(raw, "zstd", asbytes=True)),
        ("", bytes),
        ("", gzip.compress),
        ("", lambda raw: raw.decode().encode("utf-16")),
        ("", lambda raw: b"\xfe\xff" + raw.decode().encode("utf-16-be")),
        (".gz", lambda raw: gzip.compress(raw.decode().encode("utf-16"))),
        ("", lambda raw: b"\xef\xbb\xbf" + raw),
    ],
)
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.jsonl", LINES),
        ("p.csv", "problem,answer\n1+1?,2\né?,3\n".encode()),
        ("p.csv", "problem;answer\n1+1?;2\né?;3\n".encode()),
        ("p.tsv", "problem\tanswer\n1+1?\t2\né?\t3\n".encode()),
        ("p.json", b"[" + LINES.replace(b"}\n{", b"},{") + b"]"),
    ],
)
def test_text_is_read_however_it_is_packed(
    tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes], name: str, content: bytes
) -> None:
    file = tmp_path / f"{name}{suffix}"
    file.write_bytes(pack(content))
    assert problems_of(file) == READ


def test_a_row_of_conversations_is_no_table_of_columns(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]
    (tmp_path / "p.jsonl").write_text(json.dumps({"chosen": turns, "rejected": turns}) + "\n")
    assert [row for _, row in read_rows(tmp_path / "p.jsonl")] == [{"chosen": turns, "rejected": turns}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.jsonl.gz", gzip.compress(LINES * 50, mtime=0)[:-12], "is cut off or broken"),
        ("p.jsonl.xz", lzma.compress(LINES)[:-4], "is cut off or broken"),
        ("p.jsonl.gz", gzip.compress(LINES, mtime=0)[:20] + bytes(30), r"broken|cannot read"),
        ("p.jsonl", b"\xff\xfe{\x00\xd8", "begins as UTF-16 and is something else"),
        ("p.xlsx", b"PK\x03\x04rest", "is a ZIP archive or an Excel file"),
        ("p.json", b'{"problem": ["a", "b"], "answer": ["1"]}', "has columns of different length"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInputError, match=message) as refusal:
        problems_of(tmp_path / name)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "content",
    [
        '{"problem": ["1+1?", "é?"], "answer": ["2", "3"]}',
        '{"rows": [{"problem": "1+1?", "answer": "2"}, {"problem": "é?", "answer": "3"}]}',
        '[\n  {"problem": "1+1?", "answer": "2"},\n  {"problem": "é?", "answer": "3"}\n]\n',
    ],
)
@pytest.mark.parametrize("name", ["p.json", "p.jsonl"])
def test_one_json_text_may_hold_all_rows(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert problems_of(tmp_path / name) == READ


def test_one_json_text_may_be_one_row(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": r"\boxed{2}"}]}
    (tmp_path / "p.json").write_text(json.dumps(row, indent=1))
    assert [problem.reference for problem in problems_of(tmp_path / "p.json")] == ["2"]


def test_a_long_field_of_a_table_is_read(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(f'problem,answer,solution\n1+1?,2,"{"long, " * 60_000}"\n')
    assert len(problems_of(tmp_path / "p.csv")[0].solution or "") == 360_000


def test_folders_and_patterns_are_their_files_in_natural_order(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        (tmp_path / "deep").mkdir(exist_ok=True)
        row = {"problem": f"{number}?", "answer": str(number)}
        (tmp_path / "deep" / f"{number}.json").write_text(json.dumps(row))
    (tmp_path / "README.md").write_text("no rows")
    (tmp_path / ".hidden.json").write_text("{")
    (tmp_path / "dataset_info.json").write_text("{")
    for names in ([tmp_path], [tmp_path / "deep"], [tmp_path / "d*" / "*.json"]):
        assert [problem.reference for problem in problems_of(*names)] == ["1", "9", "10"]
    several = [tmp_path / "deep" / "9.json", tmp_path]
    assert [problem.reference for problem in problems_of(*several)] == ["9", "1", "10"]
    for nothing, message in (
        (tmp_path / "*.csv", "no file matches"),
        (tmp_path / "none", "does not exist"),
        (" ", "the name of a file is empty"),
    ):
        with pytest.raises(BadInputError, match=message):
            problems_of(nothing)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInputError, match=r"empty holds no file of rows \(\.jsonl"):
        problems_of(tmp_path / "empty")


def test_files_of_one_dataset_may_have_different_layouts() -> None:
    source = ProblemFiles(files_of([FIELD_FILES / "dapo.jsonl", FIELD_FILES / "metamath.jsonl"]))
    assert len(list(source)) == 6
    assert source.recognised == {ProblemFormat.VERL: 3, ProblemFormat.METAMATH: 3}


@pytest.mark.parametrize(("options", "row", "problem"), TABLES["mapped"])
def test_columns_are_mapped_by_paths(
    tmp_path: Path, options: Sequence[str], row: Row, problem: dict[str, Any]
) -> None:
    (tmp_path / "p.jsonl").write_text(json.dumps(row))
    mapping = ColumnMap.parse(options, ("statement",), ("reference", "solution"))
    assert list(ProblemFiles([tmp_path / "p.jsonl"], mapping=mapping)) == [Problem(**problem)]


@pytest.mark.parametrize(("options", "message"), TABLES["unfit maps"])
def test_an_unfit_map_is_refused(options: Sequence[str], message: str) -> None:
    with pytest.raises(BadInputError) as refusal:
        ColumnMap.parse(options, ("statement",), ("reference", "solution"))
    assert message in str(refusal.value)


def test_a_row_without_a_mapped_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"q": "1+1?", "a": ["2"]}\n{"q": "1+2?", "a": []}\n')
    files = ProblemFiles([tmp_path / "p.jsonl"], mapping=ColumnMap({"statement": "q", "reference": "a.0"}))
    with pytest.raises(BadInputError, match=r"p\.jsonl:2: no value under a\.0 for reference, found keys a"):
        list(files)


@pytest.mark.parametrize(("name", "place"), [("blank_statement.jsonl", 31), ("messages_late_bad.jsonl", 26)])
def test_a_bad_row_from_the_field_is_refused_or_left_out(name: str, place: int) -> None:
    with pytest.raises(BadInputError, match=rf"{name}:{place}: expected"):
        problems_of(FIELD_FILES / name)
    source = ProblemFiles([FIELD_FILES / name], bad=BadRows(1))
    whole = (FIELD_FILES / name).read_text().splitlines()
    assert len(list(source)) == len(whole) - 1
    assert source.bad.count == 1
    assert f"{name}:{place}: expected" in source.bad.messages[0]


@pytest.mark.parametrize(
    ("name", "content", "places"),
    [
        ("p.jsonl", LINES + b'{"problem": \n\xff\n[1]\n{"problem": "", "answer": "1"}\n', [3, 4, 5, 6]),
        ("p.csv", "problem,answer\n1+1?,2\n1,2,3\n,1\né?,3\n".encode(), [3, 4]),
        ("p.csv", b"problem,answer\n1+1?,2\n" + b"\xff,1\n" + "é?,3\n".encode(), [3]),
        ("p.json", b"[" + LINES.replace(b"}\n", b"},") + b'1, {"problem": 5, "answer": "1"}]', [3, 4]),
    ],
)
def test_bad_rows_are_left_out_counted_and_named(
    tmp_path: Path, name: str, content: bytes, places: list[int]
) -> None:
    (tmp_path / name).write_bytes(content)
    source = ProblemFiles([tmp_path / name], bad=BadRows(len(places)))
    assert list(source) == READ
    assert [message.partition(f"{name}:")[2].partition(":")[0] for message in source.bad.messages] == list(
        map(str, places)
    )
    with pytest.raises(BadInputError, match=rf"{name}:{places[0]}: "):
        problems_of(tmp_path / name)
    if len(places) > 1:
        with pytest.raises(BadInputError, match="; more than 1 rows cannot be used"):
            problems_of(tmp_path / name, skip_bad=1)


def test_a_file_that_is_missing_is_never_left_out(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="does not exist"):
        problems_of(tmp_path / "none.jsonl", skip_bad=1_000)


def test_bad_rows_do_not_decide_the_layout(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_bytes(b'{"x": 1}\n' + LINES)
    assert problems_of(tmp_path / "p.jsonl", skip_bad=1) == READ
    with pytest.raises(BadInputError, match="found keys x"):
        detect_format([{"x": 1}], tolerant=True)


def test_rows_are_counted_before_they_are_read_where_that_is_quick() -> None:
    counted = [FIELD_FILES / "dapo.jsonl", FIELD_FILES / "verl_gsm8k.parquet"]
    assert [count_rows(file) for file in counted] == [3, 3]
    assert total_rows(counted) == 6
    assert total_rows([*counted, FIELD_FILES / "data.jsonl.gz"]) is None


def test_a_pointer_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(BadInputError, match=r"rows\.jsonl is a pointer of Git LFS, not the file itself"):
        problems_of(file)


def test_as_many_problems_are_counted_as_were_read(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(LINES)
    source = ProblemFiles([tmp_path / "rows.jsonl"])
    assert next(iter(source)) == READ[0]
    assert source.recognised == {ProblemFormat.MATH: 1}
