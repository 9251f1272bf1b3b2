"""Measure what open pages cost a run: the same iteration with a browser beside it and without, in turns.

    python -m bench.web_cost [--runs 5] [--problems 250]

A stack as `hsstar up` starts it does one iteration of the demo, its training and evaluations, again and
again: same seed, so same samples. Beside every second one `hsstar web` serves a client as busy as a browser
in use: a stream of events is open, the live part of the run's page is asked for as often as its script does
at most, and with every third one another page. The order of a pair changes from pair to pair, a first
iteration is not counted, and a run is deleted before the next. The clock is that of the iteration's row;
processor time is that of workers and servers, and beside it that of `hsstar web`. The client computes on the
same machine.
"""

import itertools
import statistics
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil

from bench.drawing import processes_below
from bench.setup import benchmark_parser, describe_machine, hsstar, median_and_range, table, temporary_folder
from bench.web import served
from hsstar.api.client import Client
from hsstar.api.run import RunHandle
from hsstar.demo import RECIPE
from hsstar.local.stack import Stack
from hsstar.settings import Settings
from hsstar.store.database import Database

LONGEST_RUN_SECONDS = 1_800.0
TARGET = 0.03
HELD_OUT = 100
PAGES = ("/", "/runs/{run}", "/runs/{run}/figures", "/runs/{run}/problems", "/workers")
_SECONDS = 1.9
"""Between two looks at the live part: what the script waits after one (hsstar/web/static/hsstar.js)."""
_EVERY = 3


@dataclass(frozen=True, slots=True)
class Cost:
    """What an iteration took: seconds by the clock, of processors, and of the web server's processor."""

    clock: float
    processor: float
    web: float = 0.0
    requests: int = 0


class Browser:
    """A client that has a stream open and asks for pages until it is closed."""

    def __init__(self, url: str, run: str) -> None:
        self.requests = 0
        self.failures: list[str] = []
        self._url, self._run = url, run
        self._closing = threading.Event()
        self._looking = threading.Thread(target=self._look)

    def __enter__(self) -> "Browser":
        threading.Thread(target=self._listen, daemon=True).start()  # ends with the server
        self._looking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._looking.join()

    def _listen(self) -> None:
        with (
            suppress(httpx2.HTTPError),
            httpx2.Client(base_url=self._url, timeout=60, trust_env=False) as client,
            client.stream("GET", f"/events?run={self._run}") as events,
        ):
            for _ in events.iter_lines():
                pass

    def _look(self) -> None:
        with httpx2.Client(base_url=self._url, timeout=60, trust_env=False) as client:
            others = itertools.cycle(PAGES)
            for number in itertools.count():
                for address in ("/runs/{run}/live", *([] if number % _EVERY else [next(others)])):
                    answer = client.get(address.format(run=self._run))
                    self.requests += 1
                    if answer.status_code >= 500:
                        self.failures.append(f"{address}: {answer.status_code}")
                if self._closing.wait(_SECONDS):
                    return


def processor_seconds(folder: Path) -> float:
    """Return the processor time so far of a stack, with its processes that have ended."""
    total = 0.0
    for process in processes_below(folder).values():
        try:
            total += sum(process.cpu_times()[:4])  # its own, and of children that it has waited for
        except psutil.NoSuchProcess:
            continue
    return total


def iterate(client: Client, name: str, problems: int) -> RunHandle:
    """Start the one iteration of a new run."""
    evaluation = {"problems": HELD_OUT}
    run = client.create(RECIPE, name=name, problems={"per_iteration": problems}, evaluation=evaluation)
    run.iterate()
    return run


def measure(client: Client, database: Database, folder: Path, name: str, problems: int, *, web: bool) -> Cost:
    """Do an iteration with pages open or without, and delete it."""
    before = processor_seconds(folder)
    if web:
        with served(database) as (pages, process, _):
            run = iterate(client, name, problems)
            with Browser(str(pages.base_url), name) as browser:
                run.wait(LONGEST_RUN_SECONDS)
            spent = sum(process.cpu_times()[:2])
        assert not browser.failures, browser.failures
        requests = browser.requests
    else:
        run = iterate(client, name, problems)
        run.wait(LONGEST_RUN_SECONDS)
        spent, requests = 0.0, 0
    after = processor_seconds(folder)
    (row,) = run.iterations().rows()
    run.delete()
    return Cost(float(row["seconds"]), after - before, spent, requests)


@contextmanager
def stack(problems: int) -> Iterator[tuple[Client, Database, Path]]:
    """Start a stack with the demo's problems in it; remove it at the end."""
    with temporary_folder("hsb-") as folder:
        environment = {"HSSTAR_HOME": str(folder / "home"), "HSSTAR_SERVER_DIR": str(folder / "servers")}
        settings = Settings.from_environment(environment)
        try:
            hsstar(environment, "up")
            for dataset, count, *held_out in (
                ("demo-train", problems), ("demo-heldout", HELD_OUT, "--held-out")
            ):  # fmt: skip
                file = str(folder / f"{dataset}.jsonl")
                hsstar(environment, "problems", "demo", "--output", file, "--count", str(count), *held_out)
                hsstar(environment, "problems", "import", file, "--dataset", dataset)
            database = Database(Stack(settings).postgres.url)
            with Client(database, settings) as client:
                yield client, database, folder
        finally:
            hsstar(environment, "down")


def differences(with_pages: list[float], without: list[float]) -> list[str]:
    """Return the median and range of how much more the one of each pair takes."""
    shares = [100 * (one / other - 1) for one, other in zip(with_pages, without, strict=True)]
    return median_and_range(shares, "+.1f")


def main() -> None:
    """Print the machine, a table of costs, and the differences of pairs."""
    parser = benchmark_parser(__doc__, 5)
    parser.add_argument("--problems", type=int, default=250, help="of the iteration")
    arguments = parser.parse_args()
    costs: dict[bool, list[Cost]] = {True: [], False: []}
    with stack(arguments.problems) as (client, database, folder):
        print(describe_machine(database))
        measure(client, database, folder, "warm", arguments.problems, web=False)
        for number in range(arguments.runs):
            for web in (True, False) if number % 2 else (False, True):
                name = f"{'with' if web else 'without'}-{number}"
                cost = measure(client, database, folder, name, arguments.problems, web=web)
                costs[web].append(cost)
                print(f"- {name}: {cost}", flush=True)
    opened, alone = costs[True], costs[False]
    print(f"- {arguments.runs} pairs of iterations of {arguments.problems} problems × 8 samples")
    print(f"- requests a second: {sum(of.requests for of in opened) / sum(of.clock for of in opened):.1f}")
    print(f"- processor seconds of hsstar web: {statistics.median(of.web for of in opened):.1f}\n")
    rows = []
    for name, of_one, of_other in (
        ("clock", [of.clock for of in opened], [of.clock for of in alone]),
        ("workers and servers", [of.processor for of in opened], [of.processor for of in alone]),
        ("with hsstar web", [of.processor + of.web for of in opened], [of.processor for of in alone]),
    ):
        rows.append([
            name,
            median_and_range(of_other, ".1f")[0],
            median_and_range(of_one, ".1f")[0],
            *differences(of_one, of_other),
            f"{100 * TARGET:.0f}",
        ])  # fmt: skip
    heading = ["seconds", "without", "with", "% more, median of pairs", "smallest", "largest", "target"]
    print(table(heading, rows))


if __name__ == "__main__":
    main()
