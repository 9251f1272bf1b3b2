"""Sampling through the queue: a stack of its own, whose workers log their draws."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import text

from bench.bare_sampling import Calls, Drawn, Texts
from hsstar.commands.problems import import_problems
from hsstar.commands.runs import create_run, start_iterations
from hsstar.demo import family
from hsstar.domain.problems import ProblemFormat
from hsstar.engines.prompts import prompt_renderer
from hsstar.engines.registry import build_sampler
from hsstar.engines.sampling.contract import Completion, SampleRequest, SamplingParameters
from hsstar.local.stack import Stack
from hsstar.recipe.recipe import Recipe, parse_recipe
from hsstar.settings import Settings
from hsstar.store.database import Database
from hsstar.store.runs import Run

JOB_SAMPLES = Settings.job_samples
ROOT = Path(__file__).parents[1]
SECONDS = 600
POLL_SECONDS = 0.2
DRAWS = "HSSTAR_BENCHMARK_DRAWS"
LOGGED = "logged"
SITE = """
from hsstar.engines.registry import SAMPLERS

SAMPLERS["{logged}"] = SAMPLERS["{engine}"]
SAMPLERS["{engine}"] = "bench.queued_sampling:LoggedSampler"
"""
"""What Python runs at the start of the workers, so that their draws are logged."""


class LoggedSampler:
    """The sampler of a worker; each draw becomes a line in a file of the process.

    The line holds begin, end, and the processor seconds of the drawing thread.
    """

    def __init__(self, model: str | Path, **options: Any) -> None:
        self._sampler = build_sampler(model, engine=LOGGED, **options)
        self._log = Path(os.environ[DRAWS]) / str(os.getpid())
        self.name = self._sampler.name

    def draw(
        self, requests: Sequence[SampleRequest], parameters: SamplingParameters
    ) -> Iterator[tuple[int, Completion | str]]:
        """What the sampler draws."""
        begun, processor = time.time(), time.thread_time()
        yield from self._sampler.draw(requests, parameters)
        with self._log.open("a") as log:
            log.write(f"{begun} {time.time()} {time.thread_time() - processor}\n")

    def reload(self, model: Path) -> None:
        """Loads another policy."""
        self._sampler.reload(model)

    def close(self) -> None:
        """Frees the model's memory."""
        self._sampler.close()


@dataclass(frozen=True, slots=True)
class Queued:
    """What the queue has drawn, and how.

    Attributes:
        calls: the requests of each job.
        rest: processor seconds of servers and supervisor.
        drawing: processor seconds of the threads in which `draw` ran.
        busy: seconds in which engines were drawing, and in which there was work for them, over all workers.
    """

    drawn: Drawn
    calls: Calls
    rest: float
    drawing: float
    busy: float
    work: float


def processes_below(folder: Path) -> list[psutil.Process]:
    """The processes whose command names a folder, and their descendants: supervisor, workers, servers."""
    found = {}
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if str(folder) in " ".join(process.cmdline()) and process.pid != os.getpid():
                for one in (process, *process.children(recursive=True)):
                    found[one.pid] = one
    return list(found.values())


