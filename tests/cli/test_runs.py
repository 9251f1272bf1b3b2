"""What the commands on a run say is what its rows say: states, counts, what is missing, jobs, exports."""

import csv
import io
import json
from typing import Any

import pytest
from pyarrow import parquet
from sqlalchemy import text

from hsstar.checkpoints.resolve import fingerprint
from hsstar.cli.report import print_report
from hsstar.domain.lifecycle import JobKind
from hsstar.store.queue import workers
from tests.cli.conftest import BROKEN, CommandLine, enqueue, working
from tests.deterministic import TRAINING_STEPS
from tests.store.factory import HELDOUT, add_problems, add_run, claim

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def half_done(cli: CommandLine) -> CommandLine:
    """The run `r` in pre-sampling: 12 slots in three jobs, one of them done, one running, one failed."""
    enqueue(cli)
    worker = cli.worker(job_samples=4)
    worker.conductor.sweep()
    done, running, failed = worker.queued()
    worker.do(done)
    with cli.database.begin() as connection:
        workers.register(connection, "sample-1@box", "box", 7, "sample", "3")
        claim(connection, running, "sample-1@box")
    worker.fail(failed, BROKEN)
    with cli.database.begin() as connection:
        took = "started_at = finished_at - interval '90 s'"
        connection.execute(text(f"UPDATE jobs SET {took} WHERE id = :id"), {"id": done})
    return cli


def test_the_state_of_a_run_is_counted_from_its_rows(half_done: CommandLine) -> None:
    (found,) = half_done.json("status", "r")
    wanted = {
        "kind": "iteration", "number": 0, "state": "pre_sampling", "model": "M0", "problems": 6,
        "excluded": 0, "budget": 24, "allotted": 12, "drawn": 4, "verified": 0, "scored": 0, "pairs": 0,
        "queued": 2, "running": 1, "failed": 1, "slots_in_flight": 4, "failed_slots": 4,
        "training_steps_done": 0, "training_steps": None, "accuracy": None, "evaluation_key": "",
    }  # fmt: skip
    assert {name: found[name] for name in wanted} == wanted
    lines = half_done.ok("status", "r").splitlines()
    assert lines[0] == "iteration 0  pre-sampling  samples 4/24, verified 0, 1 jobs failed"
    assert lines[2:5] == [
        "samples",
        "round        done  in flight  failed  remaining  jobs queued  jobs running",
        "iteration 0     4          4       4         12            2             1",
    ]
    assert lines[5:] == [
        "1 sample jobs failed: it broke [now]; see hsstar jobs list --state failed, fix the cause, then "
        "hsstar jobs retry (or hsstar iterate RUN --accept-missing)",
        "1 score jobs wait because no live worker serves that queue; start one: hsstar worker --role score "
        "(or hsstar up)",
        "1 verify jobs wait because no live worker serves that queue; start one: hsstar worker --role verify "
        "(or hsstar up)",
    ]


def test_all_runs_are_one_line_each_beside_the_workers(half_done: CommandLine) -> None:
    enqueue(half_done, "later")
    r, later = half_done.json("status")
    assert r == {
        "run": "r", "iterations": 1, "iterations_done": 0, "state": "pre-sampling", "jobs_queued": 2,
        "jobs_running": 1, "jobs_failed": 1,
    }  # fmt: skip
    assert (later["run"], later["state"], later["jobs_failed"]) == ("later", "waiting", 0)
    shown = half_done.ok("status")
    assert "r               1                0  pre-sampling            2             1            1" in shown
    assert "sample-1@box  box   sample  3    busy " in shown


def test_what_is_missing_is_listed_slot_by_slot(half_done: CommandLine) -> None:
    rows = half_done.json("status", "r", "--missing")
    slots = [(row["problem"], slot) for row in rows if row["lacks"] == "sample" for slot in row["slots"]]
    drawn = half_done.rows("SELECT problem_id, slot FROM samples")
    everything = half_done.rows("SELECT problem_id, slot FROM round_problems, generate_series(0, 1) AS slot")
    assert sorted(slots) == sorted(set(everything) - set(drawn))
    states = {(row["held_by"], row["error"]) for row in rows if row["lacks"] == "sample"}
    assert states == {("running at sample-1@box", None), ("failed", "it broke [now]")}
    assert {row["held_by"] for row in rows if row["lacks"] in ("verdict", "reward")} == {"queued"}
    assert half_done.ok("status", "r", "--missing").splitlines()[0].split() == [
        "round", "problem", "lacks", "slots", "job", "held", "by", "error",
    ]  # fmt: skip


