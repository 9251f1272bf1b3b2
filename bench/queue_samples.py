"""Writers of samples: processes that do what a sampling worker does with what its engine has drawn."""

import multiprocessing
import random
import time
from collections.abc import Iterator

from sqlalchemy import text

from bench.queue_setup import processor_seconds
from bench.setup import RESPONSE_BYTES, fill
from hsstar.domain.lifecycle import JobKind
from hsstar.stages.sample import BATCH_SAMPLES
from hsstar.store import samples
from hsstar.store.database import Database
from hsstar.store.queue import jobs
from hsstar.store.samples import DrawnSample

PROBLEMS = 7_500
SLOTS_BEFORE = 8
"""Of every problem, filled already."""
TEXTS = 512


def write(url: str, job_id: int, problems: list[int], seconds: float, barrier: object) -> int:
    """Writes batches of samples under the lease of a job for so long; returns how many."""
    database = Database(url)
    with database.begin() as connection:
        job = jobs.claim(connection, job_id, f"writer-{job_id}", lease_seconds=3_600)
        assert job is not None
    drawn = _drawn(problems)
    written = 0
    barrier.wait()  # type: ignore[attr-defined]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        batch = [next(drawn) for _ in range(BATCH_SAMPLES)]
        with database.begin() as connection:
            jobs.fence(connection, job)
            written += samples.write_samples(connection, job.round_id, 1, job.worker, batch)
    with database.begin() as connection:
        jobs.complete(connection, job)
    database.close()
    return written


def _drawn(problems: list[int]) -> Iterator[DrawnSample]:
    """Samples without end, 1.2 KB each, problem by problem as a job has them."""
    chance = random.Random(problems[0])
    texts = [chance.randbytes(RESPONSE_BYTES // 2).hex() for _ in range(TEXTS)]
    slot = SLOTS_BEFORE
    while True:
        for number, problem in enumerate(problems):
            for place in range(slot, slot + SLOTS_BEFORE):
                yield DrawnSample(
                    problem,
                    place,
                    texts[(number + place) % TEXTS],
                    place,
                    400,
                    "stop",
                    -99.5,
                    "engine 1",
                    812.5,
                )
        slot += SLOTS_BEFORE


def rate(database: Database, writers: int, seconds: float) -> tuple[float, float]:
    """Samples per second that so many processes write for so long, and processor seconds for each."""
    with database.begin() as connection:
        round_id = fill(connection, PROBLEMS)[1].id
        ids = list(connection.execute(text("SELECT id FROM problems ORDER BY id")).scalars())
        job_ids = connection.execute(
            text(
                "INSERT INTO jobs (round_id, kind) SELECT :id, :kind FROM generate_series(1, :n) RETURNING id"
            ),
            {"id": round_id, "kind": JobKind.SAMPLE.value, "n": writers},
        ).scalars()
        parts = [(job, ids[place::writers]) for place, job in enumerate(job_ids)]
    there = _there(database)
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(writers) as pool:
        barrier = manager.Barrier(writers)
        pool.map(abs, range(writers))  # they have imported what they need
        before = processor_seconds(database)
        arguments = [(database.url, job, part, seconds, barrier) for job, part in parts]
        written = sum(pool.starmap(write, arguments))
        processor = processor_seconds(database) - before
    assert _there(database) - there == written
    return written / seconds, processor / written


def _there(database: Database) -> int:
    with database.begin() as connection:
        return int(connection.execute(text("SELECT count(*) FROM sample_responses")).scalar_one())
