"""Tries small changes of the product against its tests: `python -m tools.mutants [--seed N] [--area NAME]`.

Each change is made in a copy of the checkout, one copy for each of the `--slots` that run at a time. The
tests of its area run until one fails: first the files that name the changed module, then the others. They
have to pass without a change first. The result is a table of what was noticed, and a list of what was not.
"""

import argparse
import ast
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from queue import SimpleQueue

from tools.mutations import Mutation, embedded_sql_mutations, mutations

ROOT = Path(__file__).parents[1]
_SLOWEST_SECONDS = 600
_PYTEST = ("-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", "--timeout=60")
_SELECTION = ("-m", "not heavy and not chaos", "-k", "not vllm", "--hypothesis-profile=full")


@dataclass(frozen=True)
class Area:
    """Files of the product, and the tests that have to notice a change there, as patterns of paths.

    Attributes:
        embedded_sql: change the SQL inside Python files, not the Python.
    """

    name: str
    sources: tuple[str, ...]
    tests: tuple[str, ...]
    embedded_sql: bool = False


@dataclass(frozen=True)
class Mutant:
    """One change of one file, and the tests that try it."""

    area: Area
    path: str
    line: int
    mutation: Mutation
    before: str
    after: str
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Trial:
    """What the tests said of a mutant: the test that failed, or nothing."""

    mutant: Mutant
    noticed: bool
    by: str
    seconds: float


