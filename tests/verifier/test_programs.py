"""Programs found in responses, and judged by tests in a sandbox; nothing that they do forges a verdict."""

import json
import os
import re
import socket
import threading
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hsstar.doctor.machine import check_sandbox
from hsstar.domain.errors import EngineError
from hsstar.domain.findings import Level
from hsstar.domain.program_tests import read_program_tests
from hsstar.domain.verdict import Cause, CheckResult
from hsstar.domain.verification import CodeSettings
from hsstar.verifier.code.judging import judge_program
from hsstar.verifier.code.programs import find_program
from hsstar.verifier.contract import VerificationRequest
from hsstar.verifier.kinds.code import CodeVerifier
from hsstar.verifier.references import ReferenceKind
from hsstar.verifier.sandbox import Limits, Sandbox, SandboxError, Way, sandbox, usable_way, ways
from hsstar.verifier.sandbox.sandbox import trouble_with

LIMITS = Limits(cpu_seconds=0.6, idle_seconds=10.0, memory_mb=256, processes=16, output_mb=1)
DOUBLE = {"inputs": ["21\n", "4\n"], "outputs": ["42\n", "8\n"]}
CASES: dict[str, list[dict[str, str]]] = tomllib.loads(
    (Path(__file__).parent / "programs.toml").read_text(encoding="utf-8")
)


def cases(group: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in CASES[group]])


@pytest.fixture(scope="module")
def way() -> Way:
    return usable_way()


def judged(way: Way, program: str, tests: Any, limits: Limits = LIMITS) -> CheckResult:
    reference = tests if isinstance(tests, str) else json.dumps(tests)
    return judge_program(program, read_program_tests(reference), lambda: Sandbox(way, limits))


@cases("right")
def test_a_right_program_passes(way: Way, case: dict[str, str]) -> None:
    assert judged(way, case["program"], case["tests"]) == CheckResult(Cause.CORRECT)


@cases("wrong")
def test_a_wrong_program_fails_and_the_first_failure_is_named(way: Way, case: dict[str, str]) -> None:
    found = judged(way, case["program"], case["tests"])
    assert found.cause is Cause.INCORRECT
    assert found.detail is not None and case["detail"] in found.detail
    assert len(found.detail) < 1_000


@cases("forged")
def test_no_program_forges_its_verdict(way: Way, case: dict[str, str]) -> None:
    found = judged(way, case["program"], case["tests"])
    assert found.cause is Cause.INCORRECT, found


SLEEPY = Limits(cpu_seconds=60.0, idle_seconds=1.0)
STARVED = Limits(cpu_seconds=60.0, idle_seconds=60.0, wall_seconds=1.0)


@pytest.mark.slow
@cases("hostile")
def test_a_program_without_end_is_ended_and_named(way: Way, case: dict[str, str]) -> None:
    found = judged(way, case["program"], {"inputs": [""], "outputs": ["7"]})
    assert found.cause is Cause.INCORRECT, found
    assert re.search(case["detail"], str(found.detail), re.IGNORECASE), found


@pytest.mark.slow
def test_a_program_that_waits_for_nothing_is_incorrect_and_one_without_a_processor_is_not(way: Way) -> None:
    found = judged(way, "import time\ntime.sleep(60)", DOUBLE, SLEEPY)
    assert found == CheckResult(Cause.INCORRECT, "test 1 of 2: the program did not end within 1 s")
    found = judged(way, "while True: pass", DOUBLE, STARVED)
    assert found.cause is Cause.TIMED_OUT
    assert "did not get enough of a processor" in str(found.detail)


def run(way: Way, program: str) -> str:
    """What a program prints or raises."""
    with Sandbox(way, LIMITS) as opened:
        answer = opened.ask({"op": "run", "program": program, "input": ""})
    return str(answer["output"]) + str(answer["errors"])


