"""The public views on an example small enough to be counted by hand."""

import json
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from hsstar.domain.lifecycle import IterationState, JobKind, JobState
from hsstar.domain.verdict import Cause
from hsstar.store import datasets, evaluations, method, models, rounds, samples
from hsstar.store.evaluations import HELD_OUT, EvaluationSpec
from hsstar.store.queue import jobs, workers
from hsstar.store.read import progress, studies
from hsstar.store.read.studies import IterationMetrics
from hsstar.store.runs import Run
from hsstar.store.samples import DrawnSample
from tests.store.factory import (
    TRAIN,
    Drawn,
    add_iteration,
    add_job,
    add_problems,
    add_run,
    add_samples,
    change_jobs,
    claim,
    items_of,
    make_recipe,
    select,
)

COLUMNS: dict[str, str] = json.loads(Path(__file__).with_name("view_columns.json").read_text())
"""What is promised, by view."""


@pytest.mark.parametrize("view", COLUMNS)
def test_every_promised_column_is_there(connection: Connection, view: str) -> None:
    found = connection.execute(text(f"SELECT * FROM {view}")).keys()
    assert set(COLUMNS[view].split()) <= set(found)


Example = tuple[Run, int, list[int]]
"""A run, its round, and the ids of its problems."""


@pytest.fixture
def example(connection: Connection) -> Example:
    """Four problems, n = 4, n_p = 2: easy, boundary, too hard, and one left out.

    The boundary problem has 2 + 6 of the remaining budget of 8; three of its slots are drawn, two are
    in flight (a job of three slots, one of them drawn already), three are not enqueued.
    """
    run = add_run(connection, make_recipe(sampling={"n": 4, "n_p": 2}), "example")
    ids = add_problems(connection, 4)
    easy, boundary, hard, left_out = ids
    iteration = add_iteration(connection, run, ids)
    right, wrong = Drawn(Cause.CORRECT, 1.0), Drawn(Cause.INCORRECT, 0.0)
    add_samples(
        connection,
        iteration.id,
        {
            easy: {0: right, 1: right},
            boundary: {0: Drawn(Cause.CORRECT, 0.5), 1: wrong, 2: Drawn(Cause.CORRECT, 0.75)},
            hard: {0: wrong, 1: Drawn(Cause.NO_ANSWER, 0.25)},
        },
    )
    rounds.exclude(connection, iteration.id, {left_out: "too long"})
    method.label_problems(connection, run, iteration)
    method.allot_budget(connection, run, iteration)
    method.build_pairs(connection, run, iteration)
    add_job(connection, iteration.id, JobKind.SAMPLE, {boundary: [2, 3, 4]})
    add_job(connection, iteration.id, JobKind.SAMPLE, {boundary: [5]}, JobState.DONE)
    add_job(connection, iteration.id, JobKind.SAMPLE, {boundary: [6]}, JobState.FAILED)
    rounds.set_state(connection, iteration.id, IterationState.RE_SAMPLING)
    return run, iteration.id, ids


def test_problem_statistics(connection: Connection, example: Example) -> None:
    _, round_id, (easy, boundary, hard, left_out) = example
    # a re-sample counts neither for the accuracy nor for the quality of the pre-samples
    add_samples(
        connection, round_id, {easy: {2: Drawn(Cause.INCORRECT, 0.0)}, hard: {2: Drawn(Cause.CRASHED)}}
    )
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


def test_remaining_budget_is_the_allocators_answer(connection: Connection, example: Example) -> None:
    run, round_id, (_, boundary, _, _) = example
    query = "SELECT * FROM remaining_budget WHERE remaining > 0"
    assert select(connection, query) == [("example", 0, boundary, 10, 3, 2, 5)]
    jobs.retry(connection, run.id, [])  # what a failed job holds is enqueued by its retry
    (job_id,) = rounds.allocate(connection, round_id, JobKind.SAMPLE, 64)
    assert items_of(connection, job_id) == [(boundary, slot) for slot in (5, 7, 8, 9)]
    assert select(connection, query) == []


