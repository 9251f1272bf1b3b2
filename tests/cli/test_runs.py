"""What the commands on a run say is what its rows say, and `--watch` ends as the run does."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from sqlalchemy import text

from hsstar.checkpoints.resolve import fingerprint
from hsstar.cli.report import print_report
from hsstar.domain.lifecycle import JobKind
from hsstar.store.database import Database
from hsstar.store.queue import workers
from tests.cli.conftest import BROKEN, WATCH, CommandLine, enqueue, hold_up, interrupt, let_time_pass, working
from tests.deterministic import TRAINING_STEPS
from tests.store.factory import HELDOUT, add_problems, add_run, add_worker, change_jobs, claim, make_recipe

HERE = Path(__file__).parent


@pytest.fixture
def half_done(cli: CommandLine) -> CommandLine:
    """The run `r` in pre-sampling: 12 slots in three jobs, one of them done, one running, one failed."""
    enqueue(cli)
    worker = cli.worker(job_samples=4)
    worker.conductor.sweep()
    done, running, failed = worker.queued()
    worker.do(done)
    worker.fail(failed, BROKEN)
    with cli.database.begin() as connection:
        add_worker(connection, "sample-1@box", host="box", process=7, gpu="3")
        claim(connection, running, "sample-1@box")
        change_jobs(connection, "started_at = finished_at - interval '90 s'", done)
    return cli


def test_the_state_of_a_run_is_counted_from_its_rows(half_done: CommandLine) -> None:
    (found,) = half_done.json("status", "r")
    assert found == found | json.loads((HERE / "status.json").read_text())
    assert half_done.ok("status", "r") == (HERE / "status.txt").read_text()


def test_all_runs_are_one_line_each_beside_the_workers(half_done: CommandLine) -> None:
    enqueue(half_done, "later")
    columns = ("run", "iterations", "iterations_done", "state", "jobs_queued", "jobs_running", "jobs_failed")
    r, later = (tuple(run[column] for column in columns) for run in half_done.json("status"))
    assert (r, later) == (("r", 1, 0, "pre-sampling", 2, 1, 1), ("later", 1, 0, "waiting", 0, 0, 0))
    shown = half_done.ok("status")
    assert "r               1                0  pre-sampling            2             1            1" in shown
    assert "sample-1@box  box   sample  3    busy " in shown


def test_what_is_missing_is_listed_slot_by_slot(half_done: CommandLine) -> None:
    rows = half_done.json("status", "r", "--missing")
    slots = [(row["problem"], slot) for row in rows if row["lacks"] == "sample" for slot in row["slots"]]
    drawn = half_done.rows("SELECT problem_id, slot FROM samples")
    everything = half_done.rows("SELECT problem_id, slot FROM round_problems, generate_series(0, 1) AS slot")
    assert sorted(slots) == sorted(set(everything) - set(drawn))
    assert {(row["lacks"], row["held_by"], row["error"]) for row in rows} == {
        ("sample", "running at sample-1@box", None), ("sample", "failed", BROKEN),
        ("verdict", "queued", None), ("reward", "queued", None)
    }  # fmt: skip
    heading, *_ = half_done.ok("status", "r", "--missing").splitlines()
    assert heading.split() == ["round", "problem", "lacks", "slots", "job", "held", "by", "error"]


def test_jobs_are_listed_by_run_state_and_number(half_done: CommandLine) -> None:
    enqueue(half_done, "later")
    half_done.worker().conductor.sweep()
    ids = [job for (job,) in half_done.rows("SELECT id FROM jobs ORDER BY id DESC")]
    assert [job["job"] for job in half_done.json("jobs", "list")] == ids
    assert [job["job"] for job in half_done.json("jobs", "list", "--limit", "2")] == ids[:2]
    assert {job["run"] for job in half_done.json("jobs", "list", "r")} == {"r"}
    (failed,) = half_done.json("jobs", "list", "r", "--state", "failed")
    assert failed == failed | {
        "run": "r", "round": "iteration 0", "kind": "sample", "state": "failed", "samples": 4, "attempts": 1,
        "worker": "w", "error": BROKEN
    }  # fmt: skip
    (done,) = half_done.json("jobs", "list", "--state", "done")
    assert done["seconds"] == 90
    with half_done.database.begin() as connection:
        change_jobs(connection, r"error = E'two\nlines'", failed["job"])
    assert " two lines" in half_done.ok("jobs", "list", "--state", "failed")
    assert " 1 min 30 s " in half_done.ok("jobs", "list", "--state", "done")


POLICY = {"model": "M0", "prompt": "bare", "dtype": "bfloat16"}
WARNING = (
    'sampled in bfloat16 it keeps 4% of its training; keep more by training.save_dtype = "bfloat16" with '
    'save_rounding = "stochastic", by policy.dtype = "float16" (75%), or by a larger learning rate'
)


@pytest.fixture
def finished(alone: CommandLine, shared: Database) -> CommandLine:
    """The run `r`, one iteration of which is done, with held-out problems."""
    alone.use(shared)
    if not alone.rows("SELECT 1 FROM runs"):
        with shared.begin() as connection:
            add_problems(connection, 5, HELDOUT)
        enqueue(alone, evaluation={"dataset": HELDOUT}, policy=POLICY)
        alone.worker().work()
        with shared.begin() as connection:
            connection.execute(text("""UPDATE training_runs SET settings = '{"beta": 0.25}'"""))
    return alone


def test_a_run_that_lacks_nothing_says_so(finished: CommandLine) -> None:
    assert finished.ok("status", "r", "--missing") == "r lacks nothing that is allotted\n"
    assert finished.json("status", "r", "--missing") == []


def test_a_run_without_an_iteration_says_so(cli: CommandLine) -> None:
    with cli.database.begin() as connection:
        add_run(connection, name="new", checkpoint=cli.checkpoint)
    assert cli.ok("status", "new") == "new has no iteration yet; start it: hsstar iterate new --watch\n"


def exported(cli: CommandLine, rows: str) -> list[dict[str, Any]]:
    called = cli("export", rows, "r")
    lines = [json.loads(line) for line in called.out.splitlines()]
    assert (called.code, called.err) == (0, f"{len(lines)} {rows} written\n")
    return lines


def test_samples_and_their_rewards_are_exported(finished: CommandLine) -> None:
    stored = finished.rows("""
        SELECT statement, response, min_reward, step_rewards FROM samples
        JOIN sample_responses ON sample_responses.sample_id = samples.id
        JOIN rewards ON rewards.sample_id = samples.id
        JOIN problems ON problems.id = problem_id ORDER BY problem_id, slot
    """)
    lines = exported(finished, "samples")
    assert [(row["query"], row["resp"], row["min_reward"], row["reward"]) for row in lines] == stored != []
    assert [row["min_reward"] for row in lines] == [float(row["resp"].split()[1]) for row in lines]
    assert exported(finished, "rewards") == [
        {name: row[name] for name in ("query", "resp", "reward", "step_rewards", "correct")} for row in lines
    ]


def test_pairs_are_exported_with_the_prompts_of_the_policy(finished: CommandLine) -> None:
    stored = finished.rows("""
        SELECT statement || E'\\n', chosen_text.response, rejected_text.response
        FROM preference_pairs AS pairs JOIN problems ON problems.id = pairs.problem_id
        JOIN sample_responses AS chosen_text ON chosen_text.sample_id = chosen_sample_id
        JOIN sample_responses AS rejected_text ON rejected_text.sample_id = rejected_sample_id
        ORDER BY pairs.id
    """)
    lines = exported(finished, "pairs")
    assert [(row["prompt"], row["chosen"], row["rejected"]) for row in lines] == stored != []
    file = finished.folder / "pairs.parquet"
    called = finished("export", "pairs", "r", "--format", "parquet", "--output", str(file))
    assert called.err == f"{len(lines)} pairs written to {file}\n"
    assert parquet.read_table(file).to_pylist() == lines


def test_groups_are_exported_with_their_advantages_also_after_pruning(finished: CommandLine) -> None:
    lines = exported(finished, "groups")
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in lines:
        groups.setdefault(row["group"], []).append(row)
    assert {len(rows) for rows in groups.values()} == {rows[0]["group_size"] for rows in groups.values()}
    assert any(rows[0]["varied"] for rows in groups.values())
    for rows in groups.values():
        assert sum(row["advantage"] for row in rows) == pytest.approx(0, abs=1e-9)
        assert rows[0]["varied"] == (len({row["correct"] for row in rows}) == 2)
        assert all(row["advantage"] > 0 for row in rows if row["varied"] and row["correct"])
    stored = finished.rows("""
        SELECT statement || E'\\n', response FROM samples JOIN problems ON problems.id = problem_id
        JOIN sample_responses ON sample_id = samples.id JOIN rounds ON rounds.id = round_id
        WHERE kind = 'iteration' AND verdict IS NOT NULL ORDER BY number, problem_id, slot
    """)
    assert [(row["prompt"], row["response"]) for row in lines] == stored
    with finished.database.begin() as connection:
        connection.execute(text("DELETE FROM sample_responses WHERE sample_id % 2 = 0"))
    kept = [json.loads(line) for line in finished.ok("export", "groups", "r").splitlines()]
    assert kept == [row for row in lines if row in kept] and 0 < len(kept) < len(lines)
    with finished.database.begin() as connection:
        without = {"reward,model": "none", "difficulty,signal": "accuracy", "pairs,rule": "random"}
        for key, value in without.items():
            change = f"UPDATE runs SET recipe = jsonb_set(recipe, '{{{key}}}', '\"{value}\"')"
            connection.execute(text(change))
    assert "run 'r' has no rewards" in finished.refused("export", "groups", "r", "--by", "reward")


def test_a_run_is_shown_whole_and_listed_with_what_it_is_made_of(finished: CommandLine) -> None:
    (listed,) = finished.json("runs", "list")
    assert listed == listed | {"run": "r", "policy": "M0", "dataset": "train", "seed": 0}
    shown = json.loads(finished.ok("runs", "show", "r"))
    assert (shown["sampling"]["n"], shown["sampling"]["n_p"]) == (4, 2)
    assert finished.rows("SELECT recipe FROM runs") == [(shown,)]


def test_a_policy_is_listed_and_exported_with_its_history(finished: CommandLine) -> None:
    ((items,),) = finished.rows("SELECT count(*) FROM preference_pairs")
    ((location, digest),) = finished.rows("SELECT location, fingerprint FROM models WHERE name = 'r-M1'")
    query = "SELECT accuracy, standard_error FROM evaluations JOIN rounds ON id = round_id ORDER BY number"
    measured = finished.rows(query)
    _, entry = finished.json("models", "lineage", "r-M1")
    assert [accuracy["accuracy"] for accuracy in entry.pop("held_out_accuracy")] == [measured[1][0]]
    assert entry == {
        "model": "r-M1", "depth": 1, "trained_from": "M0", "run": "r", "iteration": 0, "trained_by": "dpo",
        "items": items, "steps": TRAINING_STEPS, "sampled_as": "bfloat16", "update_norm": 0.5,
        "update_kept": 0.04, "warning": WARNING, "base": None
    }  # fmt: skip
    assert f"dpo         {items} pairs " in finished.ok("models", "lineage").splitlines()[2]
    assert finished.json("models", "list")[1] == {"model": "r-M1", "trained_from": "M0", "location": location}
    target = finished.folder / "deep" / "taken"
    finished.ok("models", "export", "r-M1", str(target))
    assert fingerprint(target) == digest
    scores = [f"heldout {mean:.3f} ± {error:.3f}" for mean, error in measured]
    readme = (target / "README.md").read_text()
    assert f'base_model: "{finished.checkpoint}"\ntags: [hsstar, dpo]\n' in readme
    given = f"{items} preference pairs of iteration 0 of the run r"
    made = f"by DPO on {given}, in {TRAINING_STEPS} optimiser steps"
    assert f"| M0 | – | elsewhere, and registered from {finished.checkpoint} | {scores[0]} |" in readme
    assert f"| r-M1 | M0 | {made} | {scores[1]} |" in readme
    assert '```json\n{\n  "beta": 0.25\n}\n```' in readme
    assert '\n    "n_p": 2' in readme  # the recipe
    exact = "| float32 | 100.0% | 100.0% | 100.0% |"
    assert f"| float16 | 25.0% | 75.0% | 90.0% |\n{exact}\n\nThe policy: {WARNING}." in readme


def test_a_training_that_rounding_loses_is_told_where_one_looks(finished: CommandLine) -> None:
    for command in (("models", "lineage"), ("status", "r"), ("report", "r")):
        assert finished.ok(*command).splitlines()[-1] == f"r-M1: {WARNING}"
        assert "keep more" not in finished.ok(*command, "--format", "markdown")
    assert "0.5  4% in bfloat16" in finished.ok("models", "lineage")
    rows = finished.json("sql", "select * from weight_updates order by format, layer")
    assert [(row["layer"], row["format"], row["sampled"], row["kept"]) for row in rows] == [
        (layer, number_format, number_format == "bfloat16", kept)
        for number_format, kept in (("bfloat16", 0.04), ("float16", 0.75), ("float32", 1.0))
        for layer in ("all", "model.norm")
    ]
    origins = {(row["run"], row["iteration"], row["model"], row["norm"]) for row in rows}
    assert origins == {("r", 0, "r-M1", 0.5)}


def test_the_figures_of_an_iteration_are_the_same_wherever_they_stand(finished: CommandLine) -> None:
    (viewed,) = finished.json("sql", "select * from iteration_statistics")
    (reported,) = finished.json("report", "r", "--iterations")
    assert json.loads(finished.ok("export", "iterations", "r")) == reported
    assert {
        "correct_share",
        "cut_share",
        "no_answer_share",
        "rows_trained",
    } <= reported.keys() & viewed.keys()
    assert {key: viewed.get(key) for key in reported if key != "faults"} == {
        key: pytest.approx(value) if isinstance(value, float) else value
        for key, value in reported.items()
        if key != "faults"
    }
    correct = f"{viewed['correct']} ({viewed['correct_share']:.0%})"
    for shown in (finished.ok("report", "r"), finished.ok("report", "r", "--iterations")):
        assert re.search(rf"^  correct +{re.escape(correct)} *$", shown, re.MULTILINE), shown
    assert finished("report", "r", "--iterations", "--lengths").code == 2


def test_the_report_of_the_demo_is_what_the_view_says(finished: CommandLine) -> None:
    (found,) = finished.json("sql", "select * from iteration_statistics")
    print_report(finished.database, "r")
    lines = {line[:41].strip(): line[41:].strip() for line in finished.said().splitlines()}
    expected = {
        level: f"{found[level]} ({found[level] / 6:.0%})" for level in ("inlier", "boundary", "outlier")
    }
    for moment in ("before", "after"):
        mean, error = found[f"heldout_accuracy_{moment}"], found[f"heldout_error_{moment}"]
        expected[f"held-out accuracy {moment}"] = f"{mean:.3f} ± {error:.3f}"
    seconds = {"sampling (worker seconds)": "sampling", "rewards": "reward"}
    seconds |= {column: column for column in ("verification", "training", "evaluation")}
    expected |= {line: f"{found[f'seconds_{column}']:.1f}" for line, column in seconds.items()}
    assert lines == lines | expected | {
        "problems": str(found["problems"]),
        "samples, of a budget of": f"{found['drawn']} / {found['budget']}",
        "pre-sampling": str(found["drawn_pre"]),
        "share of the training kept, as sampled": "4% in bfloat16",
        "re-sampling": str(found["drawn_re"]),
        "preference pairs": str(found["pairs"]),
        "tokens": f"{found['tokens']:,}",
        "tokens per sampling second": f"{found['tokens'] / found['seconds_sampling']:,.0f}",
    }


def test_the_lengths_of_a_run_are_those_of_its_responses(finished: CommandLine) -> None:
    said = """
        SELECT
            avg(tokens) FILTER (WHERE kind = 'evaluation' AND number = 0) AS before,
            avg(tokens) FILTER (WHERE kind = 'evaluation' AND number = 1) AS after,
            avg(tokens) FILTER (WHERE kind = 'iteration') AS sampled,
            avg(tokens) FILTER (WHERE id IN (SELECT chosen_sample_id FROM preference_pairs)) AS chosen,
            avg(tokens) FILTER (WHERE id IN (SELECT rejected_sample_id FROM preference_pairs)) AS rejected
        FROM samples JOIN (SELECT id AS round_id, kind, number FROM rounds) AS rounds USING (round_id)
    """
    (expected,) = [[float(value) for value in row] for row in finished.rows(said)]
    first, last = finished.json("report", "r", "--lengths")
    columns = ("held_out", "sampled", "chosen", "rejected")
    assert [first["held_out"], last["held_out"], *(first[column] for column in columns[1:])] == expected
    assert {last[column] for column in columns[1:]} == {None}
    shown = finished.ok("report", "r", "--lengths")
    assert "Run r: tokens a response" in shown
    line = next(line for line in shown.splitlines() if line.startswith("M_0"))
    assert line.split()[:4] == ["M_0", "M0", f"{first['held_out']:.1f}", f"{first['sampled']:.1f}"]


def test_sql_speaks_four_formats(finished: CommandLine) -> None:
    query = "select number, kind from rounds where run_id = 1 order by kind, number"
    rounds = ((0, "evaluation"), (1, "evaluation"), (0, "iteration"))
    rows = [{"number": number, "kind": kind} for number, kind in rounds]
    assert finished.json("sql", query) == rows
    assert finished.csv("sql", query) == [row | {"number": str(row["number"])} for row in rows]
    assert "| 0 | iteration |" in finished.ok("sql", query, "--format", "markdown")
    assert "     0  iteration" in finished.ok("sql", query)


def test_workers_are_listed_and_asked_to_stop_by_name_role_or_all_at_once(cli: CommandLine) -> None:
    assert "no worker is registered" in cli.ok("workers")
    assert cli.ok("workers", "stop", "--all") == "no worker is running\n"
    roles = {"a": "sample", "b": "score", "c": "verify", "d": "verify", "e": ",".join(JobKind), "z": "sample"}
    with cli.database.begin() as connection:
        for name, role in roles.items():
            add_worker(connection, f"{name}@x", role, host="x")
        workers.deregister(connection, "z@x")
        workers.set_note(connection, "a@x", "no room")
    assert [row["worker"] for row in cli.json("workers")] == ["a@x", "b@x", "c@x", "d@x", "e@x"]
    assert [row["state"] for row in cli.json("workers", "--all")] == ["idle"] * 5 + ["stopped"]
    assert cli.ok("workers").splitlines()[-1].endswith(": no room")
    assert cli.ok("workers", "stop", "a") == "a@x is asked to stop\n"
    assert cli.ok("workers", "stop", "--role", "verify") == "c@x is asked to stop\nd@x is asked to stop\n"
    assert cli.ok("workers", "stop", "--role", "all") == "e@x is asked to stop\n"
    states = ["stopping", "idle", "stopping", "stopping", "stopping"]
    assert [row["state"] for row in cli.json("workers")] == states
    assert len(cli.ok("workers", "stop", "--all").splitlines()) == 5


def test_the_iterations_asked_for_are_enqueued_and_watched_to_their_end(cli: CommandLine) -> None:
    enqueue(cli)
    cli.worker().work()
    called = cli("status", "r", "--watch")
    assert (called.code, called.err) == (0, "")
    assert called.out.startswith("iteration 0  done")
    with cli.database.begin() as connection:
        add_problems(connection, 18)
    with working(cli):
        said = cli.ok("iterate", "r", "--iterations", "2", "--watch")
    assert said.startswith("r: iteration 1, 2 enqueued\n")
    assert "iteration 2  done" in said
    assert cli.rows("SELECT state FROM iterations") == [("done",)] * 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", [JobKind.SAMPLE, JobKind.VERIFY, JobKind.SCORE, JobKind.TRAIN])
@pytest.mark.parametrize("terminal", [False, True], ids=["lines", "live"])
def test_failed_jobs_that_hold_a_run_up_end_the_watch_with_1(
    cli: CommandLine, kind: JobKind, terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue(cli)
    failed = hold_up(cli, kind)
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    called = cli("status", "r", "--watch")
    assert called.code == 1
    assert called.err.startswith("hsstar: run 'r' is incomplete and cannot continue: see hsstar status r")
    assert "hsstar jobs retry r, or hsstar iterate r --accept-missing" in called.err
    assert f"{len(failed)} {kind} jobs failed: it broke [now]" in called.out
    assert ("Ctrl-C ends this view only" in called.out) == terminal


def test_a_failed_job_holds_nothing_up_while_others_move(cli: CommandLine) -> None:
    enqueue(cli)
    worker = cli.worker(job_samples=1)
    worker.conductor.sweep()
    worker.fail(worker.queued()[0], BROKEN)
    with working(cli):
        assert cli("status", "r", "--watch").code == 1
    assert cli.rows("SELECT count(*) FROM jobs WHERE state <> 'done'") == [(1,)]


def test_jobs_are_retried_of_one_run_or_one_by_one(cli: CommandLine) -> None:
    enqueue(cli)
    enqueue(cli, "other")
    failed = hold_up(cli)
    assert len(failed) == 4
    wrong = cli.refused("jobs", "retry", "--job", str(failed[0]), "--job", "77777")
    assert wrong == "no failed job has the id 77777; see: hsstar jobs list --state failed"
    assert cli.ok("jobs", "retry", *(f"--job={job}" for job in failed[1:3])) == "2 jobs are queued again\n"
    queued = "SELECT id, attempts FROM jobs WHERE state = 'queued' ORDER BY id"
    assert cli.rows(queued) == [(job, 0) for job in failed[1:3]]
    of_r = cli.json("jobs", "list", "r", "--state", "failed")
    assert cli.ok("jobs", "retry", "r") == f"{len(of_r)} jobs are queued again\n"
    assert {job["run"] for job in cli.json("jobs", "list", "--state", "failed")} == {"other"}
    cli.worker().work()
    assert cli("status", "r", "--watch").code == 0
    assert cli("status", "other", "--watch").code == 1
    assert cli.ok("jobs", "retry").endswith(" jobs are queued again\n")
    cli.worker().work()
    assert cli("status", "other", "--watch").code == 0
    assert cli.ok("jobs", "retry") == "0 jobs are queued again\n"


def test_a_run_continues_without_what_is_missing_once_that_is_accepted(cli: CommandLine) -> None:
    enqueue(cli)
    assert cli.refused("iterate", "r", "--accept-missing").startswith("no job of run 'r' has failed")
    failed = hold_up(cli)
    with working(cli):
        told = cli("iterate", "r", "--accept-missing", "--watch")
    assert told.code == 3  # what is left makes no pair
    assert told.err.startswith(
        "hsstar: r is held (trained-nothing): iteration 0: no pair, nothing was trained"
    )
    said = f"r: {len(failed)} failed jobs discarded; what is missing: hsstar status r --missing\n"
    assert told.out.startswith(said)
    assert cli.rows("SELECT number FROM rounds WHERE kind = 'iteration'") == [(0,)]  # enqueues nothing
    assert set(cli.rows("SELECT state FROM jobs")) == {("done",), ("discarded",)}
    assert "6 problems left out: discarded: it broke [now]" in cli.ok("status", "r")


def test_a_server_of_one_policy_cannot_sample_from_a_trained_one(cli: CommandLine) -> None:
    openai = {"base_url": "http://localhost/v1", "model": "m"}
    with cli.database.begin() as connection:
        add_problems(connection, 12)
        add_run(connection, make_recipe(policy={"model": "M0", "engine": "openai", "openai": openai}), "r")
    message = cli.refused("iterate", "r", "--iterations", "2")
    assert message.startswith("iteration 1 of run 'r' samples from a policy that is trained before")
    cli.ok("iterate", "r")


def test_transformers_samples_from_a_large_policy_where_it_is_asked_for(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demo's policy stands for one; and an engine that is not installed is told where a run is made."""
    monkeypatch.setattr("hsstar.commands.models.LARGE_FROM", 800_000)
    monkeypatch.setattr("hsstar.engines.registry.find_spec", lambda package: None)
    with cli.database.begin() as connection:
        add_problems(connection, 12, "demo-train")
        add_problems(connection, 12, "demo-heldout")
    said = "a policy of 0.0 billion parameters needs policy.engine: 'vllm' (pip install 'hsstar[vllm]')"
    assert cli.refused("runs", "create", cli.recipe()).startswith(said)
    assert cli.refused("evaluate", "builtin:demo-policy", "--benchmarks", "demo-heldout").startswith(said)
    assert cli.rows("SELECT FROM runs") == []
    for name, engine, warning in (
        ("slow", "transformers", "policy.engine = 'transformers' samples from a policy of 0.0 billion"),
        ("fast", "vllm", "the engine 'vllm' needs the package vllm: pip install 'hsstar[vllm]'"),
    ):
        made = cli("runs", "create", cli.recipe(), "--name", name, "--set", f"policy.engine={engine}")
        assert made.code == 0 and f"warning: {warning}" in made.err


def test_ctrl_c_ends_the_view_alone(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    enqueue(cli)
    let_time_pass(monkeypatch, WATCH, interrupt, interrupt)
    called = cli("status", "r", "--watch")
    assert (called.code, called.err) == (130, "\nr continues; look again: hsstar status r --watch\n")
    assert called.out.startswith("iteration 0  waiting")
    called = cli("evaluate", "builtin:demo-policy", "--benchmarks", "train", "--prompt", "bare")
    assert called.code == 130
    assert "\nthe workers go on; the same command shows the rest, or: hsstar status evaluate-" in called.err