def _store(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/store/test_{name}.py" for name in names)


def _unit(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/unit/test_{name}.py" for name in names)


_ROWS = (*_store("[a-np-uw-z]*", "v[!l]*"), "tests/golden/*")
"""The tests of the store, without those of served and vLLM's engines."""

AREAS = (
    Area("domain", ("hsstar/domain/*",), ("tests/unit/*", *_store("rules"), "tests/cli/test_evaluate.py")),
    Area(
        "recipe and data",
        ("hsstar/recipe/*", "hsstar/data/*"),
        _unit("recipe", "files", "datasets", "answers"),
    ),
    Area("verifier", ("hsstar/verifier/*",), ("tests/verifier/test_[!h]*", *_unit("answers"))),
    Area("store", ("hsstar/store/*.py",), _ROWS),
    Area(
        "SQL",
        ("hsstar/store/*.sql", "migrations/versions/*.sql", "hsstar/store/*.py"),
        (*_ROWS, "tests/cli/test_evaluate.py", "tests/cli/test_runs.py"),
        embedded_sql=True,
    ),
    Area(
        "conductor",
        ("hsstar/conductor.py",),
        (*_store("conductor", "evaluations", "missing"), "tests/golden/*"),
    ),
    Area(
        "stages",
        ("hsstar/stages/*",),
        (
            *_unit("answers", "batches", "engine_pool"),
            *_store("score", "sample", "verify", "training", "one_engine", "evaluations", "conductor"),
        ),
    ),
    Area(
        "workers",
        ("workers/*.py", "hsstar/broker.py"),
        (
            "tests/brokers/test_address.py",
            *_store("worker*", "one_engine", "openai_worker"),
            "tests/deploy/test_ending.py",
        ),
    ),
    Area(
        "engines",
        ("hsstar/engines/*.py",),
        (*_unit("answers", "engine*", "sources"), "tests/engines/*"),
    ),
    Area(
        "commands",
        ("hsstar/commands/*", "hsstar/insights/*"),
        (*_unit("progress", "evaluation"), "tests/cli/*"),
    ),
    Area(
        "command line",
        ("cli/*",),
        (*_unit("progress", "command_line"), "tests/cli/*", "tests/docs/test_docs.py"),
    ),
)


def tracked(root: Path) -> list[str]:
    """The files of a checkout, new ones included, without links."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.splitlines()
    return sorted({name for name in names if (root / name).exists()})


def ordered_tests(area: Area, path: str, files: Sequence[str]) -> tuple[str, ...]:
    """The test files of an area; those that name the changed module come first."""
    found = [
        name
        for pattern in area.tests
        for name in files
        if fnmatch(name, pattern) and Path(name).name.startswith("test_")
    ]
    stem = Path(path).parent.name if Path(path).stem == "__init__" else Path(path).stem

    def names_it(name: str) -> bool:
        return stem in (ROOT / name).read_text() or stem in name

    return tuple(sorted(dict.fromkeys(found), key=lambda name: not names_it(name)))


def compiles(source: str) -> bool:
    """Whether this is Python."""
    try:
        ast.parse(source)
    except (SyntaxError, ValueError):
        return False
    return True


def choose(area: Area, count: int, seed: int, files: Sequence[str]) -> list[Mutant]:
    """A seeded sample of an area's mutants: first the kind of change, then the place; one for a line."""
    by_kind: dict[str, list[tuple[str, str, Mutation]]] = {}
    for path in files:
        if not any(fnmatch(path, pattern) for pattern in area.sources) or (ROOT / path).is_symlink():
            continue
        if not path.endswith((".py", ".sql")) or "vllm" in path:  # the tests that run here leave vLLM out
            continue
        source = (ROOT / path).read_text()
        embedded = area.embedded_sql and path.endswith(".py")
        for mutation in embedded_sql_mutations(source) if embedded else mutations(path, source):
            by_kind.setdefault(mutation.kind, []).append((path, source, mutation))
    generator = random.Random(f"{seed} {area.name}")  # noqa: S311 - a sample, no secret
    chosen: dict[tuple[str, int], Mutant] = {}
    while by_kind and len(chosen) < count:
        kind = generator.choice(sorted(by_kind))
        places = by_kind[kind]
        path, source, mutation = places.pop(generator.randrange(len(places)))
        if not places:
            del by_kind[kind]
        if path.endswith(".py") and not compiles(mutation.apply(source)):
            continue
        line = source.count("\n", 0, mutation.start) + 1
        before = source[source.rfind("\n", 0, mutation.start) + 1 :].split("\n", 1)[0].strip()
        old = source[mutation.start : mutation.end]
        after = f"{' '.join(old.split())} → {' '.join(mutation.new.split()) or 'nothing'}"
        mutant = Mutant(area, path, line, mutation, before, after, ordered_tests(area, path, files))
        chosen.setdefault((path, line), mutant)
    return list(chosen.values())


class Checkout:
    """A copy of the checkout with an environment of its own, which borrows the installed packages."""

    def __init__(self, folder: Path, files: Sequence[str]) -> None:
        self.root = folder / "checkout"
        for name in files:
            target = self.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target, follow_symlinks=False)
        if (ROOT.parent / "shared").exists():
            (folder / "shared").symlink_to(ROOT.parent / "shared")
        venv.create(self.root / ".venv", with_pip=False)
        self._python = self.root / ".venv" / "bin" / "python"
        self._borrow()

    def _borrow(self) -> None:
        [packages] = (self.root / ".venv" / "lib").glob("python*/site-packages")
        borrowed = [str(self.root), *(path for path in sys.path if path.endswith("site-packages"))]
        (packages / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
        program = self._python.with_name("hsstar")
        program.write_text(
            f"#!{self._python}\nimport sys\nfrom hsstar.cli.main import main\nsys.exit(main())\n"
        )
        program.chmod(0o755)
        for tool in ("ruff", "mypy"):
            if (found := Path(sys.executable).with_name(tool)).exists():
                self._python.with_name(tool).symlink_to(found)

    def test(self, tests: Sequence[str], seconds: float) -> tuple[bool, str]:
        """Whether all the tests pass; if not, the one that failed."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
        environment |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(
                [str(self._python), *_PYTEST, *_SELECTION, *tests],
                cwd=self.root,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            _running.add(process)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                _end(process)
                return False, f"not done after {seconds:.0f} s"
            finally:
                _running.discard(process)
            output.seek(0)
            said = output.read()
        if process.returncode == 0:
            return True, ""
        lines = [line for line in said.splitlines() if line.startswith(("FAILED", "ERROR"))]
        return False, lines[0].split(" - ")[0] if lines else said.strip()[-200:]


_running: set["subprocess.Popen[str]"] = set()
"""The sessions of tests that run, which end with this process."""


def _end(process: "subprocess.Popen[str]") -> None:
    """End a session of tests: first as Ctrl-C does, so that it stops its servers."""
    for number in (signal.SIGINT, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(timeout=30)
            return
        except subprocess.TimeoutExpired:
            continue


def try_all(mutants: Sequence[Mutant], slots: int, folder: Path, files: Sequence[str]) -> Iterator[Trial]:
    """Try each mutant against its tests; yield as they end.

    Raises:
        SystemExit: the tests of an area fail without a change.
    """
    checkouts: SimpleQueue[Checkout] = SimpleQueue()
    for number in range(slots):
        checkouts.put(Checkout(folder / str(number), files))
    limits: dict[str, float] = {}

    def measure(area: Area) -> None:
        checkout = checkouts.get()
        started = time.monotonic()
        passed, failed = checkout.test(ordered_tests(area, "", files), _SLOWEST_SECONDS)
        checkouts.put(checkout)
        seconds = time.monotonic() - started
        limits[area.name] = 60 + 3 * seconds
        _say(f"{area.name}: unchanged in {seconds:.0f} s")
        if not passed:
            raise SystemExit(f"the tests of {area.name} fail without a change: {failed}")

    def attempt(mutant: Mutant) -> Trial:
        checkout = checkouts.get()
        file = checkout.root / mutant.path
        source = file.read_text()
        file.write_text(mutant.mutation.apply(source))
        started = time.monotonic()
        try:
            passed, failed = checkout.test(mutant.tests, limits[mutant.area.name])
        finally:
            file.write_text(source)
            checkouts.put(checkout)
        return Trial(mutant, not passed, failed, time.monotonic() - started)

    with ThreadPoolExecutor(slots) as pool:
        list(pool.map(measure, dict.fromkeys(mutant.area for mutant in mutants)))
        yield from pool.map(attempt, mutants)


def table(trials: Sequence[Trial]) -> str:
    """The shares by area, and the survivors, as Markdown."""
    lines = ["| area | tried | noticed | share |", "|---|---:|---:|---:|"]
    groups = [(name, list(group)) for name, group in itertools.groupby(trials, lambda t: t.mutant.area.name)]
    for name, group in [*groups, ("**all**", list(trials))]:
        noticed = sum(trial.noticed for trial in group)
        lines.append(f"| {name} | {len(group)} | {noticed} | {100 * noticed / len(group):.0f} % |")
    lines += ["", "| survivor | line | change | reason |", "|---|---|---|---|"]
    for trial in trials:
        mutant = trial.mutant
        if not trial.noticed:
            place, text = f"`{mutant.path}:{mutant.line}`", mutant.before.replace("|", "\\|")
            lines.append(f"| {place} | `{text}` | {mutant.mutation.kind}: `{mutant.after}` | |")
    return "\n".join(lines) + "\n"


_lock = threading.Lock()


def _say(line: str) -> None:
    with _lock:
        print(line, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the mutants, and print what survived."""
    parser = argparse.ArgumentParser(prog="python -m tools.mutants", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=200, help="of all areas together")
    parser.add_argument("--area", action="append", choices=[area.name for area in AREAS])
    parser.add_argument("--slots", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--output", type=Path, help="a folder for mutants.md and mutants.jsonl")
    parser.add_argument("--list", action="store_true", help="show the mutants only")
    wish = parser.parse_args(arguments)
    files = tracked(ROOT)
    areas = [area for area in AREAS if wish.area is None or area.name in wish.area]
    shares = [wish.count // len(areas) + (number < wish.count % len(areas)) for number in range(len(areas))]
    mutants = [
        mutant
        for area, share in zip(areas, shares, strict=True)
        for mutant in choose(area, share, wish.seed, files)
    ]
    if wish.list:
        for mutant in mutants:
            _say(f"{mutant.path}:{mutant.line}: {mutant.mutation.kind}: {mutant.after}")
        return 0
    trials = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:

        def end(number: int, _: object) -> None:
            for process in list(_running):
                _end(process)
            shutil.rmtree(folder, ignore_errors=True)
            os._exit(128 + number)

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, end)
        for trial in try_all(mutants, wish.slots, Path(folder), files):
            mutant, verdict = trial.mutant, f"by {trial.by}" if trial.noticed else "NOT NOTICED"
            _say(f"{mutant.path}:{mutant.line}: {mutant.mutation.kind}: {mutant.after}: {verdict}"
                 f" ({trial.seconds:.0f} s)")  # fmt: skip
            trials.append(trial)
    report = table(trials)
    _say(report)
    if wish.output:
        wish.output.mkdir(parents=True, exist_ok=True)
        (wish.output / "mutants.md").write_text(report)
        rows = [
            {"area": t.mutant.area.name, "path": t.mutant.path, "line": t.mutant.line,
             "kind": t.mutant.mutation.kind, "change": t.mutant.after, "noticed": t.noticed, "by": t.by,
             "seconds": round(t.seconds, 1)}
            for t in trials
        ]  # fmt: skip
        (wish.output / "mutants.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
