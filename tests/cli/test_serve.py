"""`hsstar verify --serve`: verdicts over HTTP, from a process of its own."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from starlette.applications import Starlette

from hsstar.verifier import SharedVerifier, server
from tests.cli.conftest import ENDLESS, CommandLine
from tests.waiting import wait_for

HERE = Path(__file__).parent
TOKEN = "a-token-of-the-test"
RIGHT = {"answer": "x+1", "reference": "1+x"}
PLAIN = {"answer": 1, "reference": 1}
SLOW = {"answer": ENDLESS, "reference": "7"}


@contextmanager
def serving(*options: str, **environment: str) -> Iterator[tuple[httpx2.Client, subprocess.Popen[str]]]:
    """A client of a new server on a free port, which is killed at the end if it still runs."""
    command = [sys.executable, "-m", "hsstar.cli", "verify", "--serve", "--port", "0", *options]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            url = process.stdout.readline().strip()
            assert url.endswith("/verify"), url
            base = url.removesuffix("/verify").replace("0.0.0.0", "127.0.0.1")
            with httpx2.Client(base_url=base, timeout=240.0, trust_env=False) as client:
                yield client, process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def client() -> Iterator[httpx2.Client]:
    options = ("--deadline", "0.5", "--processes", "2", "--memory-limit", "512", "--queue", "30")
    with serving(*options) as (client, _):
        yield client


def rows(file: str) -> list[Any]:
    return [json.loads(line) for line in (HERE / file).read_text().splitlines() if line.strip()]


@pytest.mark.slow
def test_a_list_gets_the_verdicts_that_a_file_gets(client: httpx2.Client) -> None:
    answered = client.post("/verify", content=json.dumps(rows("answers.jsonl")))
    verdicts = json.loads(answered.text.replace(r"\ud800", "?"))  # which no UTF-8 file can hold
    assert (answered.status_code, verdicts) == (200, rows("verdicts.jsonl"))
    assert client.post("/verify", json=[]).json() == []


def test_one_answer_gets_its_verdict(client: httpx2.Client) -> None:
    answered = client.post("/verify", content=rb'{"response": "so \\boxed{x+\ud800}", "reference": "1"}')
    assert answered.json() == {"verdict": "incorrect", "cause": "unparsable", "answer": "x+\ud800"}
    assert client.post("/verify", json=RIGHT).json()["verdict"] == "correct"
    health = client.get("/healthz").json()
    assert health.pop("version").startswith("math-verify ")
    assert health == {"status": "ok", "waiting": 0}


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b'{"answer":', 400, "expected JSON: Expecting value: line 1 column 11 (char 10)"),
        (b"", 400, "expected JSON: "),
        (b"\xff\xfe\x00", 400, "expected JSON: "),
        (b"[" * 100_000, 400, "expected JSON: "),
        (b"7", 400, "expected an object, found a number"),
        (b'[{"answer": 1, "reference": 1}, null]', 400, "1: expected an object, found null"),
        (b'{"reference": "7"}', 400, "expected answer or response, found neither"),
        (b'[{"answer": "7"}]', 400, "0: expected reference, which is missing"),
        (b'{"answer": [1], "reference": "7"}', 400, "expected text or a number under answer, found a list"),
        (json.dumps([PLAIN] * 31).encode(), 413, "expected at most 30 answers at a time, found 31"),
        (b'"' + b"x" * (8 << 20) + b'"', 413, "expected at most 8 MiB"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value,
)
def test_what_is_wrong_is_refused_in_one_line(
    client: httpx2.Client, body: bytes, status: int, message: str
) -> None:
    refused = client.post("/verify", content=body)
    error = refused.json()["error"]
    assert (refused.status_code, error[: len(message)]) == (status, message)
    assert "\n" not in error
    assert client.post("/verify", json=[PLAIN] * 30).status_code == 200


def test_other_paths_methods_and_names_of_the_host_are_refused(client: httpx2.Client) -> None:
    assert client.get("/verify").status_code == 405
    assert client.get("/").json() == {"error": "Not Found"}
    elsewhere = client.get("/healthz", headers={"Host": "elsewhere.example"})
    assert (elsewhere.status_code, "version" in elsewhere.text) == (400, False)


@pytest.mark.slow
def test_a_full_queue_refuses_more_and_sigterm_lets_what_was_accepted_end() -> None:
    with (
        serving("--queue", "2", "--processes", "1", "--deadline", "1") as (client, process),
        ThreadPoolExecutor(1) as thread,
    ):
        accepted = thread.submit(client.post, "/verify", json=[SLOW, RIGHT])
        wait_for(lambda: client.get("/healthz").json()["waiting"] == 2)
        full = client.post("/verify", json=PLAIN)
        assert (full.status_code, full.headers["Retry-After"]) == (503, "1")
        assert full.json() == {"error": "2 answers are waiting, of at most 2; try again"}
        assert not accepted.done()
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        verdicts = accepted.result().json()
        assert [verdict["cause"] for verdict in verdicts] == ["timed_out", "correct"]
        assert process.wait(timeout=60) == 0
        assert children and not any(child.is_running() for child in children)
        with pytest.raises(httpx2.ConnectError):
            client.get("/healthz")


def test_an_address_that_others_reach_needs_a_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    options = ("--host", "0.0.0.0", "--processes", "1")
    with serving(*options, HSSTAR_VERIFY_TOKEN_FILE=str(file)) as (client, _):
        for given in ({}, {"Authorization": "Bearer other"}, {"Authorization": TOKEN}):
            refused = client.post("/verify", json=RIGHT, headers=given)
            assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert TOKEN not in refused.text
        bearing = {"Authorization": f"Bearer {TOKEN}", "Host": "verifier.example"}
        assert client.post("/verify", json=RIGHT, headers=bearing).json()["verdict"] == "correct"
        assert client.get("/healthz").status_code == 200


def test_no_server_starts_where_it_must_not_or_cannot(alone: CommandLine) -> None:
    for host in ("0.0.0.0", "::"):
        message = alone.refused("verify", "--serve", "--host", host, "--port", "0")
        assert message.startswith(f"{host} can be reached from elsewhere: set HSSTAR_VERIFY_TOKEN")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        message = alone.refused("verify", "--serve", "--port", port)
        assert message.startswith(f"cannot listen on 127.0.0.1:{port}: Address already in use")
    assert "cannot listen on no-such-host" in alone.refused(
        "verify", "--serve", "--host", "no-such-host.invalid"
    )


def test_without_its_packages_the_server_says_which_extra_has_them() -> None:
    program = "import sys; sys.modules['uvicorn'] = None; from hsstar.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "verify", "--serve"], capture_output=True, text=True, timeout=60
    )
    assert done.stderr == "hsstar: --serve needs uvicorn: pip install 'hsstar[web]'\n"
    assert (done.returncode, done.stdout) == (1, "")


def test_the_token_is_no_argument_and_leaves_no_trace() -> None:
    with serving("--processes", "1", HSSTAR_VERIFY_TOKEN=TOKEN) as (client, process):
        assert client.get("/healthz").status_code == 200
        for one in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
            assert TOKEN not in " ".join(one.cmdline())
            assert one.pid == process.pid or TOKEN not in " ".join(one.environ().values())


def called(app: Starlette, *bodies: Any) -> list[httpx2.Response]:
    """What the application answers to these bodies, and then about its health."""
    transport = httpx2.ASGITransport(app)

    async def call() -> list[httpx2.Response]:
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answered = [await client.post("/verify", content=body) for body in bodies]
            return [*answered, await client.get("/healthz")]

    return asyncio.run(call())


def test_a_verifier_that_cannot_compute_says_so_until_it_can(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    real = sys.executable
    monkeypatch.setattr(sys, "executable", str(python))
    with SharedVerifier(processes=1) as verifier:
        app = server.make_app(verifier, None, most_waiting=5)
        algebra, text, health = called(app, json.dumps([PLAIN, RIGHT]), json.dumps(PLAIN))
        assert (algebra.status_code, text.status_code, health.status_code) == (500, 200, 503)
        assert algebra.json()["error"].startswith(f"the checking process does not start: {python} ")
        assert health.json() == algebra.json() | {
            "status": "failing", "version": verifier.version, "waiting": 0
        }  # fmt: skip
        python.write_text(f'#!/bin/sh\nexec {real} "$@"\n')
        algebra, health = called(app, json.dumps(RIGHT))
        assert (algebra.status_code, health.json()["status"]) == (200, "ok")


def test_a_body_that_does_not_arrive_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stalling() -> AsyncIterator[bytes]:
        yield b'{"answer": '
        await asyncio.sleep(3_600)

    monkeypatch.setattr(server, "_BODY_SECONDS", 0.01)
    with SharedVerifier(processes=1) as verifier:
        late, health = called(server.make_app(verifier, None, most_waiting=5), stalling())
    assert (late.status_code, health.json()["waiting"]) == (408, 0)
    assert late.json() == {"error": "the body did not arrive within 0 seconds"}
