"""Rows out in each format, and rows of each layout of exports."""

import csv
import gzip
import json
import math
from pathlib import Path
from typing import Any, get_args

import pytest

from hsstar.data.conversations import Turn
from hsstar.data.export_card import export_card
from hsstar.data.export_layouts import EXPORT_LAYOUTS, Exported
from hsstar.data.files import read_problems, read_rows
from hsstar.data.sample_layouts import read_samples
from hsstar.data.training_rows import EXAMPLE_LAYOUTS, PAIR_LAYOUTS, Conversation
from hsstar.data.writing import ExportFormat, format_of, write_rows
from hsstar.domain.errors import BadInputError
from hsstar.domain.problems import ImportedResponse, Problem
from hsstar.domain.prompts import PromptFormat, chat_message

NAN, INFINITY = float("nan"), -math.inf
ROWS: list[dict[str, Any]] = [
    {"a": 1.5, "b": [NAN, 1], "c": {"d": INFINITY}, "e": NAN},
    {"a": NAN, "b": None, "c": {"d": 2.0}, "e": 1.0},
]
PLAIN: list[dict[str, Any]] = [
    {"a": 1.5, "b": [None, 1], "c": {"d": None}, "e": None},
    {"a": None, "b": None, "c": {"d": 2.0}, "e": 1.0},
]


