"""Data sets: solutions, pairs, benchmarks and their overlap with other problems; files of the hub."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import huggingface_hub.constants
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsstar import __version__
from hsstar.checkpoints.card import CardEntry, Score, card
from hsstar.data import hub
from hsstar.data.benchmarks import content_fingerprint, find_file, read_benchmark
from hsstar.data.files import ProblemFiles, read_problems
from hsstar.data.solutions import StepReport, in_steps, read_solutions
from hsstar.domain.benchmarks import BENCHMARKS
from hsstar.domain.contamination import RUN_OF_WORDS, Overlap, OverlapIndex, OverlapKind, marks_of
from hsstar.domain.errors import BadInputError
from hsstar.domain.problems import Problem
from hsstar.domain.rounding import SampledUpdate, WeightUpdate
from hsstar.domain.steps import Obstacle

PUBLISHED = Path(__file__).parents[2].parent / "shared" / "data" / "benchmarks"
AMC = BENCHMARKS["amc23"]


class FakeHub:
    """A stand-in for the library of the hub, where no network is: every repository holds the same files."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.files: list[str] = []
        self.patterns: list[list[str]] = []  # of each snapshot that was asked for
        monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: self._dataset())
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", self._download)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self._snapshot)

    def _dataset(self) -> object:
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=file) for file in self.files])

    def _download(self, dataset: str, file: str, repo_type: str, etag_timeout: float) -> str:
        assert repo_type == "dataset"
        return str(self.folder / dataset / file)

    def _snapshot(self, name: str, allow_patterns: Sequence[str] = (), **options: object) -> str:
        self.patterns.append(["cached only"] if options.get("local_files_only") else list(allow_patterns))
        return str(self.folder)


@pytest.fixture
def fake_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    return FakeHub(tmp_path, monkeypatch)


