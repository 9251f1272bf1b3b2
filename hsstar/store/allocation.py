"""The waves of the allocation: who gets how much of the remaining budget of an iteration, and why.

A wave is decided when the round is complete: the states of its problems are recorded, a table says what each
further sample is worth, and the budget of the wave goes to the greatest entries. Each step is a short
transaction that changes nothing when it runs again, so a crash leads to the same wave.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from hsstar.domain.allocation.belief import Beliefs, beta_prior, empirical_prior
from hsstar.domain.allocation.policy import State, find_policy, make_table
from hsstar.domain.allocation.sharing import Shares, share_out
from hsstar.domain.difficulty import Difficulty
from hsstar.store.database import execute_file
from hsstar.store.rounds import Round
from hsstar.store.runs import Run


@dataclass(frozen=True, slots=True)
class Decision:
    """What a wave gives to the problems of each state."""

    wave: int
    shares: Shares
    last: bytes | None  # hash of the last problem, in the shuffle, that gets one more


def decided_waves(connection: Connection, iteration: Round) -> int:
    """Return how many waves of an iteration have been given away."""
    query = text("SELECT count(*) FROM allocation_waves WHERE round_id = :id AND decided_at IS NOT NULL")
    decided: int = connection.execute(query, {"id": iteration.id}).scalar_one()
    return decided


def open_wave(connection: Connection, run: Run, iteration: Round, wave: int) -> bool:
    """Open a wave of an iteration; return False if it has been decided meanwhile."""
    budget = run.recipe.sampling.budget
    connection.execute(
        text("""
            INSERT INTO allocation_waves (round_id, wave, budget)
            SELECT :round_id, :wave, (:remaining * count(*) - coalesce((
                SELECT sum(samples) FROM allocations WHERE round_id = :round_id AND wave < :wave
            ), 0)) / :waves_left
            FROM round_problems WHERE round_id = :round_id
            ON CONFLICT DO NOTHING
        """),
        {
            "round_id": iteration.id,
            "wave": wave,
            "remaining": budget.per_problem - budget.pre_samples,
            "waves_left": run.recipe.allocation.waves - wave,
        },
    )
    return decided_waves(connection, iteration) == wave


def record_states(connection: Connection, iteration: Round, wave: int, problem_ids: Sequence[int]) -> None:
    """Record what the wave knows of these problems."""
    values = {"round_id": iteration.id, "wave": wave, "problem_ids": list(problem_ids)}
    execute_file(connection, "record_states", values)


def decide(connection: Connection, run: Run, iteration: Round, wave: int) -> Decision:
    """Share out the budget of a wave by the states that are recorded, and keep the table.

    Raise BadInputError if the policy gives no table.
    """
    recipe = run.recipe
    states = _states(connection, iteration, wave)
    budget: int = connection.execute(
        text("SELECT budget FROM allocation_waves WHERE round_id = :id AND wave = :wave"),
        {"id": iteration.id, "wave": wave},
    ).scalar_one()
    prior = _prior(connection, run, iteration, states)
    most = recipe.allocation.limit * recipe.sampling.n
    table = make_table(
        find_policy(recipe.allocation.policy),
        states,
        budget,
        Beliefs(prior, most),
        recipe.allocation_settings,
    )
    shares = share_out(states, table, budget)
    connection.execute(
        text("""
            UPDATE allocation_waves SET prior = :prior, gains = CAST(:gains AS jsonb)
            WHERE round_id = :id AND wave = :wave
        """),
        {
            "id": iteration.id,
            "wave": wave,
            "prior": list(prior),
            "gains": json.dumps([[*_columns(state), row] for state, row in table.items()]),
        },
    )
    split = [state for state, share in shares.by_state.items() if share.one_more]
    last = execute_file(
        connection,
        "last_of_rest",
        _address(run, iteration, wave) | _arrays(split) | {"rest": shares.rest},
    ).scalar()
    return Decision(wave, shares, last)


def give(
    connection: Connection, run: Run, iteration: Round, decision: Decision, problem_ids: Sequence[int]
) -> None:
    """Raise the allotments of these problems by what the wave gives them."""
    shares = {
        state: share for state, share in decision.shares.by_state.items() if share.samples or share.one_more
    }
    values = _address(run, iteration, decision.wave) | _arrays(list(shares))
    values |= {
        "last": decision.last,
        "problem_ids": list(problem_ids),
        "samples": [share.samples for share in shares.values()],
        "one_more": [share.one_more for share in shares.values()],
    }
    # rows that were added a moment ago have no statistics, by which the planner would take few for one
    connection.execute(text("SET LOCAL enable_nestloop = off"))
    execute_file(connection, "allot", values)
    connection.execute(text("SET LOCAL enable_nestloop = on"))


def close(connection: Connection, iteration: Round, wave: int) -> None:
    """Record that all problems have what the wave gives them."""
    connection.execute(
        text("""
            UPDATE allocation_waves SET decided_at = now()
            WHERE round_id = :id AND wave = :wave AND decided_at IS NULL
        """),
        {"id": iteration.id, "wave": wave},
    )


def _states(connection: Connection, iteration: Round, wave: int) -> dict[State, int]:
    rows = execute_file(connection, "states", {"round_id": iteration.id, "wave": wave})
    found = {
        State(
            row.correct, row.incorrect, row.drawn, Difficulty(row.level) if row.level else None
        ): row.problems
        for row in rows
    }
    return dict(sorted(found.items(), key=lambda item: _columns(item[0])))


def _prior(connection: Connection, run: Run, iteration: Round, states: Mapping[State, int]) -> list[float]:
    settings = run.recipe.allocation
    if isinstance(settings.prior, tuple):
        return beta_prior(*settings.prior)
    weights: dict[tuple[int, int], float] = {}
    for state, problems in states.items():
        counts = (state.correct, state.incorrect)
        weights[counts] = weights.get(counts, 0.0) + problems
    if settings.prior == "history":
        for age, counts, problems in _history(connection, run, iteration):
            weight = float(problems)
            for _ in range(age):
                weight /= 2
            weights[counts] = weights.get(counts, 0.0) + weight
    elif run.recipe.sampling.budget.pre_samples == 1:
        return beta_prior(0.5, 0.5)  # one sample of each problem tells pass rates from no others
    return empirical_prior(weights)


def _history(connection: Connection, run: Run, iteration: Round) -> list[tuple[int, tuple[int, int], int]]:
    """The states of the last waves of earlier iterations: age in iterations, counts, problems."""
    rows = execute_file(connection, "earlier_states", {"run_id": run.id, "number": iteration.number})
    return [(row.age, (row.correct, row.incorrect), row.problems) for row in rows]


def _address(run: Run, iteration: Round, wave: int) -> dict[str, object]:
    return {
        "round_id": iteration.id,
        "wave": wave,
        "seed": run.recipe.seed,
        "iteration": iteration.number,
    }


def _columns(state: State) -> tuple[int, int, int, str]:
    return state.correct, state.incorrect, state.drawn, state.level.value if state.level else ""


def _arrays(states: Sequence[State]) -> dict[str, object]:
    return {
        "correct": [state.correct for state in states],
        "incorrect": [state.incorrect for state in states],
        "drawn": [state.drawn for state in states],
        "level": [state.level.value if state.level else "" for state in states],
    }