@pytest.mark.parametrize("name", ["x.jsonl", "x.ndjson", "x.json", "x.parquet", "x.jsonl.gz", "x.json.gz"])
def test_nan_is_null_in_every_format(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert write_rows(path, ROWS, format_of(path)) == 2
    assert [row for _, row in read_rows(path)] == PLAIN
    if path.suffix != ".parquet":
        raw = path.read_bytes()
        text = gzip.decompress(raw) if path.suffix == ".gz" else raw
        assert b"NaN" not in text and b"Infinity" not in text


def test_a_json_file_is_one_list(tmp_path: Path) -> None:
    for rows in ([], PLAIN[:1], PLAIN):
        write_rows(tmp_path / "x.json", rows, "json")
        assert json.loads((tmp_path / "x.json").read_text()) == rows


def test_a_table_has_a_heading_and_lists_as_json(tmp_path: Path) -> None:
    write_rows(tmp_path / "x.csv", [{"a": "1,\n2", "b": [1, NAN], "c": True, "d": None}], "csv")
    (row,) = csv.DictReader((tmp_path / "x.csv").open(newline=""))
    assert row == {"a": "1,\n2", "b": "[1, null]", "c": "true", "d": ""}
    with pytest.raises(BadInputError, match="the rows do not fit one CSV table"):
        write_rows(tmp_path / "y.csv", [{"a": 1}, {"b": 2}], "csv")
    assert not (tmp_path / "y.csv").exists()


def test_the_same_rows_are_the_same_bytes_when_compressed(tmp_path: Path) -> None:
    files = [tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl.gz"]
    for file in files:
        write_rows(file, PLAIN)
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize(
    ("name", "wish", "expected"),
    [("a.JSONL", None, "jsonl"), ("a.csv.gz", None, "csv"), ("a", "csv", "csv"), ("a.json", "json", "json")],
)
def test_the_ending_says_the_format(name: str, wish: ExportFormat | None, expected: str) -> None:
    assert format_of(Path(name), wish) == expected


@pytest.mark.parametrize(
    ("name", "wish", "message"),
    [
        ("a.txt", None, "a.txt: its ending says no format .*give --format"),
        ("a", None, "its ending says no format"),
        ("a.csv", "json", "--format json does not go with a file named a.csv"),
        ("a.parquet.gz", None, "Parquet is compressed by itself"),
    ],
)
def test_an_ending_that_says_nothing_or_another_format_is_refused(
    name: str, wish: ExportFormat | None, message: str
) -> None:
    with pytest.raises(BadInputError, match=message):
        format_of(Path(name), wish)


PAIR: dict[str, Any] = {
    "prompt": "1+1=?\n", "iteration": 0, "problem": "k", "query": "1+1=?", "chosen": "c", "rejected": "r",
    "chosen_slot": 0, "rejected_slot": 1, "chosen_reward": 0.5, "rejected_reward": None,
    "chosen_finish_reason": "stop", "rejected_finish_reason": "length",
}  # fmt: skip
SAMPLE: dict[str, Any] = {
    "query": "1+1=?", "resp": "one\n\ntwo\n\nthree", "ref_ans": "2", "ans": "2", "correct": True,
    "reward": [0.75, 0.25], "finish_reason": "stop", "slot": 3,
}  # fmt: skip
PROBLEM: dict[str, Any] = {
    "problem": "1+1=?", "answer": "2", "solution": None, "subject": "sums", "level": "3", "id": None,
    "readable": True, "key": "abc", "dataset": "train",
}  # fmt: skip


ASKED = {"bare": "1+1=?\n", "chat": PromptFormat("chat").conversation("1+1=?")}


def laid_out(exported: Exported, name: str, row: dict[str, Any], template: str = "bare") -> Any:
    return EXPORT_LAYOUTS[exported][name](row | {"asked": ASKED[template], "prefill": "", "thinking": "auto"})


def test_pairs_go_round(tmp_path: Path) -> None:
    """What is exported is what is read, in each layout and for each kind of prompt."""
    for name in EXPORT_LAYOUTS["pairs"]:
        for template in ("bare", "chat"):
            row = laid_out("pairs", name, PAIR, template)
            layout = next(layout for layout in PAIR_LAYOUTS if layout.fits(row))
            pair = layout.read(row)
            assert pair is not None
            asked = chat_message("1+1=?") if template == "chat" else "1+1=?"
            is_chat = name == "sharegpt" or (name, template) == ("trl", "chat")
            assert pair.prompt == (Conversation((Turn("user", asked),)) if is_chat else "1+1=?\n")
            assert (pair.chosen, pair.rejected) == ("c", "r")
            assert (pair.chosen_cut, pair.rejected_cut) == (False, name != "hs-star")
    assert laid_out("pairs", "hsstar", PAIR) == {key: PAIR[key] for key in PAIR if key != "query"}


def test_samples_go_round() -> None:
    for name in ("hsstar", "hs-star"):
        samples = read_samples(laid_out("samples", name, SAMPLE))
        assert (samples.problem.statement, samples.problem.reference) == ("1+1=?", "2")
        assert samples.responses[0].text == SAMPLE["resp"]
    for name in ("verl", "sharegpt"):
        for template in ("bare", "chat"):
            row = laid_out("samples", name, SAMPLE | {"finish_reason": "length"}, template)
            (example,) = next(layout for layout in EXAMPLE_LAYOUTS if layout.fits(row)).read(row)
            asked = chat_message("1+1=?") if template == "chat" else "1+1=?"
            assert example.prompt == Conversation((Turn("user", asked),))
            assert (example.response, example.cut, row["correct"]) == (SAMPLE["resp"], True, True)
    unpaired = laid_out("samples", "trl", SAMPLE)
    assert unpaired == {
        "prompt": "1+1=?\n", "completion": SAMPLE["resp"], "label": True, "finish_reason": "stop"
    }  # fmt: skip
    chat = laid_out("samples", "trl", SAMPLE, "chat")
    assert (chat["prompt"][0]["role"], chat["completion"][0]["role"]) == ("user", "assistant")
    assert laid_out("samples", "trl", SAMPLE | {"correct": None}) is None


@pytest.mark.parametrize("name", EXPORT_LAYOUTS["problems"])
def test_problems_go_round(tmp_path: Path, name: str) -> None:
    rows = [EXPORT_LAYOUTS["problems"][name](PROBLEM | {"problem": text}) for text in ("1+1=?", "2+0=?")]
    write_rows(tmp_path / "p.jsonl", [row for row in rows if row is not None])
    problems = list(read_problems(tmp_path / "p.jsonl"))
    assert [(problem.statement, problem.reference) for problem in problems] == [
        ("1+1=?", "2"),
        ("2+0=?", "2"),
    ]
    if name == "hsstar":
        assert problems[0] == Problem("1+1=?", "2", subject="sums", level="3")


def test_rewards_of_steps_are_labels_of_steps() -> None:
    assert laid_out("rewards", "hs-star", SAMPLE) == {
        "query": "1+1=?", "resp": SAMPLE["resp"], "reward": [0.75, 0.25], "correct": True
    }  # fmt: skip
    stepwise = laid_out("rewards", "trl", SAMPLE)  # the third step has no reward
    assert stepwise == {"prompt": "1+1=?\n", "completions": ["one", "two"], "labels": [True, False]}


def test_everything_has_a_layout_and_the_first_is_our_own() -> None:
    assert list(EXPORT_LAYOUTS) == list(get_args(Exported))
    assert {next(iter(layouts)) for layouts in EXPORT_LAYOUTS.values()} == {"hsstar"}
    assert {name for layouts in EXPORT_LAYOUTS.values() for name in layouts} == {
        "hsstar", "hs-star", "trl", "verl", "sharegpt"
    }  # fmt: skip


def test_a_card_names_origin_and_files() -> None:
    card = export_card("me/pairs", "pairs", "demo", "trl", 7, {"name": "demo"}).with_files(
        ["pairs.jsonl", "b.csv"]
    )
    assert card.startswith(
        '---\ntags: [hsstar, math]\nconfigs:\n- config_name: pairs\n  data_files: "pairs.jsonl"\n'
    )
    assert "- config_name: b\n" in card
    assert "# me/pairs\n\n7 pairs of the run demo, in the layout `trl`, written by hsstar" in card
    assert '"name": "demo"' in card
    assert "of the dataset train" in export_card("a/b", "problems", "train", "verl", 1, None).text
    assert "of all runs" in export_card("a/b", "evaluations", None, "hsstar", 1, None).text


def test_a_response_that_was_cut_stays_cut() -> None:
    samples = read_samples(laid_out("samples", "hsstar", SAMPLE | {"finish_reason": "length"}))
    assert samples.responses == (ImportedResponse(SAMPLE["resp"], "length"),)
