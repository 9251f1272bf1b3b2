"""The scoring stage: every sample gets the rewards of its own steps, from the reward model of its run."""

from random import Random

import pytest

from hsstar.checkpoints.resolve import fingerprint, resolve
from hsstar.domain.errors import EngineDeadError, EngineError
from hsstar.domain.lifecycle import JobKind
from hsstar.domain.verdict import Cause
from hsstar.engines.rewards.contract import RewardRequest
from hsstar.insights.samples import steps_of
from hsstar.recipe.reward import RewardSection
from hsstar.stages import score
from hsstar.stages.context import ComputeError
from hsstar.store import models, runs
from hsstar.store.database import Database
from hsstar.store.queue.jobs import Job
from hsstar.store.read.samples import SampleFilter, sample_page
from tests.store import factory
from tests.store.driver import call, rows
from tests.store.noting import POLICY, REWARD_MODEL, NotingRewardModel, make_context, rewards_of

# one to five steps, and none
STEPS = [("first", "second"), ("only",), ("a", "b", "c", "d"), ("x", "y", "z"), (), ("1", "2", "3", "4", "5")]
KNOWN = factory.Drawn(Cause.CORRECT, 0.125, "scored before")


class Builder:
    """Builds reward models that fail with this error, and keeps them."""

    def __init__(self, fails_with: Exception | None = None) -> None:
        self.fails_with = fails_with
        self.built: list[NotingRewardModel] = []

    def __call__(self, folder: str, section: RewardSection) -> NotingRewardModel:
        self.built.append(NotingRewardModel(folder, section))
        self.built[-1].fails_with = self.fails_with
        return self.built[-1]


def asked_about(statement: str, steps: tuple[str, ...]) -> RewardRequest:
    """The request for a response of these steps."""
    return RewardRequest(statement, steps, " \n\n\n".join(steps), statement.split()[-1], 10)


def add_scoring(database: Database) -> tuple[Job, dict[tuple[int, int], tuple[str, ...]]]:
    """A claimed job over three problems in no order, and the steps by address; slot 6 has its reward."""
    with database.begin() as connection:
        recipe = factory.make_recipe(reward={"model": "mine", "batch_tokens": 333})
        policy = models.register_model(connection, "M0", POLICY, fingerprint(POLICY))
        for name in ("another", "mine"):
            mark = fingerprint(REWARD_MODEL)
            reward_model = models.register_reward_model(connection, name, REWARD_MODEL, "skywork", mark)
        run = runs.create_run(connection, "scored", recipe, policy.id, [reward_model.id])
        ids = factory.add_problems(connection, 3)
        round_id = factory.add_iteration(connection, run, ids).id
        steps = {
            (problem, slot): tuple(f"{step} of {place}-{slot}" for step in STEPS[(place + slot) % len(STEPS)])
            for place, problem in enumerate(ids)
            for slot in range(len(STEPS))
        }
        shuffled = Random(0).sample(sorted(steps), len(steps))
        for problem, slot in shuffled:  # samples arrive as they are drawn
            response = " \n\n\n".join(steps[problem, slot])
            factory.add_samples(connection, round_id, {problem: {slot: factory.Drawn(response=response)}})
        factory.add_samples(connection, round_id, {problem: {6: KNOWN} for problem in ids})
        # the last slot of the last problem belongs to another job
        items = {problem: range(7) for problem in reversed(ids[:2])} | {ids[2]: range(5)}
        del steps[ids[2], 5]
        return factory.claim(connection, factory.add_job(connection, round_id, JobKind.SCORE, items)), steps


def test_the_steps_of_thinking_are_not_scored(database: Database) -> None:
    with database.begin() as connection:
        recipe = factory.make_recipe(policy={"model": "M0", "thinking": "<plan>,</plan>"})
        run = factory.add_run(connection, recipe, checkpoint=resolve(POLICY))
        problem = factory.add_problems(connection, 1)[0]
        round_id = factory.add_iteration(connection, run, [problem]).id
        response = "<plan>one\n\ntwo</plan>\n\nthree\n\nfour"
        factory.add_samples(connection, round_id, {problem: {0: factory.Drawn(response=response)}})
        job = factory.claim(connection, factory.add_job(connection, round_id, JobKind.SCORE, {problem: [0]}))
    build = Builder()
    score.run(make_context(database, reward_model=build), job)
    (request,) = build.built[0].requests
    assert request.steps == ("three", "four")
    with database.begin() as connection:
        (found,) = sample_page(connection, run.id, SampleFilter())
    assert found.response == response
    assert [step.text for step in steps_of(found)] == ["three", "four"]
    assert [step.reward for step in steps_of(found)] == list(rewards_of(request).rewards)


def test_every_sample_gets_the_rewards_of_its_own_steps(database: Database) -> None:
    job, steps = add_scoring(database)
    build = Builder()
    problem_ids = score.run(make_context(database, reward_model=build), job)
    statements = {row.id: row.statement for row in rows(database, "SELECT id, statement FROM problems")}
    assert problem_ids == sorted(statements)
    requests = {address: asked_about(statements[address[0]], own) for address, own in steps.items()}
    (built,) = build.built
    assert len(built.requests) == len(requests)
    assert set(built.requests) == set(requests.values())
    scores = {address: rewards_of(request) for address, request in requests.items()}
    scored = rows(
        database,
        "SELECT problem_id, slot, step_rewards, truncated, min_reward, reward_models.name FROM samples "
        "JOIN rewards ON sample_id = samples.id JOIN reward_models ON reward_models.id = reward_model_id "
        "ORDER BY 1, 2",
    )
    assert scored == [
        (*address, [*found.rewards], found.truncated, min(found.rewards, default=0.0), "mine")
        for address, found in sorted(scores.items())
    ]
    assert rows(database, "SELECT min(min_reward) FROM samples WHERE slot = 6") == [(KNOWN.reward,)]
    recipe = call(database, runs.find_run, "scored").recipe
    assert (built.folder, built.section) == (str(resolve(REWARD_MODEL)), recipe.scoring[0])
    assert call(database, factory.state_of, job.id) == "done"


@pytest.mark.parametrize(
    ("failure", "raised", "closed"),
    [(EngineDeadError("gone"), EngineDeadError, True), (ValueError("odd"), ComputeError, False)],
)
def test_a_reward_model_that_is_dead_is_closed_and_one_that_fails_is_kept(
    database: Database, failure: Exception, raised: type[Exception], closed: bool
) -> None:
    job, _ = add_scoring(database)
    build = Builder(failure)
    context = make_context(database, reward_model=build)
    with pytest.raises(raised, match=str(failure)):
        score.run(context, job)
    assert build.built[0].closed == closed
    assert rows(database, "SELECT FROM rewards") == []
    assert call(database, factory.state_of, job.id) == "running"
    build.built[0].fails_with = build.fails_with = None
    score.run(context, job)
    assert len(build.built) == 1 + closed


def test_a_run_without_reward_model_cannot_score(database: Database) -> None:
    plain = {"reward": {"model": "none"}, "difficulty": {"signal": "accuracy"}, "pairs": {"rule": "random"}}
    with database.begin() as connection:
        run = factory.add_run(connection, factory.make_recipe(**plain), "plain")
        round_id = factory.add_iteration(connection, run, []).id
        job = factory.claim(connection, factory.add_job(connection, round_id, JobKind.SCORE))
    with pytest.raises(EngineError, match=f"run 'plain' has no reward model, so job {job.id} cannot score"):
        score.run(make_context(database), job)
