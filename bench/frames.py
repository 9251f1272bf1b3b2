"""Measure how fast samples come into a notebook: rows a second as Arrow, by the clock and by processor time.

    python -m bench.frames [--runs 5] [--samples 1000000]

A temporary Postgres holds one iteration of `--samples` samples with responses of 1.2 KB. Read are the facts
of all samples (the columns of `sample_facts`), five columns of them, their problems and responses, and the
facts of an eighth of them as Python dictionaries, which is what Arrow saves. `client` is the processor time
of this process, `server` that of the Postgres sessions that end with the reading; dictionaries come over a
session of the pool, which is not counted. Memory is what this process gains while it goes through all
responses batch by batch.
"""

import time
from collections.abc import Callable

import psutil
from sqlalchemy import text

from bench.setup import (
    benchmark_parser,
    describe_machine,
    fill,
    median_and_range,
    peak_memory,
    table,
    temporary_postgres,
    tidy,
)
from hsstar.api.run import RunHandle
from hsstar.api.selection import Selection
from hsstar.settings import Settings
from hsstar.store.database import Database

SLOTS = 8
FEW = ("iteration", "problem_id", "slot", "verdict", "min_reward")
_REAP_SECONDS = 0.5


def sessions_time(database: Database) -> float:
    """Return the processor time so far of the server's sessions that have ended."""
    with database.begin() as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    server = psutil.Process(pid).parent()
    assert server is not None
    times = server.cpu_times()
    return float(times.children_user + times.children_system)


def measure(database: Database, name: str, rows: int, read: Callable[[], int], runs: int) -> list[str]:
    """Read `rows` rows some times; return rows a second, and seconds of client and server for all of them."""
    speeds, clients, servers = [], [], []
    for _ in range(runs):
        before, client = sessions_time(database), time.process_time()
        started = time.perf_counter()
        assert read() == rows
        speeds.append(rows / (time.perf_counter() - started))
        clients.append(time.process_time() - client)
        time.sleep(_REAP_SECONDS)
        servers.append(sessions_time(database) - before)
    by_processor = [rows / (one + other) for one, other in zip(clients, servers, strict=True)]
    return [
        name,
        f"{rows:,}",
        *median_and_range(speeds, ",.0f"),
        median_and_range(by_processor, ",.0f")[0],
        median_and_range(clients, ".2f")[0],
        median_and_range(servers, ".2f")[0],
    ]


def through_batches(selection: Selection) -> int:
    """Go through a selection batch by batch; return the number of its rows."""
    return sum(batch.num_rows for batch in selection.to_arrow_batches())


def main() -> None:
    """Print the machine and a table of medians."""
    parser = benchmark_parser(__doc__, 5)
    parser.add_argument("--samples", type=int, default=1_000_000)
    arguments = parser.parse_args()
    samples, runs = arguments.samples // SLOTS * SLOTS, arguments.runs
    with temporary_postgres() as database:
        print(describe_machine(database))
        with database.begin() as connection:
            made, _ = fill(connection, samples // SLOTS, SLOTS)
        tidy(database)
        run = RunHandle(database, Settings.from_environment({}), made.name)
        facts, texts = run.samples(), run.samples(texts=True)
        some_texts = texts.select("problem_id", "slot", "statement", "response")
        before = peak_memory()
        streamed = through_batches(some_texts)
        gained = peak_memory() - before
        rows = [
            measure(database, "facts", samples, lambda: facts.to_arrow().num_rows, runs),
            measure(database, "five columns", samples, lambda: facts.select(*FEW).to_arrow().num_rows, runs),
            measure(database, "texts", samples, lambda: through_batches(some_texts), runs),
        ]
        first = run.samples(slot=0)
        rows.append(measure(database, "dictionaries", samples // SLOTS, lambda: len(first.rows()), runs))
    print(f"- {streamed:,} texts batch by batch: {gained:.0f} MB more memory")
    heading = ["read", "rows", "rows/s", "smallest", "largest", "rows/s of processor", "client s", "server s"]
    print(table(heading, rows))


if __name__ == "__main__":
    main()
