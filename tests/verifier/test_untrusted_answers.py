"""A checking process never compiles or runs anything for an answer, writes a file, or sets an alarm."""

import json
import subprocess
import sys
from pathlib import Path

from tests.verifier.hostile_answers import HOSTILE_ANSWERS

CASES = Path(__file__).parent / "verdict_cases.jsonl"
SCRIPT = """
import json, signal, sys
import sympy
from hsstar.verifier.algebra import SympyAlgebra
from hsstar.verifier.judging import judge

seen = set()

def watch(event, arguments):
    if event == "compile" and str(arguments[1]).startswith("<"):
        seen.add("compile")  # eval, exec and lambdify; modules have paths
    elif event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        seen.add("open")
    elif event in ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect"):
        seen.add(event)

def set_alarm(*arguments):
    seen.add("alarm")

signal.alarm = signal.setitimer = set_alarm
sys.addaudithook(watch)
algebra = SympyAlgebra()
for answer, reference in json.load(sys.stdin):
    judge(answer, reference, algebra)
answers_did = sorted(seen)
signal.alarm(0)
sympy.parse_expr("x")
print(json.dumps([answers_did, sorted(seen)]))
"""


def test_no_answer_is_compiled_or_run_and_no_alarm_is_set(tmp_path: Path) -> None:
    cases = [json.loads(line) for line in CASES.read_text().splitlines()]
    pairs = [(case["answer"], case["reference"]) for case in cases[::4]]
    code = [answer.replace("{marker}", str(tmp_path / "x")) for answer in HOSTILE_ANSWERS["code"].values()]
    pairs += [(answer, "x+8") for answer in code] + [(answer, answer) for answer in code]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], input=json.dumps(pairs).encode(), capture_output=True, timeout=300
    )
    assert done.returncode == 0, done.stderr.decode()
    answers_did, control_did = json.loads(done.stdout)
    assert answers_did == []
    assert {"alarm", "compile"} <= set(control_did)
