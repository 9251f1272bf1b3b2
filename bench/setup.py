"""What benchmarks share: their arguments, a temporary Postgres, a filled round, a stopwatch, tables."""

import argparse
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import Connection, text

from hsstar.local.postgres import Postgres
from hsstar.recipe.recipe import parse_recipe
from hsstar.store import counts, datasets, migrate, models, rounds, runs
from hsstar.store.database import Database
from hsstar.store.rounds import Round
from hsstar.store.runs import Run

RESPONSE_BYTES = 1_200
ROOT = Path(__file__).parents[1]
MEDIAN_HEADING = ["median", "smallest", "largest"]
_HEXADECIMAL_DIGITS = 32  # of an md5, which the responses are made of


def benchmark_parser(description: str | None, runs: int) -> argparse.ArgumentParser:
    """Return the parser of a benchmark: its help is the description, and it takes `--runs`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=runs, help="repetitions; the median counts")
    return parser


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Make a folder with a short path, for sockets, that the account of the servers can enter."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def hsstar(environment: Mapping[str, str], *arguments: str) -> None:
    """Run `hsstar`; raise an error if it fails."""
    command = [sys.executable, "-m", "hsstar.cli", *arguments]
    done = subprocess.run(command, env=os.environ | environment, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"hsstar {' '.join(arguments)}: {done.stdout}{done.stderr}")


@contextmanager
def temporary_postgres() -> Iterator[Database]:
    """Start an embedded Postgres with the settings that users get; yield a migrated database on it."""
    with temporary_folder("hsb-") as folder:
        server = Postgres(folder / "home", folder / "servers")
        try:
            server.start()
            database = Database(server.url)
            migrate.upgrade(database)
            yield database
            database.close()
        finally:
            server.stop()


@contextmanager
def filled_round(problems: int, **sections: Any) -> Iterator[tuple[Database, Run, Round]]:
    """Describe the machine, and yield a temporary database with an iteration as `fill` makes it."""
    with temporary_postgres() as database:
        print(describe_machine(database))
        with database.begin() as connection:
            run, iteration = fill(connection, problems, **sections)
        tidy(database)
        yield database, run, iteration


def describe_machine(database: Database) -> str:
    """Describe the host and the database as a Markdown list."""
    with database.begin() as connection:
        server = connection.execute(text("SHOW server_version")).scalar_one()
    return f"{describe_host()}, Postgres {server} (embedded, fsync on)"


def describe_host() -> str:
    """Describe processor, cores, memory, load and versions as a Markdown list."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = psutil.virtual_memory().total / 2**30
    return "\n".join(
        [
            f"- machine: {platform.machine()}, {_processor()}, {cores} cores, {memory:.0f} GiB memory",
            f"- load average at the start: {', '.join(f'{load:.1f}' for load in os.getloadavg())}",
            f"- {platform.system()} {platform.release()}, Python {platform.python_version()}",
        ]
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "unknown processor")


def fill(connection: Connection, problems: int, slots: int = 8, **sections: Any) -> tuple[Run, Round]:
    """Add an iteration over `problems` problems with `slots` verified and scored samples of 1.2 KB each.

    The recipe has the paper's settings: n = 8, n_p = 3, both signals, the highest rewards paired. The ability
    of the policy rises evenly over the problems, so that about a fifth are easy and a fifth too hard.
    `sections` stand in the recipe too.
    """
    recipe = parse_recipe(
        {
            "name": "benchmark",
            "problems": {"dataset": "benchmark", "per_iteration": problems},
            "policy": {"model": "M0"},
            "reward": {"model": "prm"},
        }
        | sections
    )
    model = models.register_model(connection, "M0", "/models/m0", "weights")
    reward_model = models.register_reward_model(connection, "prm", "/models/prm", "skywork", "weights")
    run = runs.create_run(connection, "benchmark", recipe, model.id, [reward_model.id])
    dataset_id = add_problems(connection, "benchmark", problems)
    connection.execute(text("SELECT setseed(0)"))
    rounds.add_iterations(connection, run, [0])
    iteration = rounds.list_iterations(connection, run.id)[0].round
    budget = recipe.sampling.budget
    rounds.assign_slice(connection, iteration.id, dataset_id, recipe.seed, problems, budget.pre_samples)
    rounds.begin_iteration(connection, iteration.id, model.id, budget.per_problem)
    connection.execute(
        text("""
            INSERT INTO samples
                (round_id, problem_id, slot, verdict, cause, min_reward, tokens, seed, model_id, worker,
                text_hash)
            SELECT :round_id, problem_id, slot, verdict, verdict,
                least(1, greatest(0, ability + (random() - 0.5) / 2)), 400, 1, :model_id, 'benchmark',
                CAST(random() * 1e18 AS bigint)
            FROM (
                SELECT problem_id, slot, ability,
                    CASE WHEN random() < ability THEN 'correct' ELSE 'incorrect' END AS verdict
                FROM (
                    SELECT problem_id, least(1, greatest(0, 1.5 * position / :problems - 0.25)) AS ability
                    FROM round_problems WHERE round_id = :round_id
                ) AS able, generate_series(0, :slots - 1) AS slot
            ) AS judged
        """),
        {
            "round_id": iteration.id,
            "problems": float(problems),
            "slots": slots,
            "model_id": model.id,
        },
    )
    connection.execute(
        text("""
            INSERT INTO sample_responses (sample_id, response)
            SELECT id, repeat(md5(CAST(random() AS text)), :times) FROM samples
        """),
        {"times": RESPONSE_BYTES // _HEXADECIMAL_DIGITS},
    )
    counts.recount(connection, [iteration.id])
    return run, iteration


def add_problems(connection: Connection, dataset: str, number: int) -> int:
    """Add problems to a new dataset and return its id."""
    dataset_id = datasets.ensure_dataset(connection, dataset)
    connection.execute(
        text("""
            INSERT INTO problems (dataset_id, key, statement, reference_answer)
            SELECT :dataset_id, md5(CAST(number AS text)), 'problem ' || number, '1'
            FROM generate_series(1, :number) AS number
        """),
        {"dataset_id": dataset_id, "number": number},
    )
    return dataset_id


def tidy(database: Database) -> None:
    """Remove dead rows and renew the statistics, so that every repetition starts alike."""
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def perform(database: Database, *steps: Callable[[Connection], object]) -> None:
    """Do some steps in one transaction, its commit included."""
    with database.begin() as connection:
        for step in steps:
            step(connection)


def seconds(action: Callable[[], object]) -> float:
    """Return the time that an action takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def peak_memory() -> float:
    """Return the highest resident memory of this process so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def median_and_range(figures: Sequence[float], form: str) -> list[str]:
    """Return median, smallest and largest figure, formatted as `{:form}`."""
    return [format(figure, form) for figure in (statistics.median(figures), min(figures), max(figures))]


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def timing_table(rows: Sequence[tuple[str, Sequence[float], str]]) -> str:
    """Return a table of steps: each has a name, its seconds in every repetition, and a target."""
    lines = [
        [name, *median_and_range([1_000 * figure for figure in measured], ",.1f"), target]
        for name, measured, target in rows
    ]
    return table(["milliseconds of a step", *MEDIAN_HEADING, "target"], lines)
