"""A database in which every page has something to show, some of it hostile."""

import json
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from hsstar.domain.lifecycle import IterationState, JobKind, JobState
from hsstar.domain.verdict import Cause
from hsstar.store import method, models, sources
from hsstar.store.runs import Run
from tests.store.factory import (
    Drawn,
    add_evaluation,
    add_iteration,
    add_job,
    add_labels,
    add_problems,
    add_run,
    add_samples,
    add_worker,
    beat,
    change_jobs,
    execute,
    make_recipe,
    set_state,
)

HOSTILE: list[str] = json.loads(Path(__file__).with_name("hostile.json").read_text())
"""Texts that would run, restyle, reorder or hide something if a page took them for more than text."""
LONG = "x<b>" * 250_000
LEVELS = ("inlier", "boundary", "boundary", "outlier", "boundary", "inlier")


def fill(connection: Connection) -> None:
    """A run of two iterations with all that follows from them, others in every state, workers, queues."""
    teacher = {"name": "teacher", "model": "/models/T", "samples": 1, "use": "record"}
    run = add_run(connection, make_recipe(evaluation={"dataset": "heldout"}, sources=[teacher]), "demo")
    problems = add_problems(connection, 18)
    policies = [run.model_id]
    for number in range(2):
        trained = models.register_model(connection, f"demo/M{number + 1}", f"/m{number}", f"w{number}").id
        values = {"parent": policies[-1], "id": trained}
        execute(connection, "UPDATE models SET parent_id = :parent WHERE id = :id", **values)
        policies.append(trained)
        _finish(connection, run, problems[6 * number : 6 * number + 6], number, policies)
    for number, policy in enumerate(policies):
        add_evaluation(connection, run, "heldout", number, policy, 0.4 + number / 10)
    _begin(connection, problems[12:])
    _hold(connection, add_run(connection, name="put-away"), "archived")
    _hold(connection, add_run(connection, name="resting"), "paused")
    evaluating = add_run(
        connection, make_recipe(problems={"dataset": "none", "per_iteration": 1}), "measured"
    )
    add_evaluation(connection, evaluating, "key", 0, None, 0.625)
    _add_workers(connection)


def _finish(connection: Connection, run: Run, problems: list[int], number: int, policies: list[int]) -> None:
    iteration = add_iteration(connection, run, problems, number, policies[number])
    sources.begin(connection, run, iteration, labelled=False)
    (beside,) = sources.list_unfinished(connection, run.id)
    add_samples(connection, beside.id, {key: {0: Drawn(Cause.CORRECT, 0.5)} for key in problems})
    sources.finish(connection, beside)
    add_samples(connection, iteration.id, {
        problem: {slot: _sample(place, slot) for slot in range(8 if LEVELS[place] == "boundary" else 3)}
        for place, problem in enumerate(problems)
    })  # fmt: skip
    add_labels(connection, iteration.id, dict(zip(problems, LEVELS, strict=True)))
    execute(connection, "UPDATE difficulty_labels SET process_quality = 0.5, accuracy = 0.5")
    boundary = [problem for problem, level in zip(problems, LEVELS, strict=True) if level == "boundary"]
    change = "UPDATE round_problems SET allotment = 8 WHERE round_id = :id AND problem_id = ANY (:problems)"
    execute(connection, change, id=iteration.id, problems=boundary)
    method.build_pairs(connection, run, iteration)
    for kind in JobKind:
        add_job(connection, iteration.id, kind, state=JobState.DONE)
    change_jobs(connection, "started_at = finished_at - interval '20 s'")
    _train(connection, iteration.id, policies)
    set_state(connection, iteration.id, IterationState.DONE, policies[-1])
    execute(
        connection,
        "UPDATE iterations SET started_at = finished_at - interval '1 h', reward_quality = 0.75 "
        "WHERE finished_at IS NOT NULL",
    )


def _sample(place: int, slot: int) -> Drawn:
    correct = LEVELS[place] == "inlier" or (LEVELS[place] == "boundary" and slot % 2 == 0)
    text = HOSTILE[(place + slot) % len(HOSTILE)] if place else LONG
    cause = Cause.CORRECT if correct else Cause.INCORRECT
    return Drawn(cause, 0.9 if correct else 0.2, f"{slot} {text}", 10 * (slot + 1), "stop")


def _train(connection: Connection, round_id: int, policies: list[int]) -> None:
    values: dict[str, Any] = {"round": round_id, "model": policies[-2], "output": policies[-1]}
    insert = """
        INSERT INTO training_runs (
            round_id, model_id, output_model_id, objective, settings, pairs, steps_done, steps, finished_at
        )
        VALUES (:round, :model, :output, 'dpo', '{"beta": 0.1}', 9, 30, 30, now())
    """
    execute(connection, insert, **values)
    execute(
        connection,
        "INSERT INTO training_steps (training_run_id, step, loss, reward_margin, reward_accuracy, grad_norm) "
        "SELECT training_runs.id, step, 1.0 / step, step / 30.0, 0.5, 3 FROM training_runs "
        "CROSS JOIN generate_series(1, 30) AS step WHERE round_id = :round",
        round=round_id,
    )


def _begin(connection: Connection, problems: list[int]) -> None:
    """A run that has just begun, and whose jobs have failed with hostile errors."""
    run = add_run(connection, name="broken")
    iteration = add_iteration(connection, run, problems)
    add_samples(connection, iteration.id, {problems[0]: {0: Drawn(Cause.NO_ANSWER)}})
    for text in HOSTILE:
        job = add_job(connection, iteration.id, items={problems[0]: [1]}, state=JobState.FAILED)
        execute(connection, "UPDATE jobs SET error = :text WHERE id = :id", text=text, id=job)


def _hold(connection: Connection, run: Run, kind: str) -> None:
    values = {"kind": kind, "id": run.id, "reason": "asked by ann@box"}
    execute(connection, "UPDATE runs SET held = :kind, held_reason = :reason WHERE id = :id", **values)


def _add_workers(connection: Connection) -> None:
    for place, text in enumerate(HOSTILE):
        worker = add_worker(connection, f"sample-{place}@box", gpu="0")
        beat(connection, worker, jobs_done=3, tokens_done=5_000)
        values = {"text": text, "name": f"sample-{place}@box"}
        execute(connection, "UPDATE workers SET note = :text, noted_at = now() WHERE name = :name", **values)
    execute(connection, "UPDATE workers SET started_at = now() - interval '100 s'")