def write(file: Path, *rows: Mapping[str, object]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_of_published_samples_the_response_is_the_solution(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", {"query": "1+1=?", "resp": "Add.\n\n\\boxed{2}", "ref_ans": "2"})
    assert [*read_solutions(ProblemFiles([file]))] == [Problem("1+1=?", "2", solution="Add.\n\n\\boxed{2}")]


def test_what_is_written_in_steps_can_be_read_again(tmp_path: Path) -> None:
    file = write(
        tmp_path / "math.jsonl",
        {"problem": "a", "solution": "First. Then $\\boxed{2}$.", "unique_id": "easy/1"},
        {"problem": "b", "solution": "$\\boxed{3}$", "unique_id": "easy/2"},
        {"problem": "c", "answer": "4"},
    )
    report = StepReport()
    rows = list(in_steps(read_solutions(ProblemFiles([file])), report))
    assert rows == [{"query": "a", "resp": "First.\n\nThen $\\boxed{2}$.", "ref_ans": "2", "id": "easy/1"}]
    assert report.written == 1
    assert report.refused == {Obstacle.ONE_STEP: ["easy/2"], Obstacle.NO_SOLUTION: ["3"]}
    (again,) = read_solutions(ProblemFiles([write(tmp_path / "steps.jsonl", *rows)]))
    assert (again.solution, again.source_id) == (rows[0]["resp"], "easy/1")


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the benchmark files are not at hand")
@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_published_files_have_as_many_problems_with_a_reference_as_they_should(name: str) -> None:
    file = find_file(BENCHMARKS[name], PUBLISHED)
    problems = read_benchmark(BENCHMARKS[name], file)
    assert len({problem.key for problem in problems}) == len(problems) == BENCHMARKS[name].problems
    assert all(problem.reference for problem in problems)
    assert [replace(problem, occurrence=0) for problem in problems] == list(read_problems(file))
    if name == "math500":
        assert len({problem.subject for problem in problems}) == 7
        assert {problem.level for problem in problems} == set("12345")


def amc_problems(folder: Path, *given: tuple[str, str]) -> list[Problem]:
    rows = ({"problem": statement, "answer": answer} for statement, answer in given)
    return read_benchmark(AMC, write(folder / "amc23.jsonl", *rows), partial=True)


def test_a_wrong_count_is_refused_unless_a_part_is_wanted(tmp_path: Path) -> None:
    assert len(amc_problems(tmp_path, *((f"{number}+1=?", "1") for number in range(39)))) == 39
    with pytest.raises(BadInputError, match=r"amc23.jsonl holds 39 problems, and AMC 2023 has 40"):
        read_benchmark(AMC, tmp_path / "amc23.jsonl")


def test_equal_statements_are_problems_of_their_own(tmp_path: Path) -> None:
    problems = amc_problems(tmp_path, ("x ", "1"), ("x", "2"), ("y", "3"))
    first, second, other = (problem.key for problem in problems)
    assert second == f"{first}-1"
    assert "-" not in first + other
    assert [problem.occurrence for problem in problems] == [0, 1, 0]


def test_the_fingerprint_tells_statements_and_answers_in_their_order(tmp_path: Path) -> None:
    x, y = ("x", "1"), ("y", "2")
    versions = ((x, y), (y, x), (x, ("y", "3")), (("x1", ""), y), (x, y))
    marks = [content_fingerprint(amc_problems(tmp_path, *version)) for version in versions]
    assert len(set(marks)) == 4
    assert marks[0] == marks[-1]


def test_a_folder_gives_the_file_of_that_name(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"has no file of AMC 2023; expected amc23.jsonl, .json, .csv"):
        find_file(AMC, tmp_path)
    write(tmp_path / "amc23.json")
    assert find_file(AMC, tmp_path) == tmp_path / "amc23.json"
    assert find_file(AMC, tmp_path / "any.csv") == tmp_path / "any.csv"


def test_the_hub_gives_the_file_below_the_folder_of_the_benchmark(fake_hub: FakeHub) -> None:
    fake_hub.files = ["main/test-0.parquet", "main/train-0.parquet", "socratic/test-0.parquet"]
    assert find_file(BENCHMARKS["gsm8k"], None) == fake_hub.folder / "openai/gsm8k/main/test-0.parquet"
    fake_hub.files.append("main/test-1.parquet")
    with pytest.raises(BadInputError, match=r"openai/gsm8k on the .* hub has 2 files that could"):
        find_file(BENCHMARKS["gsm8k"], None)


def test_without_the_hub_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BadInputError, match=r"Face hub does not give math-ai/amc23: .*--data") as failure:
        find_file(AMC, None)
    assert "\n" not in str(failure.value)


def test_a_path_stays_a_path_and_a_hub_name_is_checked() -> None:
    assert hub.local_file("data/hub.jsonl") == Path("data/hub.jsonl")
    for wrong in ("hub:", "hub:owner", "hub:/name"):
        with pytest.raises(BadInputError, match="expected hub:OWNER/NAME"):
            hub.local_file(wrong)


def test_a_hub_name_means_its_only_data_file(fake_hub: FakeHub) -> None:
    fake_hub.files = ["README.md", "data/a.parquet", "b.txt"]
    assert hub.local_file("hub:o/n") == fake_hub.folder / "o/n/data/a.parquet"
    assert hub.local_file("hub:o/n/deep/b.txt") == fake_hub.folder / "o/n/deep/b.txt"
    fake_hub.files.append("c.csv")
    with pytest.raises(BadInputError, match=r"2 data files; name one as hub:o/n/FILE: data/a.parquet, c"):
        hub.local_file("hub:o/n")
    fake_hub.files = ["README.md"]
    with pytest.raises(BadInputError, match="holds no data file"):
        hub.local_file("hub:o/n")


def test_a_checkpoint_of_the_hub_comes_as_safetensors_if_there_are_any(fake_hub: FakeHub) -> None:
    assert hub.download_model("o/n") == fake_hub.folder
    (fake_hub.folder / "model.safetensors").touch()
    assert hub.download_model("o/n") == hub.cached_model("o/n") == fake_hub.folder
    assert ["*.bin" in patterns for patterns in fake_hub.patterns] == [False, True, False, False]
    assert fake_hub.patterns[-1] == ["cached only"]


def test_owner_and_name_mean_a_model_unless_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "m0").mkdir(parents=True)
    names = ["o/n", "models/m0", "m0", "./o/n", "o/n/x"]
    assert [name for name in names if hub.is_model_name(name)] == ["o/n"]


