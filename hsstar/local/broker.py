"""An embedded broker for Celery's messages: Valkey or Redis on a Unix socket, with a password."""

import os
import secrets
import signal
import socket
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from hsstar.local.binaries import broker_program
from hsstar.local.server import EmbeddedServer

ANSWER_SECONDS = 2.0
OPTIONS = (
    ("--port", "0"),
    ("--unixsocketperm", "700"),
    ("--appendonly", "yes"),
    ("--appendfsync", "everysec"),
    ("--save", ""),
    ("--maxclients", "1000"),
    ("--set-proc-title", "no"),  # keeps the command line, which identifies the process
)


class Broker(EmbeddedServer):
    """The embedded broker of one home."""

    name = "broker"
    stop_signals = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))
    failure_hint = "if its files are damaged, remove the folder: its messages are only wake-ups"

    @property
    def socket(self) -> Path:
        """The socket that it listens on."""
        return self.socket_directory / "b.sock"

    @property
    def configuration(self) -> Path:
        """The file with the password, which no command line shows."""
        return self.directory / "broker.conf"

    @property
    def password(self) -> str:
        """The password; empty before the first start."""
        try:
            return self.configuration.read_text().removeprefix("requirepass ").strip()
        except FileNotFoundError:
            return ""

    @property
    def url(self) -> str:
        """The broker's URL for kombu."""
        return f"redis+socket://:{self.password}@{self.socket}"

    @property
    def pid_file(self) -> Path:
        """The server's own pid file."""
        return self.data / "broker.pid"

    @property
    def remains(self) -> Sequence[Path]:
        """The pid file and the socket."""
        return (self.pid_file, self.socket)

    def belongs(self, command_line: list[str]) -> bool:
        """Tell whether this is the command line of this server."""
        return ("--dir", str(self.data)) in pairwise(command_line)

    def initialise(self) -> None:
        """Make the data directory and the password if they are missing."""
        if not self.data.exists():
            self.own(self.data)
        if not self.password:
            aside = self.configuration.with_suffix(".new")
            aside.unlink(missing_ok=True)
            aside.touch(mode=0o600)
            aside.write_text(f"requirepass {secrets.token_hex(24)}\n")
            if not self.account.is_ours:
                os.chown(aside, self.account.user_id, self.account.group_id)
            aside.rename(self.configuration)

    def command(self) -> list[str]:
        """Return the argument list that runs the server in the foreground."""
        places = (("--dir", self.data), ("--pidfile", self.pid_file), ("--unixsocket", self.socket))
        options = [part for option in (*OPTIONS, *places) for part in map(str, option)]
        return [str(broker_program(self.account, self.root)), str(self.configuration), *options]

    def is_ready(self) -> bool:
        """Tell whether the server accepts the password and answers PING; not while it reads its log."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(ANSWER_SECONDS)
            try:
                client.connect(str(self.socket))
                client.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                answer = b""
                while b"+PONG" not in answer:
                    piece = client.recv(64)
                    answer += piece
                    if not piece or b"-" in answer:  # the sign of an error
                        return False
            except OSError:
                return False
        return True