def test_sample_facts(connection: Connection, example: Example) -> None:
    _, round_id, (_, boundary, _, _) = example
    connection.execute(text("UPDATE samples SET slot = 9 WHERE slot = 2"))
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
    assert (
        found.items()
        >= {
            "run": "example",
            "iteration": 0,
            "state": "re_sampling",
            "model": "M0",
            "problems": 4,
            "budget": 16,
            "drawn": 7,
            "drawn_pre": 6,
            "drawn_re": 1,
            "inlier": 1,
            "boundary": 1,
            "outlier": 1,
            "pairs": 1,
            "tokens": 70,
            "heldout_accuracy_before": None,
            "heldout_accuracy_after": None,
            "output_model": None,
            "finished_at": None,
        }.items()
    )

    add_iteration(connection, run, [], 1)
    _, empty = progress.iteration_statistics(connection, "example")
    counts = "problems drawn drawn_pre drawn_re inlier boundary outlier pairs tokens"
    stages = ("sampling", "verification", "reward", "training", "evaluation")
    assert {empty[name] for name in (*counts.split(), *(f"seconds_{stage}" for stage in stages))} == {0}

    made = models.register_model(connection, "M1", "/models/m1", "weights of M1", run.model_id)
    dataset = datasets.ensure_dataset(connection, "measured")
    evaluated = []
    for number, (model_id, accuracy) in enumerate(((run.model_id, 0.25), (made.id, 0.75))):
        for evaluation_key, shown in ((HELD_OUT, accuracy), ("gsm8k, greedy", accuracy / 2)):
            plan = EvaluationSpec(evaluation_key, dataset, 1, None)
            added = evaluations.add_evaluation(connection, run.id, number, model_id, plan)
            evaluated.append(added.id)
            connection.execute(
                text("""
                    UPDATE evaluations SET accuracy = :shown, standard_error = :shown / 8, finished_at = now()
                    WHERE round_id = :id
                """),
                {"id": added.id, "shown": shown},
            )
    for of_round, kind, seconds in (
        (round_id, JobKind.SAMPLE, 2),
        (round_id, JobKind.SAMPLE, 3),
        (round_id, JobKind.SCORE, 4),
        (round_id, JobKind.TRAIN, 60),
        (round_id, JobKind.VERIFY, 7),
        *((id, JobKind.SAMPLE, 100 + place) for place, id in enumerate(evaluated)),
    ):
        job_id = add_job(connection, of_round, kind, {easy: [0]}, JobState.DONE)
        change_jobs(connection, f"started_at = finished_at - interval '{seconds} seconds'", job_id)
    failed = add_job(connection, round_id, JobKind.SCORE, {easy: [0]}, JobState.FAILED)
    change_jobs(connection, "started_at = finished_at - interval '1 hour'", failed)
    connection.execute(text("UPDATE iterations SET started_at = now() - interval '90 seconds'"))
    rounds.set_state(connection, round_id, IterationState.DONE, made.id)
    found, _ = progress.iteration_statistics(connection, "example")
    assert [float(found[f"seconds_{stage}"]) for stage in stages] == [5, 7, 4, 60, 205]
    assert (found["heldout_accuracy_before"], found["heldout_accuracy_after"]) == (0.25, 0.75)
    assert (found["heldout_error_before"], found["heldout_error_after"]) == (0.25 / 8, 0.75 / 8)
    assert (found["output_model"], found["seconds"]) == ("M1", 90)
    (metrics,) = studies.iteration_metrics(connection, ["example"])
    assert metrics == IterationMetrics(
        "example", 0, 4, 1, 1, 1, 16, 7, 1, 70, 0.25, 0.25 / 8, 0.75, 0.75 / 8, seconds=76.0
    )


def test_worker_activity(connection: Connection) -> None:
    round_id = add_iteration(connection, add_run(connection), []).id
    for place, name in enumerate(("idle", "busy", "silent", "stopped")):
        workers.register(
            connection, name, f"host {place}", place, "sample,verify", f"gpu {place}", f"v{place}"
        )
    later, first = (add_job(connection, round_id, kind) for kind in (JobKind.VERIFY, JobKind.SCORE))
    for job_id, seconds in ((later, 5), (first, 9)):
        claim(connection, job_id, "busy")
        change_jobs(connection, f"started_at = now() - interval '{seconds} seconds'", job_id)
    workers.set_note(connection, "busy", "out of memory\x00")
    workers.heartbeat(connection, "busy", busy=False, jobs_done=7)
    workers.deregister(connection, "stopped")
    connection.execute(
        text("""
            UPDATE workers SET tokens_done = 8, last_heartbeat = now() - interval '61 seconds'
            WHERE name IN ('silent', 'stopped')
        """)
    )
    query = """
        SELECT worker, host, role, state, gpu, version, jobs, job, job_kind,
            extract(epoch FROM now() - since), jobs_done, tokens_done, note, noted_at = now(),
            extract(epoch FROM now() - last_heartbeat)
        FROM worker_activity ORDER BY host
    """
    role, nothing = "sample,verify", (None, None, None)
    assert select(connection, query) == [
        ("idle", "host 0", role, "idle", "gpu 0", "v0", 0, *nothing, 0, 0, None, None, 0),
        (
            "busy",
            "host 1",
            role,
            "busy",
            "gpu 1",
            "v1",
            2,
            first,
            "score",
            9,
            7,
            0,
            "out of memory\ufffd",
            True,
            0,
        ),
        ("silent", "host 2", role, "lost", "gpu 2", "v2", 0, *nothing, 0, 8, None, None, 61),
        ("stopped", "host 3", role, "stopped", "gpu 3", "v3", 0, *nothing, 0, 8, None, None, 61),
    ]


