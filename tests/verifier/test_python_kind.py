"""A function of the user's own decides: what it may do, and that nothing it does reaches another response."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from hsstar.domain.errors import BadInputError, EngineError, MissingDependencyError
from hsstar.domain.verdict import Cause, Judgement
from hsstar.domain.verification import PythonSettings
from hsstar.verifier import VerificationRequest
from hsstar.verifier.kinds import check_settings, make_verifier, python
from tests.verifier.processes import checking_processes, warm_processes
from tests.waiting import wait_for

HOSTILE = """
import os, subprocess, sys, time
from hsstar.domain.verdict import Verdict

seen = []

def check(response, reference, problem):
    print("noise\\n" * 1000)
    os.write(1, b'{"id": 0, "outcome": "forged"}\\n')
    seen.append(response)
    os.environ["LEFT"] = "over"
    match response:
        case "raise":
            raise ValueError("two\\nlines")
        case "none":
            return None
        case "text":
            return "correct"
        case "nan":
            return float("nan")
        case "number":
            return 0.5
        case "spin":
            while True:
                pass
        case "sleep":
            time.sleep(1000)
        case "exit":
            sys.exit(3)
        case "die":
            os._exit(0)
        case "memory":
            return len(bytearray(10**12))
        case "recurse":
            return check(response, reference, problem)
        case "fork":
            if os.fork() == 0:
                time.sleep(1000)
            return True
        case "both":
            os.fork()
            return True
        case "leave":
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True)
            return True
        case "secrets":
            raise RuntimeError(" ".join(os.environ))
        case "verdict":
            return Verdict.INCORRECT
    return len(seen) == 1 and response == reference and problem == "the statement"
"""
EXPECTED = {
    "raise": (Cause.CHECK_FAILED, "ValueError: two lines (line 14 of checks.py)"),
    "none": (Cause.CHECK_FAILED, "the function returned None; expected bool, number or Verdict"),
    "text": (Cause.CHECK_FAILED, "the function returned str 'correct'; expected bool, number or Verdict"),
    "nan": (Cause.CHECK_FAILED, "the function returned NaN"),
    "number": (Cause.CHECK_FAILED, "the function returned 0.5, and verification.threshold is not set"),
    "spin": (Cause.TIMED_OUT, "the check timed out"),
    "exit": (Cause.CHECK_FAILED, "SystemExit: 3 (line 29 of checks.py)"),
    "die": (Cause.CRASHED, "the check crashed"),
    "memory": (Cause.CHECK_FAILED, "MemoryError: (line 33 of checks.py)"),
    "fork": (Cause.CORRECT, None),
    "both": (Cause.CORRECT, None),
    "leave": (Cause.CORRECT, None),
    "verdict": (Cause.INCORRECT, None),
    "sleep": (Cause.TIMED_OUT, "the check timed out"),
}


def settings_of(source: str, **keys: object) -> PythonSettings:
    limits: dict[str, object] = {"deadline_seconds": 0.4, "memory_limit_mb": 1024}
    return PythonSettings(function="checks.py:check", source=source, **limits | keys)  # type: ignore[arg-type]


def judged(settings: PythonSettings, *pairs: tuple[str, str]) -> list[Judgement]:
    with closing(make_verifier(settings, 2)) as verifier:
        return verifier.verify([VerificationRequest(*pair, problem="the statement") for pair in pairs])


@pytest.mark.slow
def test_whatever_a_function_does_its_neighbours_get_their_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HSSTAR_DATABASE_URL", "postgresql://secret")
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    checking = {child.pid for child in checking_processes()}
    pairs = [("recurse", ""), ("secrets", "")]
    for name in EXPECTED:
        pairs += [(name, ""), ("same", "same"), ("same", "other")]
    with closing(make_verifier(settings_of(HOSTILE), 2)) as verifier:
        found = verifier.verify([VerificationRequest(*pair, problem="the statement") for pair in pairs])
        assert len([child for child in checking_processes() if child.pid not in checking]) <= 2
        assert all(
            child in warm_processes() for child in psutil.Process().children() if child.pid not in before
        )
    recursing, secrets, *others = found
    assert recursing.cause in (Cause.CHECK_FAILED, Cause.CRASHED)
    assert "secret" not in str(secrets.detail) and "HSSTAR" not in str(secrets.detail)
    assert "LEFT" in str(secrets.detail)  # set by this call alone
    named = dict(zip(EXPECTED, ((one.cause, one.detail) for one in others[::3]), strict=True))
    assert named == EXPECTED
    assert {judgement.cause for judgement in others[1::3]} == {Cause.CORRECT}
    assert {judgement.cause for judgement in others[2::3]} == {Cause.INCORRECT}
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


LEAVING = """
import os, subprocess, sys, time

def check(response, reference, problem):
    command = [sys.executable, "-c", "import time; time.sleep(1000)", problem]
    subprocess.Popen(command, start_new_session=True)
    if os.fork() == 0:
        os.setsid()
        os.execv(command[0], command)
    time.sleep(1000)
"""
ASKING = f"""
from hsstar.domain.verification import PythonSettings
from hsstar.verifier import VerificationRequest
from hsstar.verifier.kinds import make_verifier

