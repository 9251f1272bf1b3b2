"""Responses drawn elsewhere, verified through the queue: real MATH responses with known verdicts."""

import json
from pathlib import Path

import pytest

from tests.acceptance.conftest import Home

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
RESPONSES = SHARED / "responses" / "math_sampled_8.jsonl"
GSM8K = SHARED / "benchmarks" / "gsm8k.jsonl"

RECIPE = """
name = "graded"
[problems]
dataset = "math-sampled"
per_iteration = 50
[policy]
model = "builtin:demo-policy"
[sampling]
n = 8
strategy = "uniform"
[difficulty]
signal = "accuracy"
[pairs]
rule = "random"
[training]
objective = "none"
"""


@pytest.mark.skipif(not GSM8K.exists(), reason="the benchmark files are not at hand")
def test_gsm8k_is_imported_once(stack: Home) -> None:
    assert "1319 problems imported, 0 duplicates" in stack.ok(
        "problems", "import", str(GSM8K), "--format", "gsm8k", "--dataset", "gsm8k"
    )
    assert "0 problems imported, 1319 duplicates" in stack.ok(
        "problems", "import", str(GSM8K), "--format", "auto", "--dataset", "gsm8k"
    )


@pytest.mark.skipif(not RESPONSES.exists(), reason="the real responses are not at hand")
def test_verdicts_on_real_responses_agree_with_their_file(stack: Home) -> None:
    given = [json.loads(line) for line in RESPONSES.read_text().splitlines()]
    stack.ok("problems", "import", str(RESPONSES), "--format", "math", "--dataset", "math-sampled")
    recipe = stack.folder / "graded.toml"
    recipe.write_text(RECIPE)
    stack.ok("runs", "create", "--recipe", str(recipe))
    assert "50 problems, 400 samples" in stack.ok("samples", "import", str(RESPONSES), "--run", "graded")
    stack.wait_until_done("graded")

    stored = {
        (sample["query"], sample["slot"]): sample["correct"]
        for sample in map(json.loads, stack.ok("export", "samples", "graded").splitlines())
    }
    expected = {
        (row["problem"], slot): response["correct"]
        for row in given
        for slot, response in enumerate(row["responses"])
    }
    assert stored.keys() == expected.keys()
    differing = [address for address, correct in expected.items() if stored[address] != correct]
    assert len(differing) <= 1, differing
    statistics = stack.query("select * from iteration_statistics where run = 'graded'")[0]
    assert statistics["drawn"] == statistics["budget"] == 400
    assert statistics["pairs"] > 0
    assert statistics["output_model"] == statistics["model"]
