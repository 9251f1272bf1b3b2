"""Samples, problems and a run on the command line: as people read them, and as programs do."""

import json
from pathlib import Path
from typing import Any

import pytest

from hsstar.commands import redraw
from tests.cli.conftest import CommandLine, enqueue
from tests.cli.test_texts import DANGEROUS, STORED
from tests.deterministic import DeterministicSampler


@pytest.fixture
def done(cli: CommandLine) -> CommandLine:
    """The run `r`, which has one iteration of 24 samples that is done."""
    enqueue(cli)
    cli.worker().work()
    return cli


def first_pair(done: CommandLine) -> dict[str, Any]:
    """The first chosen sample of the run."""
    rows: list[dict[str, Any]] = done.json("samples", "show", "r", "--pair", "chosen")
    return rows[0]


def test_samples_are_shown_step_by_step_with_all_that_is_known(done: CommandLine) -> None:
    sample = first_pair(done)
    address = sample["address"]
    assert address == f"r/0/{sample['problem_id']}/{sample['slot']}"
    shown = done.ok("samples", "show", address)
    for part in (
        f"problem {sample['problem_id']}  {sample['statement']}",
        f"  reference: {sample['reference']}",
        f"{address}  correct  {sample['phase']}  {sample['level']}  S(r) {sample['min_reward']:.2f}",
        f"{sample['tokens']} tokens  chosen over slot {sample['partner_slot']}",
        f"  {sample['step_rewards'][0]:.2f}  quality ",
        f"answer: {sample['answer']} · M0 · deterministic 1 · seed {sample['seed']} · log-probability ",
    ):
        assert part in shown, (part, shown)
    explained = done.ok("samples", "show", address, "--explain")
    assert f"why: extraction: boxed, answer: {sample['answer']}, answer form: " in explained
    assert "cause: correct" in explained
    assert done.json("samples", "show", address, "--explain")[0]["why"].endswith("cause: correct")


def test_samples_are_filtered_and_paged(done: CommandLine) -> None:
    every = done.json("samples", "show", "r", "--limit", "100")
    assert len(every) == 24
    wrong = done.json(
        "samples", "show", "r", "--verdict", "incorrect", "--reward-to", "0.5", "--limit", "100"
    )
    assert wrong == [row for row in every if row["verdict"] == "incorrect" and row["min_reward"] <= 0.5] != []
    called = done("samples", "show", "r", "--limit", "2", "--format", "csv")
    *_, key = called.err.split()
    assert called.err.startswith("more follow; the next page: --after ")
    after = done.json("samples", "show", "r", "--after", key, "--limit", "100")
    assert after == every[2:]
    assert done.ok("samples", "show", "r", "--cause", "crashed") == "r has no such sample\n"
    assert done.json("samples", "show", "r", "--cause", "crashed") == []
    assert done.refused("samples", "show", "r/0/1/77").startswith("there is no sample r/0/1/77; see hsstar")
    assert done.refused("samples", "show", "r/x/1/77").startswith("'r/x' is no address of a round")


def test_problems_are_a_table_and_one_is_a_page(done: CommandLine) -> None:
    called = done("problems", "show", "r", "--limit", "4", "--sort", "pass", "--descending")
    assert called.out.startswith("r, iteration: all problems\n")
    assert called.err.startswith("more follow; the next page: --after -")
    rows = done.json("problems", "show", "r", "--sort", "pass", "--descending")
    rates = [row["pass_rate"] for row in rows]
    assert rates == sorted(rates, reverse=True)
    assert len(rows) == 6
    assert set(done.rows("SELECT outcomes_stored FROM rounds")) == {(True,)}
    counted = "SELECT counted.* FROM rounds CROSS JOIN LATERAL count_outcomes(rounds.id) AS counted"
    assert done.rows(f"SELECT FROM (TABLE stored_outcomes EXCEPT {counted}) AS other") == []
    assert done.rows("SELECT count(*) FROM stored_outcomes") == [(6,)]
    never = done.json("problems", "show", "r", "--preset", "never-right")
    assert {row["problem_id"] for row in never} == {row["problem_id"] for row in rows if row["correct"] == 0}
    boundary = done.json("problems", "show", "r", "--level", "boundary")
    assert {row["level"] for row in boundary} == {"boundary"}
    refused = done.refused("problems", "show", "r", "--preset", "boundry")
    assert refused.endswith("did you mean 'boundary'?")
    problem = first_pair(done)["problem_id"]
    page = done.ok("problems", "show", "r", str(problem))
    for part in (
        f"problem {problem}  ", "dataset train", "iteration: boundary · M_0 0.", "budget", "pre-samples",
        "wave 0", f"r/0/{problem}/0", "next: hsstar problems show r ",
    ):  # fmt: skip
        assert part in page, (part, page)
    document = done.json("problems", "show", "r", str(problem))
    assert [sample["slot"] for sample in document["samples"]] == list(range(len(document["samples"])))