def test_jobs_are_listed_by_run_state_and_number(half_done: CommandLine) -> None:
    enqueue(half_done, "later")
    half_done.worker().conductor.sweep()
    jobs = half_done.json("jobs", "list")
    ids = [job for (job,) in half_done.rows("SELECT id FROM jobs ORDER BY id DESC")]
    assert [job["job"] for job in jobs] == ids
    assert [job["job"] for job in half_done.json("jobs", "list", "--limit", "2")] == ids[:2]
    assert {job["run"] for job in half_done.json("jobs", "list", "r")} == {"r"}
    (failed,) = half_done.json("jobs", "list", "r", "--state", "failed")
    assert failed | {"job": 0, "seconds": 0} == {
        "job": 0, "run": "r", "round": "iteration 0", "kind": "sample", "state": "failed", "samples": 4,
        "attempts": 1, "worker": "w", "seconds": 0, "error": "it broke [now]",
    }  # fmt: skip
    (done,) = half_done.json("jobs", "list", "--state", "done")
    assert done["seconds"] == 90
    with half_done.database.begin() as connection:
        connection.execute(text(r"UPDATE jobs SET error = E'two\nlines' WHERE state = 'failed'"))
    assert " two lines" in half_done.ok("jobs", "list", "--state", "failed")
    assert " 1 min 30 s " in half_done.ok("jobs", "list", "--state", "done")


def test_a_run_that_lacks_nothing_says_so(cli: CommandLine) -> None:
    enqueue(cli)
    cli.worker().work()
    assert cli.ok("status", "r", "--missing") == "r lacks nothing that is allotted\n"
    assert cli.json("status", "r", "--missing") == []
    with cli.database.begin() as connection:
        add_run(connection, name="new", checkpoint=cli.checkpoint)
    assert cli.ok("status", "new") == "new has no iteration yet; start it: hsstar iterate new --watch\n"


@pytest.fixture
def finished(cli: CommandLine) -> CommandLine:
    """The run `r`, one iteration of which is done, with held-out problems."""
    with cli.database.begin() as connection:
        add_problems(connection, 5, HELDOUT)
    enqueue(cli, evaluation={"dataset": HELDOUT}, policy={"model": "M0", "prompt": "bare"})
    with working(cli):
        cli.ok("status", "r", "--watch")
    return cli


def exported(cli: CommandLine, rows: str) -> list[dict[str, Any]]:
    called = cli("export", rows, "r")
    lines = [json.loads(line) for line in called.out.splitlines()]
    assert (called.code, called.err) == (0, f"{len(lines)} {rows} written\n")
    return lines


def test_every_field_of_an_exported_sample_is_that_of_its_row(finished: CommandLine) -> None:
    with finished.database.begin() as connection:
        connection.execute(text("""
            UPDATE samples SET finish_reason = 'stop', cumulative_logprob = -id, milliseconds = id,
                engine = 'e ' || id, answer = 'a ' || id, tokens = 3 * id
        """))  # fmt: skip
    stored = finished.rows("""
        SELECT key, statement, response, reference_answer, samples.answer, verdict = 'correct', cause, slot,
            level.level, min_reward, step_rewards, tokens, seed, cumulative_logprob
        FROM samples JOIN problems ON problems.id = problem_id
        JOIN sample_responses ON sample_responses.sample_id = samples.id
        JOIN rewards ON rewards.sample_id = samples.id
        JOIN difficulty_labels AS level USING (round_id, problem_id)
        ORDER BY problem_id, slot
    """)
    names = ("problem", "query", "resp", "ref_ans", "ans", "correct", "cause", "slot", "difficulty",
             "min_reward", "reward", "tokens", "seed", "cumulative_logprob")  # fmt: skip
    lines = exported(finished, "samples")
    assert lines
    assert [tuple(line[name] for name in names) for line in lines] == stored
    for line in lines:
        number = -line["cumulative_logprob"]
        rest = {"iteration": 0, "finish_reason": "stop", "model": "M0", "engine": f"e {number:.0f}",
                "milliseconds": number}  # fmt: skip
        assert {name: line[name] for name in rest} == rest
    assert exported(finished, "rewards") == [
        {"query": line["query"], "resp": line["resp"], "reward": line["reward"], "correct": line["correct"]}
        for line in lines
    ]


