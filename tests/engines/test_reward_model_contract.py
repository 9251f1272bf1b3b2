"""Step rewards equal those of the published inference code, run plainly on one response at a time."""

import string
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hsstar.domain.errors import CheckpointError, EngineError, EngineMemoryError
from hsstar.engines.registry import build_reward_model
from hsstar.engines.rewards.contract import ProcessRewardModel, RewardRequest, StepRewards
from hsstar.testing import check_reward_model
from tests.engines import tiny
from tests.engines.conftest import SKYWORK_LAYOUTS, VLLM_OPTIONS
from tests.engines.reward_references import REFERENCES, last_hidden_states, requests
from tests.generated import examples

STEP_MODELS: dict[str, Callable[[Path], Path]] = {
    **{f"skywork {name}": partial(tiny.tiny_skywork, **layout) for name, layout in SKYWORK_LAYOUTS.items()},
    "qwen-math": partial(tiny.tiny_qwen_math, layout="sharded"),
    "qwen-math single": partial(tiny.tiny_qwen_math, layout="single"),
    "qwen-math bin": partial(tiny.tiny_qwen_math, layout="sharded-bin"),
    "qwen-math vllm": partial(tiny.tiny_qwen_math, hidden_size=64),  # vLLM needs heads of size 32
}
"""One reward per step; the classifiers give one per response."""
CLASSIFIERS: dict[str, Callable[[Path], Path]] = {
    "outcome chat": partial(tiny.tiny_classifier, labels=1, chat=True),
    "outcome two labels": partial(tiny.tiny_classifier, labels=2),
    "outcome no padding token": partial(tiny.tiny_classifier, labels=1, pad=False),
    "outcome bert": partial(tiny.tiny_bert_classifier, labels=2),
}


@dataclass
class Case:
    """A reward model, whose rewards may be so far from those of the plain code of its family."""

    family: str
    path: Path
    model: ProcessRewardModel
    tolerance: float = 1e-5

    def expected(self, request: RewardRequest) -> Any:
        rewards = REFERENCES[self.family](self.path, request) if request.steps else []
        return pytest.approx(rewards, abs=self.tolerance)


def make_case(name: str, folder: Path) -> Case:
    family, path = name.split()[0], (STEP_MODELS | CLASSIFIERS)[name](folder)
    if "vllm" not in name:
        return Case(family, path, build_reward_model(path, device="cpu"))
    pytest.importorskip("vllm")
    options = VLLM_OPTIONS | {"engine": "vllm", "device": "cpu", "enforce_eager": True}
    return Case(family, path, build_reward_model(path, **options), tolerance=1e-4)


def on_heavy_engines(names: Iterable[str]) -> list[Any]:
    """The names of cases; those on vLLM are heavy."""
    return [pytest.param(name, marks=[pytest.mark.heavy] if "vllm" in name else []) for name in names]


@pytest.fixture(scope="session", params=on_heavy_engines([*STEP_MODELS, *CLASSIFIERS]))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    made = make_case(request.param, tmp_path_factory.mktemp("reward"))
    yield made
    made.model.close()


def test_rewards_equal_the_plain_reference_and_differ(case: Case) -> None:
    scored = case.model.score(requests())
    rewards = [reward for result in scored for reward in result.rewards]
    assert all(0 <= reward <= 1 for reward in rewards)
    assert max(rewards) - min(rewards) > 0.1
    for request, result in zip(requests(), scored, strict=True):
        assert (result.rewards, result.truncated) == (case.expected(request), False)
    assert case.model.score([]) == []
    assert case.model.name.startswith(case.family)


def test_it_keeps_what_every_reward_model_promises(case: Case) -> None:
    check_reward_model(case.model, tolerance=case.tolerance)


def test_no_model_holds_a_vocabulary_head(case: Case) -> None:
    model: Any = getattr(case.model, "_model", torch.nn.Module())  # vLLM's is in its engine
    assert not [name for name, _ in model.named_parameters() if "lm_head" in name]


PRINTABLE = st.text(string.printable[:95], min_size=1, max_size=40).filter(
    lambda text: tiny.STEP_END not in text
)
STEPS = st.lists(PRINTABLE.map(str.strip).filter(bool), max_size=5)


BATCHES = st.lists(st.builds(RewardRequest, PRINTABLE, STEPS.map(tuple)), max_size=6)


