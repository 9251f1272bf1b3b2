"""Rounds of real worker processes, and what the simulation foresees of them.

The workers, their queue, Postgres and Redis are real, and share this machine. Their engines only wait a known
time, so that two cores carry 64 of them.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import redis
from sqlalchemy import text

from bench.fleet_model import KINDS, Engines, Fleet, Totals
from bench.fleet_simulation import Simulator
from bench.fleet_worker import ENGINES
from bench.queue_setup import figure, started_workers, temporary_redis, wait_for
from bench.queue_store import add_run
from bench.scale import server_time
from bench.setup import temporary_postgres
from hsstar.store import rounds

SLOTS = 8  # samples of a problem
JOB_SAMPLES = 64
ENGINE_TIMES = Engines(
    tokens_per_second=2_400,
    sequence_tokens_per_second=2_400,
    tokens=400,
    spread=0.6,
    verify_seconds=0.02,
    score_seconds=0.03,
)
"""A sampling job takes some eleven seconds, one response after the other."""
JOBS_EACH = 6
_SETTLE_SECONDS = 15.0
_LOOK_SECONDS = 5.0  # rarely: looking costs Postgres time too; the rows know when the round ended


@dataclass(frozen=True)
class Compared:
    """A round in figures, as foreseen or as measured."""

    seconds: float
    busy: float  # share of the time in which sampling workers compute
    server_seconds: float  # processor time of Postgres
    server_wal: float  # bytes
    messages: float


def foresee(fleet: Fleet, totals: Totals) -> Compared:
    """Return what a simulation foresees."""
    busy = totals.sampling / totals.seconds / fleet.samplers
    return Compared(totals.seconds, busy, totals.server, totals.wal, totals.messages)


def fleet_of(workers: int, cores: int) -> Fleet:
    """Return the round that this number of workers is checked with; a multiple of jobs of whole problems."""
    fleet = Fleet(workers, 0, ENGINE_TIMES, cores, shared=True, job_samples=JOB_SAMPLES)
    slots = fleet.samplers * fleet.slots(next(kinds for kinds in fleet.groups if KINDS[0] in kinds))
    samples = JOBS_EACH * max(slots, 2) * JOB_SAMPLES
    return Fleet(workers, samples, ENGINE_TIMES, cores, shared=True, job_samples=JOB_SAMPLES)


def run(fleet: Fleet) -> Compared:
    """Run a round with real worker processes."""
    commands = {
        f"{role}-{number}": ["bench.fleet_worker", role, f"{role}-{number}"]
        for kinds, count in fleet.groups.items()
        for role in ["all" if len(kinds) > 1 else kinds[0].value]
        for number in range(count)
    }
    variables = {
        ENGINES: json.dumps(asdict(fleet.engines)),
        "HSSTAR_JOB_SAMPLES": str(fleet.job_samples),
        "HSSTAR_JOBS_IN_FLIGHT": str(fleet.jobs_in_flight),
    }
    with temporary_postgres() as database, temporary_redis() as (url, _):
        broker = redis.Redis(unix_socket_path=url.removeprefix("redis+socket://"))
        round_of = add_run(database, fleet.samples // SLOTS)
        with started_workers(database, url, commands, variables):
            time.sleep(_SETTLE_SECONDS)
            wal = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
            before = (server_time(database), figure(database, wal), _messages(broker))
            with database.begin() as connection:
                rounds.add_iterations(connection, round_of, [0])
            wait_for(
                lambda: figure(database, "SELECT count(*) FROM iterations WHERE state = 'done'"),
                "a round",
                _LOOK_SECONDS,
            )
            after = (server_time(database), figure(database, wal), _messages(broker))
        with database.begin() as connection:
            row = connection.execute(
                text("""
                    SELECT extract(epoch FROM finished_at - iterations.created_at) AS seconds,
                        (SELECT sum(tokens) FROM samples) AS tokens, (SELECT count(*) FROM samples) AS samples
                    FROM iterations
                """)
            ).one()
    if row.samples != fleet.samples:
        raise RuntimeError(f"{row.samples} samples instead of {fleet.samples}: the measurement is wrong")
    engine = float(row.tokens) / fleet.engines.tokens_per_second
    seconds = float(row.seconds)
    spent = [late - early for early, late in zip(before, after, strict=True)]
    return Compared(seconds, engine / seconds / fleet.samplers, *spent)


def _messages(broker: "redis.Redis") -> float:
    commands: Mapping[str, Mapping[str, float]] = broker.info("commandstats")
    return float(commands.get("cmdstat_lpush", {"calls": 0.0})["calls"])


def check(workers: int, cores: int, simulator: Simulator) -> dict[str, object]:
    """Return a round of this number of workers as foreseen and as measured."""
    fleet = fleet_of(workers, cores)
    groups = {"+".join(kinds): count for kinds, count in fleet.groups.items()}
    foreseen = foresee(fleet, simulator.totals(fleet))
    return {
        "workers": workers,
        "groups": groups,
        "samples": fleet.samples,
        "foreseen": asdict(foreseen),
        "measured": asdict(run(fleet)),
    }
