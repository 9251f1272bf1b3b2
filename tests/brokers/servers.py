"""Real servers: Redis and RabbitMQ with and without TLS, PgBouncer, and a port that says nothing."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

import psycopg
import pytest
from sqlalchemy import make_url

from hsstar.broker import BrokerAddress
from hsstar.domain.errors import BrokerError
from hsstar.local.accounts import Account, account_for
from tests.waiting import wait_for

PASSWORD = "s3cret-Pa55"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def needs(*programs: str) -> None:
    """Skips where a program of Debian's is not installed."""
    for program in programs:
        if shutil.which(program) is None and not Path(program).exists():
            pytest.skip(f"{program} is not installed; .ci/servers installs it")


def write_certificates(folder: Path) -> Path:
    """An authority of our own (`ca.pem`) and what it signed for this machine (`server.pem`, `server.key`)."""
    needs("openssl")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new_key = ("-newkey", "rsa:2048", "-nodes")
    openssl(
        "req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test"
    )
    openssl("req", *new_key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    openssl("x509", "-req", "-in", "server.csr", "-out", "server.pem", *signed)
    for file in folder.iterdir():
        file.chmod(0o644)  # the servers run under accounts of their own
    return folder


@dataclass
class Server:
    """A server in the foreground, in a folder of its own."""

    folder: Path
    argv: list[str]
    urls: dict[str, str]
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.argv,
                env=os.environ | self.environment,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(self._answers, 120, f"the start of {self.argv}")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "server.log").read_text(errors="replace")
        try:
            for url in self.urls.values():
                BrokerAddress.parse(url).check()
        except BrokerError:
            return False
        return True

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


def make_redis(folder: Path, certificates: Path) -> Server:
    """Redis with a password, on one port without and one with TLS."""
    needs("redis-server")
    port, tls_port = free_port(), free_port()
    configuration = folder / "redis.conf"
    configuration.write_text(
        dedent(f"""
            bind 127.0.0.1
            port {port}
            tls-port {tls_port}
            tls-cert-file {certificates}/server.pem
            tls-key-file {certificates}/server.key
            tls-ca-cert-file {certificates}/ca.pem
            tls-auth-clients no
            requirepass {PASSWORD}
            save ""
        """)
    )
    urls = {
        "redis": f"redis://:{PASSWORD}@localhost:{port}/0",
        "rediss": f"rediss://:{PASSWORD}@localhost:{tls_port}/0?ssl_ca_certs={certificates}/ca.pem",
    }
    return Server(folder, ["redis-server", str(configuration)], urls)


def make_rabbitmq(folder: Path, certificates: Path) -> Server:
    """RabbitMQ with a user and a password, on one port without and one with TLS."""
    program = "/usr/lib/rabbitmq/bin/rabbitmq-server"
    needs(program)
    port, tls_port, names_port = free_port(), free_port(), free_port()
    (folder / "rabbitmq.conf").write_text(
        dedent(f"""
            listeners.tcp.1 = 127.0.0.1:{port}
            listeners.ssl.1 = 127.0.0.1:{tls_port}
            ssl_options.cacertfile = {certificates}/ca.pem
            ssl_options.certfile = {certificates}/server.pem
            ssl_options.keyfile = {certificates}/server.key
            ssl_options.verify = verify_none
            ssl_options.fail_if_no_peer_cert = false
            default_user = hsstar
            default_pass = {PASSWORD}
        """)
    )
    (folder / "plugins").write_text("[].")
    environment = {
        "HOME": str(folder),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_NODENAME": f"hsstar-{port}@localhost",
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "ERL_EPMD_PORT": str(names_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
    }
    login = f"hsstar:{PASSWORD}@localhost"
    urls = {
        "amqp": f"amqp://{login}:{port}//",
        "amqps": f"amqps://{login}:{tls_port}//?ssl_ca_certs={certificates}/ca.pem",
    }
    return Server(folder, [program], urls, environment)


def end_name_server(rabbitmq: Server) -> None:
    """Ends Erlang's name server, a session of its own; it refuses until it knows that the node is gone."""

    def is_gone() -> bool:
        environment = os.environ | rabbitmq.environment
        subprocess.run(["epmd", "-kill"], env=environment, capture_output=True, check=False)
        return subprocess.run(["epmd", "-names"], env=environment, capture_output=True).returncode != 0

    wait_for(is_gone, 60, "the end of epmd")


@contextmanager
def black_hole() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield server.getsockname()[1]


@dataclass
class PgBouncer:
    """PgBouncer in transaction mode before a Postgres on a Unix socket."""

    process: subprocess.Popen[bytes]
    port: int
    authority: Path
    log: Path

    def url(self, database: str, options: str = "") -> str:
        return f"postgresql://hsstar:{PASSWORD}@localhost:{self.port}/{database}?{options}"


@contextmanager
def pgbouncer(folder: Path, certificates: Path, server_url: str, connections: int) -> Iterator[PgBouncer]:
    """Real PgBouncer with a login and TLS for those who want it; at most `connections` to Postgres."""
    needs("pgbouncer")
    account: Account = account_for(Path("/var/lib/hsstar"))
    host = make_url(server_url).query["host"]
    port, log = free_port(), folder / "pgbouncer.log"
    (folder / "users").write_text(f'"hsstar" "{PASSWORD}"\n')
    (folder / "pgbouncer.ini").write_text(
        dedent(f"""
            [databases]
            * = host={host} port=5432
            [pgbouncer]
            listen_addr = 127.0.0.1
            listen_port = {port}
            unix_socket_dir =
            auth_type = scram-sha-256
            auth_file = {folder}/users
            pool_mode = transaction
            default_pool_size = {connections}
            client_tls_sslmode = allow
            client_tls_cert_file = {certificates}/server.pem
            client_tls_key_file = {certificates}/server.key
        """)
    )
    for file in (folder, *folder.iterdir()):
        os.chown(file, account.user_id, account.group_id)
    with log.open("ab") as output:
        process = subprocess.Popen(
            account.command([str(shutil.which("pgbouncer")), str(folder / "pgbouncer.ini")]),
            stdout=output,
            stderr=output,
        )
    bouncer = PgBouncer(process, port, certificates / "ca.pem", log)
    try:
        wait_for(lambda: _answers(bouncer), 60, "the start of PgBouncer")
        yield bouncer
    finally:
        process.kill()
        process.wait()


def _answers(bouncer: PgBouncer) -> bool:
    assert bouncer.process.poll() is None, bouncer.log.read_text()
    try:
        psycopg.connect(bouncer.url("postgres"), connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True
