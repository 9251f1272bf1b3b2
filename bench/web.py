"""Measure the pages over a large run: what each takes, how soon the first one comes, and the server's memory.

    python -m bench.web [--samples 1000000] [--runs 9]

A fresh Postgres with the settings of `hsstar up` has one iteration with 8 samples a problem, labels, a wave
of re-sampling and pairs, and a problem with 64 samples. The server is a process of its own, asked as a
browser asks; the first page counts from the start of that process. The text that is searched is in one
statement of all. Its memory is what it has after everything here.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import psutil
from sqlalchemy import text

from bench.setup import (
    MEDIAN_HEADING,
    benchmark_parser,
    describe_machine,
    fill,
    median_and_range,
    table,
    temporary_postgres,
    tidy,
)
from hsstar.store import method, stored_outcomes
from hsstar.store.database import Database
from hsstar.store.rounds import Round
from hsstar.store.runs import Run
from tests.store.factory import allot_budget

SLOTS, MANY = 8, 64
PAGES = {
    "problems": ("problems", 150),
    "problems, boundary": ("problems?level=boundary", 150),
    "problems, reward says right": (
        "problems?disagreement=overrated&sort=overrated&descending=1",
        150,
    ),
    "problems, never right": ("problems?change=never&sort=reward&descending=1", 150),
    "problems, by tokens": ("problems?sort=tokens", 150),
    "problems, a cause": ("problems?cause=incorrect", 150),
    "problems, last key of the middle": ("problems?after=0:{middle}", 150),
    "problems, by a text": ("problems?text=problem+{middle}", 150),
    "problem with 64 samples": ("problems/{many}", 100),
    "run": ("", None),
    "distributions": ("figures?iteration=0", None),
    "thresholds": ("allocation?iteration=0", None),
}
"""Addresses below that of the run, and how many milliseconds each may take."""
FIRST_SECONDS, MEGABYTES = 1.0, 120
THE_MANY = """
    INSERT INTO samples
        (round_id, problem_id, slot, verdict, cause, min_reward, tokens, seed, model_id, worker, text_hash)
    SELECT round_id, problem_id, number, verdict, cause, min_reward, tokens, seed, model_id, worker, number
    FROM samples CROSS JOIN generate_series(:slots, :many - 1) AS number
    WHERE problem_id = :problem AND slot = 0
"""
THEIR_TEXTS = """
    INSERT INTO sample_responses (sample_id, response)
    SELECT id, array_to_string(array_agg(md5(CAST(id * line AS text)) || md5(CAST(line AS text))), E'\n\n')
    FROM samples CROSS JOIN generate_series(1, 16) AS line
    WHERE problem_id = :problem GROUP BY id
    ON CONFLICT (sample_id) DO UPDATE SET response = excluded.response
"""


def complete(database: Database, run: Run, iteration: Round) -> dict[str, int]:
    """Give an iteration its labels, pairs and stored outcomes, and one of its problems many samples."""
    with database.begin() as connection:
        ids = list(connection.execute(text("SELECT id FROM problems ORDER BY id")).scalars())
        many = ids[len(ids) // 3]
        values = {"problem": many, "slots": SLOTS, "many": MANY}
        connection.execute(text(THE_MANY), values)
        connection.execute(text(THEIR_TEXTS), values)
        method.label_problems(connection, run, iteration, ids)
        allot_budget(connection, run, iteration, at_once=10_000)
        method.build_pairs(connection, run, iteration)
        stored_outcomes.write(connection, iteration.id)
        stored_outcomes.use(connection, iteration.id, stored=True)
        connection.execute(text("UPDATE iterations SET state = 'done', finished_at = now()"))
    tidy(database)
    return {"many": many, "middle": ids[len(ids) // 2]}


@contextmanager
def served(database: Database) -> Iterator[tuple[httpx2.Client, psutil.Process, float]]:
    """Start the server; yield a client, its process, and the seconds until its first page was there."""
    command = [sys.executable, "-m", "hsstar.cli", "web", "--port", "0"]
    environment = {"HSSTAR_DATABASE_URL": database.url}
    started = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        with httpx2.Client(base_url=url, timeout=120, trust_env=False) as client:
            client.get("/").raise_for_status()
            yield client, psutil.Process(process.pid), time.perf_counter() - started
        process.terminate()


def milliseconds(client: httpx2.Client, address: str, runs: int) -> list[float]:
    """Return what a page takes, after one visit that warms the caches."""
    taken = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        client.get(address).raise_for_status()
        taken.append(1_000 * (time.perf_counter() - started))
    return taken[1:]


def main() -> None:
    """Print the machine and a table of medians."""
    parser = benchmark_parser(__doc__, 9)
    parser.add_argument("--samples", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with temporary_postgres() as database:
        print(describe_machine(database))
        with database.begin() as connection:
            run, iteration = fill(connection, arguments.samples // SLOTS, SLOTS)
        places = complete(database, run, iteration)
        firsts = []
        for _ in range(3):
            with served(database) as (_, _, first):
                firsts.append(first)
        with served(database) as (client, process, _):
            rows = []
            for name, (address, target) in PAGES.items():
                path = f"/runs/{run.name}/{address}".rstrip("/").format(**places)
                taken = milliseconds(client, path, arguments.runs)
                rows.append([name, *median_and_range(taken, ",.0f"), "" if target is None else f"{target}"])
            memory = process.memory_info().rss / 1e6
    print(f"- {arguments.samples:,} samples of {arguments.samples // SLOTS:,} problems")
    print(f"- first page after the start: {statistics.median(firsts):.2f} s (asked: {FIRST_SECONDS:g} s)")
    print(f"- resident memory after all of it: {memory:.0f} MB (asked: {MEGABYTES})\n")
    print(table(["milliseconds of a page", *MEDIAN_HEADING, "target"], rows))


if __name__ == "__main__":
    main()
