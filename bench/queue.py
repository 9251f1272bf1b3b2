"""Measure the queue without engines: jobs and samples per second, busy workers, recovery, idle cost.

    python -m bench.queue [--parts jobs,samples,fleet,cost,recovery,idle] [--workers 64] [--seconds 60]

It needs redis-server on the PATH. `jobs` also needs Procrastinate:
pip install -c constraints.txt -e '.[bench]'.
Every part has a fresh Postgres with the settings of `hsstar up`:

- jobs: jobs that do nothing, in hsstar and in Procrastinate in turns, from the first claim to the last end
- samples: four processes write samples as a sampling worker does
- fleet: workers whose jobs take one second; the share of the time in which they compute
- cost: a whole iteration with engines that take no time, so that only queue and store cost time
- recovery: a worker is killed in its job; the time from the end of the lease to the next claim
- idle: the processor time of `hsstar up` without work
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import psutil
from sqlalchemy import text

from bench.queue_setup import (
    count,
    figure,
    make_round,
    processor_seconds,
    replace_jobs,
    temporary_redis,
    time_of,
    wait_for,
    workers,
)
from bench.setup import (
    benchmark_parser,
    describe_machine,
    hsstar,
    median_and_range,
    peak_memory,
    table,
    temporary_folder,
    temporary_postgres,
)
from hsstar.local.stack import Stack
from hsstar.settings import Settings
from hsstar.store.database import Database

HEADING = ["what", "measured", "at least", "how"]
RECOVERY_LEASE_SECONDS = 8.0
LONG_SECONDS = 600.0
SETTLE_SECONDS = 20.0
STARTING = 0.2  # of a core: more means that workers still start

Row = list[str]
DONE_SECONDS = "SELECT extract(epoch FROM max(finished_at) - min(started_at)) FROM jobs"


def spread(figures: Sequence[float], form: str) -> str:
    """Return the median, and the range of several repetitions; `form` is a format and a unit, `,.0f /s`."""
    form, _, unit = form.partition(" ")
    median, smallest, largest = (f"{figure}{unit}" for figure in median_and_range(figures, form))
    return median if len(figures) == 1 else f"{median} ({smallest} to {largest})"


def jobs_part(arguments: argparse.Namespace) -> list[Row]:
    """Run jobs that do nothing, ours and Procrastinate's in turns."""
    from bench.queue_reference import Reference

    ours: list[float] = []
    processor: list[float] = []
    theirs: dict[int, list[float]] = {1: [], 10: []}
    with temporary_postgres() as database, temporary_redis() as (broker, version), ExitStack() as stack:
        print(f"- Redis {version}")
        round_id = make_round(database)
        stack.enter_context(workers(database, broker, range(1), 0.0))
        reference = Reference(database)
        for _ in range(arguments.runs):
            before = processor_seconds(database)
            ours.append(arguments.jobs / _empty_jobs(database, round_id, arguments.jobs))
            processor.append(1_000 * (processor_seconds(database) - before) / arguments.jobs)
            for concurrency, figures in theirs.items():
                figures.append(arguments.jobs / reference.empty_jobs(arguments.jobs, concurrency))
    how = f"{arguments.jobs:,} jobs, one worker process, {arguments.runs} times"
    own = f"{how}; {statistics.median(processor):.1f} ms of processor time for each, server included"
    return [
        ["empty jobs, hsstar (Celery, Redis, our rows)", spread(ours, ",.0f /s"), "400/s", own],
        *(
            [f"empty jobs, Procrastinate, concurrency {number}", spread(rates, ",.0f /s"), "reference", how]
            for number, rates in theirs.items()
        ),
    ]


def _empty_jobs(database: Database, round_id: int, number: int) -> float:
    replace_jobs(database, round_id, number)
    wait_for(lambda: count(database, "jobs WHERE state = 'done'") >= number, "empty jobs", 0.5)
    return figure(database, f"{DONE_SECONDS} WHERE kind = 'verify'")


def samples_part(arguments: argparse.Namespace) -> list[Row]:
    """Let four processes write samples."""
    from bench.queue_store import rate
    from hsstar.stages.sample import BATCH_SAMPLES

    with temporary_postgres() as database:
        per_second, processor = rate(database, writers=4, seconds=arguments.seconds)
    how = (
        f"4 writers, {BATCH_SAMPLES} rows of 1.2 KB a transaction, {arguments.seconds:.0f} s, "
        f"beside 60,000 older; {1e6 * processor:.0f} µs of processor time for each, server included"
    )
    return [["samples written", f"{per_second:,.0f}/s", "10,000/s", how]]


def cost_part(arguments: argparse.Namespace) -> list[Row]:
    """Run a whole iteration with engines that take no time."""
    from bench.queue_store import seconds_of_iteration

    with temporary_postgres() as database, temporary_redis() as (broker, _):
        before = processor_seconds(database)
        seconds, samples = seconds_of_iteration(database, broker, problems=7_500)
        processor = (processor_seconds(database) - before) / samples
    how = (
        f"{samples:,} samples drawn, verified, scored, labelled and paired in {seconds:.1f} s by one worker "
        f"of all roles; {1_000 * processor:.2f} ms of processor time for each, server included; "
        f"{peak_memory():.0f} MB"
    )
    return [["queue and store per sample", f"{1_000 * seconds / samples:.2f} ms", "under 1 ms", how]]


