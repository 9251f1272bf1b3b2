"""Measure the verifier beside plain Math-Verify: real responses, hard answers, latency, memory, and sharing.

    python -m bench.verifier [--runs 5] [--responses FILE] [--sharing | --hard]

FILE holds one problem with its responses a line, or one sample a line as `hsstar export samples` writes it.
Each way of working gets new processes in every repetition, which first verify other problems for a while. The
first pass meets new responses; the later passes find them in the caches. With one core, this process and its
checking process share the core. `--sharing` only counts the computations that equal pairs save.

The hard mix are the answers of the case tables, verified one by one. Its figures are processor time of this
process and its checking process together, which the load of the machine changes little; `--hard` measures
nothing else.
"""

import json
import multiprocessing
import os
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice, pairwise
from pathlib import Path

import psutil
from sqlalchemy import text

from bench.agreement import PATIENT_SECONDS, math_verify_accepts
from bench.setup import (
    MEDIAN_HEADING,
    benchmark_parser,
    describe_host,
    describe_machine,
    median_and_range,
    seconds,
    table,
    temporary_postgres,
)
from hsstar.data.files import read_problems
from hsstar.data.samples import SampleFiles
from hsstar.store.database import Database
from hsstar.store.samples import load_known_verdicts, remember_verdicts
from hsstar.verifier import MathVerifier
from hsstar.verifier.contract import AnswerPair, VerificationRequest

SHARED = Path(__file__).parents[1].parent / "shared" / "data"
RESPONSES = SHARED / "responses" / "math_sampled_8.jsonl"
OTHER_PROBLEMS = SHARED / "benchmarks" / "college_math.jsonl"
OTHERS = 200
PROBLEMS_IN_A_JOB = 8
LATER_PASSES = 7
CASES = (
    SHARED.parent / "cases" / "verifier" / "cases.jsonl",
    Path(__file__).parents[1] / "tests" / "verifier" / "verdict_cases.jsonl",
)
START_SECONDS = 3.0
PACKAGE = "hsstar.verifier"
FIRST_PASS = ", first pass"
PLAIN = "Math-Verify alone, 1 core"
HARD, HARD_ALGEBRA, HARD_PLAIN = "hsstar", "hsstar, pairs that take algebra", "Math-Verify alone"
TARGETS = {
    "jobs, 2 cores" + FIRST_PASS: "2,000",
    "jobs, 2 cores": "2,000",
    "jobs and known verdicts, 2 cores": "10,000",
}

Job = list[VerificationRequest]
Measured = defaultdict[str, list[float]]
"""The figures of all repetitions by name."""


def load_jobs(path: Path) -> list[Job]:
    """Read the responses as jobs of a worker: all responses to eight problems in one job."""
    problems = [
        [VerificationRequest(response.text, row.problem.reference or "") for response in row.responses]
        for row in SampleFiles([path]).by_problem()
    ]
    return [
        list(chain.from_iterable(problems[start : start + PROBLEMS_IN_A_JOB]))
        for start in range(0, len(problems), PROBLEMS_IN_A_JOB)
    ]


def other_requests(start: int) -> Job:
    """Return answers to other problems, from `start` on: each reference beside the next one."""
    problems = islice(read_problems(OTHER_PROBLEMS), start, start + OTHERS)
    references = [problem.reference or "" for problem in problems]
    return [VerificationRequest(answer, other, is_answer=True) for answer, other in pairwise(references)]


@contextmanager
def limited_to(cores: int) -> Iterator[None]:
    """Keep this thread, and what it starts from now on, on some cores."""
    available = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, available[:cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, available)


@contextmanager
def new_verifier(cores: int) -> Iterator[MathVerifier]:
    """Yield a verifier with one checking process per core, warmed up with other problems."""
    others = other_requests(0)
    with limited_to(cores), MathVerifier(processes=cores) as verifier:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            verifier.verify(others)
        yield verifier


