"""Benchmarks as published: found by their names, counted, and told apart where statements are equal."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hsstar.data.benchmarks import content_fingerprint, find_file, read_benchmark
from hsstar.data.files import read_problems
from hsstar.domain.benchmarks import BENCHMARKS
from hsstar.domain.errors import BadInputError
from tests.unit.fake_hub import fake_hub

PUBLISHED = Path(__file__).parents[2].parent / "shared" / "data" / "benchmarks"
AMC = BENCHMARKS["amc23"]


def write(folder: Path, rows: list[dict[str, object]], name: str = "amc23.jsonl") -> Path:
    file = folder / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the benchmark files are not at hand")
@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_published_files_have_as_many_problems_with_a_reference_as_they_should(name: str) -> None:
    benchmark = BENCHMARKS[name]
    file = find_file(benchmark, PUBLISHED)
    problems = read_benchmark(benchmark, file)
    assert len({problem.key for problem in problems}) == len(problems) == benchmark.problems
    assert all(problem.reference for problem in problems)
    assert [replace(problem, occurrence=0) for problem in problems] == list(read_problems(file))
    if name == "math500":
        assert len({problem.subject for problem in problems}) == 7
        assert {problem.level for problem in problems} == set("12345")


def test_a_wrong_count_is_refused_unless_a_part_is_wanted(tmp_path: Path) -> None:
    file = write(tmp_path, [{"problem": f"{number}+1=?", "answer": number + 1} for number in range(39)])
    with pytest.raises(BadInputError, match=r"amc23.jsonl holds 39 problems, and AMC 2023 has 40"):
        read_benchmark(AMC, file)
    assert len(read_benchmark(AMC, file, partial=True)) == 39


def test_equal_statements_are_problems_of_their_own(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        [{"problem": "x ", "answer": "1"}, {"problem": "x", "answer": "2"}, {"problem": "y", "answer": "3"}],
    )
    problems = read_benchmark(AMC, file, partial=True)
    first, second, other = (problem.key for problem in problems)
    assert second == f"{first}-1"
    assert "-" not in first + other
    assert [problem.occurrence for problem in problems] == [0, 1, 0]


def test_the_fingerprint_tells_statements_and_answers_in_their_order(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"problem": "x", "answer": "1"}, {"problem": "y", "answer": "2"}]
    changed: list[list[dict[str, object]]] = [
        rows,
        rows[::-1],
        [rows[0], {"problem": "y", "answer": "3"}],
        [{"problem": "x1", "answer": ""}, rows[1]],
    ]
    marks = [
        content_fingerprint(read_benchmark(AMC, write(tmp_path, each), partial=True)) for each in changed
    ]
    assert len(set(marks)) == 4
    assert marks[0] == content_fingerprint(read_benchmark(AMC, write(tmp_path, rows), partial=True))


def test_a_folder_gives_the_file_of_that_name(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"has no file of AMC 2023; expected amc23.jsonl, .json, .csv"):
        find_file(AMC, tmp_path)
    write(tmp_path, [], "amc23.json")
    assert find_file(AMC, tmp_path) == tmp_path / "amc23.json"
    assert find_file(AMC, tmp_path / "any.csv") == tmp_path / "any.csv"


def test_the_hub_gives_the_file_below_the_folder_of_the_benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ["main/test-0.parquet", "main/train-0.parquet", "socratic/test-0.parquet"]
    fake_hub(monkeypatch, files, tmp_path)
    assert find_file(BENCHMARKS["gsm8k"], None) == tmp_path / "openai/gsm8k" / files[0]
    with pytest.raises(BadInputError, match=r"openai/gsm8k on the .* hub has 2 files that could"):
        files.append("main/test-1.parquet")
        find_file(BENCHMARKS["gsm8k"], None)


def test_without_the_hub_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        BadInputError, match=r"the Hugging Face hub does not give math-ai/amc23: .*--data"
    ) as failure:
        find_file(AMC, None)
    assert "\n" not in str(failure.value)
