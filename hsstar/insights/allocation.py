"""What other allocation policies would have made of a finished iteration."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hsstar.domain.allocation.belief import empirical_prior
from hsstar.domain.allocation.policy import Settings, find_policy
from hsstar.domain.allocation.replay import Replay, Rules, replay
from hsstar.domain.errors import ConflictError, NotFoundError
from hsstar.recipe.allocation import AllocationSection
from hsstar.recipe.base import parse_section
from hsstar.store import rounds, runs
from hsstar.store.database import Database
from hsstar.store.read.recorded import recorded_problems


@dataclass(frozen=True, slots=True)
class ReplayedPolicy:
    """A policy with its settings in words, and what it would have come to."""

    name: str
    replay: Replay


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
    with database.begin() as connection:
        run = runs.find_run(connection, run_name)
        of_run = rounds.list_iterations(connection, run.id)
        ended = [each for each in of_run if each.state in ("training", "evaluating", "done")]
        if iteration is not None:
            chosen = [each for each in of_run if each.round.number == iteration]
            if not chosen:
                raise NotFoundError(f"run {run_name!r} has no iteration {iteration}")
            if chosen[0] not in ended:
                raise ConflictError(
                    f"iteration {iteration} of {run_name!r} still samples; replay it when it has ended"
                )
        elif ended:
            chosen = ended[-1:]
        else:
            raise ConflictError(f"no iteration of {run_name!r} has all its samples yet")
        problems = recorded_problems(connection, chosen[0].round.id)
    recipe, number = run.recipe, chosen[0].round.number
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
    for choice in choices:
        section = parse_section(AllocationSection, choice, "--policy")
        settings = Settings(
            frozenset(recipe.difficulty.resample), section.worth, section.pairs, section.ratio
        )
        rules = Rules(
            recipe.sampling.n, n_p, section.waves, section.limit, section.pairs, recipe.seed, number
        )
        name = " ".join(
            [section.policy, *(f"{key}={value}" for key, value in choice.items() if key != "policy")]
        )
        policy = find_policy(section.policy)
        found.append(ReplayedPolicy(name, replay(problems, policy, settings, prior, rules, repetitions)))
    return found
