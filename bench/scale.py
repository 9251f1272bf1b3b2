"""Measure a thousand workers and millions of samples: what Postgres has to do for them.

    python -m bench.scale [--parts polling,ends] [--clients 180] [--problems 300000]

Every part has a fresh Postgres with the settings of `hsstar up`:

- polling: clients that run a worker's own heartbeats and sweeps, so fast that they stand for 1,000 workers;
  the processor time of Postgres with an empty queue and with 24,000 queued and 2,000 running jobs; the time
  from a new job to its wake-up, and from the death of the sweeper to the next one
- ends: a round of 8 samples a problem, from its last sample to its training: the longest transaction and all
  of them; a sweep while it waits for a failed job; then `status`, `status RUN`, `report` and `status RUN
  --missing` at that size
"""

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
from sqlalchemy import text

from bench.queue_setup import count, time_of
from bench.queue_store import make_worker
from bench.setup import benchmark_parser, describe_machine, fill, seconds, table, temporary_postgres, tidy
from hsstar.conductor import Conductor
from hsstar.insights.iterations import load_iterations
from hsstar.insights.progress import run_progress
from hsstar.insights.runs import list_missing, summarise_runs
from hsstar.insights.workers import list_workers
from hsstar.settings import Settings
from hsstar.store import counts
from hsstar.store.database import Database
from hsstar.store.queue import workers
from hsstar.store.runs import Run
from hsstar.workers.runtime import Worker

WORKERS = 1_000
MEASURED_SECONDS = 30.0
JOBS = """
    INSERT INTO jobs
        (round_id, kind, state, lease_token, lease_expires_at, worker, started_at, wakeup_sent_at)
    SELECT (SELECT min(id) FROM rounds), 'verify', CASE WHEN n <= 2000 THEN 'running' ELSE 'queued' END,
        CASE WHEN n <= 2000 THEN gen_random_uuid() END,
        CASE WHEN n <= 2000 THEN now() + interval '1 day' END, 'w', now(), now()
    FROM generate_series(1, 26000) AS n
"""
THE_OTHERS = """
    INSERT INTO workers (name, host, process, role, state, instance, process_space, last_heartbeat)
    SELECT 'other ' || n, 'here', n, 'verify', 'busy', gen_random_uuid(), 'none', now() + interval '1 hour'
    FROM generate_series(1, :count) AS n
"""
"""Rows of the workers that the clients stand for."""
Row = list[str]


def server_time(database: Database) -> float:
    """Return the processor time so far of a database's server and all its backends."""
    with database.begin() as connection:
        mark = f"cluster_name={connection.execute(text('SHOW cluster_name')).scalar_one()}"
    return time_of(
        [each for each in psutil.process_iter(["cmdline"]) if mark in (each.info["cmdline"] or ())]
    )