def test_every_exported_pair_is_two_samples_of_its_problem(finished: CommandLine) -> None:
    stored = finished.rows("""
        SELECT key, statement, chosen_text.response, rejected_text.response, chosen.slot, rejected.slot,
            chosen.min_reward, rejected.min_reward
        FROM preference_pairs AS pairs JOIN problems ON problems.id = pairs.problem_id
        JOIN samples AS chosen ON chosen.id = chosen_sample_id
        JOIN samples AS rejected ON rejected.id = rejected_sample_id
        JOIN sample_responses AS chosen_text ON chosen_text.sample_id = chosen.id
        JOIN sample_responses AS rejected_text ON rejected_text.sample_id = rejected.id
        ORDER BY pairs.id
    """)
    lines = exported(finished, "pairs")
    assert stored
    assert [tuple(line.values()) for line in lines] == [
        (f"{statement}\n", 0, key, *rest) for key, statement, *rest in stored
    ]
    assert list(lines[0]) == ["prompt", "iteration", "problem", "chosen", "rejected", "chosen_slot",
                              "rejected_slot", "chosen_reward", "rejected_reward"]  # fmt: skip
    file = finished.folder / "pairs.parquet"
    called = finished("export", "pairs", "r", "--format", "parquet", "--output", str(file))
    assert called.err == f"{len(lines)} pairs written to {file}\n"
    assert parquet.read_table(file).to_pylist() == lines


def test_a_run_is_shown_whole_and_listed_with_what_it_is_made_of(finished: CommandLine) -> None:
    (listed,) = finished.json("runs", "list")
    assert {name: listed[name] for name in ("run", "policy", "dataset", "seed")} == {
        "run": "r", "policy": "M0", "dataset": "train", "seed": 0
    }  # fmt: skip
    shown = json.loads(finished.ok("runs", "show", "r"))
    assert (shown["sampling"]["n"], shown["sampling"]["n_p"]) == (4, 2)
    assert finished.rows("SELECT recipe FROM runs") == [(shown,)]
    entries = finished.json("models", "lineage", "r-M1")
    (accuracy,) = finished.rows("SELECT accuracy FROM evaluations JOIN rounds ON id = round_id "
                                "WHERE number = 1")[0]  # fmt: skip
    (items,) = finished.rows("SELECT count(*) FROM preference_pairs")[0]
    assert entries[1] | {"held_out_accuracy": None} == {
        "model": "r-M1", "depth": 1, "trained_from": "M0", "run": "r", "iteration": 0, "trained_by": "dpo",
        "items": items, "steps": TRAINING_STEPS, "held_out_accuracy": None,
    }  # fmt: skip
    assert entries[1]["held_out_accuracy"][0]["accuracy"] == accuracy
    assert f"dpo         {items} pairs " in finished.ok("models", "lineage").splitlines()[2]
    assert finished.json("models", "list")[1] == {
        "model": "r-M1", "trained_from": "M0", "location": str(finished.folder / "models" / "r" / "M1")
    }  # fmt: skip


def test_an_exported_policy_carries_its_history(finished: CommandLine) -> None:
    with finished.database.begin() as connection:
        connection.execute(text("""UPDATE training_runs SET settings = '{"beta": 0.25}'"""))
    target = finished.folder / "deep" / "taken"
    finished.ok("models", "export", "r-M1", str(target))
    assert finished.rows("SELECT fingerprint FROM models WHERE name = 'r-M1'") == [(fingerprint(target),)]
    (items,) = finished.rows("SELECT count(*) FROM preference_pairs")[0]
    query = "SELECT accuracy, standard_error FROM evaluations JOIN rounds ON id = round_id ORDER BY number"
    scores = [f"heldout {mean:.3f} ± {error:.3f}" for mean, error in finished.rows(query)]
    readme = (target / "README.md").read_text()
    assert f'base_model: "{finished.checkpoint}"\ntags: [hsstar, dpo]\n' in readme
    given = f"{items} preference pairs of iteration 0 of the run r"
    made = f"by DPO on {given}, in {TRAINING_STEPS} optimiser steps"
    assert f"| M0 | – | elsewhere, and registered from {finished.checkpoint} | {scores[0]} |" in readme
    assert f"| r-M1 | M0 | {made} | {scores[1]} |" in readme
    assert '```json\n{\n  "beta": 0.25\n}\n```' in readme
    assert '\n    "n_p": 2' in readme  # the recipe


