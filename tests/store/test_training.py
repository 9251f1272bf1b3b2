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
from hsstar.domain.preference import rows_seen
from hsstar.domain.prompts import PromptFormat
from hsstar.domain.seeds import derived_seed
from hsstar.domain.verdict import Cause
from hsstar.engines.prompts import prompt_renderer
from hsstar.engines.training.contract import (
    Trainer,
    TrainingExample,
    TrainingPair,
    TrainingRow,
    TrainingStep,
    TrainingVerdict,
)
from hsstar.engines.training.trl import TrlTrainer
from hsstar.stages import train
from hsstar.stages.context import WorkerContext
from hsstar.stages.progress import Progress
from hsstar.stages.training_recorder import TrainingRecorder
from hsstar.store import method, models, training
from hsstar.store.database import Database
from hsstar.store.models import database_id
from hsstar.store.queue import jobs
from tests.engines import tiny
from tests.store import factory, noting
from tests.store.driver import call, rows
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


CHOSEN = "it is one\n\n\\boxed{1}"


def prepare(
    connection: Connection,
    settings: Mapping[str, object] = {},
    policy: Path | str = noting.POLICY,
    prompt: str = "bare",
    number: int = 0,
) -> int:
    """The training job of an iteration with eight pairs, whose policy is not the first one of its run."""
    recipe = factory.make_recipe(seed=41, policy={"model": "M0", "prompt": prompt}, training=dict(settings))
    ids = factory.add_problems(connection, 8)
    run = factory.add_run(connection, recipe, "run")
    sampled = models.register_model(connection, "sampled", str(policy), fingerprint(resolve(policy)))
    iteration = factory.add_iteration(connection, run, ids, number, sampled.id)
    right = factory.Drawn(Cause.CORRECT, 1.0, CHOSEN)
    for place, problem in enumerate(ids):
        worse = factory.Drawn(Cause.INCORRECT, 0.5, "no idea " + "!" * (5 * place))
        drawn = (right, worse, factory.Drawn(Cause.CORRECT, 0.5, f"so it is {place}"), right)
        factory.add_samples(connection, iteration.id, {problem: dict(enumerate(drawn))})
    factory.add_labels(connection, iteration.id, dict.fromkeys(ids, "boundary"))
    method.build_pairs(connection, run, iteration)
    return factory.add_job(connection, iteration.id, JobKind.TRAIN)


@pytest.fixture
def job_id(database: Database) -> int:
    """A training job."""
    return call(database, prepare)


MakeContext = Callable[[Trainer], WorkerContext]


@pytest.fixture
def context(database: Database, tmp_path: Path) -> MakeContext:
    """A worker with this trainer; its policies go to the folder `models`."""

    def make(trainer: Trainer) -> WorkerContext:
        return noting.make_context(database, trainer=trainer, models_folder=tmp_path / "models")

    return make


def take(database: Database, job_id: int) -> jobs.Job:
    return call(database, factory.claim, job_id)


OF_KTO = {"loss_type": "sigmoid", "label_smoothing": 0.0, "nll_weight": 0.0}
OF_KTO |= {"desirable_weight": 1.5, "undesirable_weight": 0.25}