class Fleet:
    """Workers without messages, whose threads beat and sweep as those of real ones do, only faster."""

    def __init__(self, database: Database, clients: int) -> None:
        self.speed = WORKERS / clients
        self.workers = [self._started(database.url, number) for number in range(clients)]
        with database.begin() as connection:
            connection.execute(text(THE_OTHERS), {"count": WORKERS - clients})
        self.frozen: set[Worker] = set()
        self._ended = threading.Event()

    @staticmethod
    def _started(url: str, number: int) -> Worker:
        worker = make_worker(Database(url), "memory://", f"w{number}")
        with worker.database.begin() as connection:
            workers.register(connection, worker.identity, "verify")
        return worker

    def _beat(self, worker: Worker) -> None:
        background = worker.background
        while not self._ended.wait(background._beat_pause() / self.speed):
            if worker not in self.frozen:
                background.report()

    def _sweep(self) -> None:
        while not self._ended.wait(0.5):
            for worker in self.workers:
                if worker not in self.frozen:
                    worker.background.sweep()  # which does nothing unless it is the sweeper

    def sweepers(self) -> list[Worker]:
        """Return the worker that sweeps now, if there is one."""
        orders = [(worker, worker.background._orders) for worker in self.workers if worker not in self.frozen]
        return [worker for worker, order in orders if order is not None and order.sweeps]

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Let all of them work during a block."""
        with ThreadPoolExecutor(len(self.workers) + 1) as threads:
            running = [threads.submit(self._beat, worker) for worker in self.workers]
            running.append(threads.submit(self._sweep))
            try:
                time.sleep(5.0)
                yield
            finally:
                self._ended.set()
            for each in running:
                each.result()
        for worker in self.workers:
            worker.database.close()


def cores_used(database: Database) -> float:
    """Return how many cores Postgres keeps busy."""
    before = server_time(database)
    time.sleep(MEASURED_SECONDS)
    return (server_time(database) - before) / MEASURED_SECONDS


def wake_up_seconds(database: Database, jobs: int) -> list[float]:
    """Return the times from a new job to the claim of its wake-up, sorted."""
    found = []
    with database.begin() as connection:
        (round_id,) = connection.execute(text("SELECT min(id) FROM rounds")).one()
    for _ in range(jobs):
        with database.begin() as connection:
            (job_id,) = connection.execute(
                text("INSERT INTO jobs (round_id, kind) VALUES (:id, 'score') RETURNING id"), {"id": round_id}
            ).one()
        started = time.perf_counter()
        while not count(database, f"jobs WHERE id = {job_id} AND wakeup_sent_at IS NOT NULL"):
            time.sleep(0.005)
        found.append(time.perf_counter() - started)
        time.sleep(0.037)
    return sorted(found)


def polling(clients: int) -> list[Row]:
    """Measure the heartbeats and sweeps of 1,000 workers."""
    rows = []
    for name, queue, least in (("empty queue", None, "0.1"), ("24,000 queued, 2,000 running", JOBS, "0.3")):
        with temporary_postgres() as database:
            with database.begin() as connection:
                fill(connection, problems=4)
                if queue:
                    connection.execute(text(queue))
            tidy(database)
            fleet = Fleet(database, clients)
            with fleet.at_work():
                rows.append([f"Postgres, {name}", f"{cores_used(database):.2f} cores", least])
                waits = wake_up_seconds(database, 100)
                rows.append([f"new job to wake-up, p99 ({name})", f"{waits[98]:.2f} s", "1 s"])
                lost = time.perf_counter()
                fleet.frozen.update(fleet.sweepers())
                while not fleet.sweepers():
                    time.sleep(0.01)
                rows.append([f"take-over ({name})", f"{time.perf_counter() - lost:.1f} s", "5 s"])
    return rows


class Longest:
    """Watches for the longest transaction of other sessions."""

    def __init__(self, url: str) -> None:
        self.seconds, self.statement = 0.0, ""
        self._database = Database(url)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        query = """
            SELECT extract(epoch FROM clock_timestamp() - xact_start) AS seconds, left(query, 60) AS statement
            FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
              AND backend_type = 'client backend'
            ORDER BY xact_start LIMIT 1
        """
        while not self._ended.wait(0.02):
            with self._database.begin() as connection:
                row = connection.execute(text(query)).first()
            if row is not None and row.seconds > self.seconds:
                self.seconds, self.statement = float(row.seconds), " ".join(row.statement.split())

    def __enter__(self) -> "Longest":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._database.close()


def draw_the_rest(database: Database, round_id: int) -> None:
    """Add the samples that the queued jobs would draw, verified and scored, and end the jobs."""
    with database.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO samples
                    (round_id, problem_id, slot, verdict, cause, min_reward, tokens, worker, text_hash)
                SELECT jobs.round_id, problem_id, slot, verdict, verdict, random(), 400, 'benchmark',
                    CAST(random() * 1e18 AS bigint)
                FROM jobs JOIN job_items ON job_id = jobs.id CROSS JOIN unnest(slots) AS slot
                CROSS JOIN LATERAL (
                    SELECT CASE WHEN random() < 0.5 + 0 * slot THEN 'correct' ELSE 'incorrect' END AS verdict
                ) AS judged
                WHERE jobs.kind = 'sample'
            """)
        )
        connection.execute(text("UPDATE jobs SET state = 'done', error = NULL, finished_at = now()"))
        counts.recount(connection, [round_id])
    tidy(database)


