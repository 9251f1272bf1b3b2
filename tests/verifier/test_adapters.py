"""Other trainers get hsstar's verdicts as rewards, each through its own classes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from math import isnan
from pathlib import Path
from typing import Any

import pytest

from hsstar.verifier import VerificationRequest, judge_batch
from hsstar.verifier.adapters import reference_of, text_of
from hsstar.verifier.adapters.trl import math_reward
from hsstar.verifier.adapters.verl import compute_score
from tests.checkout import ROOT

TRAINERS = ROOT / ".venv" / "adapters"
"""Where `make adapters` puts verl and verifiers, with an older ANTLR than hsstar's."""

PAIRS = [
    ["1+2=3\n\n\\boxed{3}", "3"],
    ["\\boxed{(1+2)*3}", "4+5=9\n#### 9"],
    ["\\boxed{4}", "3"],
    ["2+2", "3"],
    ["\\boxed{3}", "???"],
    ["()", "3"],
]
REWARDS = [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]


def message(content: Any, role: str = "assistant") -> dict[str, Any]:
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    ("completion", "text"),
    [
        ("plain", "plain"),
        ([{"content": "no role"}], "no role"),
        ([message("first"), message("asked", "tool"), message("last")], "last"),
        ([message("last"), message("asked", "user")], "last"),
        ([message([{"type": "text", "text": "two "}, {"type": "image"}, {"text": "parts"}])], "two parts"),
        ([message(None)], ""),
        ([message("asked", "user")], ""),
        ([], ""),
    ],
)
def test_the_text_of_a_completion_is_what_the_assistant_said_last(completion: Any, text: str) -> None:
    assert text_of(completion) == text


@pytest.mark.parametrize(
    ("value", "reference"),
    [
        (7, "7"),
        (0.5, "0.5"),
        (r"\frac{1}{2}", r"\frac{1}{2}"),
        ("3 apples and 4 pears", "3 apples and 4 pears"),
        ("2+2=4\n#### 4", "4"),
        (r"so it is \boxed{x+1}, and 3 of them", "x+1"),
    ],
)
def test_a_reference_is_a_value_or_the_answer_of_a_whole_solution(value: object, reference: str) -> None:
    assert reference_of(value) == reference


@pytest.mark.parametrize("wrap", [str, lambda text: [message(text)]], ids=["text", "conversation"])
def test_trl_gets_a_reward_for_each_completion_and_none_without_verdict(wrap: Callable[[str], Any]) -> None:
    logged: dict[str, list[str]] = {}
    responses, references = zip(*PAIRS, strict=True)
    rewards = math_reward(
        completions=[wrap(response) for response in responses],
        solution=list(references),
        prompts=["?"] * len(PAIRS),
        log_extra=logged.__setitem__,
    )
    assert rewards == [1.0, 1.0, 0.0, 0.0, None, 0.0]
    found = ["correct", "correct", "incorrect", "incorrect", "bad_reference", "no_answer"]
    assert logged == {"cause": found}


@pytest.mark.heavy
def test_trl_trains_on_the_rewards(tmp_path: Path) -> None:
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    from hsstar.checkpoints.resolve import check_policy

    policy = check_policy("builtin:demo-policy").path
    rows = zip(["2*(3+1)=?\n", "2*3+1=?\n"], ["so \\boxed{8}", "???"], strict=True)
    trainer = GRPOTrainer(
        model=str(policy),
        processing_class=AutoTokenizer.from_pretrained(policy),
        train_dataset=Dataset.from_list([{"prompt": prompt, "solution": answer} for prompt, answer in rows]),
        reward_funcs=math_reward,
        args=GRPOConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=32,
            num_generations=16,
            max_completion_length=64,
            max_steps=1,
            use_cpu=True,
            save_strategy="no",
            report_to=[],
            log_completions=True,
            seed=1,
        ),
    )
    trainer.train()
    logged = trainer._logs
    solutions = {"2*(3+1)=?\n": "8", "2*3+1=?\n": "???"}
    expected = judge_batch(
        VerificationRequest(completion, solutions[prompt])
        for prompt, completion in zip(logged["prompt"], logged["completion"], strict=True)
    )
    assert list(logged["extra"]["cause"]) == [judgement.cause for judgement in expected]
    rewards = ["none" if isnan(reward) else reward for reward in logged["rewards"]["math_reward"]]
    by_verdict = {"correct": 1.0, "incorrect": 0.0, None: "none"}
    assert rewards == [by_verdict[judgement.verdict] for judgement in expected]
    assert {*rewards} == {1.0, 0.0, "none"}


def test_verl_s_function_takes_its_arguments_by_place_and_by_name() -> None:
    assert [compute_score("sums", one, other, {"index": 1}) for one, other in PAIRS] == REWARDS
    named = {"solution_str": r"\boxed{3}", "ground_truth": 3, "extra_info": None}
    assert compute_score(data_source="sums", reward_router_address=None, **named) == 1.0  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["verl", "rubric", "task"])
def test_the_trainer_s_own_classes_give_the_rewards(trainer: str) -> None:
    if not TRAINERS.exists():
        pytest.skip("verl and verifiers are not installed: make adapters")
    path = os.pathsep.join(map(str, (TRAINERS, ROOT)))
    done = subprocess.run(
        [sys.executable, "-m", "tests.verifier.adapter_program", trainer],
        input=json.dumps(PAIRS),
        env=os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == REWARDS
