"""Scoring: rate the samples of a job by every reward of its run.

The rewards of a run follow each other within a job, and each is written when it is there. So an attempt after
a failure computes what is missing, and a sample either waits for scoring or has all it needs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import isfinite

from sqlalchemy import Connection

from hsstar.domain.answers.thinking import reply_of
from hsstar.domain.errors import EngineDeadError, EngineError
from hsstar.domain.steps import Span, steps_at
from hsstar.engines.rewards.contract import ProcessRewardModel, RequestError, RewardRequest, StepRewards
from hsstar.engines.step_splitting import split_responses
from hsstar.recipe.steps import StepsSection
from hsstar.stages.context import JobContext, WorkerContext, computing, load_context
from hsstar.store import models, rewards, samples
from hsstar.store.queue import jobs
from hsstar.store.rewards import RunReward, SampleReward
from hsstar.store.samples import StoredSample


def run(worker: WorkerContext, job: jobs.Job) -> list[int]:
    """Score the unscored samples of a job; return the ids of their problems."""
    with worker.span("load"), worker.database.begin() as connection:
        context = load_context(connection, job)
        needed = rewards.list_of_run(connection, context.run.id)
        if not needed:
            raise EngineError(f"run {context.run.name!r} has no reward model, so job {job.id} cannot score")
        registered = [models.get_reward_model(connection, reward.reward_model_id) for reward in needed]
        unscored = samples.load_unscored(connection, job)
        given = rewards.list_given(connection, [sample.id for sample in unscored])
    with worker.span("load reward models"):
        engines = worker.engines.reward_models([*zip(registered, context.run.recipe.scoring, strict=True)])
    section, thinking = context.recipe.steps, context.recipe.policy.thinking
    unscored = [replace(sample, response=reply_of(sample.response, thinking)) for sample in unscored]
    with worker.span("split into steps", samples=len(unscored)), computing():
        split = _split(unscored, section)
    # what a rule splits, any reader can split again
    kept = {sample.id: spans for sample, spans in zip(unscored, split, strict=True) if section.function}
    asked = [(sample, _request(sample, spans)) for sample, spans in zip(unscored, split, strict=True)]
    for reward, engine in zip(needed, engines, strict=True):
        missing = [pair for pair in asked if (pair[0].id, reward.reward_model_id) not in given]
        given |= {(sample.id, reward.reward_model_id) for sample, _ in missing}  # two rewards may share it
        with worker.span("score", reward=reward.name, samples=len(missing)):
            scored = _score(worker, reward, engine, missing, kept)
        with worker.span("write", samples=len(scored)):
            if reward is needed[-1]:
                worker.database.run(partial(_finish, job, context, reward, scored, unscored))
            elif scored:
                worker.database.run(partial(_write, job, reward, scored))
                worker.progress.moved(job.id)
    return sorted({sample.problem_id for sample in unscored})


def _split(samples: Sequence[StoredSample], section: StepsSection) -> list[tuple[Span, ...]]:
    try:
        return split_responses([sample.response for sample in samples], section)
    except RequestError as error:
        raise error.of(f"steps of sample {samples[error.place].id}") from error


def _request(sample: StoredSample, spans: Sequence[Span]) -> RewardRequest:
    return RewardRequest(
        sample.statement,
        steps_at(sample.response, spans),
        sample.response,
        sample.reference_answer,
        sample.tokens,
    )


def _score(
    worker: WorkerContext,
    reward: RunReward,
    engine: ProcessRewardModel,
    missing: Sequence[tuple[StoredSample, RewardRequest]],
    spans: Mapping[int, Sequence[Span]],
) -> list[SampleReward]:
    try:
        with computing():
            scores = _scores(reward, engine, missing)
            for (sample, _), score in zip(missing, scores, strict=True):
                _check(reward, sample, score.rewards)
    except EngineDeadError:
        worker.engines.close_reward_models()
        raise
    return [
        SampleReward(sample.id, score.rewards, score.truncated, spans.get(sample.id))
        for (sample, _), score in zip(missing, scores, strict=True)
    ]


def _scores(
    reward: RunReward, engine: ProcessRewardModel, missing: Sequence[tuple[StoredSample, RewardRequest]]
) -> list[StepRewards]:
    try:
        return engine.score([request for _, request in missing])
    except RequestError as error:
        raise error.of(f"reward {reward.name!r}, sample {missing[error.place][0].id}") from error


def _check(reward: RunReward, sample: StoredSample, step_rewards: Sequence[float]) -> None:
    """Raise EngineError if a reward is no number: no later stage could use it."""
    for step, value in enumerate(step_rewards):
        if not isfinite(value):
            raise EngineError(
                f"the reward model gave {value} for step {step + 1} of sample {sample.id} ({reward.name}); "
                "are its weights whole?"
            )


def _write(job: jobs.Job, reward: RunReward, scored: Sequence[SampleReward], connection: Connection) -> None:
    jobs.fence(connection, job)
    rewards.write(connection, reward.reward_model_id, scored)


def _finish(
    job: jobs.Job,
    context: JobContext,
    reward: RunReward,
    scored: Sequence[SampleReward],
    unscored: Sequence[StoredSample],
    connection: Connection,
) -> None:
    rewards.write(connection, reward.reward_model_id, scored)
    rewards.combine(connection, context.run.id, job.worker, [sample.id for sample in unscored])
    jobs.complete(connection, job)