def test_progress_counts_what_the_views_count(connection: Connection, example: Example) -> None:
    run, _, _ = example
    (found,) = progress.round_progress(connection, run.id)
    assert (found.kind, found.number, found.state, found.model) == ("iteration", 0, "re_sampling", "M0")
    assert (found.problems, found.excluded, found.budget, found.allotted) == (4, 1, 16, 14)
    assert (found.drawn, found.verified, found.scored) == (7, 7, 7)
    assert (found.inlier, found.boundary, found.outlier, found.pairs) == (1, 1, 1, 1)
    assert (found.queued, found.running, found.failed) == (1, 0, 1)
    assert (found.slots_in_flight, found.failed_slots) == (2, 1)
    assert (found.training_steps_done, found.training_steps, found.evaluation_key) == (0, None, "")
    assert (found.accuracy, found.standard_error, found.seconds) == (None, None, 0.0)
    assert progress.exclusions(connection, run.id) == [("too long", 1)]


def test_the_progress_of_evaluations_comes_after_that_of_iterations(
    connection: Connection, example: Example
) -> None:
    run, _, ids = example
    add_iteration(connection, run, [], 1)
    dataset = datasets.find_dataset(connection, TRAIN).id
    for number, key in ((1, "b"), (0, "z"), (0, "a")):
        spec = EvaluationSpec(key, dataset, 1, None)
        added = evaluations.add_evaluation(connection, run.id, number, run.model_id, spec)
        rounds.assign_problems(connection, added.id, ids[:2], 3)
        add_samples(connection, added.id, {ids[0]: {0: Drawn(Cause.CORRECT), 1: Drawn(), 2: Drawn()}})
    evaluations.finish(connection, added)
    for seconds, kind in ((10, JobKind.SAMPLE), (4, JobKind.VERIFY)):
        ended = add_job(connection, added.id, kind, {ids[0]: [0]}, JobState.DONE)
        change_jobs(
            connection,
            f"started_at = now() - interval '{seconds} seconds', finished_at = now() - interval '1 second'",
            ended,
        )
    found = progress.round_progress(connection, run.id)
    assert [(of.kind, of.number, of.evaluation_key) for of in found] == [
        ("iteration", 0, ""),
        ("iteration", 1, ""),
        ("evaluation", 0, "a"),
        ("evaluation", 0, "z"),
        ("evaluation", 1, "b"),
    ]
    done, running = found[2], found[3]
    assert (done.state, done.seconds) == ("done", 9.0)
    assert (done.accuracy, done.standard_error) == pytest.approx((1 / 6, 1 / 6))
    assert (running.state, running.accuracy, running.started_at) == ("running", None, None)
    assert (running.budget, running.drawn, running.verified, running.scored) == (6, 3, 1, 0)
    assert [of.state for of in found[:2]] == ["re_sampling", "pre_sampling"]
    empty = found[1]
    assert (empty.problems, empty.excluded, empty.allotted, empty.drawn, empty.verified) == (0, 0, 0, 0, 0)
    assert (empty.inlier, empty.boundary, empty.outlier, empty.pairs, empty.budget) == (0, 0, 0, 0, 0)
    assert (empty.queued, empty.running, empty.failed) == (0, 0, 0)
    assert (empty.slots_in_flight, empty.failed_slots, empty.training_steps_done) == (0, 0, 0)
    assert [of.done for of in found] == [False, False, True, False, False]


def test_reward_quality_is_the_share_of_well_ordered_pairs(connection: Connection, example: Example) -> None:
    """Right: 1, 1, ½, ¾; wrong: 0, 0, ¼: every right sample stands above every wrong one. Then a tie."""
    run, round_id, (_, _, hard, _) = example
    assert progress.reward_quality(connection, run.id) == {0: 1.0}
    add_samples(connection, round_id, {hard: {2: Drawn(Cause.INCORRECT, 1.0)}})
    # of 4 × 4 pairs 12 are in order, 2 are ties, 2 are upside down
    assert progress.reward_quality(connection, run.id) == {0: 13 / 16}
    connection.execute(text("UPDATE samples SET min_reward = NULL WHERE verdict = 'correct'"))
    assert progress.reward_quality(connection, run.id) == {0: None}