def test_a_card_states_how_a_policy_came_to_be() -> None:
    first = CardEntry("M0", "elsewhere, and registered from /models/m0", scores=[Score("test", 0.5, 0.02)])
    updates = [
        WeightUpdate("all", "bfloat16", 8, 0.25, 0.0, 0.0, None),
        WeightUpdate("all", "float32", 8, 0.25, 1.0, 1.0, 1.0),
        WeightUpdate("model.norm", "float32", 4, 0.125, 1.0, 1.0, 1.0),
    ]
    last = CardEntry(
        "run-M1", "by DPO on 3 preference pairs", "M0", "dpo", '{"name": "run"}', {"beta": 0.1},
        [Score("test", 0.625, 0.019)], SampledUpdate("bfloat16", updates)
    )  # fmt: skip
    expected = Path(__file__).with_name("card.txt").read_text("utf-8").replace("VERSION", __version__)
    assert card([first, last], "/models/m0") == expected


SENTENCE = "In how many ways can seven people sit at a round table if two of them insist on adjoining seats?"


WORDS = [f"w{number}" for number in range(RUN_OF_WORDS)]


@pytest.mark.parametrize(
    ("statement", "benchmark", "expected"),
    [
        ("2+3=?", "2+3=?", OverlapKind.EXACT),
        ("Find $x$.", "find x .", OverlapKind.EXACT),
        ("2+3=?", "2-3=?", None),  # signs count in short statements
        (f"Note: {SENTENCE} Explain.", SENTENCE, OverlapKind.RUN),
        (SENTENCE.replace(" ", "  ").upper(), SENTENCE, OverlapKind.EXACT),
        (SENTENCE.replace("seven", "eight"), SENTENCE, OverlapKind.RUN),  # the rest is long enough
        (SENTENCE.replace("table", "desk"), SENTENCE, None),  # ten and nine words are too few
        (" ".join(["x", *WORDS, "y"]), " ".join(["before", *WORDS, "after"]), OverlapKind.RUN),
        (" ".join(["x", *WORDS[1:], "y"]), " ".join(["before", *WORDS, "after"]), None),
        (r"Let $\frac{a}{b}$ be", r"Let $\frac ab$ be", None),
        ("ﬁnd ｘ", "find x", OverlapKind.EXACT),
        ("", "x", None),
    ],
)
def test_overlaps_by_hand(statement: str, benchmark: str, expected: OverlapKind | None) -> None:
    found = OverlapIndex(["something else", benchmark]).find(marks_of(statement))
    assert found == (None if expected is None else Overlap(1, expected))


def slow_find(statement: str, benchmark: list[str]) -> Overlap | None:
    """The same by comparing words with words."""

    def plain(text: str) -> str:
        return "".join(text.lower().replace("$", "").split())

    for place, other in enumerate(benchmark):
        if plain(statement) == plain(other):
            return Overlap(place, OverlapKind.EXACT)
    mine, *theirs = (re.findall("[a-z]+", text.lower()) for text in (statement, *benchmark))
    for start in range(len(mine) - RUN_OF_WORDS + 1):
        for place, words in enumerate(theirs):
            runs = (words[at : at + RUN_OF_WORDS] for at in range(len(words) - RUN_OF_WORDS + 1))
            if mine[start : start + RUN_OF_WORDS] in runs:
                return Overlap(place, OverlapKind.RUN)
    return None


STATEMENTS = st.lists(st.sampled_from(["a", "b", "A ", " $", ", "]), max_size=60).map(" ".join)


@given(STATEMENTS, st.lists(STATEMENTS, max_size=3), st.integers(0, 10), st.integers(0, 40))
def test_the_index_finds_what_a_plain_comparison_finds(
    statement: str, benchmark: list[str], start: int, length: int
) -> None:
    copied = "before " + statement[start : start + length * 3] + " after"
    for candidate in (statement, copied):
        for others in (benchmark, [*benchmark, statement]):
            assert OverlapIndex(others).find(marks_of(candidate)) == slow_find(candidate, others)
