"""What the samples of finished iterations say: of other allocation policies, and of difficulty signals."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from hsstar.domain.allocation.belief import empirical_prior
from hsstar.domain.allocation.policy import Settings, find_policy
from hsstar.domain.allocation.replay import RecordedProblem, Replay, Rules, replay
from hsstar.domain.calibration import Calibration, Observation, calibrate
from hsstar.domain.errors import BadInputError, ConflictError, NotFoundError
from hsstar.recipe.allocation import AllocationSection
from hsstar.recipe.base import parse_section
from hsstar.store import rounds, runs
from hsstar.store.database import Database
from hsstar.store.read.recorded import recorded_problems
from hsstar.store.rounds import Round
from hsstar.store.runs import Run

OURS = ("levels", "uniform", "proportional", "variance", "knapsack", "stop", "pairs")
"""The policies that hsstar comes with."""


@dataclass(frozen=True, slots=True)
class ReplayedPolicy:
    """A policy with its settings in words, and what it would have come to."""

    name: str
    replay: Replay


def calibrate_runs(database: Database, run_names: Sequence[str]) -> Calibration:
    """Compare what count and quality of the pre-samples foretell, over all sampled iterations of some runs.

    Raises:
        NotFoundError: there is no such run.
        ConflictError: no iteration of a run has all its samples.
    """
    observations = []
    with database.begin() as connection:
        chosen = [
            iteration
            for name in dict.fromkeys(run_names)
            for iteration in _sampled(connection, runs.find_run(connection, name), None)
        ]
        for iteration in dict.fromkeys(chosen):  # a run and its fork may share one
            n_p = runs.get_run(connection, iteration.run_id).recipe.sampling.n_p
            problems = recorded_problems(connection, iteration.id)
            observations += [_observation(problem, n_p) for problem in problems]
    return calibrate(observations)


def _observation(problem: RecordedProblem, n_p: int) -> Observation:
    pre, further = problem.samples[:n_p], problem.samples[n_p:]
    rewards = [sample.reward for sample in pre if sample.reward is not None]
    return Observation(
        sum(sample.correct is True for sample in pre),
        sum(sample.correct is not True for sample in pre),
        sum(rewards) / len(rewards) if len(rewards) == len(pre) else None,
        sum(sample.correct is True for sample in further),
        sum(sample.correct is False for sample in further),
    )


def _sampled(connection: Connection, run: Run, number: int | None) -> list[Round]:
    """Return the iterations of a run (or that one) that have all their samples, at least one.

    Those that a fork shares are among them.
    """
    of_run = rounds.list_shared_iterations(connection, run.id)
    ended = [each.round for each in of_run if each.state in ("training", "evaluating", "done")]
    if number is None and not ended:
        raise ConflictError(f"no iteration of {run.name!r} has all its samples yet")
    if number is None:
        return ended
    if number not in [each.round.number for each in of_run]:
        raise NotFoundError(f"run {run.name!r} has no iteration {number}")
    chosen = [each for each in ended if each.number == number]
    if not chosen:
        raise ConflictError(f"iteration {number} of {run.name!r} still samples; ask when it has ended")
    return chosen


def parse_choice(text: str) -> dict[str, Any]:
    """Return the keys of `[allocation]` in a text such as `pairs,waves=4,worth=cap`."""
    policy, *changes = text.split(",")
    choice: dict[str, Any] = {"policy": policy}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise BadInputError(f"the policy {text!r}: {change!r} is no KEY=VALUE")
        choice[key] = value
    return choice


def replay_policies(
    database: Database,
    run_name: str,
    iteration: int | None,
    choices: Sequence[dict[str, Any]],
    repetitions: int,
) -> list[ReplayedPolicy]:
    """Replay policies, each given by its keys of `[allocation]`, on an iteration (None: the last with pairs).

    Raises:
        NotFoundError: there is no such run or iteration.
        ConflictError: the iteration still samples.
        RecipeError: a choice is no allocation.
    """
    sections = [parse_section(AllocationSection, choice, "--policy") for choice in choices]
    with database.begin() as connection:
        chosen = _sampled(connection, runs.find_run(connection, run_name), iteration)[-1]
        recipe = runs.get_run(connection, chosen.run_id).recipe  # by which it was sampled
        problems = recorded_problems(connection, chosen.id)
    number = chosen.number
    n_p = recipe.sampling.n_p
    prior = empirical_prior(
        Counter(
            (
                sum(sample.correct is True for sample in problem.samples[:n_p]),
                sum(sample.correct is False for sample in problem.samples[:n_p]),
            )
            for problem in problems
        )
    )
    found = []
    for choice, section in zip(choices, sections, strict=True):
        settings = Settings(
            frozenset(recipe.difficulty.resample), section.worth, section.pairs, section.ratio
        )
        rules = Rules(
            recipe.sampling.n,
            n_p,
            section.waves,
            section.limit,
            section.pairs,
            recipe.seed,
            number,
            recipe.difficulty.train if section.policy == "levels" else None,
        )
        name = " ".join(
            [section.policy, *(f"{key}={value}" for key, value in choice.items() if key != "policy")]
        )
        policy = find_policy(section.policy)
        found.append(ReplayedPolicy(name, replay(problems, policy, settings, prior, rules, repetitions)))
    return found
