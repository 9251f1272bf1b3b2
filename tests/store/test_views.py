"""The public views on an example small enough to be counted by hand."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from hsstar.domain.benchmarks import Decoding
from hsstar.domain.lifecycle import IterationState, JobKind, JobState
from hsstar.domain.verdict import Cause
from hsstar.store import counts, datasets, evaluations, method, models, rounds, samples
from hsstar.store.queue import workers
from hsstar.store.read import progress, studies
from hsstar.store.runs import Run
from hsstar.store.samples import DrawnSample
from tests.store import factory
from tests.store.factory import (
    Drawn,
    add_evaluation,
    add_iteration,
    add_job,
    add_samples,
    change_jobs,
    execute,
    select,
)

COLUMNS: dict[str, str] = json.loads(Path(__file__).with_name("view_columns.json").read_text())
"""What is promised, by view."""

EXPECTED: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("example.json").read_text())
"""What is counted in the example."""


@pytest.mark.parametrize("view", COLUMNS)
def test_every_promised_column_is_there(connection: Connection, view: str) -> None:
    query = "SELECT column_name FROM information_schema.columns WHERE table_name = :view"
    assert set(COLUMNS[view].split()) <= {column for (column,) in select(connection, query, view=view)}


Example = tuple[Run, int, list[int]]
"""A run, its round, and the ids of its problems."""


@pytest.fixture
def example(connection: Connection) -> Example:
    """Four problems, n = 4, n_p = 2: easy, boundary, too hard, and one left out.

    The boundary problem has 2 + 6 of the remaining budget of 8; three of its slots are drawn, two are
    in flight (a job of three slots, one of them drawn already), three are not enqueued.
    """
    run = factory.add_run(connection, factory.make_recipe(sampling={"n": 4, "n_p": 2}), "example")
    easy, boundary, hard, left_out = ids = factory.add_problems(connection, 4)
    iteration = add_iteration(connection, run, ids)
    right, wrong = Drawn(Cause.CORRECT, 1.0), Drawn(Cause.INCORRECT, 0.0)
    drawn = {
        easy: {0: right, 1: right},
        boundary: {0: Drawn(Cause.CORRECT, 0.5), 1: wrong, 2: Drawn(Cause.CORRECT, 0.75)},
        hard: {0: wrong, 1: Drawn(Cause.NO_ANSWER, 0.25)},
    }
    add_samples(connection, iteration.id, drawn)
    rounds.exclude(connection, iteration.id, {left_out: "too long"})
    method.label_problems(connection, run, iteration)
    factory.allot_budget(connection, run, iteration)
    method.build_pairs(connection, run, iteration)
    begun = add_job(connection, iteration.id, JobKind.SAMPLE, {boundary: [2, 3, 4]})
    change_jobs(connection, "drawn = 1", begun)
    add_job(connection, iteration.id, JobKind.SAMPLE, {boundary: [5]}, JobState.DONE)
    add_job(connection, iteration.id, JobKind.SAMPLE, {boundary: [6]}, JobState.FAILED)
    factory.set_state(connection, iteration.id, IterationState.RE_SAMPLING)
    return run, iteration.id, ids


def test_problem_statistics(connection: Connection, example: Example) -> None:
    _, round_id, (easy, boundary, hard, left_out) = example
    # a re-sample counts neither for the accuracy nor for the quality of the pre-samples
    late = {easy: {2: Drawn(Cause.INCORRECT, 0.0)}, hard: {2: Drawn(Cause.CRASHED)}}
    add_samples(connection, round_id, late)
    query = """
        SELECT problem_id, drawn, correct, accuracy, process_quality, difficulty, allotment, in_flight, pairs
        FROM problem_statistics WHERE run = 'example' AND iteration = 0 ORDER BY problem_id
    """
    assert select(connection, query) == [
        (easy, 3, 2, 1.0, 1.0, "inlier", 2, 0, 0),
        (boundary, 3, 2, 0.5, 0.25, "boundary", 10, 2, 1),
        (hard, 3, 0, 0.0, 0.125, "outlier", 2, 0, 0),
        (left_out, 0, 0, None, None, None, 2, 0, 0),
    ]


def test_sample_facts(connection: Connection, example: Example) -> None:
    _, round_id, (_, boundary, _, _) = example
    execute(connection, "UPDATE samples SET slot = 9 WHERE slot = 2")
    full = DrawnSample(boundary, 2, "text", 7, 8, "length", -9.5, "engine", 10.5)
    samples.write_samples(connection, round_id, rounds.get_round(connection, round_id).model_id, "v", [full])
    query = """
        SELECT slot, phase, difficulty, verdict, cause, min_reward, tokens, worker, model, finish_reason,
            seed, cumulative_logprob, engine, milliseconds, created_at = now()
        FROM sample_facts WHERE run = 'example' AND iteration = 0 AND problem_id = :id ORDER BY slot
    """
    nothing = (None,) * 6
    assert select(connection, query, id=boundary) == [
        (0, "pre", "boundary", "correct", "correct", 0.5, 10, "w", *nothing, True),
        (1, "pre", "boundary", "incorrect", "incorrect", 0.0, 10, "w", *nothing, True),
        (2, "re", "boundary", *nothing[:3], 8, "v", "M0", "length", 7, -9.5, "engine", 10.5, True),
        (9, "re", "boundary", "correct", "correct", 0.75, 10, "w", *nothing, True),
    ]


def test_iteration_statistics_before_and_after_the_training(connection: Connection, example: Example) -> None:
    run, round_id, (easy, *_) = example
    (found,) = progress.iteration_statistics(connection, "example")
    assert found.items() >= EXPECTED["iteration_statistics"].items()
    add_iteration(connection, run, [], 1)
    _, empty = progress.iteration_statistics(connection, "example")
    counts = "problems drawn drawn_pre drawn_re inlier boundary outlier pairs tokens"
    seconds = [f"seconds_{of}" for of in ("sampling", "verification", "reward", "training", "evaluation")]
    assert {empty[name] for name in (*counts.split(), *seconds)} == {0}
    made = models.register_model(connection, "M1", "/models/m1", "weights of M1", run.model_id)
    evaluated = [
        add_evaluation(connection, run, key, number, model_id, accuracy)
        for number, (model_id, of_held_out) in enumerate(((run.model_id, 0.25), (made.id, 0.75)))
        for key, accuracy in ((evaluations.HELD_OUT, of_held_out), ("gsm8k, greedy", of_held_out / 2))
    ]
    taken = {JobKind.SAMPLE: (2, 3), JobKind.SCORE: (4,), JobKind.TRAIN: (60,), JobKind.VERIFY: (7,)}
    done = [(round_id, kind, lasted) for kind, each in taken.items() for lasted in each]
    done += [(id, JobKind.SAMPLE, 100 + place) for place, id in enumerate(evaluated)]
    for of_round, kind, lasted in done:
        job_id = add_job(connection, of_round, kind, state=JobState.DONE)
        change_jobs(connection, f"started_at = finished_at - interval '{lasted} seconds'", job_id)
    failed = add_job(connection, round_id, JobKind.SCORE, {easy: [0]}, JobState.FAILED)
    change_jobs(connection, "started_at = finished_at - interval '1 hour'", failed)
    execute(connection, "UPDATE iterations SET started_at = now() - interval '90 seconds'")
    rounds.set_quality(connection, round_id, rounds.SampleQuality(0.5, 0.25))
    factory.set_state(connection, round_id, IterationState.DONE, made.id)
    found, _ = progress.iteration_statistics(connection, "example")
    assert [float(found[name]) for name in seconds] == [5, 7, 4, 60, 205]
    assert [found[f"heldout_{of}"] for of in ("accuracy_before", "error_before")] == [0.25, 0.25 / 8]
    assert [found[f"heldout_{of}"] for of in ("accuracy_after", "error_after")] == [0.75, 0.75 / 8]
    assert (found["output_model"], found["seconds"]) == ("M1", 90)
    (metrics,) = studies.iteration_metrics(connection, ["example"])
    assert asdict(metrics) == {
        **{name: found[name] for name in asdict(metrics).keys() & found.keys()},
        "accuracy_before": 0.25,
        "error_before": 0.25 / 8,
        "accuracy_after": 0.75,
        "error_after": 0.75 / 8,
        "seconds": 76.0,
        "reward_auc": 0.5,
    }


def test_problem_lifelines(connection: Connection, example: Example) -> None:
    run, _, (easy, boundary, hard, left_out) = example
    again = add_iteration(connection, run, [hard, left_out], 2).id
    drawn = {hard: {0: Drawn(Cause.CORRECT, 0.5), 1: Drawn(Cause.INCORRECT, 0.25)}}
    add_samples(connection, again, drawn)
    factory.add_labels(connection, again, {hard: "boundary"})
    held_out = add_evaluation(connection, run, evaluations.HELD_OUT, 1)
    rounds.assign_problems(connection, held_out, [easy], 1)
    add_samples(connection, held_out, {easy: {0: Drawn(Cause.CORRECT)}})
    query = """
        SELECT measure, problem_id, policies, drawn, pass_rates, levels, rewards FROM problem_lifelines
        WHERE run = 'example' ORDER BY measure, problem_id
    """
    assert select(connection, query) == [
        ("heldout", easy, [1], [1], [1.0], [None], [None]),
        ("iteration", easy, [0], [2], [1.0], ["inlier"], [1.0]),
        ("iteration", boundary, [0], [3], [2 / 3], ["boundary"], [1.25 / 3]),
        ("iteration", hard, [0, 2], [2, 2], [0.0, 0.5], ["outlier", "boundary"], [0.125, 0.375]),
    ]


def test_response_lengths_and_those_of_policies(connection: Connection, example: Example) -> None:
    run, round_id, (easy, boundary, hard, _) = example
    lengths = {easy: (4, 6), boundary: (10, 20, 60), hard: (9, None)}
    change = "UPDATE samples SET tokens = :tokens WHERE (round_id, problem_id, slot) = (:round, :id, :slot)"
    for problem, own in lengths.items():
        for slot, tokens in enumerate(own):
            execute(connection, change, tokens=tokens, round=round_id, id=problem, slot=slot)
    counts.recount(connection, [round_id])
    # the pair of the boundary problem: the right one with the highest reward, and the wrong one
    query = """
        SELECT iteration, model, difficulty, samples, tokens, tokens_correct, tokens_incorrect,
            pairs, tokens_chosen, tokens_rejected
        FROM response_lengths WHERE run = 'example' ORDER BY difficulty
    """
    assert select(connection, query) == [
        (0, "M0", "boundary", 3, 30, 35, 20, 1, 60, 20),
        (0, "M0", "inlier", 2, 5, 5, None, 0, None, None),
        (0, "M0", "outlier", 2, 9, None, 9, 0, None, None),
    ]
    training = """
        WITH training AS (
            INSERT INTO training_runs (round_id, model_id, objective, settings, pairs, steps, finished_at)
            VALUES (:round, :model, 'dpo', '{"beta": 0.5}', 1, 20, now())
            RETURNING id
        )
        INSERT INTO training_steps (training_run_id, step, reward_chosen)
        SELECT id, step, step FROM training, generate_series(1, 20) AS step
    """
    execute(connection, training, round=round_id, model=run.model_id)
    held_out = add_evaluation(connection, run, evaluations.HELD_OUT, 0)
    rounds.assign_problems(connection, held_out, [easy], 1)
    add_samples(connection, held_out, {easy: {0: Drawn(Cause.CORRECT, tokens=7)}})
    (found,) = progress.policy_lengths(connection, "example")
    assert found == progress.PolicyLengths(0, "M0", 7, 109 / 7, 5, 30, 9, 60, 20, (19 + 20) / 2 / 0.5)


def test_worker_activity(connection: Connection) -> None:
    role, (round_id, _) = "sample,verify", factory.add_round(connection)
    found = {
        name: factory.add_worker(
            connection, name, role, host=f"host {place}", gpu=f"gpu {place}", version=f"v{place}"
        )
        for place, name in enumerate(("idle", "busy", "silent", "stopped"))
    }
    later, first = (add_job(connection, round_id, kind) for kind in (JobKind.VERIFY, JobKind.SCORE))
    for job_id, seconds in ((later, 5), (first, 9)):
        factory.claim(connection, job_id, "busy")
        change_jobs(connection, f"started_at = now() - interval '{seconds} seconds'", job_id)
    workers.set_note(connection, "busy", "out of memory\x00")
    factory.beat(connection, found["busy"], jobs_done=7)
    workers.deregister(connection, "stopped")
    silence = "tokens_done = 8, last_heartbeat = now() - interval '61 seconds'"
    execute(connection, f"UPDATE workers SET {silence} WHERE name IN ('silent', 'stopped')")
    query = """
        SELECT worker, host, role, state, gpu, version,
            tokens_done, extract(epoch FROM now() - last_heartbeat),
            jobs, job, job_kind, extract(epoch FROM now() - since), jobs_done, note, noted_at = now()
        FROM worker_activity ORDER BY host
    """
    idle, busy = (0, None, None, None, 0, None, None), (2, first, "score", 9, 7, "out of memory\ufffd", True)
    assert select(connection, query) == [
        ("idle", "host 0", role, "idle", "gpu 0", "v0", 0, 0, *idle),
        ("busy", "host 1", role, "busy", "gpu 1", "v1", 0, 0, *busy),
        ("silent", "host 2", role, "lost", "gpu 2", "v2", 8, 61, *idle),
        ("stopped", "host 3", role, "stopped", "gpu 3", "v3", 8, 61, *idle),
    ]


def test_progress_counts_what_the_views_count(connection: Connection, example: Example) -> None:
    run, round_id, ids = example
    (found,) = progress.round_progress(connection, run.id)
    assert asdict(found).items() >= EXPECTED["progress"].items()
    assert progress.exclusions(connection, run.id) == [("too long", 1)]
    add_job(connection, round_id, JobKind.SAMPLE, {ids[0]: [4, 5, 6, 7]}, JobState.RUNNING)
    rounds.add_iterations(connection, run, [1])
    assert [row["state"] for row in progress.iteration_statistics(connection, run.name)] == [
        "re_sampling", "waiting"
    ]  # fmt: skip
    attempts = """
        INSERT INTO training_runs (round_id, model_id, objective, settings, pairs, steps_done, steps)
        VALUES (:round, :model, 'dpo', '{}', 1, 7, 8), (:round, :model, 'dpo', '{}', 1, 2, 9)
    """
    execute(connection, attempts, round=round_id, model=run.model_id)
    found, waiting = progress.round_progress(connection, run.id)
    assert (found.training_steps_done, found.training_steps) == (2, 9)  # of the newest attempt
    assert (found.running, found.slots_in_flight) == (1, 2 + 4)
    unknown = {name for name, value in asdict(waiting).items() if value is None}
    assert unknown == {
        "model", "context", "output_model", "mean_tokens", "training_steps", "started_at", "seconds",
        "accuracy", "standard_error",
    }  # fmt: skip
    assert {value for name, value in asdict(waiting).items() if name not in unknown} == {
        "iteration", 1, "waiting", 0, ""
    }  # fmt: skip


def test_a_sample_that_ends_before_its_limit_is_cut_by_the_context(connection: Connection) -> None:
    run = factory.add_run(connection, factory.make_recipe(sampling={"n": 4, "n_p": 4, "max_new_tokens": 20}))
    (problem,) = factory.add_problems(connection, 1)
    iteration = add_iteration(connection, run, [problem])
    dataset = datasets.ensure_dataset(connection, factory.TRAIN)
    spec = evaluations.EvaluationSpec("key", dataset, 4, Decoding(0.0, 1.0, 4, 8))
    evaluation = evaluations.add_evaluation(connection, run.id, 0, run.model_id, spec)
    rounds.assign_problems(connection, evaluation.id, [problem], 4)
    for of in (iteration.id, evaluation.id):
        ends = ((20, "length"), (8, "length"), (8, "stop"), (None, "length"))  # the last one is imported
        drawn = [DrawnSample(problem, slot, "x", None, *end) for slot, end in enumerate(ends)]
        samples.write_samples(connection, of, None, "w", drawn)
    expected = [(iteration.id, 3, 1), (evaluation.id, 3, 0)]
    query = "SELECT round_id, cut, cut_by_context FROM sample_counts ORDER BY round_id"
    assert select(connection, query) == expected
    assert counts.drifted(connection) == []
    counts.recount(connection, [iteration.id, evaluation.id])
    assert select(connection, query) == expected
    execute(connection, "UPDATE sample_counts SET cut_by_context = 2 WHERE round_id = :id", id=evaluation.id)
    assert counts.drifted(connection) == [evaluation.id]


def test_the_progress_of_evaluations_comes_after_that_of_iterations(
    connection: Connection, example: Example
) -> None:
    run, _, ids = example
    add_iteration(connection, run, [], 1)
    for number, key in ((1, "b"), (0, "z"), (0, "a")):
        added = rounds.get_round(connection, add_evaluation(connection, run, key, number))
        rounds.assign_problems(connection, added.id, ids[:2], 3)
        add_samples(connection, added.id, {ids[0]: {0: Drawn(Cause.CORRECT), 1: Drawn(), 2: Drawn()}})
    evaluations.finish(connection, added)
    for seconds, kind in ((10, JobKind.SAMPLE), (4, JobKind.VERIFY)):
        ended = add_job(connection, added.id, kind, {ids[0]: [0]}, JobState.DONE)
        begun = f"started_at = now() - interval '{seconds} seconds'"
        change_jobs(connection, f"{begun}, finished_at = now() - interval '1 second'", ended)
    found = progress.round_progress(connection, run.id)
    assert [(of.kind, of.number, of.evaluation_key, of.state, of.done) for of in found] == [
        ("iteration", 0, "", "re_sampling", False),
        ("iteration", 1, "", "pre_sampling", False),
        ("evaluation", 0, "a", "done", True),
        ("evaluation", 0, "z", "running", False),
        ("evaluation", 1, "b", "running", False),
    ]
    _, empty, done, running, _ = found
    assert (done.seconds, done.accuracy, done.standard_error) == pytest.approx((9, 1 / 6, 1 / 6))
    assert (running.accuracy, running.started_at) == (None, None)
    assert (running.budget, running.drawn, running.verified, running.scored) == (6, 3, 1, 0)
    named: dict[str, object] = {"kind": "iteration", "number": 1, "state": "pre_sampling", "model": "M0"}
    named["started_at"] = empty.started_at
    assert {name: value for name, value in asdict(empty).items() if value} == named


def test_quality_is_the_share_of_well_ordered_pairs_and_of_different_texts(
    connection: Connection, example: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right: 1, 1, ½, ¾; wrong: 0, 0, ¼: every right sample stands above every wrong one. Then a tie."""
    _, round_id, (_, boundary, hard, _) = example
    iteration = rounds.get_round(connection, round_id)
    assert method.sample_quality(connection, iteration) == (1.0, 3 / 7)  # three problems, a text each
    other = Drawn(Cause.INCORRECT, 1.0, "another text")
    add_samples(connection, round_id, {hard: {2: other}})
    # of 4 × 4 pairs 12 are in order, 2 are ties, 2 are upside down
    assert method.sample_quality(connection, iteration) == (13 / 16, 4 / 8)
    with monkeypatch.context() as patch:  # of a big round the first problems only
        patch.setattr(method, "_QUALITY_SAMPLES", 1)
        first = f"CASE WHEN problem_id = {boundary} THEN 0 ELSE 9 + problem_id END"
        execute(connection, f"UPDATE round_problems SET position = {first}")
        assert method.sample_quality(connection, iteration) == (1.0, 1 / 3)
    execute(connection, "UPDATE samples SET min_reward = NULL WHERE verdict = 'correct'")
    assert method.sample_quality(connection, iteration) == (None, 1 / 3)
    rounds.set_quality(connection, round_id, rounds.SampleQuality(0.75, 0.5))
    (found,) = progress.iteration_statistics(connection, "example")
    assert (found["reward_quality"], found["different_texts"]) == (0.75, 0.5)
