"""Samples per second through the queue beside bare calls of the same engine, in one run.

    python -m benchmarks.sampling [--engine vllm] [--problems 512] [--runs 3] [--workers 1] [--in-flight 2]

The queue is what `hsstar up` starts in a temporary home: Postgres, broker, workers that only sample. In a
repetition it draws the pre-samples of an iteration of the demo's problems and policy; then as many bare
processes as there are workers draw the same requests once more: by a call for each job, and by a single call
for all that the process has. Imports, loading and a first draw come before every measurement on both sides.
The queue's time begins when the jobs' rows are made and ends with the completion of the last one.

An engine is busy while at least one `draw` of its process is under way; the workers log the begin and the end
of each. Work exists for a worker until the last job is claimed and its own last draw has ended.
"""

import argparse
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import text

from benchmarks.setting import describe_machine, table
from hsstar import commands
from hsstar.demo import RECIPE, family
from hsstar.domain.problems import ProblemFormat
from hsstar.engines.contracts import Completion, Sampler, SampleRequest, SamplingParameters
from hsstar.engines.prompts import prompt_renderer
from hsstar.engines.registry import build_sampler, check_installed
from hsstar.local.stack import Stack
from hsstar.recipe import Recipe, load_recipe, parse_recipe
from hsstar.settings import Settings
from hsstar.store.database import Database
from hsstar.store.runs import Run

ROOT = Path(__file__).parents[1]
JOB_SAMPLES = Settings.job_samples
SAMPLES = 8
SECONDS = 600
POLL_SECONDS = 0.2
WARM_UP_JOBS = 2
DRAWS = "HSSTAR_BENCHMARK_DRAWS"
THREADS = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
"""Of the bare processes; `hsstar up` gives its sampling workers half of the cores."""
LOGGED = "logged"
SITE = """
from hsstar.engines.registry import SAMPLERS

SAMPLERS["{logged}"] = SAMPLERS["{engine}"]
SAMPLERS["{engine}"] = "benchmarks.sampling:LoggedSampler"
"""
"""What Python runs at the start of the workers, so that their draws are logged."""
PER_JOB, AT_ONCE, QUEUE = "bare, a call per job", "bare, a single call", "queue"
OVERHEAD_TARGET, BUSY_TARGET = "≤ 5 %", "≥ 95 %"

Calls = list[list[SampleRequest]]
Texts = dict[tuple[str, int], str]
Measured = defaultdict[str, list[float]]
"""The figures of all repetitions by name."""


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
class Drawn:
    """What one way has drawn.

    Attributes:
        begun: when the first process began, as `time.time` counts.
        processor: seconds of all processes that computed.
    """

    begun: float
    ended: float
    processor: float
    tokens: int
    texts: Texts

    @property
    def seconds(self) -> float:
        """Wall clock."""
        return self.ended - self.begun


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


@cache
def bare_engine(engine: str, model: str) -> Sampler:
    """The engine of a bare process."""
    return build_sampler(model, engine=engine)


def draw_calls(engine: str, model: str, calls: Calls, parameters: SamplingParameters) -> Drawn:
    """Draws call after call in a bare process."""
    sampler = bare_engine(engine, model)
    texts: Texts = {}
    tokens = 0
    begun, processor = time.time(), time.process_time()
    for requests in calls:
        for index, result in sampler.draw(requests, parameters):
            assert isinstance(result, Completion), result
            texts[requests[index].prompt, requests[index].seed] = result.text
            tokens += result.tokens
    return Drawn(begun, time.time(), time.process_time() - processor, tokens, texts)


def close_engine(engine: str, model: str) -> None:
    """Ends the engine of a bare process."""
    bare_engine(engine, model).close()


