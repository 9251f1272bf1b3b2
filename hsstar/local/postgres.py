"""An embedded Postgres from a wheel's programs, on a Unix socket; it admits its starter and its account."""

import shutil
import signal
import subprocess
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hsstar.domain.errors import DatabaseError, LocalStackError
from hsstar.local.accounts import starting_user
from hsstar.local.binaries import POSTGRES_MAJOR, postgres_bundle
from hsstar.local.server import EmbeddedServer, failure, server_environment

PORT = 5432  # only part of the socket's name
ROLE = DATABASE = "hsstar"
SUPERUSER = "postgres"
INITDB_OPTIONS = (
    f"--username={SUPERUSER}",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",  # the same order and case rules on every machine
    "--builtin-locale=C.UTF-8",
    "--data-checksums",
    "--auth=peer",
)
# For a machine that also computes. Nothing trades safety for speed: fsync stays on.
TUNING = {
    "max_connections": "200",
    "shared_buffers": "128MB",
    "min_dynamic_shared_memory": "64MB",  # parallel queries also where a container's /dev/shm is small
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "512MB",
    "wal_compression": "on",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "fsync": "on",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] ",
}


class Postgres(EmbeddedServer):
    """The embedded Postgres of one home, with the database `hsstar` owned by the role `hsstar`."""

    name = "postgres"
    stop_signals = (
        (signal.SIGINT, 60.0),  # fast: roll back, write a checkpoint
        (signal.SIGQUIT, 10.0),  # immediate: the next start recovers from the log
        (signal.SIGKILL, 5.0),
    )

    @property
    def url(self) -> str:
        """The URL for clients; it names the port, because else PGPORT of the environment would count."""
        return f"postgresql://{ROLE}@/{DATABASE}?host={quote(str(self.socket_directory))}&port={PORT}"

    @property
    def pid_file(self) -> Path:
        """Postgres' own lock file: pid, data directory, start, port, socket folder …, state."""
        return self.data / "postmaster.pid"

    @property
    def socket(self) -> Path:
        """The socket that it listens on."""
        return self.socket_directory / f".s.PGSQL.{PORT}"

    @property
    def remains(self) -> Sequence[Path]:
        """The socket and the lock files, which hinder a start if another process has their pid."""
        return (self.pid_file, self.socket, self.socket.with_name(self.socket.name + ".lock"))

    @cached_property
    def cluster_name(self) -> str:
        """The name in the title of every process of this server."""
        return f"hsstar-{self.label}"

    def belongs(self, command_line: list[str]) -> bool:
        """Tell whether this is the command line of this server or of one of its children."""
        started = ["-D", str(self.data), "-c"]
        pairs = zip(command_line, command_line[1:], command_line[2:], strict=False)
        title = " ".join(command_line)
        return title.startswith(f"postgres: {self.cluster_name}: ") or any(
            list(pair) == started for pair in pairs
        )

    def program(self, name: str) -> Path:
        """Return a program of the wheel, such as `psql`, where the server's account can run it."""
        return postgres_bundle(name).program_for(self.account, self.root)

    def initialise(self) -> None:
        """Make the data directory if it is missing, check its version, write who may connect."""
        if not self.data.exists():
            self._initdb()
        version = (self.data / "PG_VERSION").read_text().strip()
        if version != str(POSTGRES_MAJOR):
            raise LocalStackError(
                f"{self.data} holds data of Postgres {version} and this wheel brings {POSTGRES_MAJOR}; "
                "dump them with the older version and load them here, or use another HSSTAR_HOME"
            )
        self._write_access_rules()

    def _initdb(self) -> None:
        aside = self.data.with_name("data.new")
        shutil.rmtree(aside, ignore_errors=True)
        self.own(aside)
        command = self.account.command([str(self.program("initdb")), *INITDB_OPTIONS, "-D", str(aside)])
        done = subprocess.run(
            command,
            cwd="/",
            env=server_environment(),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode != 0:
            shutil.rmtree(aside, ignore_errors=True)
            output = done.stdout + done.stderr
            raise failure("initdb failed", output, f"nothing was left in {self.directory}", self.directory)
        aside.rename(self.data)

    def _write_access_rules(self) -> None:
        (self.directory / "pg_hba.conf").write_text("local all all peer map=hsstar\n")
        users = sorted({starting_user(), self.account.name})
        rules = [f"hsstar {_quoted(user)} {role}\n" for user in users for role in (ROLE, SUPERUSER)]
        (self.directory / "pg_ident.conf").write_text("".join(rules))
        for file in ("pg_hba.conf", "pg_ident.conf"):
            (self.directory / file).chmod(0o644)

    def command(self) -> list[str]:
        """Return the argument list that runs the server in the foreground."""
        options = {
            "listen_addresses": "",
            "port": str(PORT),
            "unix_socket_directories": _quoted(str(self.socket_directory)),
            "unix_socket_permissions": "0700",
            "hba_file": str(self.directory / "pg_hba.conf"),
            "ident_file": str(self.directory / "pg_ident.conf"),
            "cluster_name": self.cluster_name,
            **TUNING,
        }
        flags = [part for key, value in options.items() for part in ("-c", f"{key}={value}")]
        return [str(self.program("postgres")), "-D", str(self.data), *flags]

    def is_ready(self) -> bool:
        """Tell whether the server accepts connections, by the last line of its lock file."""
        try:
            lines = self.pid_file.read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready" and self.is_running()

    def finish_start(self) -> None:
        """Make the roles and the database if they are missing."""
        import psycopg  # here, because only a process that starts the server needs it

        target: dict[str, Any] = {"host": str(self.socket_directory), "port": PORT, "user": SUPERUSER}
        try:
            with psycopg.connect(**target, dbname="postgres", autocommit=True) as connection:
                if not connection.execute("SELECT FROM pg_roles WHERE rolname = 'hsstar'").rowcount:
                    connection.execute("CREATE ROLE hsstar LOGIN CREATEDB")
                if not connection.execute("SELECT FROM pg_roles WHERE rolname = 'hsstar_reader'").rowcount:
                    connection.execute("CREATE ROLE hsstar_reader NOLOGIN")  # for `hsstar sql`
                    connection.execute("GRANT hsstar_reader TO hsstar WITH INHERIT FALSE, SET TRUE")
                    connection.execute("GRANT SET ON PARAMETER temp_file_limit TO hsstar")
                if not connection.execute("SELECT FROM pg_database WHERE datname = 'hsstar'").rowcount:
                    connection.execute("CREATE DATABASE hsstar OWNER hsstar")
        except psycopg.Error as error:
            reason = " ".join(str(error).split())
            raise DatabaseError(f"the embedded Postgres refuses us: {reason} (see {self.log})") from error


def _quoted(word: str) -> str:
    doubled = word.replace('"', '""')
    return f'"{doubled}"'
