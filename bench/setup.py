"""Where benchmarks run: the machine described, a temporary Postgres, a filled round, a stopwatch."""

import os
import platform
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
from sqlalchemy import Connection, text

from hsstar.local.postgres import Postgres
from hsstar.recipe.recipe import Recipe, parse_recipe
from hsstar.store import datasets, migrate, models, rounds, runs
from hsstar.store.database import Database
from hsstar.store.rounds import Round
from hsstar.store.runs import Run

RESPONSE_BYTES = 1_200
_HEXADECIMAL_DIGITS = 32  # of an md5, which the responses are made of


@contextmanager
def temporary_postgres() -> Iterator[Database]:
    """A migrated database on an embedded Postgres with the settings that users get; gone at the end."""
    root = Path(tempfile.mkdtemp(prefix="hsb-", dir="/tmp"))
    root.chmod(0o755)  # the server's account has to enter
    server = Postgres(root / "home", root / "servers")
    try:
        server.start()
        database = Database(server.url)
        migrate.upgrade(database)
        yield database
        database.close()
    finally:
        server.stop()
        shutil.rmtree(root, ignore_errors=True)


def describe_machine(database: Database) -> str:
    """Processor, cores, memory, load and versions, as one Markdown list."""
    with database.begin() as connection:
        server = connection.execute(text("SHOW server_version")).scalar_one()
    return f"{describe_host()}, Postgres {server} (embedded, fsync on)"


def describe_host() -> str:
    """The same without a database."""
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


def recipe_of(problems: int) -> Recipe:
    """The paper's settings: n = 8, n_p = 3, both signals, the highest rewards paired."""
    return parse_recipe(
        {
            "name": "benchmark",
            "problems": {"dataset": "benchmark", "per_iteration": problems},
            "policy": {"model": "M0"},
            "reward": {"model": "prm"},
        }
    )


def fill(connection: Connection, problems: int) -> tuple[Run, Round]:
    """An iteration over `problems` problems, `n` verified and scored samples each, responses of 1.2 KB.

    The ability of the policy runs evenly from hopeless to perfect over the problems, so that about a
    fifth of them are easy and a fifth too hard.
    """
    recipe = recipe_of(problems)
    model = models.register_model(connection, "M0", "/models/m0", "weights")
    reward_model = models.register_reward_model(connection, "prm", "/models/prm", "skywork", "weights")
    run = runs.create_run(connection, "benchmark", recipe, model.id, reward_model.id)
    dataset_id = datasets.ensure_dataset(connection, "benchmark")
    connection.execute(text("SELECT setseed(0)"))
    connection.execute(
        text("""
            INSERT INTO problems (dataset_id, key, statement, reference_answer)
            SELECT :dataset_id, md5(CAST(number AS text)), 'problem ' || number, '1'
            FROM generate_series(1, :problems) AS number
        """),
        {"dataset_id": dataset_id, "problems": problems},
    )
    rounds.add_iterations(connection, run, [0])
    iteration = rounds.list_iterations(connection, run.id)[0].round
    budget = recipe.sampling.budget
    rounds.assign_slice(connection, iteration.id, dataset_id, recipe.seed, problems, budget.pre_samples)
    rounds.begin_iteration(connection, iteration.id, model.id, budget.per_problem)
    connection.execute(
        text("""
            INSERT INTO samples
                (round_id, problem_id, slot, verdict, cause, min_reward, tokens, seed, model_id, worker)
            SELECT :round_id, problem_id, slot, verdict, verdict,
                least(1, greatest(0, ability + (random() - 0.5) / 2)), 400, 1, :model_id, 'benchmark'
            FROM (
                SELECT problem_id, slot, ability,
                    CASE WHEN random() < ability THEN 'correct' ELSE 'incorrect' END AS verdict
                FROM (
                    SELECT problem_id, least(1, greatest(0, 1.5 * position / :problems - 0.25)) AS ability
                    FROM round_problems WHERE round_id = :round_id
                ) AS able, generate_series(0, :n - 1) AS slot
            ) AS judged
        """),
        {
            "round_id": iteration.id,
            "problems": float(problems),
            "n": budget.per_problem,
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
    return run, iteration


def tidy(database: Database) -> None:
    """Removes dead rows and renews the statistics, so that every repetition starts alike."""
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def seconds(action: Callable[[], object]) -> float:
    """How long an action takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def peak_memory() -> float:
    """The highest resident memory of this process so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def timing_row(name: str, measured: Sequence[float], target: str) -> list[str]:
    """Name, median, fastest, slowest, and the target beside them; milliseconds."""
    figures = (statistics.median(measured), min(measured), max(measured))
    return [name, *(f"{figure * 1_000:,.1f} ms" for figure in figures), target]


TIMING_HEADING = ["step", "median", "fastest", "slowest", "target"]