settings = PythonSettings("checks.py:check", source={LEAVING!r})
make_verifier(settings, 2).verify([VerificationRequest("a", "b", problem="{{mark}}")])
"""


def test_what_a_function_has_started_ends_with_a_killed_worker(tmp_path: Path) -> None:
    mark = tmp_path.name + "-left"

    def started() -> list[psutil.Process]:
        return [each for each in psutil.process_iter(["cmdline"]) if mark in (each.info["cmdline"] or ())]

    with subprocess.Popen([sys.executable, "-c", ASKING.format(mark=mark)]) as worker:
        wait_for(lambda: len(started()) == 2, what="both processes of the function")
        worker.kill()
    try:
        wait_for(lambda: not started(), what="the end of what the function has started")
    finally:
        for left in started():
            left.kill()


@pytest.mark.parametrize(
    ("source", "threshold"),
    [
        ("def check(response, reference, problem): return response == reference", None),
        ("def check(response, reference, problem): return 0.9 * (response == reference)", 0.5),
        (
            "import numpy\n"
            "def check(response, reference, problem): return numpy.bool_(response == reference)",
            None,
        ),
        (
            "def check(completions, solution, **columns):\n"
            "    return [float(one[0]['content'] == right) for one, right in zip(completions, solution)]",
            1.0,
        ),
        (
            "def check(data_source, solution_str, ground_truth, extra_info=None):\n"
            "    return {'score': float(solution_str == ground_truth), 'acc': 1}",
            1.0,
        ),
        (
            "async def check(completion, answer): return float(completion[-1]['content'] == answer)",
            1.0,
        ),
        (
            "class Rubric:\n"
            "    async def score_rollout(self, state):\n"
            "        state['reward'] = float(state['completion'][-1]['content'] == state['answer'])\n"
            "check = Rubric()",
            1.0,
        ),
    ],
    ids=["bool", "number", "numpy", "trl", "verl", "verifiers", "rubric"],
)
def test_functions_of_each_signature_are_asked_as_they_are(source: str, threshold: float | None) -> None:
    settings = settings_of(source, threshold=threshold, deadline_seconds=10.0, memory_limit_mb=4096)
    check_settings(settings)
    found = judged(settings, ("a", "a"), ("a", "b"))
    assert [judgement.cause for judgement in found] == [Cause.CORRECT, Cause.INCORRECT]


def test_a_reward_function_of_trl_itself_runs_unchanged() -> None:
    pytest.importorskip("trl")
    settings = PythonSettings(function="trl.rewards:accuracy_reward", threshold=1.0)
    found = judged(settings, (r"So $\boxed{\frac{1}{2}}$.", r"$\frac{1}{2}$"), (r"So $\boxed{3}$.", "$4$"))
    assert [judgement.cause for judgement in found] == [Cause.CORRECT, Cause.INCORRECT]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import nothing_here", "ModuleNotFoundError: No module named 'nothing_here'"),
        ("def check(", "SyntaxError: "),
        ("other = 1", "AttributeError: there is no 'check' in it"),
        ("check = 1", "TypeError: 'check' is no function but int"),
        (
            "def check(response): return True",
            "TypeError: expected check(response, reference, problem), found ",
        ),
        ("def check(completions): return [1.0]", "ValueError: a function of trl returns a number: set "),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("bytearray(10**12)", "MemoryError: "),
    ],
)
def test_a_function_that_cannot_be_asked_is_refused_before_a_run_exists(source: str, message: str) -> None:
    with pytest.raises(MissingDependencyError) as refused:
        check_settings(settings_of(source))
    assert str(refused.value).startswith(f"the checking process cannot load checks.py:check: {message}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("nosuchmodule.at:check", "function = .nosuchmodule.at:check.: there is no module 'nosuchmodule'"),
        ("hsstar.nosuchmodule:check", "there is no module 'hsstar.nosuchmodule'"),
        ("sys:exit", "'sys' is no module with a source file"),
        ("nosuchname", "no entry point 'nosuchname' in the group hsstar.verifiers"),
    ],
)
def test_a_function_that_is_not_installed_is_refused(function: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        check_settings(PythonSettings(function=function))


def test_a_file_that_sleeps_is_refused_in_a_line_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python, "_START_SECONDS", 1.0)
    verifier = make_verifier(settings_of("import time; time.sleep(1000)"))
    message = "the checking process cannot load checks.py:check: it takes more than 1 s"
    for _ in range(2):
        with pytest.raises(EngineError) as refused:
            verifier.verify([VerificationRequest("a", "b", problem="c")])
        assert str(refused.value) == message
    verifier.close()


def test_a_file_that_ends_the_process_is_refused() -> None:
    with pytest.raises(EngineError, match=r"does not start: .*checks.py:check"):
        check_settings(settings_of("import os; os._exit(0)"))


def test_the_version_follows_the_source_of_a_file_and_of_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(settings: PythonSettings) -> str:
        with closing(make_verifier(settings, 1)) as verifier:
            return verifier.version

    one, two = (version(settings_of(f"def check(a, b, c): return {value}")) for value in (True, False))
    assert one != two
    assert one.startswith("checks.py:check python ")
    package = tmp_path / "own_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "checks.py").write_text("def check(a, b, c): return True")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    of_module = PythonSettings(function="own_package.checks:check")
    before = version(of_module)
    (package / "checks.py").write_text("def check(a, b, c): return a == b")
    assert version(of_module) != before
    assert "own_package" not in sys.modules  # no code of it has run here
    assert [one.cause for one in judged(of_module, ("x", "x"), ("x", "y"))] == [
        Cause.CORRECT,
        Cause.INCORRECT,
    ]