@pytest.fixture
def secret(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HSSTAR_JUDGE_API_KEY", "s3cret")
    (tmp_path / ".env").write_text("HSSTAR_DATABASE_URL=s3cret")
    return str(tmp_path / ".env")


def test_no_file_of_ours_is_seen(way: Way, secret: str) -> None:
    files = [secret, "/etc/shadow", "/etc/passwd", "/proc/1/environ", "/proc/self/environ", __file__,
             "/var/log", str(Path.home() / ".bashrc"), "/proc/self/fd", "/sys/kernel"]  # fmt: skip
    program = f"import os\nfor path in {files!r}:\n  if os.path.exists(path): print(path)\n"
    links = (
        f"for n, path in enumerate({files!r}):\n  os.symlink(path, f'/tmp/{{n}}')\n"
        "  if os.path.exists(f'/tmp/{n}'): print(n)"
    )
    assert run(way, program + links) == ""
    seen = run(way, "import os\nprint(sorted(os.environ), open('/dev/null').read())")
    assert "s3cret" not in seen and "HSSTAR" not in seen


def test_nothing_is_written_but_in_a_private_folder(way: Way, tmp_path: Any) -> None:
    places = ["/x", "/usr/x", "/code/x", "/dev/x", "/etc/x", str(tmp_path / "x"), "/dev/shm/x"]
    program = f"for path in {places!r}:\n  try: open(path, 'w'); print(path)\n  except OSError: pass\n"
    assert run(way, program + "open('/tmp/x', 'w').write('y')\nprint(open('/tmp/x').read())") == "y\n"
    assert run(way, "import os\nprint(os.listdir('/tmp'))") == "[]\n"
    assert not Path("/tmp/x").exists()
    inside = "/code/hsstar/verifier/sandbox/inside/harness.py"
    assert re.search("PermissionError|Read-only file system", run(way, f"open({inside!r}, 'a')"))


def test_no_server_is_reached(way: Way) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        for address in (server.getsockname(), ("1.1.1.1", 53)):
            said = run(way, f"import socket\nsocket.create_connection({address!r}, 2)")
            assert "Address family not supported" in said
        server.settimeout(0.1)
        with pytest.raises(TimeoutError):
            server.accept()
    assert "Address family" in run(way, "import socket\nsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW)")
    assert run(way, "import asyncio\nasyncio.run(asyncio.sleep(0))\nprint('ok')") == "ok\n"


def test_no_other_process_is_reached_and_none_is_left(way: Way) -> None:
    mine = os.getpid()
    said = run(way, f"import os, signal\nos.kill({mine}, signal.SIGKILL)")
    assert "ProcessLookupError" in said
    for call in ("ptrace(0, 0, 0, 0)", "unshare(0x10000000)", "mount(b'none', b'/tmp', b'tmpfs', 0, 0)",
                 "setns(0, 0)", "syscall(321, 0, 0, 0)", "chroot(b'/tmp')"):  # fmt: skip
        program = (
            f"import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nprint(libc.{call}, ctypes.get_errno())"
        )
        assert run(way, program) == "-1 1\n", call
    left = (
        "import os, time\nif os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n"
        "    time.sleep(300)\n  os._exit(0)\nprint('gone')"
    )
    with Sandbox(way, LIMITS) as opened:
        assert opened.ask({"op": "run", "program": left, "input": ""})["output"] == "gone\n"
        count = "import os\nprint(len([n for n in range(2, 300) if not os.system('true') and _alive(n)]))"
        alive = (
            "def _alive(n):\n  import os\n  try: os.kill(n, 0); return True\n  except OSError: return False\n"
        )
        assert int(str(opened.ask({"op": "run", "program": alive + count, "input": ""})["output"])) <= 3


def processes() -> Iterator[str]:
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            yield (process / "cmdline").read_text()


def test_a_closed_sandbox_leaves_no_process(way: Way) -> None:
    opened = Sandbox(way, LIMITS, "--marked-a")
    assert any("--marked-a" in line for line in processes())
    opened.close()
    for _ in range(100):
        if not any("--marked-a" in line for line in processes()):
            break
        time.sleep(0.05)
    else:
        raise AssertionError("a process is left")


@pytest.mark.parametrize(
    ("response", "source"),
    [
        ("Here:\n```python\nx = 1\n```\nDone.", "x = 1\n"),
        ("```python\nx = 1\n```\n```python\nx = 2\n```", "x = 2\n"),
        ("```py\nx = 1\n```\nIt prints\n```\n7\n```", "x = 1\n"),
        ("```\nx = 1\n```", "x = 1\n"),
        ("~~~Python3\nx = 1\n~~~", "x = 1\n"),
        ("````python\ns = '''\n```\n'''\n````", "s = '''\n```\n'''\n"),
        ("<think>```python\nx = 1\n```</think>```python\nx = 2", "x = 2"),
        ("```python\nx = 1", "x = 1"),
    ],
)
def test_the_last_program_of_a_response_counts(response: str, source: str) -> None:
    assert find_program(response).source == source


@pytest.mark.parametrize(
    ("response", "options", "reason"),
    [
        ("x = 1", {}, "no fenced program"),
        ("```cpp\nint x;\n```", {}, "in cpp; only Python"),
        ("```python\nx = 1", {"truncated": True}, "no fenced program"),
        ("```python\n\n```", {}, "the program is empty"),
        ("```python\n" + "x\n" * 200_000 + "```", {}, "more than 200,000 characters"),
    ],
)
def test_a_response_without_a_program_says_why(response: str, options: dict[str, bool], reason: str) -> None:
    found = find_program(response, **options)
    assert found.source is None and reason in str(found.reason)


def test_an_answer_is_the_program() -> None:
    assert find_program("x = 1", is_answer=True).source == "x = 1"


def broken(inner: Sequence[str], temporary_bytes: int) -> list[str]:
    return ["/bin/sh", "-c", "echo 'namespaces are forbidden here' >&2; exit 1"]


def test_a_machine_without_a_sandbox_runs_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_usable", None)
    monkeypatch.setattr(sandbox, "ways", lambda: [Way("bubblewrap", broken), Way("namespaces", broken)])
    pattern = r"no sandbox .*bubblewrap: .*namespaces are forbidden here; namespaces: .*none runs without"
    with CodeVerifier(CodeSettings()) as verifier, pytest.raises(SandboxError, match=pattern):
        verifier.verify([VerificationRequest("```python\nprint(42)\n```", json.dumps(DOUBLE))])
    [finding] = check_sandbox()
    assert finding.level is Level.WARN and "kind code cannot run: no sandbox" in finding.text


def test_a_sandbox_that_shows_files_is_refused(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    binds, links = ways._places()
    monkeypatch.setattr(ways, "_places", lambda: ([*binds, ("/etc", "/etc")], links))
    leaking = Way("leaking", lambda inner, size: way.command(inner, size), way.options)
    assert "it has not hidden files (it sees /etc/passwd" in trouble_with(leaking)


def test_a_sandbox_with_secrets_in_its_environment_is_refused(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ways.ENVIRONMENT, "HSSTAR_JUDGE_API_KEY", "s3cret")
    assert trouble_with(way) == "it has not a clean environment"


def test_the_doctor_names_the_sandbox(way: Way) -> None:
    [finding] = check_sandbox()
    assert (finding.level, finding.text) == (Level.OK, f"programs run isolated, by {way.name}")


def test_several_programs_run_at_once_and_equal_ones_once(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    together = threading.Barrier(2, timeout=60)

    def judge(source: str, *rest: object) -> CheckResult:
        started.append(source)
        together.wait()
        return CheckResult(Cause.CORRECT)

    monkeypatch.setattr("hsstar.verifier.kinds.code.judge_program", judge)
    requests = [VerificationRequest(text, json.dumps(DOUBLE), is_answer=True) for text in ("a", "b", "a")]
    with CodeVerifier(CodeSettings(), processes=2) as verifier:
        assert {judgement.cause for judgement in verifier.verify(requests)} == {Cause.CORRECT}
    assert sorted(started) == ["a", "b"]


def test_closing_ends_programs_at_once(way: Way) -> None:
    verifier = CodeVerifier(CodeSettings(deadline_seconds=600.0), processes=1)
    request = VerificationRequest("while True: pass", json.dumps(DOUBLE), is_answer=True)
    threading.Timer(2.0, verifier.close).start()
    begin = time.monotonic()
    with pytest.raises(EngineError, match="closed"):
        verifier.verify([request])
    assert time.monotonic() - begin < 60
    with pytest.raises(EngineError, match="closed"):
        verifier.verify([request])


def test_references_that_hold_no_tests_are_told(way: Way) -> None:
    with CodeVerifier(CodeSettings()) as verifier:
        requests = [VerificationRequest("x", reference, is_answer=True) for reference in ("42", "assert f()")]
        assert verifier.examine(requests) == [ReferenceKind.UNREADABLE, ReferenceKind.TESTS]
        [judgement] = verifier.verify(requests[:1])
    assert judgement.cause is Cause.BAD_REFERENCE