def timed_advance(database: Database, conductor: Conductor, run_id: int, name: str) -> list[Row]:
    """Advance a run; return how long it took, and its longest transaction."""
    with Longest(database.url) as longest:
        took = seconds(lambda: conductor.advance(run_id))
    return [
        [f"{name}, all transactions", f"{took:.1f} s", "no slower"],
        [f"{name}, the longest ({longest.statement})", f"{longest.seconds:.2f} s", "1 s"],
    ]


def waiting_sweep(database: Database, conductor: Conductor) -> Row:
    """Measure a sweep while a round waits for one failed job, and end that job."""
    with database.begin() as connection:
        connection.execute(
            text("""
                UPDATE jobs SET state = 'failed', error = 'x' WHERE id = (SELECT max(id) FROM jobs);
                UPDATE samples SET verdict = NULL, cause = NULL WHERE id = (SELECT max(id) FROM samples)
            """)
        )
    for _ in range(2):
        conductor.sweep()
    sweeps = [1_000 * seconds(conductor.sweep) for _ in range(20)]
    with database.begin() as connection:
        connection.execute(
            text("""
                UPDATE jobs SET state = 'done', error = NULL, finished_at = now() WHERE state <> 'done';
                UPDATE samples SET verdict = 'incorrect', cause = 'incorrect' WHERE cause IS NULL
            """)
        )
    return ["a sweep while the round waits for a person", f"{statistics.median(sweeps):.1f} ms", "5 ms"]


def ends(problems: int) -> list[Row]:
    """Measure the end of a round, and a sweep while it waits."""
    with temporary_postgres() as database:
        with database.begin() as connection:
            run, iteration = fill(connection, problems, slots=3)
        tidy(database)
        conductor = Conductor(database, Settings(Path("/tmp"), Path("/tmp")))
        rows = timed_advance(database, conductor, run.id, "end of pre-sampling")
        draw_the_rest(database, iteration.id)
        rows.append(waiting_sweep(database, conductor))
        rows += timed_advance(database, conductor, run.id, "end of re-sampling")
        rows.append(["samples", f"{count(database, 'samples'):,}", ""])
        tidy(database)
        return rows + reading(database, run)


def reading(database: Database, run: Run) -> list[Row]:
    """Measure what the commands that show a run read."""
    answers: dict[str, tuple[Callable[[], object], str]] = {
        "status": (lambda: (summarise_runs(database), list_workers(database)), "0.6 s"),
        "status RUN": (lambda: run_progress(database, run), "0.6 s"),
        "report": (lambda: load_iterations(database, run.name), "0.6 s"),
        "status RUN --missing": (lambda: list_missing(database, run.name), "15 s"),
    }
    found = []
    for name, (answer, least) in answers.items():
        times = [seconds(answer) for _ in range(3)]
        found.append([name, f"{statistics.median(times):.2f} s", least])
    return found


def main() -> None:
    """Measure the parts, and print a table."""
    parser = benchmark_parser(__doc__, runs=1)
    parser.add_argument("--parts", default="polling,ends")
    parser.add_argument("--clients", type=int, default=180)
    parser.add_argument("--problems", type=int, default=300_000)
    arguments = parser.parse_args()
    parts = {"polling": lambda: polling(arguments.clients), "ends": lambda: ends(arguments.problems)}
    with temporary_postgres() as database:
        print(describe_machine(database))
    rows = [row for name in arguments.parts.split(",") for row in parts[name]()]
    print(table(["what", "measured", "at least"], rows))


if __name__ == "__main__":
    main()
