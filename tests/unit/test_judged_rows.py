"""Responses with labels as others publish them: prompts, labels, and which rows cannot be used."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hsstar.data.bad_rows import BadRows
from hsstar.data.judged_rows import JUDGED_LAYOUTS, NO_VERDICT, JudgedRow, read_judged
from hsstar.data.training_rows import CUT_EXAMPLE, Question
from hsstar.domain.errors import BadInputError
from tests.unit.test_training_rows import asked, assistant, file_of, gpt, human, user

TEXTS, SAMPLES, CHATS = "TRL, hsstar", "hsstar, HS-STaR", "LLaMA-Factory (OpenAI), ms-swift"
SHAREGPT, ALPACA = "LLaMA-Factory (ShareGPT)", "LLaMA-Factory (Alpaca)"
ROW = {"prompt": "q", "response": "a", "label": True}
JUDGED: list[tuple[str, dict[str, Any], JudgedRow]] = [
    (TEXTS, ROW, JudgedRow("q", "a", desirable=True)),
    (TEXTS, {"prompt": "q", "completion": "a", "label": False}, JudgedRow("q", "a", desirable=False)),
    (
        TEXTS,
        {"prompt": [user("q")], "completion": [assistant("a")], "label": 1},
        JudgedRow(asked("q"), "a", desirable=True),
    ),
    (
        TEXTS,
        {"prompt": "q", "completion": [assistant("a")], "label": 0},
        JudgedRow(asked("q"), "a", desirable=False),
    ),
    (TEXTS, ROW | {"label": " False "}, JudgedRow("q", "a", desirable=False)),
    (
        TEXTS,
        {"prompt": "q", "response": "a", "kto_tag": False, "finish_reason": "length"},
        JudgedRow("q", "a", desirable=False, cut=True),
    ),
    (
        SAMPLES,
        {"query": "q", "resp": "a", "correct": True, "prompt": "asked: q"},
        JudgedRow(Question("q"), "a", desirable=True),
    ),
    (
        CHATS,
        {"messages": [user("q"), assistant("a"), user("p"), assistant("b")], "label": False},
        JudgedRow(asked("q", "a", "p"), "b", desirable=False),
    ),
    (
        SHAREGPT,
        {"conversations": [human("q"), gpt("a")], "system": "s", "kto_tag": True},
        JudgedRow(asked("q", system="s"), "a", desirable=True),
    ),
    (
        ALPACA,
        {"instruction": "q", "input": "1", "output": "a", "kto_tag": True},
        JudgedRow(asked("q\n1"), "a", desirable=True),
    ),
]


def judged_of(path: Path, **options: Any) -> tuple[list[JudgedRow], dict[str, int]]:
    left_out = Counter[str]()
    return list(read_judged([path], left_out, **options)), dict(left_out)


@pytest.mark.parametrize(("published", "row", "judged"), JUDGED)
def test_each_layout_is_recognised_and_read(
    tmp_path: Path, published: str, row: dict[str, Any], judged: JudgedRow
) -> None:
    assert next(layout.published for layout in JUDGED_LAYOUTS if layout.fits(row)) == published
    assert judged_of(file_of(tmp_path, row), keep_cut=True) == ([judged], {})


def test_every_layout_has_a_case() -> None:
    assert {layout.published for layout in JUDGED_LAYOUTS} == {published for published, *_ in JUDGED}


def test_tables_write_labels_as_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("prompt,response,label\nq,a,True\nq,b,false\nq,c,1\n")
    assert [row.desirable for row in judged_of(path)[0]] == [True, False, True]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (ROW | {"label": "maybe"}, r":2: expected true or false under label, found 'maybe'"),
        (ROW | {"label": 2}, r":2: expected true or false under label, found 2"),
        (ROW | {"label": None}, r":2: expected true or false under label, found null"),
        (ROW | {"label": 0.5}, r":2: expected true or false under label, found a number"),
        (ROW | {"response": None}, r":2: expected text or messages under response, found null"),
        (ROW | {"prompt": 5}, r":2: expected messages under prompt, found a number"),
        ({"prompt": "q", "response": "a"}, r":2: expected `prompt` with .* and `label`; found keys"),
        (["no object"], r":2: expected a JSON object, found a list"),
    ],
)
def test_a_bad_row_is_named_by_its_line_or_left_out(tmp_path: Path, row: Any, message: str) -> None:
    file = file_of(tmp_path, ROW, row, ROW)
    with pytest.raises(BadInputError, match=message):
        judged_of(file)
    bad = BadRows(1)
    assert len(judged_of(file, bad=bad)[0]) == 2
    assert bad.count == 1


def test_a_file_of_other_rows_is_named(tmp_path: Path) -> None:
    file = file_of(tmp_path, {"prompt": "q", "chosen": "a", "rejected": "b"})
    with pytest.raises(BadInputError, match=r"rows.jsonl:1: expected rows with prompt, response and label"):
        judged_of(file)


def test_what_teaches_nothing_is_counted(tmp_path: Path) -> None:
    sample = {"query": "q", "resp": "a", "ref_ans": "5", "correct": True, "finish_reason": "length"}
    path = file_of(tmp_path, sample, sample | {"correct": False}, sample | {"correct": None})
    wrong = JudgedRow(Question("q"), "a", desirable=False, cut=True)
    assert judged_of(path) == ([wrong], {CUT_EXAMPLE: 1, NO_VERDICT: 1})
    assert len(judged_of(path, keep_cut=True)[0]) == 2


def test_what_is_exported_comes_back(tmp_path: Path) -> None:
    from hsstar.data.export_layouts import EXPORT_LAYOUTS

    row = {"query": "1+1=?", "resp": "2", "correct": True, "finish_reason": "stop", "asked": "1+1=?\n"}
    beside = {"prefill": "", "thinking": "auto", "step_rule": "blank-line", "step_spans": None}
    written = [
        json.loads(json.dumps(EXPORT_LAYOUTS["samples"][of](row | beside))) for of in ("hsstar", "trl")
    ]
    found = [judged_of(file_of(tmp_path, one))[0] for one in written]
    assert found == [
        [JudgedRow(Question("1+1=?"), "2", desirable=True)],
        [JudgedRow("1+1=?\n", "2", desirable=True)],
    ]
