"""Two ways to draw the same samples: bare processes with an engine each, and the queue of a stack."""

import json
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import text

from bench.setup import ROOT, hsstar, temporary_folder
from hsstar.commands.problems import import_problems
from hsstar.commands.runs import create_run, start_iterations
from hsstar.data.files import ProblemFiles
from hsstar.demo import family
from hsstar.engines.prompts import prompt_renderer
from hsstar.engines.registry import build_sampler
from hsstar.engines.sampling.contract import Completion, Sampler, SampleRequest, SamplingParameters
from hsstar.local.stack import Stack
from hsstar.recipe.recipe import Recipe, parse_recipe
from hsstar.settings import Settings
from hsstar.store.database import Database
from hsstar.store.runs import Run

LONGEST_RUN_SECONDS = 600
POLL_SECONDS = 0.2
DRAWS = "HSSTAR_BENCHMARK_DRAWS"
LOGGED = "logged"
SITE = """
from hsstar.engines.registry import SAMPLERS

SAMPLERS["{logged}"] = SAMPLERS["{engine}"]
SAMPLERS["{engine}"] = "bench.drawing:LoggedSampler"
"""
"""Python runs this at the start of the workers, so that they log their draws."""

Calls = list[list[SampleRequest]]
Texts = dict[tuple[str, int], str]
"""Responses by prompt and seed."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """The samples of one way, and what they cost."""

    begun: float  # of all processes together, as `time.time` counts, like `ended`
    ended: float
    processor: float  # seconds of all processes that computed
    tokens: int
    texts: Texts

    @property
    def seconds(self) -> float:
        """Wall-clock time."""
        return self.ended - self.begun


# --- bare processes -------------------------------------------------------------------------------


@cache
def bare_engine(recipe: str) -> Sampler:
    """Return the engine of a bare process, for a recipe in JSON."""
    policy = parse_recipe(json.loads(recipe)).policy
    return build_sampler(policy.model, engine=policy.engine, dtype=policy.dtype, **policy.engine_options)


def draw_calls(recipe: str, calls: Calls, parameters: SamplingParameters) -> Drawn:
    """Draw call after call in a bare process."""
    sampler = bare_engine(recipe)
    texts: Texts = {}
    tokens = 0
    begun, processor = time.time(), time.process_time()
    for requests in calls:
        for index, result in sampler.draw(requests, parameters):
            assert isinstance(result, Completion), result
            texts[requests[index].prompt, requests[index].seed] = result.text
            tokens += result.tokens
    return Drawn(begun, time.time(), time.process_time() - processor, tokens, texts)


def close_engine(recipe: str) -> None:
    """End the engine of a bare process."""
    bare_engine(recipe).close()


class Bare:
    """Bare processes with an engine each; they share calls evenly."""

    def __init__(self, processes: Sequence[ProcessPoolExecutor], recipe: Recipe) -> None:
        self._processes = processes
        self._recipe = json.dumps(recipe.document())
        sampling = recipe.sampling
        self._parameters = SamplingParameters(
            sampling.temperature, sampling.top_p, sampling.max_new_tokens, sampling.stop
        )

    def draw(self, calls: Calls, *, at_once: bool) -> Drawn:
        """Draw calls as they are, or all calls of a process as a single one."""
        futures = []
        for place, process in enumerate(self._processes):
            mine = calls[place :: len(self._processes)]
            mine = [list(chain.from_iterable(mine))] if at_once else mine
            futures.append(process.submit(draw_calls, self._recipe, mine, self._parameters))
        parts = [future.result() for future in futures]
        return Drawn(
            min(part.begun for part in parts),
            max(part.ended for part in parts),
            sum(part.processor for part in parts),
            sum(part.tokens for part in parts),
            dict(chain.from_iterable(part.texts.items() for part in parts)),
        )


@contextmanager
def bare_processes(number: int, recipe: Recipe) -> Iterator[Bare]:
    """Yield bare processes, which load their engine with their first call."""
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        processes = [stack.enter_context(ProcessPoolExecutor(1, context)) for _ in range(number)]
        yield Bare(processes, recipe)
        for process in processes:
            process.submit(close_engine, json.dumps(recipe.document())).result()


# --- the queue ------------------------------------------------------------------------------------


class LoggedSampler:
    """The sampler of a worker; it logs begin, end and thread seconds of each draw in its process's file."""

    def __init__(self, model: str | Path, **options: Any) -> None:
        self._sampler = build_sampler(model, engine=LOGGED, **options)
        self._log = Path(os.environ[DRAWS]) / str(os.getpid())
        self.name = self._sampler.name
        self.reload, self.close = self._sampler.reload, self._sampler.close

    def draw(
        self, requests: Sequence[SampleRequest], parameters: SamplingParameters
    ) -> Iterator[tuple[int, Completion | str]]:
        """Draw with the real sampler, and log the draw."""
        begun, processor = time.time(), time.thread_time()
        yield from self._sampler.draw(requests, parameters)
        with self._log.open("a") as log:
            log.write(f"{begun} {time.time()} {time.thread_time() - processor}\n")


@dataclass(frozen=True, slots=True)
class Queued:
    """The samples of the queue, and what they cost."""

    drawn: Drawn
    calls: Calls  # the requests of each job
    rest: float  # processor seconds of servers and supervisor
    drawing: float  # processor seconds of the threads in which `draw` ran
    busy: float  # seconds in which engines were drawing, over all workers
    work: float  # seconds in which the engines had work, over all workers


