"""Solutions and pairs from files, and the names of files on the hub."""

import json
from pathlib import Path

import pytest

from hsstar.checkpoints.card import CardEntry, Score, card
from hsstar.data import hub
from hsstar.data.solutions import StepReport, in_steps, read_pairs, read_solutions
from hsstar.domain.errors import BadInputError
from hsstar.domain.steps import Obstacle
from tests.unit.fake_hub import fake_hub


def write(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_of_published_samples_the_response_is_the_solution(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", {"query": "1+1=?", "resp": "Add.\n\n\\boxed{2}", "ref_ans": "2"})
    (problem,) = read_solutions(file)
    assert (problem.statement, problem.solution, problem.reference) == ("1+1=?", "Add.\n\n\\boxed{2}", "2")


def test_what_is_written_in_steps_can_be_read_again(tmp_path: Path) -> None:
    file = write(
        tmp_path / "math.jsonl",
        {"problem": "a", "solution": "First. Then $\\boxed{2}$.", "unique_id": "easy/1"},
        {"problem": "b", "solution": "$\\boxed{3}$", "unique_id": "easy/2"},
        {"problem": "c", "answer": "4"},
    )
    report = StepReport()
    rows = list(in_steps(read_solutions(file), report))
    assert rows == [{"query": "a", "resp": "First.\n\nThen $\\boxed{2}$.", "ref_ans": "2", "id": "easy/1"}]
    assert report.written == 1
    assert report.refused == {Obstacle.ONE_STEP: ["easy/2"], Obstacle.NO_SOLUTION: ["3"]}
    (again,) = read_solutions(write(tmp_path / "steps.jsonl", *rows))
    assert (again.solution, again.source_id) == (rows[0]["resp"], "easy/1")


def test_pairs_are_taken_as_they_are(tmp_path: Path) -> None:
    file = write(tmp_path / "pairs.jsonl", {"prompt": "p\n", "chosen": "c", "rejected": "r", "iteration": 0})
    assert list(read_pairs(file)) == [("p\n", "c", "r")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "p", "chosen": "c"}, "expected text under rejected, found keys chosen, prompt"),
        ({"prompt": "p", "chosen": ["c"], "rejected": "r"}, "expected text under chosen, found a list"),
    ],
)
def test_a_row_that_is_no_pair_is_named(tmp_path: Path, row: dict[str, object], message: str) -> None:
    file = write(tmp_path / "pairs.jsonl", {"prompt": "p", "chosen": "c", "rejected": "r"}, row)
    with pytest.raises(BadInputError, match=f"pairs.jsonl:2: {message}"):
        list(read_pairs(file))


def test_a_path_stays_a_path_and_a_hub_name_is_checked() -> None:
    assert hub.local_file("data/hub.jsonl") == Path("data/hub.jsonl")
    for wrong in ("hub:", "hub:owner", "hub:/name"):
        with pytest.raises(BadInputError, match="expected hub:OWNER/NAME"):
            hub.local_file(wrong)


def test_a_hub_name_means_its_only_data_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = ["README.md", "data/a.parquet", "b.txt"]
    fake_hub(monkeypatch, files, tmp_path)
    assert hub.local_file("hub:o/n") == tmp_path / "o/n/data/a.parquet"
    assert hub.local_file("hub:o/n/deep/b.txt") == tmp_path / "o/n/deep/b.txt"
    files.append("c.csv")
    with pytest.raises(BadInputError, match="2 data files; name one as hub:o/n/FILE"):
        hub.local_file("hub:o/n")


def test_a_checkpoint_of_the_hub_comes_as_safetensors_if_there_are_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = fake_hub(monkeypatch, [], tmp_path)
    assert hub.download_model("o/n") == tmp_path
    (tmp_path / "model.safetensors").touch()
    assert hub.download_model("o/n") == hub.cached_model("o/n") == tmp_path
    assert ["*.bin" in patterns for patterns in asked] == [False, True, False, False]
    assert asked[-1] == ["cached only"]


def test_a_name_with_an_owner_means_a_checkpoint_of_the_hub_unless_it_is_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "m0").mkdir(parents=True)
    names = ["o/n", "models/m0", "m0", "./o/n", "o/n/x"]
    assert [name for name in names if hub.is_model_name(name)] == ["o/n"]


def test_a_dataset_of_several_files_leaves_the_choice_to_the_user() -> None:
    assert hub.only_file("hub:o/n", ["a.jsonl"]) == "a.jsonl"
    with pytest.raises(BadInputError, match="2 data files; name one as hub:o/n/FILE: a"):
        hub.only_file("hub:o/n", ["a.jsonl", "b.parquet"])
    with pytest.raises(BadInputError, match="holds no data file"):
        hub.only_file("hub:o/n", [])


def test_a_card_states_how_a_policy_came_to_be() -> None:
    first = CardEntry("M0", "elsewhere, and registered from /models/m0", scores=[Score("test", 0.5, 0.02)])
    last = CardEntry(
        "run-M1", "by DPO on 3 preference pairs", "M0", "dpo", '{"name": "run"}', {"beta": 0.1},
        [Score("test", 0.625, 0.019)],
    )  # fmt: skip
    text = card([first, last], "/models/m0")
    assert text.startswith(
        '---\nlibrary_name: transformers\nbase_model: "/models/m0"\ntags: [hsstar, dpo]\n---\n'
    )
    assert "run-M1 was made by DPO on 3 preference pairs." in text
    assert "| M0 | – | elsewhere, and registered from /models/m0 | test 0.500 ± 0.020 |" in text
    assert "| run-M1 | M0 | by DPO on 3 preference pairs | test 0.625 ± 0.019 |" in text
    assert '```json\n{"name": "run"}\n```' in text
    assert '"beta": 0.1' in text