def open_pairs(verifier: MathVerifier, requests: Sequence[VerificationRequest]) -> list[AnswerPair]:
    """Return the pairs that need algebra."""
    return [pair for pair in verifier.prepare(requests) if pair.cause is None]


def without_sharing(verifier: MathVerifier, jobs: Sequence[Job]) -> None:
    """Compute every pair that needs algebra; equal pairs are in different calls, so that none is shared."""
    calls: defaultdict[int, list[AnswerPair]] = defaultdict(list)
    seen: Counter[bytes] = Counter()
    for pair in open_pairs(verifier, list(chain.from_iterable(jobs))):
        calls[seen[pair.key]].append(pair)
        seen[pair.key] += 1
    decided = sum(1 for call in calls.values() for _ in verifier.decide(call))
    assert decided == seen.total()


def by_jobs(verifier: MathVerifier, jobs: Sequence[Job]) -> None:
    """Verify job by job; equal pairs of a job are computed once."""
    for job in jobs:
        verifier.verify(job)


def with_known_verdicts(verifier: MathVerifier, database: Database, jobs: Sequence[Job]) -> None:
    """Verify job by job like the stage: look known verdicts up, and store new ones."""
    for job in jobs:
        different = {pair.key: pair for pair in open_pairs(verifier, job)}
        with database.begin() as connection:
            known = load_known_verdicts(connection, verifier.version, list(different))
        if unknown := [pair for key, pair in different.items() if key not in known]:
            causes = dict(verifier.decide(unknown))
            with database.begin() as connection:
                remember_verdicts(connection, verifier.version, causes)


def plainly(requests: Sequence[VerificationRequest], seconds: int = 5) -> None:
    """Judge with Math-Verify alone."""
    for request in requests:
        math_verify_accepts(request, seconds)


def measure_plain(jobs: Sequence[Job]) -> Measured:
    """Return the rates of Math-Verify in this process, which has to be a new one."""
    measured = Measured(list)
    plainly(other_requests(0))
    requests = list(chain.from_iterable(jobs))
    measure_passes(measured, PLAIN, len(requests), partial(plainly, requests))
    return measured


def measure_passes(measured: Measured, name: str, responses: int, work: Callable[[], object]) -> None:
    """Measure the responses per second of the first pass, and of later passes."""
    measured[name + FIRST_PASS].append(responses / seconds(work))
    later = sum(seconds(work) for _ in range(LATER_PASSES))
    measured[name].append(LATER_PASSES * responses / later)


def measure_rates(database: Database, jobs: Sequence[Job], cores: Sequence[int]) -> Measured:
    """Measure every way once."""
    measured = Measured(list)
    responses = sum(map(len, jobs))
    for number in cores:
        on_cores = f"{number} core" + ("s" if number > 1 else "")
        with new_verifier(number) as verifier:
            work = partial(without_sharing, verifier, jobs)
            measure_passes(measured, f"nothing shared, {on_cores}", responses, work)
        with new_verifier(number) as verifier:
            measure_passes(measured, f"jobs, {on_cores}", responses, partial(by_jobs, verifier, jobs))
        with database.begin() as connection:
            connection.execute(text("DELETE FROM known_verdicts"))
        with new_verifier(number) as verifier:
            work = partial(with_known_verdicts, verifier, database, jobs)
            measure_passes(measured, f"jobs and known verdicts, {on_cores}", responses, work)
    with limited_to(1), ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as new_process:
        return measured | new_process.submit(measure_plain, jobs).result()


def measure_latency(jobs: Sequence[Job], cores: int) -> Measured:
    """Measure the milliseconds from a single request to its judgement."""
    measured = Measured(list)
    with new_verifier(cores) as verifier:
        requests = [*chain.from_iterable(jobs), *other_requests(OTHERS)]
        taken: defaultdict[str, list[float]] = defaultdict(list)
        for request, pair in zip(requests, verifier.prepare(requests), strict=True):
            kind = "decided by its text" if pair.cause else "needs algebra"
            taken[kind].append(1_000 * seconds(partial(verifier.verify, [request])))
    for kind, milliseconds in taken.items():
        hundredths = statistics.quantiles(milliseconds, n=100)
        measured[f"{kind}, p50"].append(hundredths[49])
        measured[f"{kind}, p99"].append(hundredths[98])
    return measured


