"""What a fleet costs Postgres, the broker and its workers: measured part by part, as the simulation takes it.

One worker at a time works in this process with engines that take no time, so that the processor time of
Postgres belongs to what it does. A job's cost is a line: jobs of few and of many samples give its fixed part
and what a sample adds. Processor times grow under load (caches are shared), numbers and bytes do not.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from pathlib import Path

import psutil
import redis
from sqlalchemy import Engine, event, text

from bench.fleet_model import KINDS, Cost, Costs
from bench.queue_setup import KIND, figure, make_round, temporary_redis, wait_for, workers
from bench.queue_store import PROBLEMS, add_run, drawn_samples, make_worker
from bench.scale import server_time
from bench.setup import perform, temporary_postgres, tidy
from hsstar.conductor import Conductor
from hsstar.domain.lifecycle import IterationState, JobKind
from hsstar.settings import Settings
from hsstar.stages.sample import BATCH_SAMPLES
from hsstar.store import models, rounds, samples
from hsstar.store.database import Database
from hsstar.store.queue import jobs
from hsstar.store.queue.workers import register
from hsstar.workers.app import make_app
from hsstar.workers.messages import queue_name, send_wake_up
from hsstar.workers.runtime import Worker

MANY, FEW = 256, 16
"""Samples of a job in the two measurements."""
_BROKER_SECONDS = 20.0
_SETTLE_SECONDS = 1.5  # until Postgres has counted what ended
_SERVER = """
    SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn AS wal, (
        SELECT sum(fsyncs) FROM pg_stat_io WHERE object = 'wal' AND backend_type = 'client backend'
    ) AS fsyncs