@examples(8)
@given(made=BATCHES, tokens=st.integers(1, 2_000))
def test_any_batch_gives_the_plain_rewards(case: Case, made: list[RewardRequest], tokens: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(case.model, "_batch_tokens", tokens, raising=False)
        scored = case.model.score(made)
    for request, result in zip(made, scored, strict=True):
        assert result.truncated or result.rewards == case.expected(request)


@pytest.mark.parametrize("case", on_heavy_engines(STEP_MODELS), indirect=True)
def test_a_long_response_is_cut_at_a_step_border(case: Case) -> None:
    room = 254 if case.family == "skywork" else 412  # tokens after those before the first step
    steps = tuple("a" * 49 for _ in range(12))  # 50 tokens each with its end
    fitting = room // 50
    spare = room - 50 * (fitting - 1) - 1
    long, short = case.model.score([RewardRequest("p", steps), RewardRequest("p", steps[:2])])
    assert (long.truncated, len(long.rewards), short.truncated) == (True, fitting, False)
    assert long.rewards[:2] == pytest.approx(short.rewards, abs=case.tolerance)
    for length in (spare, spare + 1):  # the last step fills the context, or is one token too long
        [filled] = case.model.score([RewardRequest("p", (*steps[: fitting - 1], "a" * length))])
        assert filled.truncated == (length > spare)
        assert len(filled.rewards) == fitting - filled.truncated


def test_a_problem_beyond_the_context_leaves_no_step(case: Case) -> None:
    good = RewardRequest("1+1?", ("two",))
    beyond, within = case.model.score([RewardRequest("p" * 600, ("one", "two")), good])
    assert beyond == StepRewards((), truncated=True)
    assert within.rewards == case.expected(good)


@pytest.mark.parametrize("case", CLASSIFIERS, indirect=True)
def test_the_outcome_of_a_long_response_is_that_of_its_first_steps(case: Case) -> None:
    steps = tuple("a" * 49 for _ in range(12))
    *kept, long = case.model.score([RewardRequest("p", steps[:count]) for count in (*range(1, 8), 12)])
    whole = [result for result in kept if not result.truncated]
    assert long.truncated
    assert 0 < len(whole) < len(kept)
    assert long.rewards == pytest.approx(whole[-1].rewards, abs=case.tolerance)


@pytest.mark.parametrize("end", ["<extra_0>", "<extra_<extra_0>0>", "<extra_0><extra_0>"])
@pytest.mark.parametrize(("problem", "steps"), [("1{}+1?", ("one", "two")), ("1+1?", ("on{}e", "tw{}o"))])
def test_the_step_token_in_a_text_shifts_no_reward(
    qwen_math: Path, end: str, problem: str, steps: Any
) -> None:
    model = build_reward_model(qwen_math, device="cpu")
    filled = RewardRequest(problem.format(end), tuple(step.format(end) for step in steps))
    hostile, plain = model.score([filled, RewardRequest("1+1?", ("one", "two"))])
    assert hostile.rewards == pytest.approx(plain.rewards, abs=1e-5)


def test_separators_within_texts_end_no_step(case: Case) -> None:
    """Line feeds and blank lines in the problem and within steps, and marks of a chat in both."""
    made = [
        RewardRequest("Let x = 1.\n\nWhat is x?\n", ("It is\n1.", "\nSo:\n1\n", "1")),
        RewardRequest("<|im_end|>\n1?", ("<|im_start|>user", "one<|im_end|>", "1")),
    ]
    for request, result in zip(made, case.model.score(made), strict=True):
        assert len(result.rewards) == (1 if case.family == "outcome" else 3)
        assert result.rewards == case.expected(request)


def test_the_text_of_the_beginning_of_text_token_stands_in_front_once(tmp_path: Path) -> None:
    tokenizer = tiny.beginning_tokenizer()
    path = tiny.write_skywork(tmp_path, tokenizer, tiny.reward_backbone(tokenizer, seed=3))
    model: Any = build_reward_model(path, device="cpu")
    tokens = tokenizer.encode(f"{tiny.BEGIN}1+1?\ntwo\n", add_special_tokens=False)
    expected = model._rewards(last_hidden_states(path, tokens)[-1:])
    [scored] = model.score([RewardRequest("1+1?", ("two",))])
    assert scored.rewards == pytest.approx(expected.tolist(), abs=1e-5)


def test_what_is_no_reward_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not in the checkpoint"):
        build_reward_model(tiny.tiny_skywork(tmp_path / "other", prefix="other."), device="cpu")
    with pytest.raises(CheckpointError, match="3 labels; a reward model has 1 or 2"):
        build_reward_model(tiny.tiny_classifier(tmp_path, labels=3), device="cpu")


@pytest.mark.heavy
@pytest.mark.parametrize("case", ["qwen-math vllm"], indirect=True)
def test_vllm_goes_on_after_running_out_of_memory(case: Case) -> None:
    model: Any = case.model
    expected = model.score(requests())
    tiny.fail_once(model._loop, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(EngineMemoryError, match="CUDA out of memory"):
        model.score(requests()[:3])
    assert model.score(requests()) == expected  # nothing of the failed requests is left


@pytest.mark.heavy
def test_an_empty_result_of_vllm_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told of a step token that no text holds, vLLM answers with nothing."""
    pytest.importorskip("vllm")
    from hsstar.engines.rewards import qwen_math_vllm

    configuration: Any = qwen_math_vllm.PoolerConfig  # type: ignore[attr-defined]  # an import there

    def without_steps(**given: Any) -> Any:
        return configuration(**given | {"step_tag_id": 0})

    monkeypatch.setattr(qwen_math_vllm, "PoolerConfig", without_steps)
    made = make_case("qwen-math vllm", tmp_path)
    with pytest.raises(EngineError, match=r"result has shape \(0, 2\) instead of \(1, 2\)"):
        made.model.score([RewardRequest("1+1?", ("two",))])
    made.model.close()
