"""A train job on real rows: what the trainer is handed, what is recorded, and how it survives."""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from hsstar.checkpoints.marker import Marker, write_marker
from hsstar.checkpoints.resolve import fingerprint, resolve
from hsstar.domain.errors import DatabaseError
from hsstar.domain.lifecycle import JobKind
from hsstar.domain.seeds import derived_seed
from hsstar.domain.verdict import Cause
from hsstar.engines.prompts import prompt_renderer
from hsstar.engines.training.contract import (
    ProgressCallback,
    Trainer,
    TrainingEvent,
    TrainingExample,
    TrainingPair,
    TrainingReport,
    TrainingRow,
    TrainingStep,
    TrainingTask,
)
from hsstar.engines.training.trl import TrlTrainer
from hsstar.stages import train
from hsstar.stages.context import WorkerContext
from hsstar.stages.training_recorder import TrainingRecorder
from hsstar.store import method, models, training
from hsstar.store.database import Database
from hsstar.store.models import database_id
from hsstar.store.queue import jobs
from tests.engines import tiny
from tests.store import noting
from tests.store.factory import (
    Drawn,
    add_iteration,
    add_job,
    add_labels,
    add_problems,
    add_run,
    add_samples,
    claim,
    make_recipe,
    state_of,
)
from tests.store.noting import NotingTrainer, metrics_of