class Bare:
    """Bare processes with an engine each, which share calls evenly."""

    def __init__(self, processes: Sequence[ProcessPoolExecutor], recipe: Recipe) -> None:
        self._processes = processes
        self._policy = (recipe.policy.engine, recipe.policy.model)
        sampling = recipe.sampling
        self._parameters = SamplingParameters(
            sampling.temperature, sampling.top_p, sampling.max_new_tokens, sampling.stop
        )

    def draw(self, calls: Calls, *, at_once: bool) -> Drawn:
        """Draws calls as they are, or all that a process gets by one call."""
        number = len(self._processes)
        futures = []
        for place, process in enumerate(self._processes):
            mine = calls[place::number]
            mine = [list(chain.from_iterable(mine))] if at_once else mine
            futures.append(process.submit(draw_calls, *self._policy, mine, self._parameters))
        parts = [future.result() for future in futures]
        return Drawn(
            min(part.begun for part in parts),
            max(part.ended for part in parts),
            sum(part.processor for part in parts),
            sum(part.tokens for part in parts),
            dict(chain.from_iterable(part.texts.items() for part in parts)),
        )

    def close(self) -> None:
        """Ends the engines."""
        for process in self._processes:
            process.submit(close_engine, *self._policy).result()


@contextmanager
def bare_processes(number: int, recipe: Recipe) -> Iterator[Bare]:
    """So many processes, which load their engine with their first call."""
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        bare = Bare([stack.enter_context(ProcessPoolExecutor(1, context)) for _ in range(number)], recipe)
        yield bare
        bare.close()


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
        run = commands.create_run(self.database, parse_recipe(document | {"name": name}), name)
        commands.start_iterations(self.database, run, 1)
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
    command = [sys.executable, "-m", "cli", *arguments]
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
        commands.import_problems(database, file, ProblemFormat.GSM8K, recipe.problems.dataset)
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


def recipe_of(engine: str, problems: int) -> Recipe:
    """The demo's recipe on an engine: all samples are pre-samples, and no policy is evaluated."""
    document = load_recipe(RECIPE).document()
    document["policy"]["engine"] = engine
    document["problems"]["per_iteration"] = problems
    document["sampling"] |= {"strategy": "uniform", "n": SAMPLES}
    document["evaluation"]["dataset"] = None
    return parse_recipe(document)


