"""The public views on an example small enough to be counted by hand."""

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection, text

from hsstar.domain.lifecycle import IterationState, JobKind, JobState
from hsstar.domain.verdict import Cause
from hsstar.store import datasets, evaluations, method, models, rounds
from hsstar.store.evaluations import HELD_OUT, EvaluationSpec
from hsstar.store.queue import jobs, workers
from hsstar.store.read import progress
from hsstar.store.runs import Run
from tests.store.factory import (
    Drawn,
    add_iteration,
    add_job,
    add_problems,
    add_run,
    add_samples,
    claim,
    make_recipe,
)

COLUMNS = {
    "sample_facts": "run iteration problem_id slot phase difficulty verdict cause min_reward tokens "
    "finish_reason model worker created_at cumulative_logprob seed engine milliseconds",
    "problem_statistics": "run iteration problem_id drawn correct accuracy process_quality difficulty "
    "allotment in_flight pairs",
    "iteration_statistics": "run iteration state model problems budget drawn drawn_pre drawn_re inlier "
    "boundary outlier pairs tokens seconds_sampling seconds_verification seconds_reward seconds_training "
    "heldout_accuracy_before heldout_accuracy_after",
    "remaining_budget": "run iteration problem_id allotment drawn in_flight remaining",
    "evaluation_results": "run iteration model benchmark problems samples accuracy standard_error "
    "accuracy_readable solved drawn correct without_verdict mean_tokens truncated_share unreadable left_out "
    "temperature top_p max_new_tokens measure state finished_at",
    "worker_activity": "worker host role state job since jobs_done last_heartbeat jobs note noted_at "
    "gpu tokens_done version stop_requested_at",
    "training_curves": "run iteration model objective step steps loss reward_margin reward_accuracy "
    "reward_chosen reward_rejected token_accuracy grad_norm learning_rate tokens_per_second recorded_at",
}


def rows(connection: Connection, query: str) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(text(query)).mappings()]


@pytest.mark.parametrize("view", COLUMNS)
def test_every_promised_column_is_there(connection: Connection, view: str) -> None:
    found = connection.execute(text(f"SELECT * FROM {view}")).keys()
    assert set(COLUMNS[view].split()) <= set(found)


@pytest.fixture
def example(connection: Connection) -> tuple[Run, list[int]]:
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
    return run, ids


def test_problem_statistics(connection: Connection, example: tuple[Run, list[int]]) -> None:
    _, (easy, boundary, hard, left_out) = example
    found = connection.execute(
        text("""
            SELECT problem_id, drawn, correct, accuracy, process_quality, difficulty, allotment, in_flight,
                pairs
            FROM problem_statistics WHERE run = 'example' AND iteration = 0 ORDER BY problem_id
        """)
    )
    assert [tuple(row) for row in found] == [
        (easy, 2, 2, 1.0, 1.0, "inlier", 2, 0, 0),
        (boundary, 3, 2, 0.5, 0.25, "boundary", 10, 2, 1),
        (hard, 2, 0, 0.0, 0.125, "outlier", 2, 0, 0),
        (left_out, 0, 0, None, None, None, 2, 0, 0),
    ]


def test_remaining_budget_is_the_allocators_answer(
    connection: Connection, example: tuple[Run, list[int]]
) -> None:
    run, (_, boundary, _, _) = example
    found = rows(connection, "SELECT * FROM remaining_budget WHERE remaining > 0")
    assert found == [
        {
            "run": "example",
            "iteration": 0,
            "problem_id": boundary,
            "allotment": 10,
            "drawn": 3,
            "in_flight": 2,
            "remaining": 5,
        }
    ]
    round_id = rounds.list_iterations(connection, run.id)[0].round.id
    jobs.retry(connection, run.id, [])  # what a failed job holds is enqueued by its retry
    (job_id,) = rounds.allocate(connection, round_id, JobKind.SAMPLE, 64)
    assert connection.scalar(text("SELECT slots FROM job_items WHERE job_id = :id"), {"id": job_id}) == [
        5,
        7,
        8,
        9,
    ]
    assert rows(connection, "SELECT * FROM remaining_budget WHERE remaining > 0") == []


def test_sample_facts(connection: Connection, example: tuple[Run, list[int]]) -> None:
    _, (_, boundary, _, _) = example
    found = connection.execute(
        text("""
            SELECT slot, phase, difficulty, verdict, cause, min_reward, tokens, worker FROM sample_facts
            WHERE run = 'example' AND iteration = 0 AND problem_id = :id ORDER BY slot
        """),
        {"id": boundary},
    )
    assert [tuple(row) for row in found] == [
        (0, "pre", "boundary", "correct", "correct", 0.5, 10, "w"),
        (1, "pre", "boundary", "incorrect", "incorrect", 0.0, 10, "w"),
        (2, "re", "boundary", "correct", "correct", 0.75, 10, "w"),
    ]


def test_iteration_statistics(connection: Connection, example: tuple[Run, list[int]]) -> None:
    (found,) = rows(connection, "SELECT * FROM iteration_statistics")
    assert {
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
    }.items() <= found.items()


