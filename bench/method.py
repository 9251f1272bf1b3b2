"""The method over a whole iteration whose samples lie in Postgres: labels, allotments, jobs, pairs.

    python -m bench.method [--problems 75000] [--runs 7]

The published scripts' "merge + classify + residue + pair building" is the same work: 12.7 s and
0.47 GB for 7,500 problems × 8 samples, 121 s and 4.0 GB for 75,000 × 8.
"""

import argparse
from collections.abc import Callable
from functools import partial

from sqlalchemy import Connection, text

from bench.setup import (
    TIMING_HEADING,
    describe_machine,
    fill,
    peak_memory,
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

JOB_SAMPLES = 64
PAPER_PROBLEMS = 7_500

Step = Callable[[Connection], object]


def steps_of(run: Run, iteration: Round) -> dict[str, Step]:
    """The steps of METHOD that are one statement each."""
    return {
        "label": lambda connection: method.label_problems(connection, run, iteration),
        "allot": lambda connection: method.allot_budget(connection, run, iteration),
        "allocate": lambda connection: rounds.allocate(connection, iteration.id, JobKind.SAMPLE, JOB_SAMPLES),
        "pair": lambda connection: method.build_pairs(connection, run, iteration),
    }


def undo(database: Database, run: Run) -> None:
    """Takes back what the steps wrote; the samples stay."""
    with database.begin() as connection:
        for written in ("preference_pairs", "jobs", "difficulty_labels"):
            connection.execute(text(f"DELETE FROM {written}"))
        connection.execute(
            text("UPDATE round_problems SET allotment = :n_p"), {"n_p": run.recipe.sampling.n_p}
        )
    tidy(database)


def perform(database: Database, steps: list[Step]) -> None:
    """The steps in one transaction, its commit included."""
    with database.begin() as connection:
        for step in steps:
            step(connection)


def measure(database: Database, run: Run, iteration: Round, repetitions: int) -> dict[str, list[float]]:
    """Seconds of every step in a transaction of its own, and of all of them in one."""
    steps = steps_of(run, iteration)
    measured: dict[str, list[float]] = {name: [] for name in [*steps, "together"]}
    for _ in range(repetitions):
        undo(database, run)
        for name, step in steps.items():
            measured[name].append(seconds(partial(perform, database, [step])))
        undo(database, run)
        measured["together"].append(seconds(partial(perform, database, list(steps.values()))))
    return measured


def summary(database: Database) -> str:
    """What the last repetition wrote."""
    with database.begin() as connection:
        row = connection.execute(
            text("""
                SELECT problems, drawn, inlier, boundary, outlier, pairs,
                    (SELECT count(*) FROM jobs) AS jobs,
                    (SELECT sum(cardinality(slots)) FROM job_items) AS slots
                FROM iteration_statistics
            """)
        ).one()
    return (
        f"{row.problems:,} problems, {row.drawn:,} samples → "
        f"{row.inlier:,} inlier, {row.boundary:,} boundary, {row.outlier:,} outlier; "
        f"{row.slots:,} slots in {row.jobs:,} jobs; {row.pairs:,} pairs"
    )


def main() -> None:
    """Fills a database, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--problems", type=int, default=PAPER_PROBLEMS)
    parser.add_argument("--runs", type=int, default=7, help="repetitions; the median counts")
    arguments = parser.parse_args()
    with temporary_postgres() as database:
        print(describe_machine(database))
        with database.begin() as connection:
            run, iteration = fill(connection, arguments.problems)
        tidy(database)
        measured = measure(database, run, iteration, arguments.runs)
        print(f"- {summary(database)}")
        print(f"- {arguments.runs} repetitions; resident memory of this process at its peak: ", end="")
        print(f"{peak_memory():.0f} MB (target: less than 200 MB)\n")
    target = {"together": "1,000 ms"} if arguments.problems == PAPER_PROBLEMS else {}
    rows = [timing_row(name, times, target.get(name, "")) for name, times in measured.items()]
    print(table(TIMING_HEADING, rows))


if __name__ == "__main__":
    main()