def warm_up(queue: Queue, bare: Bare, workers: int) -> None:
    """Draws until every worker and every bare process has an engine."""
    for attempt in range(10):
        calls = queue.draw(f"warm-up-{attempt}", WARM_UP_JOBS * workers * JOB_SAMPLES // SAMPLES).calls
        if len(queue.draws()) == workers:
            break
    for at_once in (False, True):
        bare.draw(calls[:workers], at_once=at_once)


def measure(queue: Queue, bare: Bare, problems: int, repetitions: int) -> Measured:
    """Every way in every repetition, with what the queue takes in comparison."""
    measured = Measured(list)
    for repetition in range(repetitions):
        queued = queue.draw(f"measured-{repetition}", problems)
        drawn = {
            PER_JOB: bare.draw(queued.calls, at_once=False),
            AT_ONCE: bare.draw(queued.calls, at_once=True),
            QUEUE: queued.drawn,
        }
        for name, way in drawn.items():
            measured[f"{name}: samples/s"].append(len(way.texts) / way.seconds)
            measured[f"{name}: tokens/s"].append(way.tokens / way.seconds)
            measured[f"{name}: processor"].append(way.processor)
            measured[f"{name}: wall overhead"].append(100 * (queued.drawn.seconds / way.seconds - 1))
            measured[f"{name}: overhead"].append(100 * (queued.drawn.processor / way.processor - 1))
            equal = sum(way.texts[address] == queued.drawn.texts[address] for address in way.texts)
            measured[f"{name}: equal"].append(100 * equal / len(queued.drawn.texts))
        measured["seconds of a job"].append(queued.busy / len(queued.calls))
        measured["busy"].append(100 * queued.busy / queued.work)
        measured["gap"].append(1_000 * (queued.work - queued.busy) / len(queued.calls))
        measured["rest"].append(queued.rest)
        own = queued.drawn.processor - queued.drawing + queued.rest
        measured["own"].append(100 * own / queued.drawing)
    return measured


def spread(figures: Sequence[float], form: str = ".1f") -> str:
    """Median, smallest and largest figure."""
    median, smallest, largest = (
        format(figure, form) for figure in (statistics.median(figures), min(figures), max(figures))
    )
    return f"{median} ({smallest} … {largest})"


def way_rows(configuration: str, measured: Measured) -> list[list[str]]:
    """A row for each way of drawing."""
    rows = []
    for name in (PER_JOB, AT_ONCE, QUEUE):
        row = [f"{configuration}: {name}", spread(measured[f"{name}: samples/s"], ".0f")]
        row.append(f"{statistics.median(measured[f'{name}: tokens/s']):,.0f}")
        row.append(spread(measured[f"{name}: processor"]))
        if name == QUEUE:
            rows.append([*row, "", "", ""])
            continue
        row.append(spread(measured[f"{name}: wall overhead"], "+.1f"))
        row.append(spread(measured[f"{name}: overhead"], "+.1f"))
        rows.append([*row, f"{min(measured[f'{name}: equal']):.1f} %"])
    return rows


def busy_row(configuration: str, engine: str, measured: Measured) -> list[str]:
    """How busy the engines were, and what the queue computed itself: vLLM draws in threads of its own."""
    return [
        configuration,
        spread(measured["busy"]),
        BUSY_TARGET,
        spread(measured["gap"], ".0f"),
        spread(measured["seconds of a job"], ".2f"),
        spread(measured["rest"]),
        spread(measured["own"]) if engine == "transformers" else "–",
    ]


def numbers(value: str) -> list[int]:
    """`1,2` as numbers."""
    return [int(part) for part in value.split(",")]


def main() -> None:
    """Starts stacks one after the other, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--engine", choices=("transformers", "vllm"), default="transformers")
    parser.add_argument("--problems", type=int, default=512, help=f"of an iteration, {SAMPLES} samples each")
    parser.add_argument("--runs", type=int, default=3, help="repetitions; the median counts")
    parser.add_argument("--workers", type=numbers, default=[1, 2], metavar="N,…")
    parser.add_argument("--in-flight", type=numbers, default=[1, 2], metavar="N,…")
    arguments = parser.parse_args()
    check_installed(arguments.engine)
    os.environ.update(THREADS)
    recipe = recipe_of(arguments.engine, arguments.problems)
    warm_up_problems = WARM_UP_JOBS * max(arguments.workers) * JOB_SAMPLES // SAMPLES
    available = max(arguments.problems, warm_up_problems)
    ways, engines, machine = [], [], ""
    for workers in arguments.workers:
        for in_flight in arguments.in_flight:
            with (
                temporary_stack(workers, in_flight, recipe, available) as queue,
                bare_processes(workers, recipe) as bare,
            ):
                machine = machine or describe_machine(queue.database)
                warm_up(queue, bare, workers)
                measured = measure(queue, bare, arguments.problems, arguments.runs)
            configuration = f"{workers} workers, {in_flight} in flight"
            ways += way_rows(configuration, measured)
            engines.append(busy_row(configuration, arguments.engine, measured))
    samples = arguments.problems * SAMPLES
    print(machine)
    print(
        f"- {arguments.engine}, {samples:,} samples in jobs of {JOB_SAMPLES}, {arguments.runs} repetitions\n"
    )
    heading = ["samples/s: median (smallest … largest)", "tokens/s", "processor seconds"]
    overheads = [f"queue's overhead, wall % ({OVERHEAD_TARGET})", "processor %", "equal to the queue's"]
    print(table(["way", *heading, *overheads], ways) + "\n")
    busy = ["engine busy, %", "target", "ms idle per job", "s of drawing per job"]
    processor = ["servers' processor seconds", "queue's own processor time, % of the engine's"]
    print(table(["configuration", *busy, *processor], engines))


if __name__ == "__main__":
    main()
