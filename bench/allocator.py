"""Measure one allocation over a whole iteration, and one after a batch of changed problems.

    python -m bench.allocator [--problems 7500] [--runs 15]

The iteration is filled and nothing is missing. A batch is 64 problems that each lose a sample, and whose
first sample loses its verdict and reward; the allocation queues jobs for what is missing then. Each time
includes the commit of its own transaction.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial

from sqlalchemy import Connection, text

from bench.setup import benchmark_parser, filled_round, perform, seconds, timing_table
from hsstar.domain.lifecycle import JobKind
from hsstar.store import method, rounds
from hsstar.store.database import Database
from hsstar.store.rounds import Round
from hsstar.store.runs import Run

BATCH = 64
JOB_SAMPLES = 64
KINDS = (JobKind.SAMPLE, JobKind.VERIFY, JobKind.SCORE)
WHOLE, CHANGED = "100 ms", "15 ms"

Measured = dict[str, list[float]]


def change(problem_ids: Sequence[int], connection: Connection) -> None:
    """Delete the last sample of each problem, and the verdict and reward of the first."""
    connection.execute(text("DELETE FROM jobs"))
    for statement in (
        "DELETE FROM samples WHERE slot = 7",
        "UPDATE samples SET verdict = NULL, cause = NULL, min_reward = NULL WHERE slot = 0",
    ):
        connection.execute(text(f"{statement} AND problem_id = ANY (:ids)"), {"ids": list(problem_ids)})


def measure_whole(database: Database, iteration: Round, repetitions: int) -> Measured:
    """Return the seconds of each step over the whole iteration."""
    view = "SELECT * FROM remaining_budget WHERE run = 'benchmark' AND iteration = 0 AND remaining > 0"
    steps: dict[str, Callable[[Connection], object]] = {
        f"whole round, {kind.value}": partial(
            rounds.allocate, round_id=iteration.id, kind=kind, job_samples=JOB_SAMPLES
        )
        for kind in KINDS
    }
    steps["whole round, count what is missing"] = partial(rounds.shortfall, round_id=iteration.id)
    steps["whole round, the view remaining_budget"] = lambda connection: connection.execute(text(view)).all()
    return {
        name: [seconds(partial(perform, database, step)) for _ in range(repetitions)]
        for name, step in steps.items()
    }


def measure_batches(database: Database, run: Run, iteration: Round, repetitions: int) -> Measured:
    """Return the seconds of each step over batches of changed problems."""
    with database.begin() as connection:
        all_ids = list(connection.execute(text("SELECT id FROM problems ORDER BY id")).scalars())
    generator = random.Random(0)
    measured: Measured = defaultdict(list)
    for _ in range(repetitions):
        batch = generator.sample(all_ids, min(BATCH, len(all_ids)))
        perform(database, partial(change, batch))
        steps: dict[str, Callable[[Connection], object]] = {
            kind.value: partial(
                rounds.allocate,
                round_id=iteration.id,
                kind=kind,
                job_samples=JOB_SAMPLES,
                problem_ids=batch,
            )
            for kind in KINDS
        }
        steps["label"] = partial(method.label_problems, run=run, iteration=iteration, problem_ids=batch)
        for name, step in steps.items():
            measured[f"{BATCH} changed problems, {name}"].append(seconds(partial(perform, database, step)))
    return measured


def main() -> None:
    """Fill a database, measure, and print a table."""
    parser = benchmark_parser(__doc__, runs=15)
    parser.add_argument("--problems", type=int, default=7_500)
    arguments = parser.parse_args()
    with filled_round(arguments.problems) as (database, run, iteration):
        with database.begin() as connection:
            connection.execute(text("UPDATE round_problems SET allotment = 8"))  # nothing is missing
        whole = measure_whole(database, iteration, arguments.runs)
        batches = measure_batches(database, run, iteration, arguments.runs)
    print(f"- {arguments.problems:,} problems × 8 samples, {arguments.runs} repetitions\n")
    rows = [(name, times, WHOLE) for name, times in whole.items()]
    print(timing_table([*rows, *((name, times, CHANGED) for name, times in batches.items())]))


if __name__ == "__main__":
    main()