@pytest.mark.parametrize(
    ("objective", "prompt"), [("dpo", "chat"), ("sft", "qwen25-step-cot"), ("kto", "qwen25-step-cot")]
)
def test_the_trainer_gets_rendered_prompts_and_every_setting_of_the_recipe(
    database: Database, context: MakeContext, policy: Path, tmp_path: Path, objective: str, prompt: str
) -> None:
    settings = SETTINGS | {"objective": objective} | (OF_KTO if objective == "kto" else {})
    job_id = call(database, prepare, settings, policy, prompt=prompt, number=2)
    made = tmp_path / "models" / "run" / "M3"
    made.mkdir(parents=True)
    (made / "left").write_text("by an attempt that died after its last step")
    with database.begin() as connection:
        write_marker(made, Marker(database_id(connection), "run", 2, "of that attempt"))
    trainer = NotingTrainer()
    assert train.run(context(trainer), take(database, job_id)) == []
    assert not (made / "left").exists()
    assert [path.name for path in made.parent.iterdir()] == ["M3"]
    (task,) = trainer.tasks
    render = prompt_renderer(PromptFormat(prompt), policy)
    expected: list[TrainingRow] = []
    for place in range(8):
        rendered = render(f"train problem {place}")
        right, wrong = (CHOSEN, f"so it is {place}"), "no idea " + "!" * (5 * place)
        if objective == "dpo":
            expected.append(TrainingPair(rendered, CHOSEN, wrong))
        elif objective == "kto":
            expected += [TrainingVerdict(rendered, response, True) for response in right]
            expected.append(TrainingVerdict(rendered, wrong, False))
        else:
            expected += [TrainingExample(rendered, response) for response in right]
    assert (task.objective, task.policy, task.output.name) == (objective, policy, "M3")
    assert list(task.rows) == expected
    seed = derived_seed(41, "train", 2) % 2**31
    given = {"desirable_weight": 1.0, "undesirable_weight": 1.0, **settings, "seed": seed}
    given |= {"lora_target_modules": ("q_proj",), "quantization": "none"}
    del given["objective"]
    assert asdict(task.settings) == given
    (found,) = rows(
        database,
        "SELECT training_runs.*, models.name, models.location, models.fingerprint, models.parent_id, "
        "(SELECT id FROM models WHERE name = 'sampled') AS sampled "
        "FROM training_runs JOIN models ON models.id = output_model_id",
    )
    assert found.settings == given | {"lora_target_modules": ["q_proj"]}
    assert (found.job_id, found.objective, found.pairs) == (job_id, objective, len(expected))
    items = "preference_pairs" if objective == "dpo" else "samples"
    trained_on = rows(database, f"SELECT FROM {items} WHERE id = ANY (:ids)", ids=found.item_ids)
    assert len(trained_on) == len(set(found.item_ids)) == len(expected)
    assert (found.name, found.location) == ("run-M3", str(made))
    assert found.fingerprint == fingerprint(made) != fingerprint(policy)
    assert found.parent_id == found.model_id == found.sampled


@pytest.mark.parametrize("thinking", ["keep", "remove"])
def test_thinking_is_taught_or_left_out(database: Database, context: MakeContext, thinking: str) -> None:
    job_id = call(database, prepare, {"thinking": thinking})
    with database.begin() as connection:
        factory.execute(
            connection, "UPDATE sample_responses SET response = '<think>so</think>' || E'\\n\\n' || response"
        )
    trainer = NotingTrainer()
    train.run(context(trainer), take(database, job_id))
    begins = "" if thinking == "remove" else "<think>so</think>\n\n"
    pairs = [row for row in trainer.tasks[0].rows if isinstance(row, TrainingPair)]
    assert len(pairs) == 8
    assert {pair.chosen for pair in pairs} == {f"{begins}{CHOSEN}"}
    assert all(pair.rejected.startswith(f"{begins}no idea") for pair in pairs)


@pytest.mark.parametrize("wanted", [5, 20])
def test_rows_are_repeated_or_a_part_of_them_and_recorded_as_they_were_seen(
    database: Database, context: MakeContext, wanted: int
) -> None:
    trainer = NotingTrainer()
    train.run(context(trainer), take(database, call(database, prepare, {"rows": wanted})))
    (task,) = trainer.tasks
    rejected = rows(
        database,
        "SELECT pairs.id, response FROM preference_pairs AS pairs "
        "JOIN sample_responses ON sample_id = rejected_sample_id ORDER BY pairs.id",
    )
    pairs = dict(map(tuple, rejected))
    seen = [[*pairs][place] for place in rows_seen(8, wanted, 41, 0)]
    assert [row.rejected for row in task.rows if isinstance(row, TrainingPair)] == [pairs[id] for id in seen]
    (record,) = rows(database, "SELECT pairs, item_ids FROM training_runs")
    assert (record.pairs, record.item_ids) == (min(8, wanted), seen)
    assert rows(database, "SELECT rows_trained FROM iteration_statistics") == [(wanted,)]