def measure_memory(jobs: Sequence[Job], cores: int) -> Measured:
    """Measure memory after all responses; memory that processes share is resident in each of them."""
    measured = Measured(list)
    this = psutil.Process()
    with new_verifier(cores) as verifier:
        by_jobs(verifier, jobs)
        measured["this process, responses and database client in it"].append(this.memory_info().rss / 2**20)
        children = [child for child in this.children(recursive=True) if PACKAGE in " ".join(child.cmdline())]
        for name in ("rss", "uss"):
            figures = [getattr(child.memory_full_info(), name) / 2**20 for child in children]
            what = "resident" if name == "rss" else "its own"
            measured[f"largest process below it, {what}"].append(max(figures))
            measured[f"all {len(figures)} processes below it, {what}"].append(sum(figures))
    return measured


def hard_mix() -> Job:
    """Return the answers of the case tables."""
    lines = chain.from_iterable(path.read_text().splitlines() for path in CASES if path.exists())
    cases = [case for case in map(json.loads, lines) if "answer" in case]
    return [VerificationRequest(case["answer"], case["reference"], is_answer=True) for case in cases]


def measure_hard(requests: Job) -> Measured:
    """Measure the seconds of processor time for each request."""
    measured = Measured(list)
    with MathVerifier(processes=1) as verifier:
        verifier.verify(other_requests(0))
        clock = CheckingClock()
        for request in requests:
            below, start = clock.seconds(), time.process_time()
            [pair] = verifier.prepare([request])
            if pair.cause is None:
                list(verifier.decide([pair]))
            own = time.process_time() - start
            taken = own + clock.seconds() - below
            measured[HARD].append(taken)
            if pair.cause is None:
                measured[HARD_ALGEBRA].append(taken)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as new_process:
        measured[HARD_PLAIN] = new_process.submit(measure_hard_plainly, requests).result()
    return measured


def measure_hard_plainly(requests: Job) -> list[float]:
    """Return the seconds of processor time of Math-Verify for each request, in a new process."""
    plainly(other_requests(0))
    times = [time.process_time()]
    for request in requests:
        plainly([request], PATIENT_SECONDS)
        times.append(time.process_time())
    return [after - before for before, after in pairwise(times)]


class CheckingClock:
    """The processor time of the checking processes below this process."""

    def __init__(self) -> None:
        [self._warm] = [
            child for child in psutil.Process().children() if PACKAGE in " ".join(child.cmdline())
        ]
        self._checking = self._warm.children()

    def seconds(self) -> float:
        """Return the seconds of those that live, to the nanosecond, and of those that have ended."""
        ended = self._warm.cpu_times()
        while True:
            try:
                living = sum(
                    time.clock_gettime(~process.pid << 3 | 2)  # the kernel's number of its clock
                    for process in (self._warm, *self._checking)
                )
            except OSError:
                self._checking = self._warm.children()
            else:
                return living + ended.children_user + ended.children_system


def hard_rows(measured: Measured) -> list[list[str]]:
    """Return the number of requests, the seconds for all, the milliseconds for one, and a ratio."""
    rows = []
    for name, times in measured.items():
        hundredths = [1_000 * size for size in statistics.quantiles(times, n=100)]
        ratio = "" if name == HARD_ALGEBRA else f"{sum(measured[HARD_PLAIN]) / sum(times):.1f}"
        figures = [f"{sum(times):.2f}", f"{hundredths[49]:.2f}", f"{hundredths[98]:.2f}"]
        rows.append([name, f"{len(times):,}", *figures, ratio])
    return rows