class Queue:
    """A stack of its own, and what it has drawn so far."""

    def __init__(self, folder: Path, database: Database, recipe: Recipe) -> None:
        self._folder = folder
        self.database = database
        self._recipe = recipe

    def draw(self, name: str, problems: int) -> Queued:
        """The pre-samples of a new run's first iteration; the run is gone afterwards."""
        before = self._processor_seconds()
        document = self._recipe.document()
        document["problems"]["per_iteration"] = problems
        run = create_run(self.database, parse_recipe(document | {"name": name}), name)
        start_iterations(self.database, run, 1)
        begun, claimed, ended = self._wait(run)
        after = self._processor_seconds()
        spent = {pid: seconds - before.get(pid, 0.0) for pid, seconds in after.items()}
        draws = self.draws()
        calls, drawn = self._read(run)
        busy, work, drawing = 0.0, 0.0, 0.0
        for all_draws in draws.values():
            of_run = [draw for draw in all_draws if draw[0] >= begun]
            busy += covered([(start, end) for start, end, _ in of_run])
            work += max([claimed, *(end for _, end, _ in of_run)]) - begun
            drawing += sum(processor for _, _, processor in of_run)
        with self.database.begin() as connection:
            connection.execute(text("DELETE FROM runs WHERE id = :id"), {"id": run.id})
        processor = sum(spent[pid] for pid in draws)
        tokens, texts = drawn
        return Queued(
            Drawn(begun, ended, processor, tokens, texts),
            calls,
            sum(spent.values()) - sum(before[pid] for pid in before.keys() - after.keys()) - processor,
            drawing,
            busy,
            work,
        )

    def draws(self) -> dict[int, list[tuple[float, float, float]]]:
        """Begin, end and processor seconds of all draws, by worker process."""
        logs = {int(log.name): log.read_text().splitlines() for log in (self._folder / "draws").iterdir()}
        return {
            pid: [(float(begun), float(ended), float(spent)) for begun, ended, spent in map(str.split, lines)]
            for pid, lines in logs.items()
        }

    def _wait(self, run: Run) -> tuple[float, float, float]:
        """When the jobs of a run were made, when the last was claimed, and when the last was done."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            with self.database.begin() as connection:
                row = connection.execute(
                    text("""
                        SELECT count(*) AS jobs, bool_and(state = 'done') AS done,
                            bool_or(state = 'failed' OR attempts > 1) AS failed,
                            extract(epoch FROM min(jobs.created_at)) AS made,
                            extract(epoch FROM max(started_at)) AS claimed,
                            extract(epoch FROM max(finished_at)) AS ended
                        FROM jobs JOIN rounds ON rounds.id = jobs.round_id
                        WHERE run_id = :run_id AND jobs.kind = 'sample'
                    """),
                    {"run_id": run.id},
                ).one()
            if row.jobs and row.failed:
                raise RuntimeError(f"a sampling job of run {run.name} has failed")
            if row.jobs and row.done:
                return float(row.made), float(row.claimed), float(row.ended)
            time.sleep(POLL_SECONDS)
        raise RuntimeError(f"run {run.name} has not drawn its samples within {SECONDS} s")

    def _read(self, run: Run) -> tuple[Calls, tuple[int, Texts]]:
        """The requests of each job, and what was drawn for them."""
        with self.database.begin() as connection:
            rows = connection.execute(
                text("""
                    SELECT job_items.job_id, problems.statement, samples.seed, samples.tokens, response
                    FROM rounds
                    JOIN jobs ON jobs.round_id = rounds.id AND jobs.kind = 'sample'
                    JOIN job_items ON job_items.job_id = jobs.id
                    JOIN problems ON problems.id = job_items.problem_id
                    JOIN samples ON samples.round_id = rounds.id
                        AND samples.problem_id = problems.id AND samples.slot = ANY (job_items.slots)
                    JOIN sample_responses ON sample_id = samples.id
                    WHERE run_id = :run_id
                    ORDER BY job_items.job_id, problems.id, samples.slot
                """),
                {"run_id": run.id},
            ).all()
        render = prompt_renderer(self._recipe.policy.prompt, self._recipe.policy.model)
        calls = [
            [SampleRequest(render(row.statement), row.seed) for row in of_job]
            for _, of_job in groupby(rows, lambda row: row.job_id)
        ]
        texts = {(render(row.statement), row.seed): row.response for row in rows}
        return calls, (sum(row.tokens for row in rows), texts)

    def _processor_seconds(self) -> dict[int, float]:
        """Processor seconds so far of every process of the stack, with those of its ended children."""
        found = {}
        for process in processes_below(self._folder):
            with suppress(psutil.NoSuchProcess):
                found[process.pid] = sum(process.cpu_times()[:4])  # with its ended children, without waiting
        return found


def covered(intervals: Sequence[tuple[float, float]]) -> float:
    """The length of what intervals cover together."""
    total, reached = 0.0, 0.0
    for begun, ended in sorted(intervals):
        total += max(0.0, ended - max(begun, reached))
        reached = max(reached, ended)
    return total


def hsstar(environment: Mapping[str, str], *arguments: str) -> None:
    """Runs `hsstar`, which has to succeed."""
    command = [sys.executable, "-m", "hsstar.cli", *arguments]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"hsstar {' '.join(arguments)}: {done.stdout}{done.stderr}")


@contextmanager
def temporary_stack(workers: int, in_flight: int, recipe: Recipe, problems: int) -> Iterator[Queue]:
    """What `hsstar up` starts, with the problems imported; stopped and removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="hsb-", dir="/tmp"))
    folder.chmod(0o755)  # the servers' account has to enter
    (folder / "draws").mkdir()
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE.format(logged=LOGGED, engine=recipe.policy.engine))
    environment = {
        "HSSTAR_HOME": str(folder / "home"),
        "HSSTAR_SERVER_DIR": str(folder / "servers"),
        "HSSTAR_JOB_SAMPLES": str(JOB_SAMPLES),
        "HSSTAR_JOBS_IN_FLIGHT": str(in_flight),
        "PYTHONPATH": f"{site}:{ROOT}",
        DRAWS: str(folder / "draws"),
    }
    try:
        hsstar(environment, "up", "--workers", f"sample={workers},score=0,verify=0,train=0")
        database = Database(Stack(Settings.from_environment(environment)).database_url)
        file = folder / "problems.jsonl"
        family.write_problems(file, family.distinct_problems(problems, 0, held_out=False))
        import_problems(database, file, ProblemFormat.GSM8K, recipe.problems.dataset)
        yield Queue(folder, database, recipe)
        database.close()
    finally:
        try:
            hsstar(environment, "down")
        finally:
            for process in processes_below(folder):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            shutil.rmtree(folder, ignore_errors=True)
