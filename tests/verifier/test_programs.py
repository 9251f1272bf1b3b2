"""Programs found in responses, and judged by tests in a sandbox; nothing that they do forges a verdict."""

import json
import os
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from hsstar.domain.program_tests import read_program_tests
from hsstar.domain.verdict import Cause, CheckResult
from hsstar.verifier.code.judging import judge_program
from hsstar.verifier.code.programs import find_program
from hsstar.verifier.sandbox import Limits, Sandbox, Way, usable_way

LIMITS = Limits(cpu_seconds=0.6, wall_seconds=120.0, memory_mb=256, processes=16, output_mb=1)
DOUBLE = {"inputs": ["21\n", "4\n"], "outputs": ["42\n", "8\n"]}
TRIPLE = {"test_list": ["assert triple(2) == 6", "assert triple('a') == 'aaa'", "assert triple(0) == 0"]}
CHECK = "def check(candidate):\n    for n in range(4):\n        assert candidate(n) == [n] * n, n\n"
REPEAT = {"test": CHECK, "entry_point": "repeat", "setup": 'def repeat(n):\n    """Say n, n times."""\n'}
ADD = {"fn_name": "add", "inputs": [[1, 2], [[1], [2]]], "outputs": [3, [1, 2]]}


@pytest.fixture(scope="module")
def way() -> Way:
    return usable_way()


def judged(way: Way, program: str, tests: Any, limits: Limits = LIMITS) -> CheckResult:
    reference = tests if isinstance(tests, str) else json.dumps(tests)
    return judge_program(program, read_program_tests(reference), lambda: Sandbox(way, limits))


RIGHT = {
    "input": ("print(int(input()) * 2)", DOUBLE),
    "input of a main module": ("import sys\ndef main():\n  print(2 * int(sys.stdin.read()))\n"
                               "if __name__ == '__main__':\n  main()", DOUBLE),
    "exit with 0": ("import sys\nsys.stdout.write('%d' % (2 * int(input())))\nsys.exit(0)", DOUBLE),
    "threads": ("import threading\nt = threading.Thread(target=lambda: print(int(input()) * 2))\nt.start()", DOUBLE),
    "numbers with a point": ("print(1 / 3)", {"inputs": [""], "outputs": ["0.3333333"]}),
    "lines of cases": ("print(input())", [{"input": "a  b", "output": "a b\n\n", "testtype": "stdin"}]),
    "asserts": ("def triple(x):\n  return x * 3", TRIPLE),
    "asserts as text": ("def triple(x):\n  return x * 3", "import math\nassert math.isclose(triple(0.1), 0.3)"),
    "a class": ("class Stack:\n  def __init__(self): self.items = []\n  def push(self, x): self.items.append(x)\n"
                "  def pop(self): return self.items.pop()", "s = Stack()\ns.push((1, 2))\nassert s.pop() == (1, 2)"),
    "an exception": ("def f(x):\n  raise ValueError('no')",
                     "try:\n    f(1)\n    assert False\nexcept ValueError as error:\n    assert 'no' in str(error)"),
    "a change in place": ("def f(x):\n  x.sort()", "a = [2, 1]\nf(a)\nassert a == [1, 2]"),
    "kinds of values": ("def same(x):\n  return x",
                        "for x in (1.5, 2j, b'a', {1}, {'a': (1, [2])}, None, 10**60, frozenset({2}), range(3)):\n"
                        "    assert same(x) == x and type(same(x)) is type(x)"),
    "a generator": ("def f(n):\n  yield from range(n)", "assert list(f(3)) == [0, 1, 2]"),
    "a check": ("def repeat(n):\n  return [n] * n", REPEAT),
    "calls": ("def add(a, b):\n  return a + b", ADD),
    "a method of Solution": ("class Solution:\n  def add(self, a, b):\n    return a + b", ADD),
    "arguments in lines": ("def add(a, b):\n  return a + b",
                           {"fn_name": "add", "tests": [{"input": "1\n[2]", "output": "3"}][:0]
                            or [{"input": "1\n2", "output": "3", "testtype": "functional"}]}),
}  # fmt: skip


@pytest.mark.parametrize("case", RIGHT)
def test_a_right_program_passes(way: Way, case: str) -> None:
    assert judged(way, *RIGHT[case]) == CheckResult(Cause.CORRECT)


