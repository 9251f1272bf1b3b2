"""Step rewards equal those of the published inference code, run plainly on one response at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from hsstar.domain.errors import CheckpointError, EngineDeadError, EngineError, EngineMemoryError
from hsstar.engines.loading import load_tokenizer, read_tensors
from hsstar.engines.registry import build_reward_model
from hsstar.engines.rewards.contract import ProcessRewardModel, RewardRequest, StepRewards
from tests.engines import tiny
from tests.engines.conftest import SKYWORK_LAYOUTS

Reference = Callable[[Path, RewardRequest], list[float]]


@cache
def language_model(path: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(path, key_mapping={r"^pretrained_model\.": ""})


def last_hidden_states(path: Path, tokens: list[int]) -> torch.Tensor:
    """Shape (tokens, width), by the whole language model and without a batch."""
    model = language_model(path)
    with torch.inference_mode():
        states: torch.Tensor = model(torch.tensor([tokens]), output_hidden_states=True).hidden_states[-1][0]
    return states


def skywork_reference(path: Path, request: RewardRequest) -> list[float]:
    """The published `prepare_input` and `derive_step_rewards`."""
    tokenizer = load_tokenizer(path)
    tokens = tokenizer.encode((tokenizer.bos_token or "") + request.problem + "\n")
    flags = [0] * len(tokens)
    separator = tokenizer.encode("\n")[-1]
    for step in request.steps:
        step_tokens = [*tokenizer.encode(step), separator]
        tokens += step_tokens
        flags += [0] * (len(step_tokens) - 1) + [1]
    weight, bias = read_tensors(path, ("v_head.summary.weight", "v_head.summary.bias"))
    values = last_hidden_states(path, tokens) @ weight[0] + bias
    return [float(value.sigmoid()) for value, flag in zip(values, flags, strict=True) if flag]


def qwen_math_reference(path: Path, request: RewardRequest) -> list[float]:
    """The model card's `make_step_rewards`."""
    tokenizer = load_tokenizer(path)
    chat = [
        {
            "role": "system",
            "content": "Please reason step by step, and put your final answer within \\boxed{}.",
        },
        {"role": "user", "content": request.problem},
        {"role": "assistant", "content": "<extra_0>".join(request.steps) + "<extra_0>"},
    ]
    tokens = tokenizer.encode(tokenizer.apply_chat_template(chat, tokenize=False))
    end = tokenizer.encode("<extra_0>")[0]
    first, first_bias, last, last_bias = read_tensors(
        path, ("score.0.weight", "score.0.bias", "score.2.weight", "score.2.bias")
    )
    logits = (last_hidden_states(path, tokens) @ first.T + first_bias).relu() @ last.T + last_bias
    return [float(row.softmax(-1)[1]) for row, token in zip(logits, tokens, strict=True) if token == end]


def outcome_reference(path: Path, request: RewardRequest) -> list[float]:
    """The classifier called on the text as its own tokenizer gives it."""
    tokenizer = load_tokenizer(path)
    response = "\n\n".join(request.steps)
    if tokenizer.chat_template:
        chat = [{"role": "user", "content": request.problem}, {"role": "assistant", "content": response}]
        inputs = tokenizer(tokenizer.apply_chat_template(chat, tokenize=False), return_tensors="pt")
    elif tokenizer.sep_token:
        inputs = tokenizer(request.problem, response, return_tensors="pt")
    else:
        inputs = tokenizer(request.problem + "\n" + response, return_tensors="pt")
    with torch.inference_mode():
        logits = classifier(path)(**inputs).logits[0]
    return [float(logits.sigmoid()) if len(logits) == 1 else float(logits.softmax(-1)[1])]


@cache
def classifier(path: Path) -> Any:
    return AutoModelForSequenceClassification.from_pretrained(path)


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
VLLM_OPTIONS: dict[str, Any] = {"enforce_eager": True, "kv_cache_memory_bytes": 64 << 20}


def vllm_case(folder: Path) -> Case:
    """Heads of size 32, which vLLM needs, and little memory."""
    pytest.importorskip("vllm")
    path = tiny.tiny_qwen_math(folder, hidden_size=64)
    model = build_reward_model(path, engine="vllm", device="cpu", **VLLM_OPTIONS)
    return Case(path, model, qwen_math_reference, 512, 102, tolerance=1e-4)