def describe_sharing(jobs: Sequence[Job]) -> str:
    """Say how many computations equal pairs save, as Markdown lines."""
    with MathVerifier() as verifier:
        prepared = [verifier.prepare(job) for job in jobs]
    different = len({pair.key for pair in chain.from_iterable(prepared)})
    in_jobs = [[pair.key for pair in job if pair.cause is None] for job in prepared]
    responses = sum(map(len, jobs))
    alone = sum(map(len, in_jobs))
    shared = sum(len(set(keys)) for keys in in_jobs)
    known = len(set(chain.from_iterable(in_jobs)))
    saved = [f"{100 * (alone - rest) / max(alone, 1):.0f} % saved" for rest in (shared, known)]
    return "\n".join(
        [
            f"- {responses} responses in {len(jobs)} jobs of {PROBLEMS_IN_A_JOB} problems: "
            f"{different} different pairs, {responses - alone} decided by their text, {alone} need algebra",
            f"- sharing inside jobs computes {shared} of these ({saved[0]}), "
            f"known verdicts {known} ({saved[1]}) and on later passes none",
        ]
    )


def rows_of(measured: Measured, form: str) -> list[list[str]]:
    """Return name, median, smallest and largest figure."""
    return [[name, *median_and_range(figures, form)] for name, figures in measured.items()]


def rate_rows(rates: Measured) -> list[list[str]]:
    """Return the rates, their ratio to plain Math-Verify in the same pass, and their target."""
    rows = []
    for row in rows_of(rates, ",.0f"):
        plain = rates[PLAIN + FIRST_PASS if row[0].endswith(FIRST_PASS) else PLAIN]
        ratio = statistics.median(rates[row[0]]) / statistics.median(plain)
        rows.append([*row, f"{ratio:.1f}", TARGETS.get(row[0], "")])
    return rows


def print_hard(runs: int) -> None:
    """Measure the hard mix, and print its table; a pair counts as often as there are repetitions."""
    hard = Measured(list)
    for _ in range(runs):
        for name, times in measure_hard(hard_mix()).items():
            hard[name] += times
    heading = ["hard mix, processor time", "pairs", "seconds", "p50, ms", "p99, ms", "Math-Verify / this"]
    print(table(heading, hard_rows(hard)))


def main() -> None:
    """Measure, and print tables."""
    parser = benchmark_parser(__doc__, runs=5)
    parser.add_argument("--responses", type=Path, default=RESPONSES, metavar="FILE")
    parser.add_argument("--sharing", action="store_true", help="only count what sharing saves")
    parser.add_argument("--hard", action="store_true", help="only measure the hard mix")
    arguments = parser.parse_args()
    for needed in (arguments.responses, OTHER_PROBLEMS):
        if not needed.exists():
            sys.exit(f"nothing is measured: {needed} is not here")
    jobs = load_jobs(arguments.responses)
    if arguments.sharing:
        print(describe_sharing(jobs))
        return
    if arguments.hard:
        print(describe_host() + "\n")
        print_hard(arguments.runs)
        return
    cores = sorted({1, min(2, len(os.sched_getaffinity(0)))})
    tables = [Measured(list) for _ in range(3)]
    with temporary_postgres() as database:
        print(describe_machine(database))
        print(describe_sharing(jobs))
        print(f"- {arguments.runs} repetitions of a first and {LATER_PASSES} later passes\n")
        for _ in range(arguments.runs):
            repetition = (
                measure_rates(database, jobs, cores),
                measure_latency(jobs, cores[-1]),
                measure_memory(jobs, cores[-1]),
            )
            for measured, new in zip(tables, repetition, strict=True):
                for name, figures in new.items():
                    measured[name] += figures
    rates, latency, memory = tables
    print(table(["responses per second", *MEDIAN_HEADING, "× Math-Verify", "target"], rate_rows(rates)))
    print("\n" + table(["milliseconds for one answer", *MEDIAN_HEADING], rows_of(latency, ",.2f")))
    print("\n" + table(["megabytes", *MEDIAN_HEADING], rows_of(memory, ",.0f")) + "\n")
    print_hard(arguments.runs)


if __name__ == "__main__":
    main()
