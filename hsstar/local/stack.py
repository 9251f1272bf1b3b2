"""The servers and workers of one machine: `up`, `down`, `status`."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hsstar.domain.errors import BadInputError, ConflictError, LocalStackError
from hsstar.local import holders, places, processes
from hsstar.local.accounts import account_for
from hsstar.local.binaries import postgres_bundle
from hsstar.local.broker import Broker
from hsstar.local.files import check_room, locked, write_json
from hsstar.local.holders import Holder
from hsstar.local.places import Places
from hsstar.local.postgres import Postgres
from hsstar.local.processes import python_module
from hsstar.local.server import EmbeddedServer, ServerStatus
from hsstar.local.state import (
    StackSpec,
    WorkerState,
    read_spec,
    read_state,
    specify_workers,
)
from hsstar.local.supervisor import LOCK_FILE as SUPERVISOR_LOCK_FILE
from hsstar.local.supervisor import SPEC_FILE, STATE_FILE, embedded_servers
from hsstar.settings import Settings

GRACE_SECONDS = 10.0  # for a worker between SIGTERM and SIGKILL; its jobs run again
LEFTOVER_GRACE_SECONDS = 2.0  # for workers whose supervisor has died
LOCK_SECONDS = 30.0
START_SECONDS = 20.0
LOCK_FILE = "up.lock"


@dataclass(frozen=True)
class StackStatus:
    """The stack of one home as it is now. The URLs of external servers may hold passwords."""

    supervisor_pid: int | None  # None: the stack is not up
    database_url: str
    broker_url: str
    logs: Path
    servers: tuple[ServerStatus, ...]  # the embedded ones only
    workers: tuple[WorkerState, ...]


def worker_command(role: str, name: str) -> list[str]:
    """Return the argument list of one worker process."""
    return python_module("hsstar.workers", "--role", role, "--name", f"{name}@{socket.gethostname()}")


class Stack:
    """The servers and workers of one home."""

    def __init__(self, settings: Settings, *, grace_seconds: float = GRACE_SECONDS):
        self.settings = settings
        self.home = settings.home
        self.grace_seconds = grace_seconds
        self.logs = self.home / "logs"
        self._state_file = self.home / STATE_FILE
        self._spec_file = self.home / SPEC_FILE
        self.postgres, self.broker = self._servers()

    def _servers(self) -> tuple[Postgres, Broker]:
        return embedded_servers(self.home, self.settings.server_dir, self.settings.runtime_dir)

    @property
    def database_url(self) -> str:
        """The URL of the environment's database, else of the embedded one, running or not."""
        return self.settings.database_url or self.postgres.url

    @property
    def broker_url(self) -> str:
        """The URL of the environment's broker, else of the embedded one, running or not."""
        return self.settings.broker_url or self.broker.url

    @property
    def embedded(self) -> tuple[EmbeddedServer, ...]:
        """The servers that `up` starts: those that the environment does not replace."""
        wanted = [(self.settings.database_url, self.postgres), (self.settings.broker_url, self.broker)]
        return tuple(server for url, server in wanted if url is None)

    def check_programs(self) -> None:
        """Raise LocalStackError if the database that it would start is not installed."""
        if self.postgres in self.embedded:
            postgres_bundle("postgres")

    @property
    def moved_from(self) -> Path | None:
        """Where the home was at the last start of its servers, if that was elsewhere."""
        return self.postgres.places.moved_from

    def elsewhere(self) -> Holder | None:
        """Return where the stack is up, if that is another host or container."""
        supervisor = holders.holder(self.home / SUPERVISOR_LOCK_FILE)
        if supervisor is not None and not supervisor.is_here:
            return supervisor
        return next(filter(None, (server.elsewhere() for server in self.embedded)), None)

    def up(
        self,
        workers: Mapping[str, int],
        *,
        new_database: bool = False,
        prepare: Callable[[str], None] = lambda database_url: None,
        command: Callable[[str, str], Sequence[str]] = worker_command,
        role_environment: Mapping[str, Mapping[str, str]] | None = None,
    ) -> StackStatus:
        """Start the servers, prepare the database, start the workers; if it fails, stop what it has started.

        `workers` is their number per role, `command` makes the argument list from role and name, and
        `role_environment` adds variables. Raise ConflictError if the stack is up, here or elsewhere,
        LocalStackError if it cannot start, or if its data are not where they were, unless `new_database`.
        """
        wrong = {role: count for role, count in workers.items() if count < 0}
        if wrong:
            raise BadInputError(f"the number of workers of a role cannot be negative: {wrong}")
        spec = StackSpec(
            specify_workers(workers, command, role_environment or {}),
            tuple(server.name for server in self.embedded),
            self.grace_seconds,
        )
        check_room(self.home)
        with self._alone():
            self._refuse_elsewhere()
            self._refuse_if_up(spec)
            self._end_leftovers()
            started: list[EmbeddedServer] = []
            try:
                self._place_servers(new_database)
                self._start_servers(started)
                prepare(self.database_url)
                if self.embedded:
                    self.postgres.places.settle()
                self._start_supervisor(spec)
            except BaseException as error:
                for server in reversed(started):
                    server.stop()
                if isinstance(error, OSError):
                    raise LocalStackError(f"the local stack cannot start: {error}") from error
                raise
        return self.status()

    def down(self) -> None:
        """End the workers, then the embedded servers; the data stay. Raises ConflictError if not up."""
        if not self.home.is_dir():
            raise ConflictError(f"hsstar is not up in {self.home}")
        with self._alone():
            self._refuse_elsewhere()
            self.postgres, self.broker = self._servers()
            supervisor = self._supervisor()
            if supervisor is not None:
                processes.send(supervisor, signal.SIGTERM)
                spec = read_spec(self._spec_file)
                grace_seconds = spec.grace_seconds if spec else self.grace_seconds
                processes.wait_for_end([supervisor], grace_seconds + 5.0)
                processes.stop([supervisor], 0.0)
            ended = [self._end_leftovers(), *(server.stop() for server in (self.broker, self.postgres))]
        if supervisor is None and not any(ended):
            raise ConflictError(f"hsstar is not up in {self.home}")

    def status(self) -> StackStatus:
        """Return what runs now."""
        state = read_state(self._state_file)
        supervisor = self._supervisor()
        return StackStatus(
            supervisor_pid=supervisor.pid if supervisor else None,
            database_url=self.database_url,
            broker_url=self.broker_url,
            logs=self.logs,
            servers=tuple(server.status() for server in self.embedded),
            workers=tuple(_as_now(worker) for worker in state.workers) if state else (),
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.home / LOCK_FILE).touch(mode=0o600)
        except OSError as error:
            raise LocalStackError(
                f"cannot work in {self.home}: {error}; set HSSTAR_HOME to a folder of yours"
            ) from error
        with locked(self.home / LOCK_FILE, LOCK_SECONDS):
            yield

    def _supervisor(self) -> processes.ProcessIdentity | None:
        state = read_state(self._state_file)
        return state.supervisor if state is not None and processes.alive(state.supervisor) else None

    def _refuse_elsewhere(self) -> None:
        found = self.elsewhere()
        if found is not None:
            raise ConflictError(f"hsstar is up in {self.home} {found}; `hsstar down` works there only")

    def _refuse_if_up(self, wanted: StackSpec) -> None:
        supervisor = self._supervisor()
        if supervisor is None:
            return
        running = read_spec(self._spec_file)
        where = f"hsstar is already up in {self.home} (supervisor pid {supervisor.pid}, logs in {self.logs})"
        if running is None or running.workers_by_role() == wanted.workers_by_role():
            raise ConflictError(f"{where}; see `hsstar status`")
        raise ConflictError(
            f"{where} with {_counted(running)} and not {_counted(wanted)}; "
            "to change that, run `hsstar down` first"
        )

    def _end_leftovers(self) -> bool:
        state = read_state(self._state_file)
        recorded = [worker.process for worker in state.workers if worker.process] if state else []
        leftovers = [process for process in recorded if processes.alive(process)]
        processes.stop(leftovers, LEFTOVER_GRACE_SECONDS, families=True)
        return bool(leftovers)

    def _place_servers(self, new_database: bool) -> None:
        """Decide where data and sockets of the servers are, and write it down."""
        if not self.embedded or any(server.is_running() for server in (self.postgres, self.broker)):
            return
        found = Places.find(self.home, self.settings.server_dir, anew=new_database)
        if not new_database:
            found.check(self.settings.server_dir)
            if self.postgres in self.embedded and not self.postgres.data.exists():
                self._refuse_beside_checkpoints()
        account = account_for(found.folder / self.postgres.name / "data")
        found.record(places.socket_directory(found.label, account, self.settings.runtime_dir))
        self.postgres, self.broker = self._servers()

    def _refuse_beside_checkpoints(self) -> None:
        old = next((self.home / "models").glob("*/M*"), None)
        if old is not None:
            raise LocalStackError(
                f"{old} was made with a database that is not in {self.postgres.directory}: put that back "
                "there; for an empty database run: hsstar up --new-database"
            )

    def _start_servers(self, started: list[EmbeddedServer]) -> None:
        starts = []
        for server in reversed(self.embedded):  # the broker starts while a new database is made
            if not server.is_running():
                started.append(server)
            starts.append((server, server.begin_start()))
        for server, start in starts:
            server.wait_for_start(start)

    def _start_supervisor(self, spec: StackSpec) -> None:
        write_json(self._spec_file, asdict(spec))
        log = self.logs / "supervisor.log"
        settings = replace(self.settings, database_url=self.database_url, broker_url=self.broker_url)
        environment = {**os.environ, **settings.as_environment()}
        argv = python_module("hsstar.local.supervisor", str(self.home))
        supervisor = processes.start_detached(argv, log, directory=self.home, environment=environment)
        try:
            deadline = time.monotonic() + START_SECONDS
            while supervisor is None or self._supervisor() != supervisor:
                if not processes.alive(supervisor) or time.monotonic() > deadline:
                    raise LocalStackError(f"the supervisor did not start; see {log}")
                time.sleep(processes.POLL_SECONDS)
        except BaseException:
            processes.stop([supervisor] if supervisor else [], self.grace_seconds)
            raise


def _as_now(worker: WorkerState) -> WorkerState:
    return worker if processes.alive(worker.process) else replace(worker, process=None)


def _counted(spec: StackSpec) -> str:
    counts = spec.workers_by_role()
    return ", ".join(f"{role}: {count}" for role, count in sorted(counts.items())) or "no workers"
