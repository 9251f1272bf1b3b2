"""Scoring: rate every step of a job's samples with the process reward model."""

from collections.abc import Sequence
from math import isfinite

from sqlalchemy import Connection

from hsstar.domain.errors import EngineDeadError, EngineError
from hsstar.domain.steps import minimum_reward, steps_at
from hsstar.engines.rewards.contract import RewardRequest
from hsstar.engines.step_splitting import split_responses
from hsstar.stages.context import WorkerContext, computing, load_context
from hsstar.store import models, samples
from hsstar.store.queue import jobs


def _check(sample: samples.StoredSample, rewards: Sequence[float]) -> None:
    """Raise EngineError if a reward is no number: no later stage could use it."""
    for step, reward in enumerate(rewards):
        if not isfinite(reward):
            raise EngineError(
                f"the reward model gave {reward} for step {step + 1} of sample {sample.id}; "
                "are its weights whole?"
            )


def run(worker: WorkerContext, job: jobs.Job) -> list[int]:
    """Score the unscored samples of a job; return the ids of their problems."""
    with worker.database.begin() as connection:
        context = load_context(connection, job)
        if context.run.reward_model_id is None:
            raise EngineError(f"run {context.run.name!r} has no reward model, so job {job.id} cannot score")
        reward_model = models.get_reward_model(connection, context.run.reward_model_id)
        unscored = samples.load_unscored(connection, job)
    engine = worker.engines.reward_model(reward_model, context.recipe)
    try:
        with computing():
            split = split_responses([sample.response for sample in unscored], context.recipe.steps)
            requests = [
                RewardRequest(sample.statement, steps_at(sample.response, spans))
                for sample, spans in zip(unscored, split, strict=True)
            ]
            scores = engine.score(requests)
            for sample, score in zip(unscored, scores, strict=True):
                _check(sample, score.rewards)
    except EngineDeadError:
        worker.engines.close_reward_model()
        raise
    scored = [
        samples.SampleReward(sample.id, score.rewards, minimum_reward(score.rewards), score.truncated)
        for sample, score in zip(unscored, scores, strict=True)
    ]

    def write(connection: Connection) -> None:
        samples.write_rewards(connection, job.worker, reward_model.id, scored)
        jobs.complete(connection, job)

    worker.database.run(write)
    return sorted({sample.problem_id for sample in unscored})
