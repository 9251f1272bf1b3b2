"""A train job on real rows with the real trainer: what it learns from, its curve, and how it survives."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from hsstar.checkpoints.resolve import fingerprint
from hsstar.domain import preference
from hsstar.domain.difficulty import Difficulty
from hsstar.domain.lifecycle import JobKind
from hsstar.domain.preference import Candidate, PairRule
from hsstar.domain.verdict import VERDICT_OF_CAUSE, Cause
from hsstar.engines.training.contract import TrainingEvent, TrainingReport, TrainingStep, TrainingTask
from hsstar.engines.training.trl import TrlTrainer
from hsstar.recipe.recipe import Recipe
from hsstar.stages import train
from hsstar.stages.context import WorkerContext
from hsstar.stages.engine_pool import EnginePool
from hsstar.store import method, models, rounds, runs, training
from hsstar.store.database import Database
from hsstar.store.queue import jobs
from hsstar.store.runs import Run
from tests.engines import tiny
from tests.store.conftest import Scratch
from tests.store.factory import (
    Drawn,
    add_iteration,
    add_job,
    add_labels,
    add_problems,
    add_run,
    add_samples,
    claim,
    keys_of,
    make_recipe,
    state_of,
)
from tests.store.test_rules import CASES, candidates, levels, run_seeds

TRAINING = {
    "learning_rate": 1e-3,
    "batch_size": 2,
    "epochs": 2,
    "maximum_tokens": 40,
    "save_every_steps": 3,
}
RIGHT = Drawn(Cause.CORRECT, 1.0, "it is one\n\n\\boxed{1}")


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tiny_policy(tmp_path_factory.mktemp("policy"))


def prepare(connection: Connection, policy: Path, name: str = "run", **changes: Any) -> tuple[Run, int, int]:
    """A run whose iteration has eight pairs; (run, round id, id of the training job)."""
    recipe: Recipe = make_recipe(
        policy={"model": "M0", "prompt": "bare"}, training=TRAINING | changes, name=name
    )
    ids = add_problems(connection, 8)
    model = models.register_model(connection, "M0", str(policy), fingerprint(policy))
    reward = models.register_reward_model(connection, "prm", "/models/prm", "skywork", "of the prm")
    run = runs.create_run(connection, name, recipe, model.id, reward.id)
    iteration = add_iteration(connection, run, ids)
    drawn = {
        problem: {
            0: RIGHT,
            1: Drawn(Cause.INCORRECT, 0.5, "no idea " + "!" * (5 * number)),
            2: Drawn(Cause.CORRECT, 0.5, f"so it is {number}"),
            3: RIGHT,
        }
        for number, problem in enumerate(ids)
    }
    add_samples(connection, iteration.id, drawn)
    add_labels(connection, iteration.id, dict.fromkeys(ids, "boundary"))
    method.build_pairs(connection, run, iteration)
    return run, iteration.id, add_job(connection, iteration.id, JobKind.TRAIN)


class MortalTrainer(TrlTrainer):
    """Dies when a training has come to a step, as often as it is told."""

    def __init__(self, dies_at: list[int]) -> None:
        super().__init__("cpu")
        self.dies_at = dies_at

    def train(self, task: TrainingTask, progress: Any = None) -> TrainingReport:
        def report(event: TrainingEvent) -> None:
            progress(event)
            if isinstance(event, TrainingStep) and self.dies_at and event.step == self.dies_at[0]:
                self.dies_at.pop(0)
                raise RuntimeError("the power is gone")

        return super().train(task, report)


@pytest.fixture
def context(database: Database, tmp_path: Path) -> Callable[..., WorkerContext]:
    def make(*dies_at: int) -> WorkerContext:
        none: Any = None
        trainer = MortalTrainer(list(dies_at))
        return WorkerContext(
            database, EnginePool(none, none, none, lambda: trainer), 256, tmp_path / "models"
        )

    return make


def take(database: Database, job_id: int) -> jobs.Job:
    with database.begin() as connection:
        return claim(connection, job_id)


def rows(database: Database, query: str, **parameters: Any) -> list[dict[str, Any]]:
    with database.begin() as connection:
        return [dict(row) for row in connection.execute(text(query), parameters).mappings()]


def test_a_training_leaves_a_policy_whose_origin_is_known(
    database: Database, context: Callable[..., WorkerContext], policy: Path, tmp_path: Path
) -> None:
    with database.begin() as connection:
        _, round_id, job_id = prepare(connection, policy)
        pairs = [found[0] for found in training.load_pairs(connection, round_id)]
    train.run(context(), take(database, job_id))

    (found,) = rows(database, "SELECT * FROM training_runs")
    assert found["item_ids"] == pairs
    assert (found["pairs"], found["objective"], found["steps"], found["steps_done"]) == (8, "dpo", 8, 8)
    assert (found["truncated"], found["left_out"], found["resumed_at"]) == (4, 0, 0)
    assert found["lengths"]["rejected"] == {"min": 9, "median": 24, "p90": 44, "p99": 44, "max": 44}
    assert found["settings"]["batch_size"] == 2
    log = [line[21:] for line in found["log"].splitlines()]
    assert log == [
        "attempt 1 on w begins of 8 steps, 8 examples, 4 of them cut, 0 left out",
        "intermediate checkpoint at step 3",
        "intermediate checkpoint at step 6",
    ]
    (made,) = rows(database, "SELECT * FROM models WHERE parent_id IS NOT NULL")
    assert made["name"] == "run-M1"
    assert made["id"] == found["output_model_id"]
    assert made["fingerprint"] == fingerprint(tmp_path / "models" / "run" / "M1")
    assert [path.name for path in (tmp_path / "models" / "run").iterdir()] == ["M1"]


def test_the_curve_has_a_row_per_step(
    database: Database, context: Callable[..., WorkerContext], policy: Path
) -> None:
    with database.begin() as connection:
        _, _, job_id = prepare(connection, policy)
    train.run(context(), take(database, job_id))

    curve = rows(database, "SELECT * FROM training_curves WHERE run = 'run' ORDER BY step")
    assert [(row["step"], row["steps"], row["iteration"], row["model"]) for row in curve] == [
        (step, 8, 0, "M0") for step in range(1, 9)
    ]
    assert curve[0]["loss"] == pytest.approx(0.693147, abs=1e-5)
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert curve[-1]["reward_margin"] > curve[0]["reward_margin"] == pytest.approx(0, abs=1e-5)
    assert curve[-1]["reward_accuracy"] == 1.0
    assert curve[0]["learning_rate"] == 1e-3
    assert all(row["grad_norm"] > 0 and row["tokens_per_second"] > 0 for row in curve)
    assert all(value is not None for row in curve for value in row.values())


def test_a_training_that_dies_goes_on_and_ends_as_if_it_had_not(
    database: Database, context: Callable[..., WorkerContext], policy: Path, tmp_path: Path
) -> None:
    """It dies four times, once more than a job without progress may."""
    with database.begin() as connection:
        _, _, whole = prepare(connection, policy, "whole")
        _, _, broken = prepare(connection, policy, "broken", save_every_steps=1)
    train.run(context(), take(database, whole))

    mortal = context(2, 4, 6, 7)
    for _ in range(4):
        job = take(database, broken)
        with pytest.raises(RuntimeError, match="the power is gone"):
            train.run(mortal, job)
        with database.begin() as connection:
            jobs.record_failure(connection, job, "the power is gone", "", 3, divisible=False)
            assert state_of(connection, broken) == "queued"
    assert not (tmp_path / "models" / "broken" / "M1").exists()
    assert rows(database, "SELECT FROM models WHERE name = 'broken-M1'") == []
    train.run(mortal, take(database, broken))

    marks = rows(database, "SELECT name, fingerprint FROM models WHERE parent_id IS NOT NULL ORDER BY id")
    assert [row["name"] for row in marks] == ["whole-M1", "broken-M1"]
    assert marks[0]["fingerprint"] == marks[1]["fingerprint"]
    curves = rows(
        database, "SELECT step, array_agg(loss) AS losses FROM training_curves GROUP BY step ORDER BY step"
    )
    assert [row["step"] for row in curves] == [*range(1, 9)]
    assert all(row["losses"][0] == row["losses"][1] for row in curves)
    (found,) = rows(
        database, "SELECT log, resumed_at FROM training_runs JOIN models ON models.id = output_model_id "
        "WHERE models.name = 'broken-M1'"
    )  # fmt: skip
    assert found["resumed_at"] == 6
    assert "attempt 2 on w resumes from step 6 of 8 steps" in found["log"]


def test_a_training_without_progress_fails_for_good(
    database: Database, context: Callable[..., WorkerContext], policy: Path
) -> None:
    with database.begin() as connection:
        _, _, job_id = prepare(connection, policy)
    mortal = context(2, 2, 2)
    for state in ("queued", "queued", "failed"):
        job = take(database, job_id)
        with pytest.raises(RuntimeError):
            train.run(mortal, job)
        with database.begin() as connection:
            jobs.record_failure(connection, job, "the power is gone", "", 3, divisible=False)
            assert state_of(connection, job_id) == state


def test_an_attempt_that_has_lost_its_lease_ends_and_leaves_nothing_behind(
    database: Database, context: Callable[..., WorkerContext], policy: Path, tmp_path: Path
) -> None:
    with database.begin() as connection:
        _, _, job_id = prepare(connection, policy, batch_size=1, save_every_steps=1)
    job = take(database, job_id)
    with database.begin() as connection:
        connection.execute(
            text("UPDATE jobs SET state = 'queued', lease_token = NULL, lease_expires_at = NULL")
        )
        following = claim(connection, job_id, "another worker")
    with pytest.raises(jobs.LeaseLostError):
        train.run(context(), job)
    assert not (tmp_path / "models" / "run").exists()

    train.run(context(), following)
    assert (tmp_path / "models" / "run" / "M1").is_dir()


def test_a_lease_lost_in_the_middle_ends_the_training(
    database: Database, context: Callable[..., WorkerContext], policy: Path, tmp_path: Path
) -> None:
    with database.begin() as connection:
        _, _, job_id = prepare(connection, policy, save_every_steps=2)
    job = take(database, job_id)
    shop = context()
    inner = shop.engines.trainer()

    def lose(task: TrainingTask, progress: Any) -> TrainingReport:
        def report(event: TrainingEvent) -> None:
            if isinstance(event, TrainingStep) and event.step == 3:
                with database.begin() as connection:
                    connection.execute(
                        text("UPDATE jobs SET state = 'queued', lease_token = NULL, lease_expires_at = NULL")
                    )
            progress(event)

        return TrlTrainer.train(inner, task, report)  # type: ignore[arg-type]

    inner.train = lose  # type: ignore[method-assign, assignment]
    with pytest.raises(jobs.LeaseLostError):
        train.run(shop, job)
    assert rows(database, "SELECT FROM models WHERE parent_id IS NOT NULL") == []

    train.run(context(), take(database, job_id))
    (found,) = rows(database, "SELECT resumed_at, steps_done FROM training_runs")
    assert found["resumed_at"] in (2, 4)  # it may have saved once more, in its own folder, before it noticed
    assert found["steps_done"] == 8
    assert [path.name for path in (tmp_path / "models" / "run").iterdir()] == ["M1"]


def test_fine_tuning_learns_from_the_correct_samples(
    database: Database, context: Callable[..., WorkerContext], policy: Path
) -> None:
    with database.begin() as connection:
        _, _, job_id = prepare(connection, policy, objective="sft")
    train.run(context(), take(database, job_id))

    (found,) = rows(database, "SELECT * FROM training_runs")
    assert (found["objective"], found["pairs"]) == ("sft", 16)
    learned = rows(
        database,
        "SELECT verdict, count(*) AS samples, count(DISTINCT (problem_id, response)) AS different "
        "FROM samples JOIN sample_responses ON sample_id = id WHERE id = ANY (:ids) GROUP BY verdict",
        ids=found["item_ids"],
    )
    assert learned == [{"verdict": "correct", "samples": 16, "different": 16}]
    curve = rows(database, "SELECT loss, reward_margin FROM training_curves ORDER BY step")
    assert len(curve) == 16
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert curve[0]["reward_margin"] is None


@CASES
@given(
    st.lists(st.tuples(levels, candidates, st.integers(1, 3)), min_size=1, max_size=4),
    st.sampled_from(PairRule),
    st.one_of(st.none(), st.integers(1, 3)),
    st.lists(levels, unique=True, min_size=1, max_size=3),
    run_seeds,
    st.integers(0, 3),
)
def test_examples_are_those_of_the_pure_rule(
    scratch: Scratch,
    found: list[tuple[Difficulty, list[Drawn], int]],
    rule: PairRule,
    at_most: int | None,
    trained: list[Difficulty],
    seed: int,
    number: int,
) -> None:
    """`texts` different responses go round among the samples of a problem."""
    with scratch() as connection:
        recipe = make_recipe(
            seed=seed,
            pairs={"rule": rule, "at_most_per_problem": at_most},
            difficulty={"train": trained},
        )
        run = add_run(connection, recipe)
        ids = add_problems(connection, len(found))
        iteration = add_iteration(connection, run, ids, number)
        add_labels(connection, iteration.id, dict(zip(ids, (level for level, _, _ in found), strict=True)))
        drawn = {
            problem: {
                slot: Drawn(sample.cause, sample.reward, f"text {slot % texts}")
                for slot, sample in enumerate(samples)
            }
            for problem, (_, samples, texts) in zip(ids, found, strict=True)
        }
        add_samples(connection, iteration.id, drawn)
        keys = keys_of(connection, ids)
        expected = [
            (problem, slot)
            for problem, (level, _, _) in zip(ids, found, strict=True)
            if level in trained
            for slot in preference.select_examples(
                [
                    (Candidate(slot, VERDICT_OF_CAUSE[s.cause] if s.cause else None, s.reward), s.response)
                    for slot, s in drawn[problem].items()
                ],
                rule,
                seed=seed,
                iteration=number,
                problem_key=keys[problem],
                at_most=at_most,
            )
        ]

        chosen = method.choose_examples(connection, run, iteration)
        addresses = connection.execute(
            text("""
                SELECT problem_id, slot
                FROM unnest(CAST(:ids AS bigint[])) WITH ORDINALITY AS given (id, place)
                JOIN samples USING (id) ORDER BY place
            """),
            {"ids": chosen},
        )
        assert [tuple(row) for row in addresses] == expected
        loaded = training.load_examples(connection, run, iteration)
        assert [entry[0] for entry in loaded] == chosen


def test_an_excluded_problem_gives_no_example(connection: Connection, policy: Path) -> None:
    run, round_id, _ = prepare(connection, policy, objective="sft")
    iteration = rounds.get_round(connection, round_id)
    before = len(method.choose_examples(connection, run, iteration))
    problem = connection.execute(text("SELECT min(problem_id) FROM round_problems")).scalar_one()
    rounds.exclude(connection, round_id, {problem: "the reference answer cannot be read"})
    assert len(method.choose_examples(connection, run, iteration)) == before - 2
