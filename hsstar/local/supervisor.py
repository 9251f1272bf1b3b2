"""Keeps workers and the embedded servers of a home running.

`python -m hsstar.local.supervisor HOME` does it for a stack, `hsstar worker` for workers alone. It sleeps
until a child ends, a signal arrives or a second has passed, and starts a dead worker or server again after a
back-off. On SIGTERM it ends the workers and itself; the servers run until `hsstar down` stops them.
"""

import logging
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from hsstar.domain.errors import ConflictError, HsstarError, LocalStackError
from hsstar.domain.lifecycle import WorkerExit
from hsstar.local import holders, processes
from hsstar.local.broker import Broker
from hsstar.local.files import write_json
from hsstar.local.postgres import Postgres
from hsstar.local.processes import die_with_parent
from hsstar.local.server import EmbeddedServer
from hsstar.local.state import (
    StackSpec,
    StackState,
    WorkerSpec,
    WorkerState,
    read_spec,
)

SPEC_FILE = "supervisor.json"
STATE_FILE = "state.json"
LOCK_FILE = "supervisor.lock"
ROUND_SECONDS = 1.0  # how soon it notices a dead server; it notices a dead worker at once
LOOK_SECONDS = 5.0  # how often it looks whether a server can be reached
FIRST_LOOK_SECONDS = 30.0  # after a start: by then there is a socket
_log = logging.getLogger("hsstar.supervisor")


