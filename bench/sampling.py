"""Measure the samples per second of the queue beside bare calls of the same engine.

    python -m bench.sampling [--engine vllm] [--problems 512] [--runs 3] [--workers 1] [--in-flight 2]
    python -m bench.sampling --recipe FILE --problem-file FILE [--problems 512] …

The queue is a stack as `hsstar up` starts it, in a temporary home: Postgres, broker, and workers that only
sample. In a repetition it draws the pre-samples of an iteration, with the demo's problems and policy or with
those of a recipe, whose `policy.model` is a path. Then as many bare processes as workers draw the same
requests again, once by a call for each job, and once by a single call for all requests of a process. Both
sides import, load and draw once before they are measured. The time of the queue begins when the rows of the
jobs are made, and ends when the last job is done.

An engine is busy while at least one `draw` of its process runs; the workers log begin and end of each. A
worker has work until the last job is claimed and its own last draw has ended.
"""

import os
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from bench.drawing import Bare, Queue, bare_processes, temporary_stack
from bench.setup import benchmark_parser, describe_machine, median_and_range, table
from hsstar.demo import RECIPE
from hsstar.engines.registry import check_installed
from hsstar.recipe.recipe import Recipe, load_recipe, parse_recipe
from hsstar.settings import Settings

SAMPLES = 8
WARM_UP_JOBS = 2
THREADS = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
"""For the bare processes; `hsstar up` gives its sampling workers half of the cores."""
PER_JOB, AT_ONCE, QUEUE = "bare, a call per job", "bare, a single call", "queue"
OVERHEAD_TARGET, BUSY_TARGET = "≤ 5 %, of a model of 135 M ≤ 3 %", "≥ 95 %, of a model of 135 M ≥ 98 %"


def recipe_of(file: Path, engine: str | None, problems: int) -> Recipe:
    """Return a recipe, on another engine if one is named: only pre-samples, and no policy is evaluated."""
    document = load_recipe(file).document()
    document["policy"]["engine"] = engine or document["policy"]["engine"]
    document["problems"]["per_iteration"] = problems
    document["sampling"] |= {"strategy": "uniform", "n": SAMPLES}
    document["evaluation"]["dataset"] = None
    return parse_recipe(document)


def warm_up(queue: Queue, bare: Bare, workers: int, problems: int) -> None:
    """Draw until every worker and every bare process has an engine."""
    for attempt in range(10):
        calls = queue.draw(f"warm-up-{attempt}", problems).calls
        if len(queue.draws()) == workers:
            break
    for at_once in (False, True):
        bare.draw(calls[:workers], at_once=at_once)


def measure(queue: Queue, bare: Bare, problems: int, repetitions: int) -> dict[str, list[float]]:
    """Draw in every way in every repetition; return the figures of all repetitions by name."""
    measured: dict[str, list[float]] = defaultdict(list)
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
    """Return the median and the range of figures."""
    median, smallest, largest = median_and_range(figures, form)
    return f"{median} ({smallest} … {largest})"


def way_rows(configuration: str, measured: dict[str, list[float]]) -> list[list[str]]:
    """Return a row for each way of drawing."""
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


def busy_row(configuration: str, engine: str, measured: dict[str, list[float]]) -> list[str]:
    """Return how busy the engines were, and the queue's own time (not vLLM's, which has its own threads)."""
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
    """Return `1,2` as numbers."""
    return [int(part) for part in value.split(",")]


def main() -> None:
    """Start stacks one after the other, measure, and print tables."""
    parser = benchmark_parser(__doc__, runs=3)
    parser.add_argument("--engine", choices=("transformers", "vllm"), help="in place of the recipe's")
    parser.add_argument("--problems", type=int, default=512, help=f"of an iteration, {SAMPLES} samples each")
    parser.add_argument("--workers", type=numbers, default=[1, 2], metavar="N,…")
    parser.add_argument("--in-flight", type=numbers, default=[1, 2], metavar="N,…")
    parser.add_argument("--job-samples", type=int, default=Settings.job_samples, metavar="N")
    parser.add_argument("--recipe", type=Path, default=RECIPE, metavar="FILE")
    parser.add_argument(
        "--problem-file", type=Path, metavar="FILE", help="for the recipe; the demo makes its own"
    )
    arguments = parser.parse_args()
    os.environ.update(THREADS)
    recipe = recipe_of(arguments.recipe, arguments.engine, arguments.problems)
    engine = recipe.policy.engine
    check_installed(engine)
    job_samples = arguments.job_samples
    warm_up_problems = WARM_UP_JOBS * max(arguments.workers) * job_samples // SAMPLES
    problems = arguments.problem_file or max(arguments.problems, warm_up_problems)
    ways, engines, machine = [], [], ""
    for workers in arguments.workers:
        for in_flight in arguments.in_flight:
            with (
                temporary_stack(workers, in_flight, recipe, problems, job_samples) as queue,
                bare_processes(workers, recipe) as bare,
            ):
                machine = machine or describe_machine(queue.database)
                warm_up(queue, bare, workers, warm_up_problems)
                measured = measure(queue, bare, arguments.problems, arguments.runs)
            configuration = f"{workers} workers, {in_flight} in flight"
            ways += way_rows(configuration, measured)
            engines.append(busy_row(configuration, engine, measured))
    samples = arguments.problems * SAMPLES
    print(machine)
    print(f"- {engine}, {samples:,} samples in jobs of {job_samples}, {arguments.runs} repetitions\n")
    heading = ["samples/s: median (smallest … largest)", "tokens/s", "processor seconds"]
    overheads = [f"queue's overhead, wall % ({OVERHEAD_TARGET})", "processor %", "equal to the queue's"]
    print(table(["way", *heading, *overheads], ways) + "\n")
    busy = ["engine busy, %", "target", "ms idle per job", "s of drawing per job"]
    processor = ["servers' processor seconds", "queue's own processor time, % of the engine's"]
    print(table(["configuration", *busy, *processor], engines))


if __name__ == "__main__":
    main()
