"""Values that no row can hold: the attempt fails at once and says why; jobs are split down to the item."""

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from sqlalchemy import text

from hsstar.checkpoints.resolve import fingerprint, resolve
from hsstar.domain.errors import RefusedRowError
from hsstar.domain.lifecycle import JobKind
from hsstar.engines.registry import build_reward_model, build_sampler
from hsstar.engines.rewards.contract import ProcessRewardModel, RewardRequest, StepRewards
from hsstar.engines.sampling.contract import Completion, SamplingParameters
from hsstar.settings import Settings
from hsstar.store import models, runs
from hsstar.store.database import Database
from hsstar.workers.app import make_app
from hsstar.workers.runtime import Worker
from tests.store.drawing import add_sampling
from tests.store.factory import Drawn, add_iteration, add_job, add_problems, add_samples, make_recipe
from tests.store.noting import POLICY, REWARD_MODEL, NotingRewardModel, NotingSampler, make_context

SEVENS = "sevens are 7"
DUE = "UPDATE jobs SET available_at = now() WHERE state = 'queued' AND kind = :kind RETURNING id"
FAILED = """
    SELECT sum(cardinality(slots)), min(error) FROM jobs JOIN job_items ON job_id = jobs.id
    WHERE state = 'failed' GROUP BY jobs.id
"""


def spoiled(source: str, target: Path, part: str, row: int | None = None) -> Path:
    """A copy of a checkpoint with NaN in the first tensor of this name, or in one row of it."""
    shutil.copytree(resolve(source), target)
    weights = load_file(target / "model.safetensors")
    name = next(name for name in weights if part in name)
    changed = weights[name].clone()
    changed[slice(None) if row is None else row] = float("nan")
    save_file(weights | {name: changed}, target / "model.safetensors", {"format": "pt"})
    return target


def work(database: Database, kind: JobKind, **engines: Any) -> list[tuple[int, str]]:
    """A worker does all jobs of a kind, with two attempts each; size and error of those that failed."""
    folder = Path("/nonexistent")
    context = make_context(database, **engines)
    worker = Worker(
        "w", [kind], Settings(folder, folder, max_attempts=2), context, make_app("test", "memory://")
    )
    while True:
        with database.begin() as connection:
            due = connection.execute(text(DUE), {"kind": kind}).scalars().all()
        if not due:
            break
        for job_id in due:
            worker.run_job(job_id)
    with database.begin() as connection:
        return [(size, error) for size, error in connection.execute(text(FAILED))]


def add_scoring(database: Database, reward_model: str) -> list[int]:
    """A scoring job of eight samples, one of which speaks of sevens; the ids of all and of that one."""
    with database.begin() as connection:
        policy = models.register_model(connection, "M0", POLICY, fingerprint(resolve(POLICY)))
        mark = fingerprint(resolve(reward_model))
        model = models.register_reward_model(connection, "prm", reward_model, "skywork", mark)
        run = runs.create_run(connection, "r", make_recipe(reward={"model": "prm"}), policy.id, [model.id])
        ids = add_problems(connection, 4)
        round_id = add_iteration(connection, run, ids).id
        for place, problem in enumerate(ids):
            texts = ("1 + 1 = 2", SEVENS if place == 2 else "2 + 2 = 4")
            drawn = {slot: Drawn(response=response) for slot, response in enumerate(texts)}
            add_samples(connection, round_id, {problem: drawn})
        add_job(connection, round_id, JobKind.SCORE, {problem: [0, 1] for problem in ids})
        spoken = connection.execute(
            text("SELECT sample_id FROM sample_responses WHERE response = :sevens"), {"sevens": SEVENS}
        )
        return list(spoken.scalars())


def scored(database: Database) -> int:
    with database.begin() as connection:
        return int(connection.execute(text("SELECT count(*) FROM rewards")).scalar_one())


def build(folder: str, recipe: object) -> ProcessRewardModel:
    return build_reward_model(folder, kind="auto", engine="transformers", dtype="float32")


def test_a_reward_that_is_no_number_names_its_sample(database: Database, tmp_path: Path) -> None:
    tokenizer = json.loads((resolve(REWARD_MODEL) / "tokenizer.json").read_text())
    seven = tokenizer["model"]["vocab"]["7"]
    folder = spoiled(REWARD_MODEL, tmp_path / "prm", "embed_tokens", seven)
    (sample_id,) = add_scoring(database, str(folder))
    ((size, error),) = work(database, JobKind.SCORE, reward_model=build)
    assert (size, scored(database)) == (1, 7)
    assert error.endswith(
        f"the reward model gave nan for step 1 of sample {sample_id} (reward); are its weights whole?"
    )


def test_a_reward_model_of_no_numbers_ends_every_job(database: Database, tmp_path: Path) -> None:
    add_scoring(database, str(spoiled(REWARD_MODEL, tmp_path / "prm", "v_head.summary.bias")))
    failed = work(database, JobKind.SCORE, reward_model=build)
    assert sum(size for size, _ in failed) == 8
    assert all("the reward model gave nan" in error for _, error in failed)
    assert scored(database) == 0


class Boastful(NotingRewardModel):
    """Gives sevens more than the most."""

    def score(self, requests: Sequence[RewardRequest]) -> list[StepRewards]:
        return [StepRewards((1.5 if request.steps == (SEVENS,) else 0.5,)) for request in requests]


def test_a_reward_that_the_database_refuses_fails_alone(database: Database) -> None:
    add_scoring(database, REWARD_MODEL)
    ((size, error),) = work(database, JobKind.SCORE, reward_model=Boastful)
    assert (size, scored(database)) == (1, 7)
    assert error.startswith("the database refuses a row: ")


def test_a_policy_of_no_numbers_fails_its_jobs(database: Database, tmp_path: Path) -> None:
    policy = spoiled(POLICY, tmp_path / "policy", "layers.1.mlp.down_proj")
    add_sampling(database, "run", policy, 2, 2)

    def sampler(folder: str, recipe: object) -> Any:
        return build_sampler(folder, engine="transformers", dtype="float32")

    failed = work(database, JobKind.SAMPLE, sampler=sampler)
    assert sum(size for size, _ in failed) == 4
    assert all("the policy gave a token the log-probability nan" in error for _, error in failed)
    with database.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM samples")).scalar_one() == 0


class Numberless(NotingSampler):
    """Has no number for the last of its completions, as an engine that does not look at its logits."""

    def draw(self, requests: Any, parameters: SamplingParameters) -> Iterator[tuple[int, Completion | str]]:
        for index, drawn in super().draw(requests, parameters):
            assert isinstance(drawn, Completion)
            yield index, replace(drawn, cumulative_logprob=math.nan) if index == 0 else drawn


def test_a_sample_without_a_number_fails_its_job_whatever_the_engine(database: Database) -> None:
    add_sampling(database, "run", resolve(POLICY), 2, 2)
    failed = work(database, JobKind.SAMPLE, sampler=lambda folder, recipe: Numberless(folder))
    assert failed
    assert all("the policy gave a sample the log-probability nan" in error for _, error in failed)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO runs (name) VALUES (NULL)",
        "SELECT 1 / 0",
        "SELECT CAST('x' AS integer)",
        "INSERT INTO datasets (name) VALUES ('twice'), ('twice')",
        "SELECT repeat('x', 1073741823) || repeat('x', 1073741823)",
    ],
)
def test_a_refused_row_is_told_from_a_database_that_is_away(database: Database, statement: str) -> None:
    with pytest.raises(RefusedRowError, match="the database refuses a row: "), database.begin() as connection:
        connection.execute(text(statement))
