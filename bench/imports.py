"""Measure the import of problems with their references examined: rows a second, processor time, memory.

    python -m bench.imports [--runs 3] [--rows 20000]

Three files are imported into a temporary Postgres by this process, its checking processes and the server:

- College Math as published, which has the hardest references;
- GSM8K's test problems, repeated with other numbers up to `--rows`;
- a mix like NuminaMath's: solutions of its length, problems of the benchmarks in the shares of its sources,
  with other digits in their references, and choices, words and proofs among these.

`two cores` is what two free cores would give: rows by half of the processor time. The clock counts whatever
else the machine does. Memory is the peak of this process and its checking processes together, with shared
pages counted once.
"""

import json
import random
import re
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import text

from bench.setup import (
    MEDIAN_HEADING,
    benchmark_parser,
    describe_machine,
    median_and_range,
    table,
    temporary_folder,
    temporary_postgres,
)
from hsstar.commands.problems import import_problems
from hsstar.data.files import ProblemFiles, read_problems
from hsstar.data.writing import write_rows
from hsstar.store.database import Database

BENCHMARKS = Path(__file__).parents[1].parent / "shared" / "data" / "benchmarks"
SEED = 17
SOURCES = {  # word problems; school and competitions; olympiads; textbooks
    ("gsm8k",): 0.18,
    ("math500", "amc23", "aime24"): 0.55,
    ("olympiadbench",): 0.17,
    ("college_math", "minerva_math"): 0.10,
}
OTHER_REFERENCES = (("proof", 0.12), ("A", 0.08), ("B", 0.08), ("\\text{even}", 0.02), ("", 0.02))
"""References that are no value in NuminaMath, with their shares."""

SOLUTION_CHARACTERS = 1_300
_PAUSE = 0.3


@dataclass(frozen=True)
class Measured:
    """One import."""

    rows: int
    seconds: float
    processor_seconds: float
    megabytes: float


def main() -> None:
    """Measure each file."""
    parser = benchmark_parser(__doc__, runs=3)
    parser.add_argument("--rows", type=int, default=20_000, help="rows of GSM8K and of the mix")
    options = parser.parse_args()
    with temporary_folder("hsb-imports-") as folder, temporary_postgres() as database:
        print(describe_machine(database), end="\n\n")
        files = {
            "College Math": BENCHMARKS / "college_math.jsonl",
            "GSM8K": _write(folder / "gsm8k.jsonl", _gsm8k(options.rows)),
            "mix": _write(folder / "mix.jsonl", _mix(options.rows)),
        }
        lines = []
        for name, file in files.items():
            runs = [_measure(database, file, f"{name} {number}") for number in range(options.runs)]
            for label, values, form in (
                ("rows/s by the clock", [run.rows / run.seconds for run in runs], ",.0f"),
                ("rows/s, two cores", [2 * run.rows / run.processor_seconds for run in runs], ",.0f"),
                ("peak memory, MB", [run.megabytes for run in runs], ",.0f"),
            ):
                lines.append([f"{name} ({runs[0].rows:,} rows)", label, *median_and_range(values, form)])
        print(table(["file", "figure", *MEDIAN_HEADING], lines))


def _measure(database: Database, file: Path, dataset: str) -> Measured:
    with _watched(_server(database)) as watch:
        begun = time.perf_counter()
        report = import_problems(database, ProblemFiles([file]), dataset)
        seconds = time.perf_counter() - begun
    return Measured(report.read, seconds, watch.processor_seconds, watch.megabytes)


def _server(database: Database) -> psutil.Process:
    with database.begin() as connection:
        backend = psutil.Process(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
    server = backend.parent()
    if server is None:
        raise SystemExit("the server of Postgres is gone")
    return server


class _Watch:
    """Processor time of this process, its checking processes and the server; memory without the server."""

    def __init__(self, server: psutil.Process) -> None:
        self._server, self._own = server, psutil.Process()
        self._own_seconds = 0.0  # of looking
        self._before = self._used()
        self.processor_seconds = self.megabytes = 0.0

    def look(self) -> None:
        """Measure memory, with shared pages counted once."""
        bytes_held = 0
        for process in [self._own, *self._own.children(recursive=True)]:
            with suppress(psutil.Error):  # it has just ended
                bytes_held += process.memory_full_info().pss
        self.megabytes = max(self.megabytes, bytes_held / 1e6)
        self._own_seconds = time.thread_time()

    def end(self) -> None:
        """Take the processor time, when the checking processes have ended."""
        self.processor_seconds = self._used() - self._before - self._own_seconds

    def _used(self) -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = time.process_time() + children.ru_utime + children.ru_stime
        for process in [self._server, *self._server.children()]:
            with suppress(psutil.Error):
                used += sum(process.cpu_times())
        return used


@contextmanager
def _watched(server: psutil.Process) -> Iterator[_Watch]:
    watch, ended = _Watch(server), threading.Event()

    def keep_looking() -> None:
        while not ended.wait(_PAUSE):
            watch.look()

    thread = threading.Thread(target=keep_looking)
    thread.start()
    try:
        yield watch
    finally:
        ended.set()
        thread.join()
        watch.end()


def _write(file: Path, rows: Iterator[dict[str, Any]]) -> Path:
    write_rows(file, rows)
    return file


def _gsm8k(count: int) -> Iterator[dict[str, Any]]:
    chance = random.Random(SEED)
    lines = (BENCHMARKS / "gsm8k.jsonl").read_text(encoding="utf-8").splitlines()
    for number, row in enumerate(islice(cycle(map(json.loads, lines)), count)):
        worked, _, final = row["answer"].rpartition("####")
        changed = {"answer": f"{worked}####{_other_digits(final, chance)}"} if number >= len(lines) else {}
        yield row | {"question": f"{row['question']} ({number})"} | changed


def _mix(count: int) -> Iterator[dict[str, Any]]:
    chance = random.Random(SEED)
    pools = [
        [problem for name in source for problem in read_problems(BENCHMARKS / f"{name}.jsonl")]
        for source in SOURCES
    ]
    names = [name for name, _ in OTHER_REFERENCES]
    shares = [share for _, share in OTHER_REFERENCES]
    for number in range(count):
        [pool] = chance.choices(pools, [*SOURCES.values()])
        problem = chance.choice(pool)
        answer = _other_digits(problem.reference, chance)
        if chance.random() < sum(shares):
            [answer] = chance.choices(names, shares)
        yield {
            "source": "mix",
            "problem": f"{problem.statement} ({number})",
            "solution": f"{'We compute. ' * (SOLUTION_CHARACTERS // 12)}$\\boxed{{{answer}}}$",
            "answer": answer,
            "problem_type": "Algebra",
            "question_type": "math-word-problem",
            "problem_is_valid": "Yes",
            "solution_is_valid": "Yes",
        }


def _other_digits(text: str, chance: random.Random) -> str:
    return re.sub(r"\d", lambda _: str(chance.randint(1, 9)), text)


if __name__ == "__main__":
    main()
