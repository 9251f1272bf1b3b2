"""The main job through the real CLI: problems in, a trained policy out, twice over."""

import csv
import io
import json
import tomllib
from typing import Any, cast

import pytest
from pyarrow import parquet

from tests.acceptance.conftest import Home
from tests.acceptance.invariants import check_finished_run


@pytest.fixture(scope="module")
def finished(stack: Home) -> Home:
    """A stack with the run `loop`: two iterations of 24 problems, watched to their end."""
    stack.ok("runs", "create", "--recipe", str(stack.write_recipe("loop")))
    watched = stack.ok("iterate", "loop", "--iterations", "2", "--watch")
    assert "iteration 1  done" in watched, watched
    return stack


def test_the_rows_keep_every_promise(finished: Home) -> None:
    recipe = json.loads(finished.ok("runs", "show", "loop"))
    check_finished_run(finished, "loop", recipe)


def test_each_iteration_trains_the_next_policy(finished: Home) -> None:
    rows = finished.query("select * from iteration_statistics where run = 'loop' order by iteration")
    assert [row["model"] for row in rows] == ["builtin:demo-policy", "loop-M1"]
    assert [row["output_model"] for row in rows] == ["loop-M1", "loop-M2"]
    assert all(row["pairs"] > 0 and row["seconds_training"] > 0 for row in rows)
    assert rows[0]["heldout_accuracy_after"] == rows[1]["heldout_accuracy_before"]
    assert all(0 < row["heldout_accuracy_after"] <= 1 for row in rows)
    assert "loop-M1" in finished.ok("models", "list")


def test_iterations_take_fresh_problems(finished: Home) -> None:
    slices = [
        {row["problem_id"] for row in finished.query(
            f"select problem_id from problem_statistics where run = 'loop' and iteration = {number}")}
        for number in (0, 1)
    ]  # fmt: skip
    assert len(slices[0]) == len(slices[1]) == 24
    assert not slices[0] & slices[1]


def test_pairs_are_exported_as_published(finished: Home) -> None:
    lines = [json.loads(line) for line in finished.ok("export", "pairs", "loop").splitlines()]
    stored = finished.query("select sum(pairs) as pairs from iteration_statistics where run = 'loop'")
    assert len(lines) == stored[0]["pairs"]
    assert all({"prompt", "chosen", "rejected"} <= line.keys() for line in lines)
    file = finished.folder / "pairs.parquet"
    finished.ok("export", "pairs", "loop", "--format", "parquet", "--output", str(file))
    assert parquet.read_table(file).num_rows == len(lines)


def test_samples_are_exported_as_published(finished: Home) -> None:
    file = finished.folder / "samples.jsonl"
    finished.ok("export", "samples", "loop", "--output", str(file))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(lines) == 2 * 24 * 8
    wanted = {"query", "resp", "ref_ans", "ans", "correct", "finish_reason", "cumulative_logprob", "reward"}
    assert all(wanted <= line.keys() for line in lines)
    assert all(min(line["reward"]) == line["min_reward"] for line in lines if line["reward"])


def test_sql_speaks_three_formats_and_only_reads(finished: Home) -> None:
    query = "select iteration, drawn from iteration_statistics where run = 'loop' order by 1"
    assert [row["drawn"] for row in finished.query(query)] == [192, 192]
    table = finished.ok("sql", query, "--format", "csv")
    assert [row["drawn"] for row in csv.DictReader(io.StringIO(table))] == ["192", "192"]
    assert "192" in finished.ok("sql", query)
    assert "read-only" in finished.refused("sql", "delete from samples returning id")
    assert "multiple commands" in finished.refused("sql", "commit; delete from samples returning id")
    assert "multiple commands" in finished.refused("sql", "set transaction read write; delete from samples")
    assert len(finished.query("select id from samples limit 1")) == 1


def test_a_run_is_never_changed(finished: Home) -> None:
    stored = json.loads(finished.ok("runs", "show", "loop"))
    written = tomllib.loads((finished.folder / "loop.toml").read_text())
    assert all(stored[section][key] == value
               for section, keys in written.items() if isinstance(keys, dict)
               for key, value in keys.items())  # fmt: skip
    message = finished.refused("runs", "create", "--recipe", str(finished.folder / "loop.toml"))
    assert "already a run 'loop'" in message


def test_status_tells_what_is_done(finished: Home) -> None:
    assert "iteration 1  done" in finished.ok("status", "loop")
    overview = finished.ok("status")
    assert "loop" in overview
    assert "sample-1" in overview


def test_lists_are_read_by_programs(finished: Home) -> None:
    def rows(*command: str) -> list[dict[str, Any]]:
        return cast(list[dict[str, Any]], json.loads(finished.ok(*command, "--json")))

    (run,) = (row for row in rows("status") if row["run"] == "loop")
    assert run == {
        "run": "loop", "iterations": 2, "iterations_done": 2, "state": "done", "jobs_queued": 0,
        "jobs_running": 0, "jobs_failed": 0,
    }  # fmt: skip
    assert [row["drawn"] for row in rows("status", "loop") if row["kind"] == "iteration"] == [192, 192]
    assert rows("status", "loop", "--missing") == []
    assert {row["state"] for row in rows("jobs", "list", "loop", "--limit", "5")} == {"done"}
    assert {"sample", "score", "verify", "train"} <= {row["role"] for row in rows("workers")}
    assert "loop" in {row["run"] for row in rows("runs", "list")}
    assert {"demo-train", "demo-heldout"} <= {row["dataset"] for row in rows("problems", "list")}
    assert {row["model"]: row["trained_from"] for row in rows("models", "list")}["loop-M2"] == "loop-M1"
    (last,) = (row for row in rows("models", "lineage", "loop-M2") if row["model"] == "loop-M2")
    assert (last["depth"], last["iteration"], last["trained_by"]) == (2, 1, "dpo")
    assert last["held_out_accuracy"][0]["dataset"] == "demo-heldout"
    assert not any(row["imported"] for row in rows("benchmarks", "list"))
    assert "--watch" in finished.refused("status", "loop", "--watch", "--json")


def test_the_same_recipe_draws_the_same_samples(finished: Home) -> None:
    finished.ok("runs", "create", "--recipe", str(finished.write_recipe("again")))
    finished.ok("iterate", "again")
    finished.wait_until_done("again")
    first, second = (
        {
            (sample["problem"], sample["slot"]): (sample["resp"], sample["seed"])
            for sample in map(json.loads, finished.ok("export", "samples", run).splitlines())
            if sample["iteration"] == 0
        }
        for run in ("loop", "again")
    )
    assert len(first) == 24 * 8
    assert first == second