@dataclass
class Backoff:
    """How long to wait before the next start: doubles, and begins anew after a long life."""

    first_seconds: float = 0.2
    longest_seconds: float = 30.0
    settled_seconds: float = 60.0
    failures: int = 0

    def after(self, lifetime_seconds: float) -> float:
        """Return the seconds to wait after the end of a process that lived so long."""
        if lifetime_seconds >= self.settled_seconds:
            self.failures = 0
        delay = min(self.longest_seconds, self.first_seconds * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return delay


class SupervisedWorker:
    """A worker that is started again, unless it is `drained` (asked to stop) or `incompatible` (schema)."""

    def __init__(self, spec: WorkerSpec, log: Path, directory: Path):
        self.spec = spec
        self.log = log
        self.directory = directory
        self.backoff = Backoff()
        self.starts = 0
        self.next_start = 0.0  # on the monotonic clock
        self.drained = False
        self.incompatible = False
        self.started = 0.0
        self.identity: processes.ProcessIdentity | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def keep(self, now: float) -> bool:
        """Reap the process if it has ended, start it if it is time; return whether anything changed."""
        how = self.reap()
        if how is not None:
            if self.drained:
                _log.info("%s was asked to stop and has ended; it is not started again", self.spec.name)
            else:
                self._delay(now, how)
            return True
        if self._process is None and not self.drained and now >= self.next_start:
            self._start(now)
            return True
        return False

    def reap(self) -> str | None:
        """If the process has ended, kill its group and return how it ended; else None."""
        process = self._process
        if process is None or os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        with suppress(ProcessLookupError, PermissionError):  # the latter: macOS, for a group of zombies
            os.killpg(process.pid, signal.SIGKILL)  # before wait() frees the pid for another group
        code = process.wait()
        self._process = self.identity = None
        self.drained = code == WorkerExit.DRAINED
        self.incompatible = code == WorkerExit.WRONG_SCHEMA
        if code == WorkerExit.WRONG_SCHEMA:
            return "does not fit the schema of the database (see its log)"
        return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"

    def _start(self, now: float) -> None:
        self.starts += 1
        self.started = now
        try:
            self._process = processes.start(
                self.spec.argv,
                self.log,
                directory=self.directory,
                environment={**os.environ, **self.spec.environment},
                before=die_with_parent(),  # safe: this process has one thread
            )
        except (OSError, subprocess.SubprocessError) as error:
            self._delay(now, f"cannot be started: {error}")
            return
        self.identity = processes.identify(self._process.pid)
        _log.info("%s started, pid %d", self.spec.name, self._process.pid)

    def _delay(self, now: float, what: str) -> None:
        delay = self.backoff.after(now - self.started)
        if self.incompatible:
            delay = self.backoff.longest_seconds
        self.next_start = now + delay
        _log.warning("%s %s; starts again in %.1f s", self.spec.name, what, delay)

    def state(self) -> WorkerState:
        """Return the worker as it is now."""
        return WorkerState(self.spec.name, self.spec.role, self.identity, max(0, self.starts - 1))


class SupervisedServer:
    """An embedded server that is started again when it ends or when its socket is gone."""

    def __init__(self, server: EmbeddedServer):
        self.server = server
        self.backoff = Backoff()
        self.started = time.monotonic()
        self.next_start: float | None = None  # on the monotonic clock; None while it runs
        self.next_look = self.started + LOOK_SECONDS

    def keep(self, now: float) -> None:
        """Start the server if it has ended and it is time; end it if nothing can reach it."""
        if self.server.is_running():
            self.next_start = None
            if now >= self.next_look:
                self.next_look = now + LOOK_SECONDS
                if not self.server.is_reachable():
                    _log.warning("%s has lost its socket and is started again", self.server.name)
                    self.server.ask_to_end()
            return
        if self.next_start is None:
            delay = self.backoff.after(now - self.started)
            self.next_start = now + delay
            _log.warning("%s has ended; starts again in %.1f s", self.server.name, delay)
        if now >= self.next_start:
            self.started, self.next_start, self.next_look = now, None, now + FIRST_LOOK_SECONDS
            try:
                self.server.launch()
                _log.info("%s started", self.server.name)
            except (HsstarError, OSError) as error:
                _log.error("%s cannot be started: %s", self.server.name, error)


class Supervisor:
    """Keeps workers and servers running until it is told to end, or all have `drained` if so asked.

    `grace_seconds` is between a worker's SIGTERM and SIGKILL; `changed` is called on starts and ends. The
    logs of workers and servers, and further `logs`, are kept short.
    """

    def __init__(
        self,
        workers: Sequence[SupervisedWorker],
        servers: Sequence[SupervisedServer],
        grace_seconds: float,
        changed: Callable[[], None],
        *,
        logs: Sequence[Path] = (),
        ends_when_drained: bool = False,
    ):
        self.ends_when_drained = ends_when_drained
        self.workers = workers
        self.servers = servers
        self.grace_seconds = grace_seconds
        self.changed = changed
        self.logs = [*logs, *(worker.log for worker in workers), *(each.server.log for each in servers)]
        self.next_look_at_logs = 0.0

    def run(self) -> bool:
        """Watch until a signal, then end the workers, on a second one at once; return whether no kill was
        needed.
        """
        with _caught_signals() as signals:
            self._round()
            self.changed()
            while not signals.requests and not self._drained():
                self._round()
                signals.wait(self._seconds_to_next_start())
            clean = self._end(signals)
            self.changed()
        return clean

    def _drained(self) -> bool:
        return self.ends_when_drained and all(worker.drained for worker in self.workers)

    def _round(self) -> None:
        now = time.monotonic()
        for server in self.servers:
            server.keep(now)
        changes = [worker.keep(now) for worker in self.workers]
        if any(changes):
            self.changed()
        if now >= self.next_look_at_logs:
            self.next_look_at_logs = now + LOOK_SECONDS
            self._shorten_logs()

    def _shorten_logs(self) -> None:
        try:
            for log in self.logs:
                processes.shorten_log(log)
        except OSError as error:  # such as a full disk
            _log.error("cannot shorten a log: %s", error)

    def _seconds_to_next_start(self) -> float:
        now = time.monotonic()
        waits = [
            worker.next_start - now
            for worker in self.workers
            if worker.identity is None and not worker.drained
        ]
        return max(0.0, min([ROUND_SECONDS, *waits]))

    def _end(self, signals: "_Signals") -> bool:
        living = self._living()
        _log.info("ending %d workers; a second signal kills them", len(living))
        families = [member for worker in living for member in processes.descendants(worker)]
        for worker in living:
            processes.send(worker, signal.SIGTERM)
        deadline = time.monotonic() + self.grace_seconds
        while self._living() and signals.requests < 2 and time.monotonic() < deadline:
            signals.wait(min(ROUND_SECONDS, max(0.0, deadline - time.monotonic())))
            self._reap_all()
        self._reap_all()  # the second signal may come before the first look
        remaining = self._living()
        families += [member for worker in remaining for member in processes.descendants(worker)]
        processes.kill([*remaining, *families])
        self._reap_all()
        _log.info("ended; %d workers had to be killed", len(remaining))
        return not remaining

    def _living(self) -> list[processes.ProcessIdentity]:
        return [worker.identity for worker in self.workers if worker.identity is not None]

    def _reap_all(self) -> None:
        for worker in self.workers:
            worker.reap()


def supervise(home: Path, spec: StackSpec) -> None:
    """Keep one home's stack running until SIGTERM or SIGINT; write what runs to the home's state file."""
    workers = [
        SupervisedWorker(worker, home / "logs" / f"{worker.name}.log", home) for worker in spec.workers
    ]
    servers = [SupervisedServer(server) for server in embedded_servers(home) if server.name in spec.servers]

    def write_state() -> None:
        myself = processes.identify(os.getpid())
        if myself is None:
            raise LocalStackError("this system does not tell when a process started; is /proc mounted?")
        state = StackState(myself, tuple(worker.state() for worker in workers))
        try:
            write_json(home / STATE_FILE, asdict(state))
        except OSError as error:  # a full disk is no reason to end the workers
            _log.error("cannot write %s: %s", home / STATE_FILE, error)

    logs = [home / "logs" / "supervisor.log"]
    Supervisor(workers, servers, spec.grace_seconds, write_state, logs=logs).run()


def keep_running(workers: Sequence[WorkerSpec], logs: Path, directory: Path) -> bool:
    """Keep workers running until a signal or `hsstar workers stop`; False if a second signal killed some."""
    kept = [SupervisedWorker(worker, logs / f"{worker.name}.log", directory) for worker in workers]
    return Supervisor(kept, [], math.inf, lambda: None, ends_when_drained=True).run()


class _Signals:
    def __init__(self, reader: int):
        self._reader = reader
        self.requests = 0

    def count(self, *_: object) -> None:
        self.requests += 1

    def wait(self, seconds: float) -> None:
        if select.select([self._reader], [], [], seconds)[0]:
            os.read(self._reader, 512)


@contextmanager
def _caught_signals() -> Iterator[_Signals]:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signals = _Signals(reader)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    handlers = dict.fromkeys((signal.SIGTERM, signal.SIGINT), signals.count)
    handlers[signal.SIGCHLD] = lambda *_: None  # its only effect is the byte in the pipe
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(-1)
        os.close(reader)
        os.close(writer)


def embedded_servers(
    home: Path, server_dir: Path | None = None, runtime_dir: Path | None = None
) -> tuple[Postgres, Broker]:
    """Return the embedded servers of a home; after their first start the home itself says where they are."""
    return Postgres(home, server_dir, runtime_dir), Broker(home, server_dir, runtime_dir)


def main() -> int:
    """Supervise the home that the only argument names; return the exit code."""
    home = Path(sys.argv[1])
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        if holders.hold(home / LOCK_FILE) is None:  # held until this process ends
            raise ConflictError(f"another supervisor of {home} is up {holders.holder(home / LOCK_FILE)}")
        spec = read_spec(home / SPEC_FILE)
        if spec is None:
            raise LocalStackError(f"{home / SPEC_FILE} is missing or damaged; start by `hsstar up`")
        supervise(home, spec)
    except HsstarError as error:
        _log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
