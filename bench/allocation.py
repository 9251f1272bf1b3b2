"""Measure the allocation of a round at its full size: deciding one wave, and replaying policies.

    python -m bench.allocation [--problems 7500] [--runs 5]

- decide: the states of all problems from their samples, prior, table and shares of `pairs`, and the
  query that gives the budget away, in the conductor's transactions
- replay: eight policies on the 8 samples that every problem has, twenty repetitions each
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection, text

from bench.setup import benchmark_parser, filled_round, seconds, timing_table
from hsstar.insights.allocation import replay_policies
from hsstar.store import allocation, method, rounds
from hsstar.store.database import Database
from hsstar.store.rounds import Round
from hsstar.store.runs import Run

PAPER_PROBLEMS = 7_500
BATCH_PROBLEMS = 2_000
"""Of a transaction, as the conductor has it with 8 samples a problem."""
REPLAYED = [
    {"policy": "levels"},
    {"policy": "uniform"},
    {"policy": "proportional"},
    {"policy": "variance"},
    {"policy": "knapsack"},
    {"policy": "stop", "pairs": "1"},
    {"policy": "pairs", "waves": "4"},
    {"policy": "pairs", "waves": "4", "worth": "fading"},
]
Result = TypeVar("Result")


def undo(database: Database, run: Run) -> None:
    """Forget the wave; labels and samples stay."""
    with database.begin() as connection:
        for rows in ("allocations", "allocation_waves"):
            connection.execute(text(f"DELETE FROM {rows}"))
        connection.execute(
            text("UPDATE round_problems SET allotment = :n_p"), {"n_p": run.recipe.sampling.n_p}
        )
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM allocations, round_problems"))


def decide(database: Database, run: Run, iteration: Round) -> None:
    """Decide one wave, as the conductor does."""

    def turn(action: Callable[[Connection], Result]) -> Result:
        with database.begin() as connection:
            return action(connection)

    ids = turn(partial(rounds.problems_of, round_id=iteration.id))
    batches = [ids[start : start + BATCH_PROBLEMS] for start in range(0, len(ids), BATCH_PROBLEMS)]
    wave = 0
    assert turn(partial(allocation.open_wave, run=run, iteration=iteration, wave=wave))
    for batch in batches:
        turn(partial(allocation.record_states, iteration=iteration, wave=wave, problem_ids=batch))
    decision = turn(partial(allocation.decide, run=run, iteration=iteration, wave=wave))
    for batch in batches:
        turn(partial(allocation.give, run=run, iteration=iteration, decision=decision, problem_ids=batch))
    turn(partial(allocation.close, iteration=iteration, wave=wave))


def finish(database: Database, run: Run, iteration: Round) -> None:
    """Let the iteration look as if it had all its samples, so that it can be replayed."""
    with database.begin() as connection:
        connection.execute(text("UPDATE round_problems SET allotment = 8"))
        connection.execute(text("UPDATE iterations SET state = 'training'"))


def main() -> None:
    """Fill a database, measure, and print a table."""
    parser = benchmark_parser(__doc__, runs=5)
    parser.add_argument("--problems", type=int, default=PAPER_PROBLEMS)
    arguments = parser.parse_args()
    with filled_round(arguments.problems, allocation={"policy": "pairs", "waves": 4}) as filled:
        database, run, iteration = filled
        with database.begin() as connection:
            method.label_problems(connection, run, iteration)
        decided = []
        for _ in range(arguments.runs):
            undo(database, run)
            decided.append(seconds(partial(decide, database, run, iteration)))
        finish(database, run, iteration)
        replayed = seconds(partial(replay_policies, database, run.name, 0, REPLAYED, 20))
    print(f"- {arguments.problems:,} problems, {8 * arguments.problems:,} samples; {arguments.runs} waves\n")
    target = {7_500: "0.3 s", 75_000: "2 s"}.get(arguments.problems, "")
    replays = ("replay eight policies", [replayed], "30 s" if arguments.problems == PAPER_PROBLEMS else "")
    print(timing_table([("decide a wave", decided, target), replays]))


if __name__ == "__main__":
    main()
