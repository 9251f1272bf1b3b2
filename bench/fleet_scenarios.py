"""The fleets that docs/scale.md shows: sizes, engines, and remedies where one database is too little."""

from dataclasses import replace
from typing import Any

from bench.fleet_model import Costs, Engines, Fleet, Totals
from bench.fleet_simulation import Simulator

WORKERS = (1, 4, 16, 64, 256, 1_000, 4_000)
SAMPLES = (10**5, 10**6, 10**7, 10**8, 10**9)
LARGE = Engines(
    tokens_per_second=3_000,
    sequence_tokens_per_second=40,
    tokens=600,
    spread=0.6,
    verify_seconds=0.005,
    score_seconds=0.03,
)
"""Assumed for a policy of 7B on one GPU: five samples a second."""
SMALL = replace(LARGE, tokens_per_second=30_000, sequence_tokens_per_second=200, score_seconds=0.003)
"""Assumed for a policy below 1B on one GPU: fifty samples a second."""
ENGINES = {"7B": LARGE, "below 1B": SMALL}
CORES = 8
ROUND_TRIP = 0.0005
"""Seconds from a worker to the database and back."""


def simulate_all(costs: Costs, seed: int) -> dict[str, Any]:
    """Return the figures of every fleet and remedy."""
    simulator = Simulator(costs, seed)
    fleets = [
        {"engines": name} | figures(_fleet(workers, samples, engines), costs, simulator)
        for name, engines in ENGINES.items()
        for workers in WORKERS
        for samples in SAMPLES
    ]
    return {"seed": seed, "fleets": fleets, "remedies": remedies(costs, simulator)}


def _fleet(workers: int, samples: int, engines: Engines) -> Fleet:
    return Fleet(workers, samples, engines, CORES, round_trip=ROUND_TRIP)


def remedies(costs: Costs, simulator: Simulator) -> list[dict[str, Any]]:
    """Return what helps a thousand workers with fast engines."""
    base = _fleet(1_000, 10**8, SMALL)
    larger_jobs = replace(base, job_samples=1_024)
    fleets = {
        f"{CORES} cores": base,
        "jobs of 1,024 samples": larger_jobs,
        "jobs of 1,024 samples, written every 8 s": replace(larger_jobs, write_seconds=8.0),
        "three jobs in flight": replace(base, jobs_in_flight=3),
        f"{2 * CORES} cores": replace(base, cores=2 * CORES),
        "four stacks, a quarter of the fleet each": replace(
            base, workers=base.workers // 4, samples=base.samples // 4
        ),
    }
    return [{"remedy": name} | figures(fleet, costs, simulator) for name, fleet in fleets.items()]


def figures(fleet: Fleet, costs: Costs, simulator: Simulator) -> dict[str, Any]:
    """Return a fleet's round in figures per second and in all."""
    totals = simulator.totals(fleet)
    seconds = totals.seconds
    return {
        "workers": fleet.workers,
        "samplers": fleet.samplers,
        "samples": fleet.samples,
        "hours": seconds / 3_600,
        "samples_per_second": fleet.samples / seconds,
        "busy": totals.sampling / seconds / fleet.samplers,
        "database_cores": totals.server / seconds,
        "statements_per_second": totals.statements / seconds,
        "flushes_per_second": totals.flushes / seconds,
        "wal_megabytes_per_second": totals.wal / seconds / 1e6,
        "wait_milliseconds": 1_000 * totals.waited / totals.visits,
        "broker_share": totals.broker / seconds,
        "broker_megabytes": totals.stored_messages * costs.message_bytes / 1e6,
        "ending_share": totals.ending / seconds,
        "storage_gigabytes": fleet.samples * costs.storage_bytes / 1e9,
        "session_gigabytes": fleet.workers * costs.connection_bytes / 1e9,
        "limit": limit(fleet, totals),
    }


def limit(fleet: Fleet, totals: Totals) -> str:
    """Name what keeps samplers idle for more than a tenth of the round, if something does."""
    if totals.sampling / totals.seconds / fleet.samplers >= 0.9:
        return "none"
    shares = {
        "database": totals.server / totals.seconds / fleet.cores,
        "ends of phases": totals.ending / totals.seconds,
        "broker": totals.broker / totals.seconds,
    }
    worst = max(shares, key=lambda name: shares[name])
    if shares[worst] > 0.5:
        return worst
    jobs = totals.samples / fleet.job_samples / fleet.samplers / fleet.jobs_in_flight
    return "too few jobs" if jobs < 8 else "one job at a time" if fleet.workers < 4 else "longest responses"