def test_what_a_trainer_tells_is_recorded(database: Database, job_id: int, context: MakeContext) -> None:
    train.run(context(NotingTrainer()), take(database, job_id))
    (found,) = rows(database, "SELECT * FROM training_runs")
    assert found.finished_at is not None
    assert (found.steps, found.steps_done, found.resumed_at) == (6, 6, 0)
    assert (found.truncated, found.left_out) == (5, 1)  # the report's count replaces that of the start
    assert found.lengths == {"prompt": {"min": 3, "max": 40}}
    assert found.metrics == {"loss": 0.25, "last/loss": 0.125}
    assert re.match(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ attempt", found.log)
    assert [line[21:] for line in found.log.splitlines()] == [
        "attempt 1 on w begins of 6 steps, 8 examples, 4 of them cut, 1 left out (1 × equal responses)",
        *(f"intermediate checkpoint at step {step}" for step in (2, 4, 6)),
    ]
    curve = rows(
        database,
        "SELECT run, iteration, model, objective, steps, step, loss, reward_chosen, reward_rejected, "
        "reward_margin, reward_accuracy, logp_chosen, logp_rejected, kl, token_accuracy, grad_norm, "
        "learning_rate, tokens_per_second "
        "FROM training_curves ORDER BY step",
    )
    assert [tuple(row) for row in curve] == [
        ("run", 0, "sampled", "dpo", 6, step, *list(metrics_of(step).values())[:12]) for step in range(1, 7)
    ]


def test_a_training_that_gets_further_each_time_may_fail_as_often_as_it_does(
    database: Database, job_id: int, context: MakeContext, tmp_path: Path
) -> None:
    dies_at = [3, 4, 5, 6]  # checkpoints: 2, 2, 4, 4

    def after_step(step: int) -> None:
        assert list(tmp_path.glob("models/run/.M1-training/*/removed/*")) == []  # of earlier attempts
        if step in dies_at[:1]:
            dies_at.pop(0)
            raise RuntimeError("the power is gone")

    mortal = context(NotingTrainer(after_step))
    for attempts in (1, 2, 1, 2):
        job = take(database, job_id)
        with pytest.raises(RuntimeError, match="the power is gone"):
            train.run(mortal, job)
        assert rows(database, "SELECT attempts FROM jobs") == [(attempts,)]
        call(database, jobs.record_failure, job, "the power is gone", "", 3, divisible=False)
        assert call(database, factory.state_of, job_id) == "queued"
    assert not (tmp_path / "models" / "run" / "M1").exists()
    assert rows(database, "SELECT FROM models WHERE name = 'run-M1'") == []
    train.run(mortal, take(database, job_id))
    (found,) = rows(database, "SELECT log, resumed_at, steps_done FROM training_runs")
    assert (found.resumed_at, found.steps_done) == (4, 6)
    assert [line.split(" of ")[0][21:] for line in found.log.splitlines() if "attempt" in line] == [
        "attempt 1 on w begins",
        "attempt 2 on w resumes from step 2",
        "attempt 3 on w resumes from step 2",
        "attempt 2 on w resumes from step 4",
        "attempt 3 on w resumes from step 4",
    ]
    steps = rows(database, "SELECT step FROM training_steps ORDER BY step")
    assert [row.step for row in steps] == [*range(1, 7)]


WRITE_EVERY = "hsstar.stages.training_recorder._WRITE_EVERY_SECONDS"


def test_steps_are_recorded_at_most_once_a_second(
    database: Database, job_id: int, context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = []
    monkeypatch.setattr(WRITE_EVERY, 3600.0)
    trainer = NotingTrainer(lambda step: recorded.append(len(rows(database, "SELECT FROM training_steps"))))
    train.run(context(trainer), take(database, job_id))
    # what a checkpoint tells is written at once, with the steps before it; the last step too
    assert recorded == [0, 0, 2, 2, 4, 4]
    assert len(rows(database, "SELECT FROM training_steps")) == 6


def test_a_training_continues_while_the_database_is_away(database: Database, job_id: int) -> None:
    class Away(Database):
        away = True

        def begin(self) -> Any:
            if self.away:
                raise DatabaseError("no route to host")
            return super().begin()

    job = take(database, job_id)
    changing = Away(database.url)
    recorder = TrainingRecorder(
        changing, job, call(database, training.begin_training, job, 1, "dpo", {}, []), Progress()
    )
    recorder(TrainingStep(1, 2, {"loss": 0.5}))
    recorder(TrainingStep(2, 2, {"loss": 0.25}))
    changing.away = False
    recorder(TrainingStep(2, 2, {"loss": 0.25}))
    changing.close()
    assert rows(database, "SELECT step, loss FROM training_steps ORDER BY step") == [(1, 0.5), (2, 0.25)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lost", "resumed_at"), [("before it begins", 0), ("before the first step", 0), (3, 2), (6, 4)]
)
def test_an_attempt_that_loses_its_lease_ends_and_leaves_the_policy_to_the_next_one(
    database: Database,
    job_id: int,
    context: MakeContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lost: object,
    resumed_at: int,
) -> None:
    monkeypatch.setattr(WRITE_EVERY, 0.0)

    def reach(point: object) -> None:
        if point == lost:
            with database.begin() as connection:
                connection.execute(
                    text("UPDATE jobs SET state = 'queued', lease_token = NULL, lease_expires_at = NULL")
                )

    class Losing(NotingTrainer):
        @property
        def layout(self) -> str:  # type: ignore[override]
            reach("before the first step")
            return "one process"

    job = take(database, job_id)
    reach("before it begins")
    losing: Any = Losing(reach)
    with pytest.raises(jobs.LeaseLostError):
        train.run(context(losing), job)
    assert len(losing.tasks) == (resumed_at > 0)
    assert (tmp_path / "models" / "run").exists() == (resumed_at > 0)
    assert len(rows(database, "SELECT FROM training_runs")) == (lost != "before it begins")
    assert rows(database, "SELECT FROM models WHERE parent_id IS NOT NULL") == []
    train.run(context(NotingTrainer()), take(database, job_id))
    assert rows(database, "SELECT resumed_at, steps_done FROM training_runs") == [(resumed_at, 6)]
    assert [path.name for path in (tmp_path / "models" / "run").iterdir()] == ["M1"]


@pytest.mark.slow
def test_kto_of_the_demos_policy_is_recorded_and_it_learns(database: Database, context: MakeContext) -> None:
    settings = {"objective": "kto", "learning_rate": 2e-5, "batch_size": 8, "epochs": 3, "beta": 0.5}
    job_id = call(database, prepare, settings | {"maximum_tokens": 80, "scheduler": "constant"})
    train.run(context(TrlTrainer("cpu")), take(database, job_id))
    curve = rows(database, "SELECT * FROM training_curves ORDER BY step")
    assert [(row.objective, row.step, row.steps) for row in curve] == [("kto", n, 9) for n in range(1, 10)]
    assert (curve[0].loss, curve[0].kl) == (pytest.approx(0.5, abs=1e-5), pytest.approx(0, abs=1e-5))
    assert sum(row.loss for row in curve[-3:]) / 3 < 0.5
    last = [row for row in curve[-3:] if row.reward_margin is not None]
    assert last and all(row.reward_chosen > row.reward_rejected for row in last)
    assert all(row.kl >= 0 and row.grad_norm > 0 for row in curve) and any(row.kl > 0 for row in curve)
    (record,) = rows(database, "SELECT pairs, item_ids, left_out FROM training_runs")
    assert (record.pairs, len(set(record.item_ids)), record.left_out) == (24, 24, 0)


def test_the_curve_of_the_real_training_is_recorded_and_it_learns(
    database: Database, context: MakeContext, policy: Path
) -> None:
    settings = {"learning_rate": 1e-3, "batch_size": 2, "epochs": 2, "maximum_tokens": 40}
    train.run(context(TrlTrainer("cpu")), take(database, call(database, prepare, settings, policy)))
    curve = rows(database, "SELECT * FROM training_curves ORDER BY step")
    assert [(row.step, row.steps) for row in curve] == [(step, 8) for step in range(1, 9)]
    first, last = curve[0], curve[-1]
    assert first.loss == pytest.approx(0.693147, abs=1e-5)
    assert last.loss < first.loss
    assert last.reward_margin > first.reward_margin == pytest.approx(0, abs=1e-5)
    assert last.reward_chosen > last.reward_rejected
    assert (last.reward_accuracy, first.learning_rate) == (1.0, 1e-3)
    assert all(row.grad_norm > 0 and row.tokens_per_second > 0 for row in curve)
    (record,) = rows(database, "SELECT truncated, left_out, lengths FROM training_runs")
    assert (record.truncated, record.left_out) == (4, 0)
    assert record.lengths["rejected"] == {"min": 9, "median": 24, "p90": 44, "p99": 44, "max": 44}