def make_case(name: str, folder: Path, skywork: Callable[[str], Path]) -> Case:
    if name == VLLM:
        return vllm_case(folder)
    if name in SKYWORK_LAYOUTS:
        path = skywork(name)
        return Case(path, build_reward_model(path, device="cpu"), skywork_reference)
    if name in CLASSIFIERS:
        path = CLASSIFIERS[name](folder)
        return Case(path, build_reward_model(path, device="cpu"), outcome_reference)
    path = tiny.tiny_qwen_math(folder, layout=QWEN_MATH_LAYOUTS[name])
    return Case(path, build_reward_model(path, device="cpu"), qwen_math_reference, 512, 102)


@pytest.fixture(scope="session", params=[*SKYWORK_LAYOUTS, *QWEN_MATH_LAYOUTS, *CLASSIFIERS, VLLM])
def case(
    request: pytest.FixtureRequest,
    skywork: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Case]:
    made = make_case(request.param, tmp_path_factory.mktemp("reward"), skywork)
    yield made
    made.model.close()


@pytest.fixture
def step_case(case: Case) -> Case:
    """A case with one reward per step."""
    if case.reference is outcome_reference:
        pytest.skip("one reward for the whole response")
    return case


@pytest.fixture
def outcome_case(case: Case) -> Case:
    """A case with one reward per response."""
    if case.reference is not outcome_reference:
        pytest.skip("one reward per step")
    return case


def requests() -> list[RewardRequest]:
    """Responses of one to six steps and many lengths, one without steps among them."""
    made = [
        RewardRequest(f"What is {n}+{n}?", tuple(f"Step {k}: " + "so " * (n % 7) for k in range(n % 6 + 1)))
        for n in range(14)
    ]
    return [*made[:5], RewardRequest("1+1?", ()), *made[5:]]


def test_rewards_equal_the_plain_reference(case: Case) -> None:
    scored = case.model.score(requests())

    for request, result in zip(requests(), scored, strict=True):
        assert not result.truncated
        assert len(result.rewards) == (len(request.steps) if case.reference is not outcome_reference else
                                       min(1, len(request.steps)))  # fmt: skip
        if request.steps:
            assert result.rewards == pytest.approx(case.reference(case.path, request), abs=case.tolerance)


PRINTABLE = st.text([chr(code) for code in range(33, 127)] + [" "], min_size=1, max_size=40).filter(
    lambda text: tiny.STEP_END not in text
)
STEPS = st.lists(PRINTABLE.map(str.strip).filter(bool), max_size=5)


@settings(max_examples=15, deadline=None)
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