def processes_below(folder: Path) -> dict[int, psutil.Process]:
    """Return the processes whose command names a folder, and their descendants, by process id."""
    processes: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if str(folder) in " ".join(process.cmdline()) and process.pid != os.getpid():
                tree = (process, *process.children(recursive=True))
                processes |= {member.pid: member for member in tree}
    return processes


class Queue:
    """A stack of its own, and the draws of its workers."""

    def __init__(self, folder: Path, database: Database, recipe: Recipe) -> None:
        self._folder = folder
        self.database = database
        self._recipe = recipe

    def draw(self, name: str, problems: int) -> Queued:
        """Draw the pre-samples of a new run's first iteration, and delete the run."""
        before = self._processor_seconds()
        document = self._recipe.document()
        document["problems"]["per_iteration"] = problems
        run = create_run(self.database, parse_recipe(document | {"name": name}), name)
        start_iterations(self.database, run, 1)
        begun, claimed, ended = self._wait(run)
        after = self._processor_seconds()
        spent = {pid: seconds - before.get(pid, 0.0) for pid, seconds in after.items()}
        draws = self.draws()
        calls, tokens, texts = self._read(run)
        busy, work, drawing = 0.0, 0.0, 0.0
        for all_draws in draws.values():
            of_run = [draw for draw in all_draws if draw[0] >= begun]
            busy += covered([(start, end) for start, end, _ in of_run])
            work += max([claimed, *(end for _, end, _ in of_run)]) - begun
            drawing += sum(processor for _, _, processor in of_run)
        with self.database.begin() as connection:
            connection.execute(text("DELETE FROM runs WHERE id = :id"), {"id": run.id})
        processor = sum(spent[pid] for pid in draws)
        rest = sum(spent.values()) - sum(before[pid] for pid in before.keys() - after.keys()) - processor
        return Queued(Drawn(begun, ended, processor, tokens, texts), calls, rest, drawing, busy, work)

    def draws(self) -> dict[int, list[tuple[float, float, float]]]:
        """Return begin, end and processor seconds of all draws, by worker process."""
        logs = {int(log.name): log.read_text().splitlines() for log in (self._folder / "draws").iterdir()}
        return {
            pid: [(float(begun), float(ended), float(spent)) for begun, ended, spent in map(str.split, lines)]
            for pid, lines in logs.items()
        }

    def _wait(self, run: Run) -> tuple[float, float, float]:
        """Return when the jobs of a run were made, when the last was claimed, and when the last was done."""
        end = time.monotonic() + LONGEST_RUN_SECONDS
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
        raise RuntimeError(f"run {run.name} has not drawn its samples within {LONGEST_RUN_SECONDS} s")

    def _read(self, run: Run) -> tuple[Calls, int, Texts]:
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
        render = prompt_renderer(self._recipe.policy.prompt.resolved, self._recipe.policy.model)
        calls = [
            [SampleRequest(render(row.statement), row.seed) for row in of_job]
            for _, of_job in groupby(rows, lambda row: row.job_id)
        ]
        texts = {(render(row.statement), row.seed): row.response for row in rows}
        return calls, sum(row.tokens for row in rows), texts

    def _processor_seconds(self) -> dict[int, float]:
        used = {}
        for pid, process in processes_below(self._folder).items():
            with suppress(psutil.NoSuchProcess):
                used[pid] = sum(process.cpu_times()[:4])  # user and system time, without waiting
        return used


def covered(intervals: Sequence[tuple[float, float]]) -> float:
    """Return the length of the union of intervals."""
    total, reached = 0.0, 0.0
    for begun, ended in sorted(intervals):
        total += max(0.0, ended - max(begun, reached))
        reached = max(reached, ended)
    return total


@contextmanager
def temporary_stack(
    workers: int, in_flight: int, recipe: Recipe, problems: int | Path, job_samples: int
) -> Iterator[Queue]:
    """Start a stack as `hsstar up` does; remove it at the end. It has problems of a file, or of the demo."""
    with temporary_folder("hsb-") as folder:
        site = folder / "site"
        site.mkdir()
        (folder / "draws").mkdir()
        (site / "sitecustomize.py").write_text(SITE.format(logged=LOGGED, engine=recipe.policy.engine))
        environment = {
            "HSSTAR_HOME": str(folder / "home"),
            "HSSTAR_SERVER_DIR": str(folder / "servers"),
            "HSSTAR_JOB_SAMPLES": str(job_samples),
            "HSSTAR_JOBS_IN_FLIGHT": str(in_flight),
            "PYTHONPATH": f"{site}:{ROOT}",
            DRAWS: str(folder / "draws"),
        }
        try:
            hsstar(environment, "up", "--workers", f"sample={workers},score=0,verify=0,train=0")
            database = Database(Stack(Settings.from_environment(environment)).database_url)
            file = problems if isinstance(problems, Path) else folder / "problems.jsonl"
            if isinstance(problems, int):
                family.write_problems(file, family.distinct_problems(problems, 0, held_out=False))
            import_problems(database, ProblemFiles([file]), recipe.problems.dataset)
            yield Queue(folder, database, recipe)
            database.close()
        finally:
            try:
                hsstar(environment, "down")
            finally:
                for process in processes_below(folder).values():
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
