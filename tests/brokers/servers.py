"""Real servers: Redis and RabbitMQ with and without TLS, PgBouncer, and a port that says nothing."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from hsstar.broker import BrokerAddress
from hsstar.domain.errors import BrokerError
from hsstar.local.accounts import account_for
from hsstar.store.database import Database
from tests.deploy.manifests import tool
from tests.waiting import wait_for

PASSWORD = "s3cret-Pa55"
CONNECTIONS = 4
"""To Postgres, for all clients of PgBouncer together."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


@contextmanager
def black_hole() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield server.getsockname()[1]


def write_certificates(folder: Path) -> Path:
    """An authority of our own (`ca.pem`) and what it signed for this machine (`server.pem`, `server.key`)."""
    signed = "-CA ca.pem -CAkey ca.key -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    for name, subject, options in (("ca", "test", ""), ("server", "localhost", signed)):
        new = f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={subject} {options}"
        command = [tool("openssl"), *new.split(), "-keyout", f"{name}.key", "-out", f"{name}.pem"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    for file in folder.iterdir():
        file.chmod(0o644)  # the servers run under accounts of their own
    return folder


@dataclass
class Server:
    """A server in the foreground, in a folder of its own, and its URL by scheme."""

    folder: Path
    argv: list[str]
    urls: dict[str, str]
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "server.log").open("ab") as log:
            environment = os.environ | self.environment
            self.process = subprocess.Popen(
                self.argv, env=environment, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        wait_for(self._answers, 120, f"the start of {self.argv}")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "server.log").read_text(errors="replace")
        try:
            for scheme, url in self.urls.items():
                if scheme == "postgresql":
                    psycopg.connect(url, connect_timeout=5).close()
                else:
                    BrokerAddress.parse(url).check()
        except (BrokerError, psycopg.OperationalError):
            return False
        return True

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


def configure(folder: Path, name: str, certificates: Path, **values: object) -> tuple[str, int, int]:
    """Fill the form of this name beside this file in; the path of what came of it, and its two ports."""
    form, ports = Path(__file__).with_name(name).read_text(), (free_port(), free_port())
    values |= {"folder": folder, "password": PASSWORD, "certificates": certificates}
    (folder / name).write_text(form.format(port=ports[0], tls_port=ports[1], **values))
    return str(folder / name), *ports


def make_redis(folder: Path, certificates: Path) -> Server:
    """Redis with a password, on one port without and one with TLS."""
    file, port, tls_port = configure(folder, "redis.conf", certificates)
    secure = f"rediss://:{PASSWORD}@localhost:{tls_port}/0?ssl_ca_certs={certificates}/ca.pem"
    urls = {"redis": f"redis://:{PASSWORD}@localhost:{port}/0", "rediss": secure}
    return Server(folder, [tool("redis-server"), file], urls)


def make_rabbitmq(folder: Path, certificates: Path) -> Server:
    """RabbitMQ with a user and a password, on one port without and one with TLS."""
    file, port, tls_port = configure(folder, "rabbitmq.conf", certificates)
    (folder / "plugins").write_text("[].")
    environment = {
        "HOME": str(folder),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_NODENAME": f"hsstar-{port}@localhost",
        "RABBITMQ_CONFIG_FILE": file,
        "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "ERL_EPMD_PORT": str(free_port()),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
    }
    login = f"hsstar:{PASSWORD}@localhost"
    secure = f"amqps://{login}:{tls_port}//?ssl_ca_certs={certificates}/ca.pem"
    urls = {"amqp": f"amqp://{login}:{port}//", "amqps": secure}
    return Server(folder, [tool("/usr/lib/rabbitmq/bin/rabbitmq-server")], urls, environment)


def end_name_server(rabbitmq: Server) -> None:
    """Ends Erlang's name server, a session of its own; it refuses until it knows that the node is gone."""
    environment = os.environ | rabbitmq.environment

    def is_gone() -> bool:
        subprocess.run(["epmd", "-kill"], env=environment, capture_output=True, check=False)
        return subprocess.run(["epmd", "-names"], env=environment, capture_output=True).returncode != 0

    wait_for(is_gone, 60, "the end of epmd")


def make_pgbouncer(folder: Path, certificates: Path, server_url: str) -> Server:
    """PgBouncer in transaction mode before a Postgres on a Unix socket, with a login, and TLS on request."""
    account = account_for(Path("/var/lib/hsstar"))
    host = make_url(server_url).query["host"]
    file, port, _ = configure(folder, "pgbouncer.ini", certificates, host=host, connections=CONNECTIONS)
    (folder / "users").write_text(f'"hsstar" "{PASSWORD}"\n')
    for path in (folder, *folder.iterdir()):
        os.chown(path, account.user_id, account.group_id)
    urls = {"postgresql": f"postgresql://hsstar:{PASSWORD}@localhost:{port}/postgres"}
    return Server(folder, account.command([tool("pgbouncer"), file]), urls)


def through(bouncer: Server, database: Database, options: str = "") -> str:
    """The URL of a database through PgBouncer."""
    name = make_url(database.url).database
    return f"{bouncer.urls['postgresql'].removesuffix('postgres')}{name}?{options}"