"""


@dataclass
class Measured:
    """The cost of what happened within a block."""

    cost: Cost = field(default_factory=Cost)


@contextmanager
def measured(database: Database) -> Iterator[Measured]:
    """Measure what a block costs this process and the server; commits are waits for the disk."""
    statements = 0

    def count(*_: object) -> None:
        nonlocal statements
        statements += 1

    result = Measured()
    event.listen(Engine, "before_cursor_execute", count)
    try:
        before = _figures(database)
        statements = 0
        yield result
        own = statements
        after = _figures(database)
    finally:
        event.remove(Engine, "before_cursor_execute", count)
    server, client, wal, fsyncs = (late - early for early, late in zip(before, after, strict=True))
    result.cost = Cost(server, client, own, fsyncs, wal)


def _figures(database: Database) -> tuple[float, float, float, float]:
    time.sleep(_SETTLE_SECONDS)
    with database.begin() as connection:
        row = connection.execute(text(_SERVER)).one()
    return server_time(database), time.process_time(), float(row.wal), float(row.fsyncs or 0)


def measure(problems: int = PROBLEMS) -> Costs:
    """Measure all costs with rounds of this number of problems, eight samples each."""
    many = measure_round(problems, MANY)
    few = measure_round(max(1, problems // 8), FEW)
    each = {kind: (many.jobs[kind] + few.jobs[kind] * -1.0) * (1 / (MANY - FEW)) for kind in KINDS}
    fixed = {kind: few.jobs[kind] + each[kind] * -FEW for kind in KINDS}
    message_seconds, message_bytes, listening_seconds = measure_broker()
    return Costs(
        job={kind.value: _not_negative(fixed[kind]) for kind in KINDS},
        sample={kind.value: _not_negative(each[kind]) for kind in KINDS},
        write=many.write,
        beat=many.beat,
        sweep=many.sweep,
        claim=many.claim,
        start=many.start,
        labelled=many.labelled,
        paired=many.paired,
        flush_seconds=many.flush_seconds,
        message_seconds=message_seconds,
        message_bytes=message_bytes,
        listening_seconds=listening_seconds,
        storage_bytes=many.storage_bytes,
        connection_bytes=many.connection_bytes,
    )


def _not_negative(cost: Cost) -> Cost:
    """Return the cost without what the noise of two measurements made negative."""
    return Cost(*(max(0.0, figure) for figure in astuple(cost)))


@dataclass
class RoundCosts:
    """What one round has shown: costs of a job of each kind, and all others."""

    jobs: dict[JobKind, Cost]
    write: Cost
    beat: Cost
    sweep: Cost
    claim: Cost
    start: Cost
    labelled: Cost
    paired: Cost
    flush_seconds: float
    storage_bytes: float
    connection_bytes: float


def measure_round(problems: int, job_samples: int) -> RoundCosts:
    """Measure a round of eight samples a problem with jobs of this number of samples."""
    with temporary_postgres() as database:
        run = add_run(database, problems)
        folder = Path("/tmp")
        conductor = Conductor(database, Settings(folder, folder, job_samples=job_samples))
        worker = make_worker(Database(database.url), "memory://", job_samples=job_samples)
        size = _size(database)
        with measured(database) as start:
            with database.begin() as connection:
                register(connection, worker.identity, "verify")
                rounds.add_iterations(connection, run, [0])
            conductor.advance(run.id)
        spent = dict.fromkeys(KINDS, Cost())
        numbers = dict.fromkeys(KINDS, 0)
        ends = []
        for state in (IterationState.PRE_SAMPLING, IterationState.RE_SAMPLING):
            _expect(database, state)
            with _kept_alive(database):
                for kind in KINDS:
                    with measured(database) as phase:
                        _work(worker, kind)
                    spent[kind] = spent[kind] + phase.cost
            tidy(database)
            with measured(database) as end:
                conductor.advance(run.id)
            ends.append(end.cost)
        _expect(database, IterationState.DONE)
        for kind in KINDS:
            numbers[kind] = int(figure(database, f"SELECT count(*) FROM jobs WHERE kind = '{kind}'"))
        total = figure(database, "SELECT count(*) FROM samples")
        tidy(database)
        storage = (_size(database) - size) / total
        write, flush_seconds = _write(database)
        times = 500
        with measured(database) as beats:
            for _ in range(times):
                worker.background.report()
        with measured(database) as sweeps:
            for _ in range(times):
                conductor.sweep()
                worker.background.send_wakeups()
        with measured(database) as claims:
            for _ in range(times):
                worker.run_job(None)
        connection_bytes = _session_bytes(database)
        worker.database.close()
        return RoundCosts(
            {kind: spent[kind] * (1 / numbers[kind]) for kind in KINDS},
            write,
            beats.cost * (1 / times),
            sweeps.cost * (1 / times),
            claims.cost * (1 / times),
            start.cost * (1 / total),
            ends[0] * (1 / total),
            ends[1] * (1 / total),
            flush_seconds,
            storage,
            connection_bytes,
        )


def _work(worker: Worker, kind: JobKind) -> None:
    """Let a worker run all jobs of a kind."""
    worker.roles = [kind]
    while figure(worker.database, f"SELECT count(*) FROM jobs WHERE state = 'queued' AND kind = '{kind}'"):
        worker.run_job(None)


@contextmanager
def _kept_alive(database: Database) -> Iterator[None]:
    """Keep the last job of a phase from ending it, by a job that nobody takes: ends are measured apart."""
    with database.begin() as connection:
        connection.execute(text("INSERT INTO jobs (round_id, kind) SELECT max(id), 'train' FROM rounds"))
    yield
    with database.begin() as connection:
        connection.execute(text("DELETE FROM jobs WHERE kind = 'train'"))


def _expect(database: Database, state: IterationState) -> None:
    with database.begin() as connection:
        reached = connection.execute(text("SELECT state FROM iterations")).scalar_one()
    if reached != state:
        raise RuntimeError(f"the round is {reached} instead of {state}: the measurement is wrong")


def _size(database: Database) -> float:
    return figure(database, "SELECT pg_database_size(current_database())")


def _write(database: Database) -> tuple[Cost, float]:
    """Return what one more transaction that writes samples costs, and how long the disk takes at its best."""
    with database.begin() as connection:
        problem_ids = list(connection.execute(text("SELECT id FROM problems ORDER BY id")).scalars())
        connection.execute(text("INSERT INTO jobs (round_id, kind) SELECT max(id), 'sample' FROM rounds"))
        job = jobs.claim(connection, None, "writer", 3_600, [JobKind.SAMPLE])
        assert job is not None
    drawn = drawn_samples(problem_ids)
    rows = 16 * BATCH_SAMPLES
    costs, waits = [], []
    for size in (BATCH_SAMPLES // 16, BATCH_SAMPLES):
        with measured(database) as block:
            for _ in range(rows // size):
                _write_batch(database, job, [next(drawn) for _ in range(size)])
        costs.append(block.cost)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for _ in range(200):
            started = time.perf_counter()
            connection.execute(text("UPDATE sweeper SET swept_at = now()"))
            waits.append(time.perf_counter() - started)
    more = 16 * 16 - 16
    return _not_negative((costs[0] + costs[1] * -1.0) * (1 / more)), sorted(waits)[len(waits) // 10]


def _write_batch(database: Database, job: jobs.Job, batch: list[samples.DrawnSample]) -> None:
    perform(
        database,
        lambda connection: jobs.fence(connection, job),
        lambda connection: samples.write_samples(connection, job.round_id, None, job.worker, batch, job.id),
    )


def _session_bytes(database: Database) -> float:
    """Return the memory that sessions which have worked have for themselves, on average."""
    with database.begin() as connection:
        ids = connection.execute(
            text("SELECT pid FROM pg_stat_activity WHERE application_name = 'hsstar'")
        ).scalars()
        memory = [psutil.Process(pid).memory_full_info().uss for pid in ids]
    return float(sum(memory) / len(memory))


def measure_broker(messages: int = 2_000, listeners: int = 4) -> tuple[float, float, float]:
    """Return the broker's processor seconds of a message, its bytes, and seconds per listener and second.

    The messages name jobs that do not exist; the workers take them all, and then listen for more.
    """
    with temporary_postgres() as database, temporary_redis() as (url, _):
        make_round(database)
        with database.begin() as connection:
            app = make_app(models.database_id(connection), url)
        broker = redis.Redis(unix_socket_path=url.removeprefix("redis+socket://"))
        send_wake_up(app, 1, KIND)
        alone = _load(broker)
        memory, before, started = _memory(broker), _processor_seconds(broker), time.perf_counter()
        for number in range(messages):
            send_wake_up(app, number + 2, KIND)
        size = (_memory(broker) - memory) / messages
        with workers(database, url, range(listeners), 0.0):
            wait_for(lambda: not broker.llen(queue_name(app, KIND)), "messages")
            spent = _processor_seconds(broker) - before - alone * (time.perf_counter() - started)
            listening = max(0.0, _load(broker) - alone) / listeners
        return max(0.0, spent / messages), size, listening


def _load(broker: "redis.Redis") -> float:
    """Return the share of a core that the broker uses."""
    before = _processor_seconds(broker)
    time.sleep(_BROKER_SECONDS)
    return (_processor_seconds(broker) - before) / _BROKER_SECONDS


def _processor_seconds(broker: "redis.Redis") -> float:
    answer = broker.info("cpu")
    return float(answer["used_cpu_user"] + answer["used_cpu_sys"])


def _memory(broker: "redis.Redis") -> float:
    return float(broker.info("memory")["used_memory"])
