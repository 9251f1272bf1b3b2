"""Step rewards equal those of the published inference code, run plainly on one response at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsstar.domain.errors import CheckpointError, EngineDeadError, EngineError, EngineMemoryError
from hsstar.engines.registry import build_reward_model
from hsstar.engines.rewards.contract import ProcessRewardModel, RewardRequest, StepRewards
from tests.engines import tiny
from tests.engines.conftest import SKYWORK_LAYOUTS, VLLM_OPTIONS
from tests.engines.reward_references import (
    Reference,
    last_hidden_states,
    outcome_reference,
    qwen_math_reference,
    requests,
    skywork_reference,
)


@dataclass
class Case:
    """A reward model of one layout, and the plain code it has to agree with.

    Attributes:
        context: tokens that the model attends to.
        opening: tokens of the input before the first step of a problem of one character.
        tolerance: how far a reward may be from the plain one.
    """

    path: Path
    model: ProcessRewardModel
    reference: Reference
    context: int = 256
    opening: int = 2
    tolerance: float = 1e-5


QWEN_MATH_LAYOUTS = {"qwen-math": "sharded", "qwen-math-single": "single", "qwen-math-bin": "sharded-bin"}
CLASSIFIERS: dict[str, Callable[[Path], Path]] = {
    "outcome-chat": partial(tiny.tiny_classifier, labels=1, chat=True),
    "outcome-two-labels": partial(tiny.tiny_classifier, labels=2),
    "outcome-no-padding-token": partial(tiny.tiny_classifier, labels=1, pad=False),
    "outcome-bert": partial(tiny.tiny_bert_classifier, labels=2),
}
VLLM = "qwen-math-vllm"


def vllm_case(folder: Path) -> Case:
    """Heads of size 32, which vLLM needs, and little memory."""
    pytest.importorskip("vllm")
    path = tiny.tiny_qwen_math(folder, hidden_size=64)
    model = build_reward_model(path, engine="vllm", device="cpu", enforce_eager=True, **VLLM_OPTIONS)
    return Case(path, model, qwen_math_reference, 512, 100, tolerance=1e-4)


def make_case(name: str, folder: Path, skywork: Callable[[str], Path]) -> Case:
    if name in SKYWORK_LAYOUTS:
        path = skywork(name)
        return Case(path, build_reward_model(path, device="cpu"), skywork_reference)
    if name in CLASSIFIERS:
        path = CLASSIFIERS[name](folder)
        return Case(path, build_reward_model(path, device="cpu"), outcome_reference)
    path = tiny.tiny_qwen_math(folder, layout=QWEN_MATH_LAYOUTS[name])
    return Case(path, build_reward_model(path, device="cpu"), qwen_math_reference, 512, 100)


STEP_NAMES = [*SKYWORK_LAYOUTS, *QWEN_MATH_LAYOUTS, VLLM]
"""One reward per step; the classifiers give one per response."""


@pytest.fixture(scope="session")
def case_on_vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    """The one reward model on vLLM of a process of tests."""
    made = vllm_case(tmp_path_factory.mktemp("vllm"))
    yield made
    made.model.close()


@pytest.fixture(scope="session", params=[*STEP_NAMES, *CLASSIFIERS])
def case(
    request: pytest.FixtureRequest,
    skywork: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Case]:
    if request.param == VLLM:
        yield request.getfixturevalue("case_on_vllm")
        return
    made = make_case(request.param, tmp_path_factory.mktemp("reward"), skywork)
    yield made
    made.model.close()


of_steps = pytest.mark.parametrize("case", STEP_NAMES, indirect=True)
of_responses = pytest.mark.parametrize("case", CLASSIFIERS, indirect=True)


def test_rewards_equal_the_plain_reference_and_differ(case: Case) -> None:
    scored = case.model.score(requests())
    rewards = [reward for result in scored for reward in result.rewards]

    assert all(0 <= reward <= 1 for reward in rewards)
    assert max(rewards) - min(rewards) > 0.1
    for request, result in zip(requests(), scored, strict=True):
        assert not result.truncated
        steps = len(request.steps)
        assert len(result.rewards) == (min(1, steps) if case.reference is outcome_reference else steps)
        if request.steps:
            assert result.rewards == pytest.approx(case.reference(case.path, request), abs=case.tolerance)


PRINTABLE = st.text([chr(code) for code in range(33, 127)] + [" "], min_size=1, max_size=40).filter(
    lambda text: tiny.STEP_END not in text
)
STEPS = st.lists(PRINTABLE.map(str.strip).filter(bool), max_size=5)


@settings(max_examples=8, deadline=None)
@given(
    made=st.lists(st.builds(RewardRequest, PRINTABLE, STEPS.map(tuple)), max_size=6),
    batch_tokens=st.integers(1, 2_000),
)
def test_any_batch_gives_the_rewards_of_the_plain_reference(
    case: Case, made: list[RewardRequest], batch_tokens: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(case.model, "_batch_tokens", batch_tokens, raising=False)
        scored = case.model.score(made)

    for request, result in zip(made, scored, strict=True):
        if not result.truncated:
            wanted = case.reference(case.path, request) if request.steps else []
            assert result.rewards == pytest.approx(wanted, abs=case.tolerance)


def test_no_requests_give_no_rewards(case: Case) -> None:
    assert case.model.score([]) == []
    assert case.model.score([RewardRequest("1+1?", ())]) == [StepRewards(())]


@of_steps
def test_a_long_response_is_cut_at_a_step_border(case: Case) -> None:
    steps = tuple("a" * 49 for _ in range(12))  # 50 tokens each with its end
    fitting = (case.context - case.opening) // 50
    spare = case.context - case.opening - 50 * (fitting - 1) - 1

    long, short = case.model.score([RewardRequest("p", steps), RewardRequest("p", steps[:2])])

    assert long.truncated
    assert len(long.rewards) == fitting
    assert long.rewards[:2] == pytest.approx(short.rewards, abs=case.tolerance)
    assert not short.truncated
    for length in (spare, spare + 1):  # the last step fills the context, or is one token too long
        filled = case.model.score([RewardRequest("p", (*steps[: fitting - 1], "a" * length))])[0]
        assert filled.truncated == (length > spare)
        assert len(filled.rewards) == fitting - filled.truncated


def test_a_problem_beyond_the_context_leaves_no_step(case: Case) -> None:
    good = RewardRequest("1+1?", ("two",))

    results = case.model.score([RewardRequest("p" * 600, ("one", "two")), good])

    assert results[0] == StepRewards((), truncated=True)
    assert results[1].rewards == pytest.approx(case.model.score([good])[0].rewards, abs=case.tolerance)


@of_responses
def test_the_outcome_of_a_long_response_is_that_of_its_first_steps(case: Case) -> None:
    steps = tuple("a" * 49 for _ in range(12))

    long = case.model.score([RewardRequest("p", steps)])[0]
    kept = [case.model.score([RewardRequest("p", steps[:count])])[0] for count in range(1, 8)]

    whole = [result for result in kept if not result.truncated]
    assert long.truncated
    assert 0 < len(whole) < len(kept)
    assert long.rewards == pytest.approx(whole[-1].rewards, abs=case.tolerance)


@pytest.mark.parametrize("end", ["<extra_0>", "<extra_<extra_0>0>", "<extra_0><extra_0>"])
@pytest.mark.parametrize(("problem", "steps"), [("1{}+1?", ("one", "two")), ("1+1?", ("on{}e", "tw{}o"))])
def test_the_step_token_in_a_text_shifts_no_reward(
    qwen_math: Path, end: str, problem: str, steps: tuple[str, ...]
) -> None:
    model = build_reward_model(qwen_math, device="cpu")
    filled = RewardRequest(problem.format(end), tuple(step.format(end) for step in steps))

    hostile, plain = model.score([filled, RewardRequest("1+1?", ("one", "two"))])

    assert len(hostile.rewards) == 2
    assert hostile.rewards == pytest.approx(plain.rewards, abs=1e-5)


def test_separators_within_texts_end_no_step(case: Case) -> None:
    """Line feeds and blank lines in the problem and within steps, and marks of a chat in both."""
    made = [
        RewardRequest("Let x = 1.\n\nWhat is x?\n", ("It is\n1.", "\nSo:\n1\n", "1")),
        RewardRequest("<|im_end|>\n1?", ("<|im_start|>user", "one<|im_end|>", "1")),
    ]
    for request, result in zip(made, case.model.score(made), strict=True):
        assert len(result.rewards) == (1 if case.reference is outcome_reference else 3)
        assert result.rewards == pytest.approx(case.reference(case.path, request), abs=case.tolerance)


def test_the_text_of_the_beginning_of_text_token_stands_in_front_once(tmp_path: Path) -> None:
    tokenizer = tiny.beginning_tokenizer()
    model = tiny.reward_backbone(tokenizer, seed=3)
    tensors = dict(model.state_dict()) | {
        "v_head.summary.weight": torch.ones(1, 32),
        "v_head.summary.bias": torch.zeros(1),
    }
    path = tiny.write_reward_model(tmp_path, tokenizer, model, tensors, "single")
    tokens = tokenizer.encode(f"{tiny.BEGIN}1+1?\ntwo\n", add_special_tokens=False)
    expected = float(last_hidden_states(path, tokens)[-1].sum().sigmoid())

    scored = build_reward_model(path, device="cpu").score([RewardRequest("1+1?", ("two",))])

    assert scored[0].rewards == pytest.approx([expected], abs=1e-5)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (partial(tiny.tiny_skywork, prefix="other."), "not in the checkpoint"),
        (partial(tiny.tiny_classifier, labels=3), "3 labels; a reward model has 1 or 2"),
    ],
)
def test_what_is_no_reward_model_is_refused(
    write: Callable[[Path], Path], message: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=message):
        build_reward_model(write(tmp_path), device="cpu")


@pytest.mark.parametrize("layout", SKYWORK_LAYOUTS)
def test_no_model_holds_a_vocabulary_head(skywork: Callable[[str], Path], layout: str) -> None:
    model: Any = build_reward_model(skywork(layout), device="cpu")

    assert not [name for name, _ in model._model.named_parameters() if "lm_head" in name]


def test_vllm_goes_on_after_running_out_of_memory(case_on_vllm: Case) -> None:
    model: Any = case_on_vllm.model
    expected = model.score(requests())
    tiny.fail_once(model._loop, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(EngineMemoryError, match="CUDA out of memory"):
        model.score(requests()[:3])
    assert model.score(requests()) == expected  # nothing of the failed requests is left


def test_an_empty_result_of_vllm_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told of a step token that no text holds, vLLM answers with nothing."""
    pytest.importorskip("vllm")
    from hsstar.engines.rewards import qwen_math_vllm

    configuration = qwen_math_vllm.PoolerConfig  # type: ignore[attr-defined]  # an import there
    monkeypatch.setattr(
        qwen_math_vllm, "PoolerConfig", lambda **given: configuration(**{**given, "step_tag_id": 0})
    )
    made: Any = vllm_case(tmp_path)

    with pytest.raises(EngineError, match=r"result has shape \(0, 2\) instead of \(1, 2\)"):
        made.model.score([RewardRequest("1+1?", ("two",))])
    tiny.fail_once(made.model._loop, RuntimeError("the device is gone"))
    for _ in range(2):
        with pytest.raises(EngineDeadError, match="the device is gone"):
            made.model.score(requests())
    made.model.close()
