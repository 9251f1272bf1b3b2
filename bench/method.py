"""Measure the method over a whole iteration whose samples are in Postgres: labels, allotments, jobs, pairs.

    python -m bench.method [--problems 75000] [--runs 7]

Each step is timed in a transaction of its own, and all of them in one. The published scripts do the same work
as "merge + classify + residue + pair building": 12.7 s and 0.47 GB for 7,500 problems × 8 samples, 121 s and
4.0 GB for 75,000 × 8.
"""

from collections import defaultdict
from collections.abc import Callable
from functools import partial

from sqlalchemy import Connection, text

from bench.setup import benchmark_parser, filled_round, peak_memory, perform, seconds, tidy, timing_table
from hsstar.domain.lifecycle import IterationState, JobKind
from hsstar.store import allocation, method, rounds
from hsstar.store.database import Database
from hsstar.store.rounds import Round
from hsstar.store.runs import Run

JOB_SAMPLES = 64
PAPER_PROBLEMS = 7_500


def undo(database: Database, run: Run) -> None:
    """Delete the rows of the steps; the samples stay."""
    with database.begin() as connection:
        for rows in ("preference_pairs", "jobs", "allocation_waves", "allocations", "difficulty_labels"):
            connection.execute(text(f"DELETE FROM {rows}"))
        connection.execute(
            text("UPDATE round_problems SET allotment = :n_p"), {"n_p": run.recipe.sampling.n_p}
        )
        connection.execute(text("UPDATE iterations SET state = 'pre_sampling'"))
    tidy(database)


def allot(connection: Connection, run: Run, iteration: Round) -> None:
    """Give away the whole remaining budget."""
    problem_ids = rounds.problems_of(connection, iteration.id)
    wave = allocation.decided_waves(connection, iteration)
    assert allocation.open_wave(connection, run, iteration, wave)
    allocation.record_states(connection, iteration, wave, problem_ids)
    decision = allocation.decide(connection, run, iteration, wave)
    allocation.give(connection, run, iteration, decision, problem_ids)
    allocation.close(connection, iteration, wave)
    rounds.leave_state(connection, iteration.id, IterationState.PRE_SAMPLING)


def measure(database: Database, run: Run, iteration: Round, repetitions: int) -> dict[str, list[float]]:
    """Return the seconds of every step in a transaction of its own, and of all of them in one."""
    steps: dict[str, Callable[[Connection], object]] = {
        "label": partial(method.label_problems, run=run, iteration=iteration),
        "allot": partial(allot, run=run, iteration=iteration),
        "allocate": partial(
            rounds.allocate, round_id=iteration.id, kind=JobKind.SAMPLE, job_samples=JOB_SAMPLES
        ),
        "pair": partial(method.build_pairs, run=run, iteration=iteration),
    }
    measured: dict[str, list[float]] = defaultdict(list)
    for _ in range(repetitions):
        undo(database, run)
        for name, step in steps.items():
            measured[name].append(seconds(partial(perform, database, step)))
        undo(database, run)
        measured["together"].append(seconds(partial(perform, database, *steps.values())))
    return measured


def summary(database: Database) -> str:
    """Describe the rows of the last repetition."""
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
    """Fill a database, measure, and print a table."""
    parser = benchmark_parser(__doc__, runs=7)
    parser.add_argument("--problems", type=int, default=PAPER_PROBLEMS)
    arguments = parser.parse_args()
    with filled_round(arguments.problems) as (database, run, iteration):
        measured = measure(database, run, iteration, arguments.runs)
        print(f"- {summary(database)}")
    print(f"- {arguments.runs} repetitions; resident memory of this process at its peak: ", end="")
    print(f"{peak_memory():.0f} MB (target: less than 200 MB)\n")
    target = {"together": "1,000 ms"} if arguments.problems == PAPER_PROBLEMS else {}
    print(timing_table([(name, times, target.get(name, "")) for name, times in measured.items()]))


if __name__ == "__main__":
    main()