def test_the_report_of_the_demo_is_what_the_view_says(
    finished: CommandLine, capsys: pytest.CaptureFixture[str]
) -> None:
    (found,) = finished.json("sql", "select * from iteration_statistics")
    print_report(finished.database, "r")
    lines = {line[:34].strip(): line[34:].strip() for line in capsys.readouterr().out.splitlines()}
    ((tokens,),) = finished.rows("SELECT sum(tokens) FROM samples JOIN rounds ON rounds.id = round_id "
                                 "WHERE kind = 'iteration'")  # fmt: skip
    levels = {level: found[level] for level in ("inlier", "boundary", "outlier")}
    assert sum(levels.values()) == found["problems"] == int(lines["problems"])
    for level, count in levels.items():
        assert lines[level] == f"{count} ({count / 6:.0%})"
    assert lines["samples, of a budget of"] == f"{found['drawn']} / {found['budget']}"
    assert (lines["pre-sampling"], lines["re-sampling"]) == (str(found["drawn_pre"]), str(found["drawn_re"]))
    assert (lines["preference pairs"], lines["tokens"]) == (str(found["pairs"]), f"{tokens:,}")
    speed = tokens / float(found["seconds_sampling"])
    assert lines["tokens per sampling second"] == f"{speed:,.0f}"
    for moment in ("before", "after"):
        mean, error = found[f"heldout_accuracy_{moment}"], found[f"heldout_error_{moment}"]
        assert lines[f"held-out accuracy {moment}"] == f"{mean:.3f} ± {error:.3f}"
    for line, column in (("sampling (worker seconds)", "sampling"), ("verification",) * 2,
                         ("rewards", "reward"), ("training",) * 2, ("evaluation",) * 2):  # fmt: skip
        assert lines[line] == f"{found[f'seconds_{column}']:.1f}"


def test_sql_speaks_four_formats(finished: CommandLine) -> None:
    query = "select number, kind from rounds where run_id = 1 order by kind, number"
    rows = [(0, "evaluation"), (1, "evaluation"), (0, "iteration")]
    assert finished.json("sql", query) == [{"number": number, "kind": kind} for number, kind in rows]
    said = finished.ok("sql", query, "--format", "csv")
    assert list(csv.reader(io.StringIO(said)))[1:] == [[str(number), kind] for number, kind in rows]
    assert "| 0 | iteration |" in finished.ok("sql", query, "--format", "markdown")
    assert "     0  iteration" in finished.ok("sql", query)


def test_workers_are_listed_and_asked_to_stop_by_name_role_or_all_at_once(cli: CommandLine) -> None:
    assert "no worker is registered" in cli.ok("workers")
    assert cli.ok("workers", "stop", "--all") == "no worker is running\n"
    with cli.database.begin() as connection:
        for name, role in (("a@x", "sample"), ("b@x", "score"), ("c@x", "verify"), ("d@x", "verify")):
            workers.register(connection, name, "x", 1, role)
        workers.register(connection, "e@x", "x", 1, ",".join(JobKind))
        workers.register(connection, "gone@x", "x", 1, "sample")
        workers.deregister(connection, "gone@x")
        workers.set_note(connection, "a@x", "no room")
    assert [row["worker"] for row in cli.json("workers")] == ["a@x", "b@x", "c@x", "d@x", "e@x"]
    assert [row["state"] for row in cli.json("workers", "--all")] == ["idle"] * 5 + ["stopped"]
    assert cli.ok("workers").splitlines()[-1].endswith(": no room")
    assert cli.ok("workers", "stop", "a") == "a@x is asked to stop\n"
    assert cli.ok("workers", "stop", "--role", "verify") == "c@x is asked to stop\nd@x is asked to stop\n"
    assert cli.ok("workers", "stop", "--role", "all") == "e@x is asked to stop\n"
    assert [row["state"] for row in cli.json("workers")] == [
        "stopping", "idle", "stopping", "stopping", "stopping"
    ]  # fmt: skip
    assert len(cli.ok("workers", "stop", "--all").splitlines()) == 5