def test_a_status_reads_no_recipe(done: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Building the sections of recipes would be a third of its processor time."""
    monkeypatch.setattr("hsstar.recipe.recipe.parse_recipe", lambda *_: pytest.fail("a recipe was read"))
    assert done.ok("status", "r").startswith("iteration 0  done")
    assert done.json("status")[0]["state"] == "done"


def test_a_run_is_one_page(done: CommandLine) -> None:
    page = done.ok("show", "r")
    for part in (
        "r  done · policy M0 · problems of train · seed ", "iteration 0  done",
        "  M0 → 6 problems → 12 pre-samples → ", " at the boundary → ", " pairs → ", "▓ boundary ",
        "samples, of a budget of", "hsstar problems show r --preset overrated",
    ):  # fmt: skip
        assert part in page, (part, page)
    document = done.json("show", "r")
    assert (document["state"], document["run"]["run"]) == ("done", "r")
    assert document["iterations"][0]["drawn"] == document["rounds"][0]["drawn"] == 24
    assert done.csv("show", "r")[0]["drawn"] == "24"


def test_a_run_that_has_not_begun_is_a_page_too(cli: CommandLine) -> None:
    enqueue(cli)
    assert cli.ok("show", "r").startswith("r  running · policy M0")
    assert cli.ok("samples", "show", "r") == "r has no such sample\n"


def test_a_sample_is_drawn_again_and_compared(done: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    address = first_pair(done)["address"]

    def build(folder: str, **options: Any) -> DeterministicSampler:
        assert (options["engine"], options["dtype"]) == ("transformers", "auto")
        return DeterministicSampler(folder)

    monkeypatch.setattr(redraw, "build_sampler", build)
    said = done.ok("samples", "redraw", address)
    assert said.startswith(f"{address}: the same, bit by bit (")
    assert "deterministic 1, seed " in said
    with done.database.begin() as connection:
        connection.exec_driver_sql("UPDATE samples SET cumulative_logprob = cumulative_logprob - 0.5")
    assert "the figures differ by the forward pass" in done.ok("samples", "redraw", address)
    with done.database.begin() as connection:
        connection.exec_driver_sql("UPDATE sample_responses SET response = replace(response, 'by', 'BY')")
    called = done("samples", "redraw", address)
    assert called.code == 1
    assert f"{address}: another text" in called.out
    assert "from character 14 on:\n    stored  quality 0." in called.out
    assert "engine and version are the same" in called.out
    monkeypatch.setattr(DeterministicSampler, "name", "deterministic 2")
    assert "drawn by deterministic 1, and now by deterministic 2" in done("samples", "redraw", address).out
    document = json.loads(done("samples", "redraw", address, "--json").out)
    assert (document["same"], document["same_text"], document["differs_at"]) == (False, False, 14)
    with done.database.begin() as connection:  # of a pruned text only the hash is left
        connection.exec_driver_sql("DELETE FROM sample_responses")
    assert done("samples", "redraw", address).code == 0
    with done.database.begin() as connection:
        connection.exec_driver_sql("UPDATE samples SET seed = seed + 1")
    assert "its address gives" in done.refused("samples", "redraw", address)
    with done.database.begin() as connection:
        connection.exec_driver_sql("UPDATE samples SET seed = NULL")
    assert "was imported: nobody knows how it was drawn" in done.refused("samples", "redraw", address)


def test_no_text_of_a_sample_or_problem_is_obeyed(done: CommandLine, tmp_path: Path) -> None:
    with done.database.begin() as connection:
        for change in (
            "UPDATE problems SET statement = %s || id, subject = %s, reference_answer = %s, source_id = %s",
            "UPDATE sample_responses SET response = %s || repeat(%s, 20000) || %s || %s",
            "UPDATE samples SET answer = %s, worker = %s, engine = %s || %s",
        ):
            connection.exec_driver_sql(change, (STORED,) * 4)
    for shown_as in ("table", "markdown", "json"):
        for words in (
            ("samples", "show", "r"),
            ("samples", "show", "r", "--whole", "--limit", "1"),
            ("problems", "show", "r"),
            ("problems", "show", "r", str(first_pair(done)["problem_id"])),
            ("show", "r"),
        ):
            called = done(*words, "--format", shown_as)
            assert called.code == 0, called.err
            assert DANGEROUS.findall(called.out + called.err) == [], words