def test_seconds_by_stage_are_those_of_finished_jobs(
    connection: Connection, example: tuple[Run, list[int]]
) -> None:
    run, (easy, *_) = example
    round_id = rounds.list_iterations(connection, run.id)[0].round.id
    for kind, seconds in ((JobKind.SAMPLE, 2), (JobKind.SAMPLE, 3), (JobKind.SCORE, 4), (JobKind.TRAIN, 60)):
        job_id = add_job(connection, round_id, kind, {easy: [0]}, JobState.DONE)
        connection.execute(
            text("UPDATE jobs SET started_at = finished_at - make_interval(secs => :seconds) WHERE id = :id"),
            {"id": job_id, "seconds": seconds},
        )
    (found,) = rows(connection, "SELECT * FROM iteration_statistics")
    stages = ("sampling", "verification", "reward", "training", "evaluation")
    assert [float(found[f"seconds_{stage}"]) for stage in stages] == [5, 0, 4, 60, 0]


def test_held_out_accuracy_stands_beside_the_policies_it_belongs_to(
    connection: Connection, example: tuple[Run, list[int]]
) -> None:
    run, _ = example
    round_id = rounds.list_iterations(connection, run.id)[0].round.id
    made = models.register_model(connection, "M1", "/models/m1", "weights of M1", run.model_id)
    dataset = datasets.ensure_dataset(connection, "measured")
    for number, (model_id, accuracy) in enumerate(((run.model_id, 0.25), (made.id, 0.75))):
        for evaluation_key, shown in ((HELD_OUT, accuracy), ("gsm8k, greedy", accuracy / 2)):
            plan = EvaluationSpec(evaluation_key, dataset, 1, None)
            added = evaluations.add_evaluation(connection, run.id, number, model_id, plan)
            connection.execute(
                text("UPDATE evaluations SET accuracy = :shown, finished_at = now() WHERE round_id = :id"),
                {"id": added.id, "shown": shown},
            )
    rounds.set_state(connection, round_id, IterationState.DONE, made.id)
    (found,) = rows(connection, "SELECT * FROM iteration_statistics")
    assert (found["heldout_accuracy_before"], found["heldout_accuracy_after"]) == (0.25, 0.75)
    assert found["output_model"] == "M1"


def test_worker_activity(connection: Connection) -> None:
    round_id = add_iteration(connection, add_run(connection), add_problems(connection, 1)).id
    for name in ("idle", "busy", "silent", "stopped"):
        workers.register(connection, name, "host", 1, "sample,verify")
    job = claim(connection, add_job(connection, round_id, JobKind.VERIFY), "busy")
    claim(connection, add_job(connection, round_id, JobKind.VERIFY), "busy")
    workers.set_note(connection, "busy", "out of memory\x00")
    workers.heartbeat(connection, "busy", busy=True, jobs_done=7)
    workers.deregister(connection, "stopped")
    connection.execute(
        text(
            "UPDATE workers SET last_heartbeat = now() - interval '2 minutes' "
            "WHERE name IN ('silent', 'stopped')"
        )
    )
    found = {row["worker"]: row for row in rows(connection, "SELECT * FROM worker_activity")}
    assert {name: row["state"] for name, row in found.items()} == {
        "idle": "idle",
        "busy": "busy",
        "silent": "lost",
        "stopped": "stopped",
    }
    busy = found["busy"]
    assert (busy["host"], busy["role"], busy["job"], busy["job_kind"]) == (
        "host",
        "sample,verify",
        job.id,
        "verify",
    )
    assert busy["jobs_done"] == 7
    assert isinstance(busy["since"], datetime)
    assert busy["since"] <= datetime.now(UTC)
    assert (busy["jobs"], busy["note"]) == (2, "out of memory\ufffd")
    assert isinstance(busy["noted_at"], datetime)
    idle = found["idle"]
    assert (idle["job"], idle["jobs"], idle["note"], idle["noted_at"]) == (None, 0, None, None)


def test_progress_counts_what_the_views_count(connection: Connection, example: tuple[Run, list[int]]) -> None:
    run, _ = example
    (found,) = progress.round_progress(connection, run.id)
    assert (found.kind, found.number, found.state, found.model) == ("iteration", 0, "re_sampling", "M0")
    assert (found.problems, found.excluded, found.budget, found.allotted) == (4, 1, 16, 14)
    assert (found.drawn, found.verified, found.scored) == (7, 7, 7)
    assert (found.inlier, found.boundary, found.outlier, found.pairs) == (1, 1, 1, 1)
    assert (found.queued, found.running, found.failed) == (1, 0, 1)
    assert (found.slots_in_flight, found.failed_slots) == (2, 1)
    assert progress.exclusions(connection, run.id) == [("too long", 1)]


def test_reward_quality_is_the_share_of_well_ordered_pairs(
    connection: Connection, example: tuple[Run, list[int]]
) -> None:
    """Right: 1, 1, ½, ¾; wrong: 0, 0, ¼: every right sample stands above every wrong one. Then a tie."""
    run, (_, _, hard, _) = example
    assert progress.reward_quality(connection, run.id) == {0: 1.0}
    round_id = rounds.list_iterations(connection, run.id)[0].round.id
    add_samples(connection, round_id, {hard: {2: Drawn(Cause.INCORRECT, 1.0)}})
    # of 4 × 4 pairs 12 are in order, 2 are ties, 2 are upside down
    assert progress.reward_quality(connection, run.id) == {0: 13 / 16}
    connection.execute(text("UPDATE samples SET min_reward = NULL WHERE verdict = 'correct'"))
    assert progress.reward_quality(connection, run.id) == {0: None}
