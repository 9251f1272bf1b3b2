"""Qwen2.5-Math-PRM on vLLM's pooling: the rewards of `qwen_math`, in batches of vLLM's scheduler."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from hsstar.domain.errors import EngineError
from hsstar.engines.device import clear_memory
from hsstar.engines.loading import pick_device, pick_dtype
from hsstar.engines.rewards.base import ScoredText
from hsstar.engines.rewards.contract import RewardRequest, StepRewards
from hsstar.engines.rewards.qwen_math import QwenMathRenderer
from hsstar.engines.vllm.loop import EngineLoop
from hsstar.engines.vllm.process import PoolerConfig, TokensPrompt, start_engine, vllm

_TASK = "token_classify"
_CLASSES = 2


class VllmQwenMathRewardModel:
    """Step reward = softmax probability of class 1 at the special token that ends the step.

    vLLM returns an empty result, and no error, if it does not know the token that ends a step. A result
    without one pair of probabilities for every step is an error here.
    """

    name = f"qwen-math-prm on vllm {vllm.__version__}"

    def __init__(
        self, model: str | Path, *, device: str = "auto", dtype: str = "auto", **options: Any
    ) -> None:
        path = Path(model)
        self._renderer = QwenMathRenderer(path)
        arguments = {
            "runner": "pooling",
            "pooler_config": PoolerConfig(
                task=_TASK, tok_pooling_type="STEP", step_tag_id=self._renderer.step_end_id
            ),
            "dtype": str(pick_dtype(dtype, pick_device(device))).removeprefix("torch."),
            "enable_prefix_caching": False,  # cached tokens have no hidden states, so no rewards
            **options,
        }
        self._loop = EngineLoop(lambda: start_engine(path, **arguments))
        self._context = self._loop.call(lambda engine: int(engine.model_config.max_model_len))

    def score(self, requests: Sequence[RewardRequest]) -> list[StepRewards]:
        """Score each request, in order; steps beyond the context get no reward.

        Raise EngineError if vLLM did not return one reward for every step, EngineMemoryError if these are too
        many requests at once, and EngineDeadError if the engine must be closed and built anew.
        """
        texts = [self._renderer.render(request).within(self._context) for request in requests]
        rewards = iter(self._pool([text for text in texts if text.ends]))
        return [StepRewards(next(rewards) if text.ends else (), text.truncated) for text in texts]

    def close(self) -> None:
        """Free the model's memory."""
        self._loop.close()
        clear_memory()

    def _pool(self, texts: Sequence[ScoredText]) -> list[tuple[float, ...]]:
        group = self._loop.start(
            [
                {
                    "prompt": TokensPrompt(prompt_token_ids=text.tokens),
                    "params": vllm.PoolingParams(task=_TASK),
                }
                for text in texts
            ]
        )
        rewards: dict[int, tuple[float, ...]] = {}
        try:
            for progress in group:
                if isinstance(progress.output, str):
                    raise EngineError(f"{self.name}: {progress.output}")
                probabilities = progress.output.outputs.data
                rewards[progress.place] = self._rewards(texts[progress.place], probabilities)
        finally:
            group.close()
        return [rewards[place] for place in range(len(texts))]

    def _rewards(self, text: ScoredText, probabilities: Tensor) -> tuple[float, ...]:
        """Return the rewards of the steps from probabilities, (steps, classes)."""
        shape, expected = tuple(probabilities.shape), (len(text.ends), _CLASSES)
        if shape != expected:
            raise EngineError(f"{self.name}: the result has shape {shape} instead of {expected}")
        return tuple(probabilities[:, 1].tolist())
