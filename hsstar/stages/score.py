"""Process rewards: every step of the samples of a job gets its score."""

from sqlalchemy import Connection

from hsstar.domain.errors import EngineDeadError, EngineError
from hsstar.domain.steps import minimum_reward, split_steps
from hsstar.engines.rewards.contract import RewardRequest
from hsstar.stages.context import Workshop, computing, load_context
from hsstar.store import models, samples
from hsstar.store.queue import jobs


def run(workshop: Workshop, job: jobs.Job) -> list[int]:
    """Scores what is unscored of a job; returns the ids of its problems."""
    with workshop.database.begin() as connection:
        context = load_context(connection, job)
        if context.run.reward_model_id is None:
            raise EngineError(f"run {context.run.name!r} has no reward model, so job {job.id} cannot score")
        reward_model = models.get_reward_model(connection, context.run.reward_model_id)
        found = samples.load_unscored(connection, job)
    engine = workshop.engines.reward_model(reward_model, context.recipe)
    requests = [RewardRequest(sample.statement, split_steps(sample.response)) for sample in found]
    try:
        with computing():
            scores = engine.score(requests)
    except EngineDeadError:
        workshop.engines.close_reward_model()
        raise
    scored = [
        samples.SampleReward(sample.id, score.rewards, minimum_reward(score.rewards), score.truncated)
        for sample, score in zip(found, scores, strict=True)
    ]

    def write(connection: Connection) -> None:
        samples.write_rewards(connection, reward_model.id, scored)
        jobs.complete(connection, job)

    workshop.database.run(write)
    return sorted({sample.problem_id for sample in found})