def fleet_part(arguments: argparse.Namespace) -> list[Row]:
    """Measure the share of the time in which workers compute, while all of them have begun."""
    with temporary_postgres() as database, temporary_redis() as (broker, _), ExitStack() as stack:
        round_id = make_round(database)
        stack.enter_context(workers(database, broker, range(arguments.workers), 1.0))
        time.sleep(SETTLE_SECONDS)
        number = int(arguments.workers * arguments.seconds)
        replace_jobs(database, round_id, number)
        wait_for(lambda: count(database, "jobs WHERE state = 'done'") >= number, "the fleet", 1.0)
        busy = figure(
            database,
            f"""
            WITH own AS (SELECT * FROM jobs WHERE kind = 'verify'),
            first AS (SELECT min(started_at) AS at FROM own GROUP BY worker),
            inside AS (SELECT max(first.at) AS a, (SELECT max(started_at) FROM own) AS b FROM first)
            SELECT sum(greatest(0, extract(epoch FROM
                least(b, finished_at) - greatest(a, finished_at - interval '1 second'))))
                / extract(epoch FROM max(b) - max(a)) / {arguments.workers}
            FROM own, inside
            """,
        )
        reached = count(database, "(SELECT DISTINCT worker FROM jobs WHERE worker LIKE 'benchmark-%') AS w")
        whole = number / figure(database, f"{DONE_SECONDS} WHERE kind = 'verify'") / arguments.workers
        connections = count(database, "pg_stat_activity WHERE application_name = 'hsstar'")
    how = (
        f"{reached} worker processes, {number:,} jobs of 1 s, {connections - 1} database connections; "
        f"{100 * whole:.1f} % with start and end"
    )
    return [[f"{arguments.workers} workers busy", f"{100 * busy:.1f} %", "95 %", how]]


def recovery_part(arguments: argparse.Namespace) -> list[Row]:
    """Kill a worker in its job, and measure the time from the end of the lease to the next claim."""
    figures = []
    with temporary_postgres() as database, temporary_redis() as (broker, _):
        round_id = make_round(database)
        for repetition in range(arguments.runs):
            numbers = range(2 * repetition, 2 * repetition + 2)
            with workers(database, broker, numbers, LONG_SECONDS, RECOVERY_LEASE_SECONDS) as started:
                figures.append(_recover(database, round_id, started))
    how = f"lease {RECOVERY_LEASE_SECONDS:.0f} s, one other worker, {arguments.runs} times"
    return [["lease expired → job runs elsewhere", spread(figures, ".2f  s"), "under 2 s", how]]


def _recover(database: Database, round_id: int, started: dict[str, psutil.Popen]) -> float:
    replace_jobs(database, round_id, 1)
    wait_for(lambda: count(database, "jobs WHERE state = 'running'"), "a claim")
    with database.begin() as connection:
        holder = connection.execute(text("SELECT worker FROM jobs WHERE state = 'running'")).scalar_one()
    started[holder].kill()
    started[holder].wait()
    expiry = figure(database, "SELECT extract(epoch FROM lease_expires_at) FROM jobs WHERE state = 'running'")
    wait_for(lambda: count(database, "jobs WHERE state = 'running' AND attempts = 2"), "recovery", 0.05)
    return figure(database, "SELECT extract(epoch FROM started_at) FROM jobs WHERE attempts = 2") - expiry


def idle_part(arguments: argparse.Namespace) -> list[Row]:
    """Measure the processor time of every process of `hsstar up` without work."""
    with temporary_folder("hsi-") as folder:
        environment = {"HSSTAR_HOME": str(folder / "home"), "HSSTAR_SERVER_DIR": str(folder / "servers")}
        try:
            hsstar(environment, "up")
            stack = Stack(Settings.from_environment(environment))
            wait_for(lambda: _share(stack, 5.0) < STARTING, "the workers, which import their engines")
            time.sleep(SETTLE_SECONDS)
            share = _share(stack, arguments.seconds)
        finally:
            hsstar(environment, "down")
    how = f"Postgres, Valkey, supervisor and 4 workers, every process, for {arguments.seconds:.0f} s"
    return [["idle `hsstar up`", f"{100 * share:.2f} % of a core", "under 2 %", how]]


def _share(stack: Stack, seconds: float) -> float:
    before = _processor_seconds(stack)
    time.sleep(seconds)
    return (_processor_seconds(stack) - before) / seconds


def _processor_seconds(stack: Stack) -> float:
    status = stack.status()
    roots = [server.pid for server in status.servers] + [status.supervisor_pid]
    return time_of([psutil.Process(pid) for pid in roots if pid is not None])


PARTS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "jobs": jobs_part,
    "samples": samples_part,
    "fleet": fleet_part,
    "cost": cost_part,
    "recovery": recovery_part,
    "idle": idle_part,
}


def main() -> None:
    """Measure the chosen parts, and print a table."""
    parser = benchmark_parser(__doc__, runs=3)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of: {', '.join(PARTS)}")
    parser.add_argument("--jobs", type=int, default=4_000, help="empty jobs of a repetition")
    parser.add_argument("--workers", type=int, default=64, help="workers of the fleet")
    parser.add_argument("--seconds", type=float, default=60.0, help="duration of samples, fleet and idle")
    arguments = parser.parse_args()
    parts = arguments.parts.split(",")
    if unknown := sorted(set(parts) - set(PARTS)):
        parser.error(f"no such part: {', '.join(unknown)}")
    with temporary_postgres() as database:
        print(describe_machine(database))
    rows = [row for part in parts for row in PARTS[part](arguments)]
    print(f"\n{table(HEADING, rows)}")


if __name__ == "__main__":
    main()