WRONG = {
    "another output": ("print(int(input()) + 21)", DOUBLE, "test 2 of 2: wrote 25, expected 8"),
    "no output": ("", DOUBLE, "test 1 of 2: wrote nothing, expected 42"),
    "an error": ("x = 1\nprint(x / 0)", DOUBLE, "test 1 of 2: ZeroDivisionError in line 2: division by zero"),
    "no Python": ("for", DOUBLE, "test 1 of 2: SyntaxError in line 1: invalid syntax"),
    "an exit code": ("print(int(input()) * 2)\nraise SystemExit(3)", DOUBLE, "test 1 of 2: ended with exit code 3"),
    "a wrong value": ("def triple(x):\n  return x + x + x if x else 1", TRIPLE,
                      "test 3 of 3: assert triple(0) == 0; the program returned 1"),
    "no function": ("def other(x):\n  return x", TRIPLE, "NameError: name 'triple' is not defined"),
    "an error in a function": ("def triple(x):\n  return x[0]", TRIPLE, "TypeError in line 2: 'int' object"),
    "a wrong check": ("def repeat(n):\n  return [n] * min(n, 2)", REPEAT,
                      "assert candidate(n) == [n] * n, n; AssertionError: 3; the program returned [3, 3]"),
    "a wrong call": ("def add(a, b):\n  return a - b", ADD, "test 1 of 2: returned -1, expected 3"),
    "true for one": ("def add(a, b):\n  return a + b == 3 or [1, 2]", ADD, "test 1 of 2: returned True"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_program_fails_and_the_first_failure_is_named(way: Way, case: str) -> None:
    program, tests, detail = WRONG[case]
    found = judged(way, program, tests)
    assert found.cause is Cause.INCORRECT
    assert found.detail is not None and detail in found.detail
    assert len(found.detail) < 1_000


EQUAL_TO_ALL = "class All(int):\n  def __eq__(self, other): return True\n  def __ne__(self, other): return False\n"
FORGED = {
    "an exit before the asserts": ("import sys\nsys.exit(0)", TRIPLE),
    "a hard exit": ("import os\nos._exit(0)", TRIPLE),
    "a hard exit in a function": ("import os\ndef triple(x):\n  os._exit(0)", TRIPLE),
    "an exit in a function": ("def triple(x):\n  raise SystemExit(0)", TRIPLE),
    "a value equal to all": (f"{EQUAL_TO_ALL}def triple(x):\n  return All()", TRIPLE),
    "an object equal to all": (f"{EQUAL_TO_ALL.replace('(int)', '')}def triple(x):\n  return All()", TRIPLE),
    "a result on every file": (
        "import os, json\nfor fd in range(1, 200):\n  for line in ({'failed': None, 'count': 3}, {'value': 6}):\n"
        "    try: os.write(fd, json.dumps(line).encode() + b'\\n')\n    except OSError: pass\n"
        "def triple(x):\n  return 7", TRIPLE),
    "no assertions": ("import builtins\nbuiltins.AssertionError = type('Never', (BaseException,), {})\n"
                      "def triple(x):\n  return 7", TRIPLE),
    "another comparison": ("import math\nmath.isclose = lambda *a, **k: True\ndef f(x):\n  return 7",
                           "import math\nassert math.isclose(f(1), 1.0)"),
    "a module of its own": ("class math:\n  isclose = lambda *a: True\ndef f(x):\n  return 7",
                            "assert math.isclose(f(1), 1.0)"),
    "a function of the tests": ("def same(a, b): return True\ndef f(x):\n  return 7",
                                {"test": "def check(candidate):\n  assert same(candidate(1), 1)",
                                 "entry_point": "f", "setup": "def same(a, b):\n  return a == b"}),
    "a harness replaced": ("import sys\nh = sys.modules['hsstar.verifier.sandbox.inside.program']\n"
                           "h.LoadedProgram.answer = lambda self, m: {'failed': None, 'count': 3}\n"
                           "def triple(x): return 7", TRIPLE),
    "the harness killed": ("import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nprint(42)", DOUBLE),
    "a printed result": ("print('{\"exit\": 0, \"output\": \"42\"}')", DOUBLE),
    "a true value": ("def add(a, b):\n  class Liar(list):\n    __eq__ = lambda self, other: True\n  return Liar()", ADD),
}  # fmt: skip


@pytest.mark.parametrize("case", FORGED)
def test_no_program_forges_its_verdict(way: Way, case: str) -> None:
    found = judged(way, *FORGED[case])
    assert found.cause is Cause.INCORRECT, found


SLEEPY = Limits(cpu_seconds=5.0, wall_seconds=1.0)
HOSTILE = {
    "a fork bomb": ("import os\nwhile True:\n  try: os.fork()\n  except OSError: pass", "processor time"),
    "threads without end": ("import threading, time\nwhile True:\n  try:\n    threading.Thread(target=time.sleep, args=(99,)"
                            ").start()\n  except RuntimeError: pass", "processor time"),
    "endless output": ("while True: print('x' * 1000)", "wrote more than it may"),
    "endless output on one line": ("import sys\nwhile True: sys.stdout.write('x' * 65536)", "wrote more than it may"),
    "endless errors": ("import sys\nwhile True: sys.stderr.write('x' * 65536)", "processor time"),
    "an endless loop": ("while True: pass", "processor time"),
    "an endless loop that ignores signals": (
        "import signal\nfor n in range(1, 64):\n  try: signal.signal(n, signal.SIG_IGN)\n  except (OSError, ValueError): pass\n"
        "while True: pass", "processor time"),
    "an endless loop in C": ("print(sum(iter(int, 1)))", "processor time"),
    "memory without end": ("a = []\nwhile True: a.append(bytearray(1 << 20))", "memory"),
    "memory in many processes": (
        "import os\nfor _ in range(3): os.fork()\na = bytearray(b'x') * (100 << 20)\nwhile True: pass", "memory"),
    "shared memory": ("import mmap, os\na = mmap.mmap(-1, 200 << 20)\nfor _ in range(2): os.fork()\n"
                      "b = mmap.mmap(-1, 200 << 20)\nb.write(b'x' * (200 << 20))\nwhile True: pass", "Memory"),
    "a full disk": ("import itertools\nfor n in itertools.count():\n  open(f'/tmp/{n}', 'wb').write(b'x' * (8 << 20))",
                    "No space left on device"),
    "a large file": ("open('/tmp/a', 'wb').write(b'x' * (64 << 20))", "File too large"),
    "deep recursion": ("f = lambda: f()\nf()", "RecursionError"),
    "a fault in C": ("import ctypes\nctypes.string_at(0)", "exit code -11"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_program_without_end_is_ended_and_named(way: Way, case: str) -> None:
    program, detail = HOSTILE[case]
    found = judged(way, program, {"inputs": [""], "outputs": ["7"]})
    assert (found.cause, detail.casefold() in str(found.detail).casefold()) == (Cause.INCORRECT, True), found


def test_a_program_that_sleeps_has_no_verdict(way: Way) -> None:
    found = judged(way, "import time\ntime.sleep(60)", DOUBLE, SLEEPY)
    assert found == CheckResult(Cause.TIMED_OUT, "test 1 of 2: the program did not end within 1 s")


def run(way: Way, program: str) -> str:
    """What a program prints or raises."""
    with Sandbox(way, LIMITS) as sandbox:
        answer = sandbox.ask({"op": "run", "program": program, "input": ""})
    return str(answer["output"]) + str(answer["errors"])


@pytest.fixture
def secret(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HSSTAR_JUDGE_API_KEY", "s3cret")
    (tmp_path / ".env").write_text("HSSTAR_DATABASE_URL=s3cret")
    return str(tmp_path / ".env")


def test_no_file_of_ours_is_seen(way: Way, secret: str) -> None:
    files = [secret, "/etc/shadow", "/etc/passwd", "/proc/1/environ", "/proc/self/environ", os.path.abspath(__file__),
             os.path.expanduser("~/.bashrc"), "/proc/self/fd", "/sys/kernel", "/dev/kmsg", "/var/log"]  # fmt: skip
    program = f"import os\nfor path in {files!r}:\n  if os.path.exists(path): print(path)\n"
    links = f"for n, path in enumerate({files!r}):\n  os.symlink(path, f'/tmp/{{n}}')\n  if os.path.exists(f'/tmp/{{n}}'): print(n)"
    assert run(way, program + links) == ""
    seen = run(way, "import os\nprint(sorted(os.environ), open('/dev/null').read())")
    assert "s3cret" not in seen and "HSSTAR" not in seen


def test_nothing_is_written_but_in_a_private_folder(way: Way, tmp_path: Any) -> None:
    places = ["/x", "/usr/x", "/code/x", "/dev/x", "/etc/x", str(tmp_path / "x"), "/dev/shm/x"]
    program = f"for path in {places!r}:\n  try: open(path, 'w'); print(path)\n  except OSError: pass\n"
    assert run(way, program + "open('/tmp/x', 'w').write('y')\nprint(open('/tmp/x').read())") == "y\n"
    assert run(way, "import os\nprint(os.listdir('/tmp'))") == "[]\n"
    assert not os.path.exists("/tmp/x")
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
        program = f"import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nprint(libc.{call}, ctypes.get_errno())"
        assert run(way, program) == "-1 1\n", call
    marked = "hsstar-left-behind"
    left = (
        "import os, time, ctypes\nif os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n"
        f"    ctypes.CDLL(None).prctl(15, b'{marked[:15]}', 0, 0, 0)\n    time.sleep(300)\n  os._exit(0)\nprint('gone')"
    )
    with Sandbox(way, LIMITS) as sandbox:
        assert sandbox.ask({"op": "run", "program": left, "input": ""})["output"] == "gone\n"
        count = "import os\nprint(len([n for n in range(2, 300) if not os.system('true') and _alive(n)]))"
        alive = "def _alive(n):\n  import os\n  try: os.kill(n, 0); return True\n  except OSError: return False\n"
        assert int(str(sandbox.ask({"op": "run", "program": alive + count, "input": ""})["output"])) <= 3


def processes() -> Iterator[str]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/cmdline") as file:
                    yield file.read()
            except OSError:
                pass


def test_a_closed_sandbox_leaves_no_process(way: Way) -> None:
    sandbox = Sandbox(way, LIMITS, "--marked-a")
    assert any("--marked-a" in line for line in processes())
    sandbox.close()
    for _ in range(100):
        if not any("--marked-a" in line for line in processes()):
            break
        os.sched_yield()
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
