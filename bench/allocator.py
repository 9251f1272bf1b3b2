"""The allocator: one look at a whole iteration, and one after a batch of changed problems.

python -m bench.allocator [--problems 7500] [--runs 15]
"""

import argparse
import random
from collections.abc import Callable, Sequence
from functools import partial

from sqlalchemy import Connection, text

from bench.setup import (
    TIMING_HEADING,
    describe_machine,
    fill,
    seconds,
    table,
    temporary_postgres,
    tidy,
    timing_row,
)
from hsstar.domain.lifecycle import JobKind
from hsstar.store import method, rounds
from hsstar.store.database import Database
from hsstar.store.rounds import Round
from hsstar.store.runs import Run

BATCH = 64
JOB_SAMPLES = 64
WHOLE, CHANGED = "100 ms", "15 ms"

Look = Callable[[Connection], object]


def perform(database: Database, look: Look) -> None:
    """One look in a transaction of its own, its commit included."""
    with database.begin() as connection:
        look(connection)


def prepare(connection: Connection, iteration: Round) -> None:
    """Every problem has its whole allotment: nothing is missing."""
    connection.execute(
        text("UPDATE round_problems SET allotment = 8 WHERE round_id = :id"), {"id": iteration.id}
    )


def change(database: Database, problem_ids: Sequence[int]) -> None:
    """Each of these problems loses a sample, and another has no verdict and no reward any more."""
    with database.begin() as connection:
        connection.execute(text("DELETE FROM jobs"))
        connection.execute(
            text("DELETE FROM samples WHERE slot = 7 AND problem_id = ANY (:ids)"), {"ids": list(problem_ids)}
        )
        connection.execute(
            text("""
                UPDATE samples SET verdict = NULL, cause = NULL, min_reward = NULL
                WHERE slot = 0 AND problem_id = ANY (:ids)
            """),
            {"ids": list(problem_ids)},
        )


def measure_whole(database: Database, iteration: Round, repetitions: int) -> dict[str, list[float]]:
    """Seconds of one look at everything, where nothing is missing."""
    looks: dict[str, Look] = {
        f"whole round, {kind.value}": partial(
            rounds.allocate, round_id=iteration.id, kind=kind, job_samples=JOB_SAMPLES
        )
        for kind in (JobKind.SAMPLE, JobKind.VERIFY, JobKind.SCORE)
    }
    looks["whole round, what is lacking (counts)"] = lambda connection: rounds.shortfall(
        connection, iteration.id
    )
    looks["whole round, the view remaining_budget"] = lambda connection: connection.execute(
        text("SELECT * FROM remaining_budget WHERE run = 'benchmark' AND iteration = 0 AND remaining > 0")
    ).all()
    return {
        name: [seconds(partial(perform, database, look)) for _ in range(repetitions)]
        for name, look in looks.items()
    }


def measure_batches(
    database: Database, run: Run, iteration: Round, repetitions: int
) -> dict[str, list[float]]:
    """Seconds of one look at 64 changed problems, which enqueues what they lack."""
    with database.begin() as connection:
        all_ids = list(connection.execute(text("SELECT id FROM problems ORDER BY id")).scalars())
    chance = random.Random(0)
    names = [kind.value for kind in (JobKind.SAMPLE, JobKind.VERIFY, JobKind.SCORE)]
    measured: dict[str, list[float]] = {f"{BATCH} changed problems, {name}": [] for name in [*names, "label"]}
    for _ in range(repetitions):
        batch = chance.sample(all_ids, BATCH)
        change(database, batch)
        for name in names:
            look = partial(
                rounds.allocate,
                round_id=iteration.id,
                kind=JobKind(name),
                job_samples=JOB_SAMPLES,
                problem_ids=batch,
            )
            measured[f"{BATCH} changed problems, {name}"].append(seconds(partial(perform, database, look)))
        label: Look = partial(method.label_problems, run=run, iteration=iteration, problem_ids=batch)
        measured[f"{BATCH} changed problems, label"].append(seconds(partial(perform, database, label)))
    return measured


def main() -> None:
    """Fills a database, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--problems", type=int, default=7_500)
    parser.add_argument("--runs", type=int, default=15, help="repetitions; the median counts")
    arguments = parser.parse_args()
    with temporary_postgres() as database:
        print(describe_machine(database))
        with database.begin() as connection:
            run, iteration = fill(connection, arguments.problems)
            prepare(connection, iteration)
        tidy(database)
        whole = measure_whole(database, iteration, arguments.runs)
        batches = measure_batches(database, run, iteration, arguments.runs)
        print(f"- {arguments.problems:,} problems × 8 samples, {arguments.runs} repetitions\n")
    rows = [timing_row(name, times, WHOLE) for name, times in whole.items()]
    rows += [timing_row(name, times, CHANGED) for name, times in batches.items()]
    print(table(TIMING_HEADING, rows))


if __name__ == "__main__":
    main()
