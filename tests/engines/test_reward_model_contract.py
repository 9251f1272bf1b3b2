"""Step rewards equal those of the published inference code, run plainly on one response at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from hsstar.domain.errors import CheckpointError
from hsstar.engines.checkpoint_tensors import read_tensors
from hsstar.engines.contracts import ProcessRewardModel, RewardRequest, StepRewards
from hsstar.engines.loading import load_tokenizer
from hsstar.engines.registry import build_reward_model
from tests.engines import tiny
from tests.engines.conftest import SKYWORK_LAYOUTS

Reference = Callable[[Path, RewardRequest], list[float]]


def last_hidden_states(path: Path, tokens: list[int]) -> torch.Tensor:
    """Shape (tokens, width), by the whole language model and without a batch."""
    model = AutoModelForCausalLM.from_pretrained(path, key_mapping={r"^pretrained_model\.": ""})
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


@dataclass
class Case:
    """A reward model of one layout, and the plain code it has to agree with."""

    path: Path
    model: ProcessRewardModel
    reference: Reference
    opening: int
    """Tokens of the input before the first step of a problem of one character."""


@pytest.fixture(scope="session", params=[*SKYWORK_LAYOUTS, "qwen-math"])
def case(request: pytest.FixtureRequest, skywork: Callable[[str], Path], qwen_math: Path) -> Iterator[Case]:
    if request.param == "qwen-math":
        model = build_reward_model(qwen_math, device="cpu")
        yield Case(qwen_math, model, qwen_math_reference, 102)
    else:
        path = skywork(request.param)
        model = build_reward_model(path, device="cpu")
        yield Case(path, model, skywork_reference, 2)
    model.close()


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
        assert len(result.rewards) == len(request.steps)
        assert not result.truncated
        if request.steps:
            assert result.rewards == pytest.approx(case.reference(case.path, request), abs=1e-5)


def test_rewards_do_not_depend_on_the_batch(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    together = case.model.score(requests())
    backward = case.model.score(requests()[::-1])[::-1]
    monkeypatch.setattr(case.model, "_pass_tokens", 1)  # every response alone
    alone = case.model.score(requests())

    for other in (backward, alone):
        for left, right in zip(together, other, strict=True):
            assert left.rewards == pytest.approx(right.rewards, abs=1e-5)


def test_rewards_lie_between_zero_and_one_and_differ(case: Case) -> None:
    rewards = [reward for result in case.model.score(requests()) for reward in result.rewards]

    assert all(0 <= reward <= 1 for reward in rewards)
    assert max(rewards) - min(rewards) > 0.1


def test_no_requests_give_no_rewards(case: Case) -> None:
    assert case.model.score([]) == []
    assert case.model.score([RewardRequest("1+1?", ())]) == [StepRewards(())]


def test_a_long_response_is_cut_at_a_step_border(case: Case) -> None:
    context = 512 if case.reference is qwen_math_reference else 256
    steps = tuple("a" * 49 for _ in range(12))  # 50 tokens each with its end

    long, short = case.model.score([RewardRequest("p", steps), RewardRequest("p", steps[:2])])

    assert long.truncated
    assert len(long.rewards) == (context - case.opening) // 50
    assert long.rewards[:2] == pytest.approx(short.rewards, abs=1e-5)
    assert not short.truncated


def test_a_problem_beyond_the_context_leaves_no_step(case: Case) -> None:
    good = RewardRequest("1+1?", ("two",))

    results = case.model.score([RewardRequest("p" * 600, ("one", "two")), good])

    assert results[0] == StepRewards((), truncated=True)
    assert results[1].rewards == pytest.approx(case.model.score([good])[0].rewards, abs=1e-5)


def test_the_step_token_in_a_response_adds_no_reward(qwen_math: Path) -> None:
    model = build_reward_model(qwen_math, device="cpu")

    hostile, plain = model.score(
        [RewardRequest("1+1?", ("on<extra_0>e", "two")), RewardRequest("1+1?", ("one", "two"))]
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