def test_rewards_do_not_depend_on_the_batch(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    together = case.model.score(requests())
    backward = case.model.score(requests()[::-1])[::-1]
    monkeypatch.setattr(case.model, "_batch_tokens", 1, raising=False)  # every response alone
    alone = case.model.score(requests())

    for other in (backward, alone):
        for left, right in zip(together, other, strict=True):
            assert left.rewards == pytest.approx(right.rewards, abs=case.tolerance)


def test_rewards_lie_between_zero_and_one_and_differ(case: Case) -> None:
    rewards = [reward for result in case.model.score(requests()) for reward in result.rewards]

    assert all(0 <= reward <= 1 for reward in rewards)
    assert max(rewards) - min(rewards) > 0.1


def test_no_requests_give_no_rewards(case: Case) -> None:
    assert case.model.score([]) == []
    assert case.model.score([RewardRequest("1+1?", ())]) == [StepRewards(())]


def test_a_long_response_is_cut_at_a_step_border(step_case: Case) -> None:
    case = step_case
    steps = tuple("a" * 49 for _ in range(12))  # 50 tokens each with its end

    long, short = case.model.score([RewardRequest("p", steps), RewardRequest("p", steps[:2])])

    assert long.truncated
    assert len(long.rewards) == (case.context - case.opening) // 50
    assert long.rewards[:2] == pytest.approx(short.rewards, abs=case.tolerance)
    assert not short.truncated


def test_a_problem_beyond_the_context_leaves_no_step(case: Case) -> None:
    good = RewardRequest("1+1?", ("two",))

    results = case.model.score([RewardRequest("p" * 600, ("one", "two")), good])

    assert results[0] == StepRewards((), truncated=True)
    assert results[1].rewards == pytest.approx(case.model.score([good])[0].rewards, abs=case.tolerance)


def test_the_outcome_of_a_long_response_is_that_of_its_first_steps(outcome_case: Case) -> None:
    case = outcome_case
    steps = tuple("a" * 49 for _ in range(12))

    long = case.model.score([RewardRequest("p", steps)])[0]
    kept = [case.model.score([RewardRequest("p", steps[:count])])[0] for count in range(1, 8)]

    whole = [result for result in kept if not result.truncated]
    assert long.truncated
    assert 0 < len(whole) < len(kept)
    assert long.rewards == pytest.approx(whole[-1].rewards, abs=case.tolerance)


@pytest.mark.parametrize("step", ["on<extra_0>e", "on<extra_<extra_0>0>e"])
def test_the_step_token_in_a_response_adds_no_reward(qwen_math: Path, step: str) -> None:
    model = build_reward_model(qwen_math, device="cpu")

    hostile, plain = model.score(
        [RewardRequest("1+1?", (step, "two")), RewardRequest("1+1?", ("one", "two"))]
    )

    assert hostile.rewards == pytest.approx(plain.rewards, abs=1e-5)


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


def test_missing_backbone_weights_are_an_error(tmp_path: Path) -> None:
    path = tiny.tiny_skywork(tmp_path, prefix="other.")

    with pytest.raises(CheckpointError, match="not in the checkpoint"):
        build_reward_model(path, device="cpu")


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_rewards_do_not_depend_on_the_attention_implementation(qwen_math: Path, attention: str) -> None:
    usual = build_reward_model(qwen_math, device="cpu")
    other = build_reward_model(qwen_math, device="cpu", attention=attention)

    for left, right in zip(usual.score(requests()), other.score(requests()), strict=True):
        assert left.rewards == pytest.approx(right.rewards, abs=1e-5)


@pytest.mark.parametrize("layout", SKYWORK_LAYOUTS)
def test_no_model_holds_a_vocabulary_head(skywork: Callable[[str], Path], layout: str) -> None:
    model: Any = build_reward_model(skywork(layout), device="cpu")

    assert not [name for name, _ in model._model.named_parameters() if "lm_head" in name]


def test_a_classifier_needs_one_or_two_labels(tmp_path: Path) -> None:
    path = tiny.tiny_classifier(tmp_path, labels=3)

    with pytest.raises(CheckpointError, match="3 labels"):
        build_reward_model(path, device="cpu")


def test_vllm_gives_the_rewards_of_transformers(tmp_path: Path) -> None:
    made = vllm_case(tmp_path)
    plain = build_reward_model(made.path, device="cpu").score(requests())

    scored = made.model.score(requests())
    made.model.close()

    for left, right in zip(scored, plain, strict=True):
        assert left.rewards == pytest.approx(right.rewards, abs=1e-4)


def test_an_empty_result_of_vllm_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told of a step token that no text holds, vLLM answers with nothing."""
    pytest.importorskip("vllm")
    from hsstar.engines.rewards import qwen_math_vllm

    configuration = qwen_math_vllm.PoolerConfig  # type: ignore[attr-defined]  # an import there
    monkeypatch.setattr(
        qwen_math_vllm, "PoolerConfig", lambda **given: configuration(**{**given, "step_tag_id": 0})
    )
    made = vllm_case(tmp_path)

    with pytest.raises(EngineError, match=r"result has shape \(0, 2\) instead of \(1, 2\)"):
        made.model.score([RewardRequest("1+1?", ("two",))])
    made.model.close()


def test_vllm_goes_on_after_running_out_of_memory_and_not_after_other_errors(tmp_path: Path) -> None:
    made: Any = vllm_case(tmp_path)
    expected = made.model.score(requests())
    tiny.fail_once(made.model._loop, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(EngineMemoryError, match="CUDA out of memory"):
        made.model.score(requests()[:3])
    assert made.model.score(requests()) == expected  # nothing of the failed requests is left

    tiny.fail_once(made.model._loop, RuntimeError("the device is gone"))
    for _ in range(2):
        with pytest.raises(EngineDeadError, match="the device is gone"):
            made.model.score(requests())
    made.model.close()