SETTINGS = tomllib.loads(Path(__file__).with_name("training_settings.toml").read_text())
"""No value is its default."""


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy with a chat template."""
    folder = tiny.tiny_policy(tmp_path_factory.mktemp("policy"))
    tokenizer = tiny.qwen_tokenizer()
    tokenizer.chat_template = "<user>{{ messages[0].content }}</user>"
    tokenizer.save_pretrained(folder)
    return folder


def prepare(
    connection: Connection,
    settings: Mapping[str, object] = {},
    policy: Path | str = noting.POLICY,
    name: str = "run",
    prompt: str = "bare",
    number: int = 0,
) -> int:
    """The training job of an iteration with eight pairs, whose policy is not the first one of its run."""
    policy_section = {"model": "M0", "prompt": prompt}
    recipe = make_recipe(seed=41, policy=policy_section, training=dict(settings), name=name)
    ids = add_problems(connection, 8)
    run = add_run(connection, recipe, name)
    sampled = models.register_model(connection, "sampled", str(policy), fingerprint(resolve(policy)))
    iteration = add_iteration(connection, run, ids, number, sampled.id)
    right = Drawn(Cause.CORRECT, 1.0, "it is one\n\n\\boxed{1}")
    drawn = {
        problem: {
            0: right,
            1: Drawn(Cause.INCORRECT, 0.5, "no idea " + "!" * (5 * place)),
            2: Drawn(Cause.CORRECT, 0.5, f"so it is {place}"),
            3: right,
        }
        for place, problem in enumerate(ids)
    }
    add_samples(connection, iteration.id, drawn)
    add_labels(connection, iteration.id, dict.fromkeys(ids, "boundary"))
    method.build_pairs(connection, run, iteration)
    return add_job(connection, iteration.id, JobKind.TRAIN)


@pytest.fixture
def job_id(database: Database) -> int:
    """A training job."""
    with database.begin() as connection:
        return prepare(connection)


MakeContext = Callable[[Trainer], WorkerContext]


@pytest.fixture
def context(database: Database, tmp_path: Path) -> MakeContext:
    """A worker with this trainer; its policies go to the folder `models`."""

    def make(trainer: Trainer) -> WorkerContext:
        return noting.make_context(database, trainer=trainer, models_folder=tmp_path / "models")

    return make


def take(database: Database, job_id: int) -> jobs.Job:
    with database.begin() as connection:
        return claim(connection, job_id)


def rows(database: Database, query: str, **parameters: Any) -> list[dict[str, Any]]:
    with database.begin() as connection:
        return [dict(row) for row in connection.execute(text(query), parameters).mappings()]


@pytest.mark.parametrize("prompt", ["qwen25-step-cot", "chat"])
@pytest.mark.parametrize("objective", ["dpo", "sft"])
def test_the_trainer_gets_rendered_prompts_and_every_setting_of_the_recipe(
    database: Database, context: MakeContext, policy: Path, tmp_path: Path, objective: str, prompt: str
) -> None:
    with database.begin() as connection:
        settings = SETTINGS | {"objective": objective}
        job_id = prepare(connection, settings, policy, prompt=prompt, number=2)
    made = tmp_path / "models" / "run" / "M3"
    made.mkdir(parents=True)
    (made / "left").write_text("by an attempt that died after its last step")
    with database.begin() as connection:
        write_marker(made, Marker(database_id(connection), "run", 2, "of that attempt"))
    trainer = NotingTrainer()
    assert train.run(context(trainer), take(database, job_id)) == []
    assert not (made / "left").exists()

    (task,) = trainer.tasks
    render = prompt_renderer(prompt, policy)
    chosen = "it is one\n\n\\boxed{1}"
    expected: list[TrainingRow] = []
    for place in range(8):
        rendered = render(f"train problem {place}")
        if objective == "dpo":
            expected.append(TrainingPair(rendered, chosen, "no idea " + "!" * (5 * place)))
        else:
            expected.append(TrainingExample(rendered, chosen))
            expected.append(TrainingExample(rendered, f"so it is {place}"))
    assert list(task.rows) == expected
    assert (task.objective, task.policy, task.output.name) == (objective, policy, "M3")
    handed = asdict(task.settings)
    assert handed.pop("seed") == derived_seed(41, "train", 2) % 2**31
    assert handed.pop("quantization") == "none"
    assert handed == SETTINGS | {"lora_target_modules": ("q_proj",)}
    (found,) = rows(
        database,
        "SELECT training_runs.*, models.name, models.location, models.fingerprint, models.parent_id "
        "FROM training_runs JOIN models ON models.id = output_model_id",
    )
    assert found["settings"] == asdict(task.settings) | {"lora_target_modules": ["q_proj"]}
    assert (found["job_id"], found["objective"], found["pairs"]) == (job_id, objective, len(expected))
    items = "preference_pairs" if objective == "dpo" else "samples"
    assert (
        len(rows(database, f"SELECT FROM {items} WHERE id = ANY (:ids)", ids=found["item_ids"]))
        == len(set(found["item_ids"]))
        == len(expected)
    )
    assert (found["name"], found["location"]) == ("run-M3", str(made))
    assert found["fingerprint"] == fingerprint(made) != fingerprint(policy)
    (parent,) = rows(database, "SELECT id FROM models WHERE name = 'sampled'")
    assert found["parent_id"] == found["model_id"] == parent["id"]
    assert [path.name for path in made.parent.iterdir()] == ["M3"]


def test_what_a_trainer_tells_is_recorded(database: Database, job_id: int, context: MakeContext) -> None:
    train.run(context(NotingTrainer()), take(database, job_id))

    (found,) = rows(database, "SELECT * FROM training_runs")
    assert found["finished_at"] is not None
    assert (found["steps"], found["steps_done"], found["resumed_at"]) == (6, 6, 0)
    assert (found["truncated"], found["left_out"]) == (5, 1)  # the report's count replaces that of the start
    assert found["lengths"] == {"prompt": {"min": 3, "max": 40}}
    assert found["metrics"] == {"loss": 0.25, "last/loss": 0.125}
    assert re.match(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ attempt", found["log"])
    assert [line[21:] for line in found["log"].splitlines()] == [
        "attempt 1 on w begins of 6 steps, 8 examples, 4 of them cut, 1 left out",
        "intermediate checkpoint at step 2",
        "intermediate checkpoint at step 4",
        "intermediate checkpoint at step 6",
    ]
    curve = rows(
        database,
        "SELECT step, loss, reward_chosen, reward_rejected, reward_margin, reward_accuracy, token_accuracy, "
        "grad_norm, learning_rate, tokens_per_second FROM training_curves ORDER BY step",
    )
    assert [list(row.values()) for row in curve] == [
        [step, *list(metrics_of(step).values())[:9]] for step in range(1, 7)
    ]
    (view,) = rows(database, "SELECT DISTINCT run, iteration, model, objective, steps FROM training_curves")
    assert list(view.values()) == ["run", 0, "sampled", "dpo", 6]


def test_a_training_that_gets_further_each_time_may_fail_as_often_as_it_does(
    database: Database, job_id: int, context: MakeContext, tmp_path: Path
) -> None:
    dies_at = [3, 4, 5, 6]  # checkpoints: 2, 2, 4, 4

    def after_step(step: int) -> None:
        assert list(tmp_path.glob("models/run/.M1-training/*/removed/*")) == []  # of earlier attempts
        if dies_at and step == dies_at[0]:
            dies_at.pop(0)
            raise RuntimeError("the power is gone")

    mortal = NotingTrainer(after_step)
    for attempts in (1, 2, 1, 2):
        job = take(database, job_id)
        with pytest.raises(RuntimeError, match="the power is gone"):
            train.run(context(mortal), job)
        with database.begin() as connection:
            counted = connection.scalar(text("SELECT attempts FROM jobs WHERE id = :id"), {"id": job_id})
            assert counted == attempts
            jobs.record_failure(connection, job, "the power is gone", "", 3, divisible=False)
            assert state_of(connection, job_id) == "queued"
    assert not (tmp_path / "models" / "run" / "M1").exists()
    assert rows(database, "SELECT FROM models WHERE name = 'run-M1'") == []
    train.run(context(mortal), take(database, job_id))

    (found,) = rows(database, "SELECT log, resumed_at, steps_done FROM training_runs")
    assert (found["resumed_at"], found["steps_done"]) == (4, 6)
    told = [line.split(" of ")[0][21:] for line in found["log"].splitlines() if "attempt" in line]
    assert told == [
        "attempt 1 on w begins",
        "attempt 2 on w resumes from step 2",
        "attempt 3 on w resumes from step 2",
        "attempt 2 on w resumes from step 4",
        "attempt 3 on w resumes from step 4",
    ]
    steps = rows(database, "SELECT step FROM training_steps ORDER BY step")
    assert [row["step"] for row in steps] == [*range(1, 7)]


def test_steps_are_recorded_at_most_once_a_second(
    database: Database, job_id: int, context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = []

    def look(step: int) -> None:
        recorded.append(len(rows(database, "SELECT FROM training_steps")))

    monkeypatch.setattr("hsstar.stages.training_recorder._WRITE_EVERY_SECONDS", 3600.0)
    train.run(context(NotingTrainer(look)), take(database, job_id))
    # what a checkpoint tells is written at once, with the steps before it; the last step too
    assert recorded == [0, 0, 2, 2, 4, 4]
    assert len(rows(database, "SELECT FROM training_steps")) == 6


def test_a_training_continues_while_the_database_is_away(database: Database, job_id: int) -> None:
    with database.begin() as connection:
        job = claim(connection, job_id)
        record = training.begin_training(connection, job, 1, "dpo", {}, [])

    class Away(Database):
        away = True

        def begin(self) -> Any:
            if self.away:
                raise DatabaseError("no route to host")
            return super().begin()

    changing = Away(database.url)
    recorder = TrainingRecorder(changing, job, record)
    recorder(TrainingStep(1, 2, {"loss": 0.5}))
    recorder(TrainingStep(2, 2, {"loss": 0.25}))
    changing.away = False
    recorder(TrainingStep(2, 2, {"loss": 0.25}))
    changing.close()
    steps = rows(database, "SELECT step, loss FROM training_steps ORDER BY step")
    assert steps == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}]


LOSE = "UPDATE jobs SET state = 'queued', lease_token = NULL, lease_expires_at = NULL"


def test_an_attempt_that_has_lost_its_lease_ends_and_leaves_nothing_behind(
    database: Database, job_id: int, context: MakeContext, tmp_path: Path
) -> None:
    job = take(database, job_id)
    with database.begin() as connection:
        connection.execute(text(LOSE))
        following = claim(connection, job_id, "another worker")
    trainer = NotingTrainer()
    with pytest.raises(jobs.LeaseLostError):
        train.run(context(trainer), job)
    assert trainer.tasks == []
    assert not (tmp_path / "models" / "run").exists()

    train.run(context(trainer), following)
    assert (tmp_path / "models" / "run" / "M1").is_dir()


def test_a_lease_lost_before_the_first_step_leaves_nothing_on_disk(
    database: Database, job_id: int, context: MakeContext, tmp_path: Path
) -> None:

    class Losing(NotingTrainer):
        @property
        def layout(self) -> str:  # type: ignore[override]
            with database.begin() as connection:
                connection.execute(text(LOSE))
            return "one process"

    losing: Any = Losing()
    with pytest.raises(jobs.LeaseLostError):
        train.run(context(losing), take(database, job_id))
    assert losing.tasks == []
    assert not (tmp_path / "models" / "run").exists()


@pytest.mark.parametrize("lost_after", [3, 6])
def test_a_lease_lost_in_the_middle_ends_the_training(
    database: Database,
    job_id: int,
    context: MakeContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lost_after: int,
) -> None:
    monkeypatch.setattr("hsstar.stages.training_recorder._WRITE_EVERY_SECONDS", 0.0)
    job = take(database, job_id)

    def lose(step: int) -> None:
        if step == lost_after:
            with database.begin() as connection:
                connection.execute(text(LOSE))

    with pytest.raises(jobs.LeaseLostError):
        train.run(context(NotingTrainer(lose)), job)
    assert rows(database, "SELECT FROM models WHERE parent_id IS NOT NULL") == []

    train.run(context(NotingTrainer()), take(database, job_id))
    (found,) = rows(database, "SELECT resumed_at, steps_done FROM training_runs")
    assert found["resumed_at"] == (2 if lost_after == 3 else 4)
    assert found["steps_done"] == 6
    assert [path.name for path in (tmp_path / "models" / "run").iterdir()] == ["M1"]


class MortalTrainer(TrlTrainer):
    """Dies once, after this step."""

    def __init__(self, dies_at: int | None = None) -> None:
        super().__init__("cpu")
        self.dies_at = dies_at

    def train(self, task: TrainingTask, progress: ProgressCallback | None = None) -> TrainingReport:
        def report(event: TrainingEvent) -> None:
            assert progress is not None
            progress(event)
            if isinstance(event, TrainingStep) and event.step == self.dies_at:
                self.dies_at = None
                raise RuntimeError("the power is gone")

        return super().train(task, report)


def test_the_real_training_learns_and_one_that_dies_ends_as_if_it_had_not(
    database: Database, context: MakeContext, policy: Path
) -> None:
    settings = {"learning_rate": 1e-3, "batch_size": 2, "epochs": 2, "maximum_tokens": 40}
    with database.begin() as connection:
        whole = prepare(connection, settings | {"save_every_steps": 0}, policy, "whole")
        broken = prepare(connection, settings | {"save_every_steps": 3}, policy, "broken")
    train.run(context(MortalTrainer()), take(database, whole))

    curve = rows(database, "SELECT * FROM training_curves WHERE run = 'whole' ORDER BY step")
    assert [(row["step"], row["steps"]) for row in curve] == [(step, 8) for step in range(1, 9)]
    assert curve[0]["loss"] == pytest.approx(0.693147, abs=1e-5)
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert curve[-1]["reward_margin"] > curve[0]["reward_margin"] == pytest.approx(0, abs=1e-5)
    assert curve[-1]["reward_chosen"] > curve[-1]["reward_rejected"]
    assert curve[-1]["reward_accuracy"] == 1.0
    assert curve[0]["learning_rate"] == 1e-3
    assert all(row["grad_norm"] > 0 and row["tokens_per_second"] > 0 for row in curve)
    (record,) = rows(database, "SELECT truncated, left_out, lengths FROM training_runs")
    assert (record["truncated"], record["left_out"]) == (4, 0)
    assert record["lengths"]["rejected"] == {"min": 9, "median": 24, "p90": 44, "p99": 44, "max": 44}

    mortal = context(MortalTrainer(dies_at=5))
    job = take(database, broken)
    with pytest.raises(RuntimeError, match="the power is gone"):
        train.run(mortal, job)
    with database.begin() as connection:
        jobs.release(connection, job)
    train.run(mortal, take(database, broken))

    marks = rows(database, "SELECT name, fingerprint FROM models WHERE parent_id IS NOT NULL ORDER BY id")
    assert [row["name"] for row in marks] == ["whole-M1", "broken-M1"]
    assert marks[0]["fingerprint"] == marks[1]["fingerprint"]
    losses = rows(database, "SELECT run, loss FROM training_curves ORDER BY run, step")
    assert [row["loss"] for row in losses[:8]] == [row["loss"] for row in losses[8:]]
