"""Qwen2.5-Math-PRM by vLLM's pooling: the rewards of `qwen_prm`, in batches of vLLM's scheduler."""

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from hsstar.domain.errors import EngineError
from hsstar.engines.loading import free_memory, pick_device, pick_dtype
from hsstar.engines.rewards.base import ScoredText
from hsstar.engines.rewards.contract import RewardRequest, StepRewards
from hsstar.engines.rewards.qwen_math import QwenMathRenderer
from hsstar.engines.vllm.loop import EngineLoop
from hsstar.engines.vllm.process import PoolerConfig, TokensPrompt, start_engine, vllm

_TASK = "token_classify"
_CLASSES = 2


class VllmQwenMathRewardModel:
    """Step reward = softmax probability of class 1 at the special token that ends the step.

    vLLM gives an empty result where it is not told which token ends a step. A result that has not one pair
    of probabilities for every step is an error here.
    """

    name = f"qwen-math-prm on vllm {vllm.__version__}"

    def __init__(
        self, model: str | Path, *, device: str = "auto", dtype: str = "auto", **options: Any
    ) -> None:
        """Starts vLLM.

        Args:
            model: the checkpoint's folder.
            device: `auto` or the one that vLLM is installed for.
            dtype: as in `loading.pick_dtype`.
            options: further arguments of `vllm.EngineArgs`.
        """
        self._device = pick_device(device)
        path = Path(model)
        self._renderer = QwenMathRenderer(path)
        arguments = {
            "runner": "pooling",
            "pooler_config": PoolerConfig(
                task=_TASK, tok_pooling_type="STEP", step_tag_id=self._renderer.step_end_id
            ),
            "dtype": str(pick_dtype(dtype, self._device)).removeprefix("torch."),
            "enable_prefix_caching": False,  # tokens from the cache have no hidden states, so no rewards
            **options,
        }
        self._loop = EngineLoop(lambda: start_engine(path, **arguments))
        self._context = self._loop.call(lambda engine: int(engine.model_config.max_model_len))

    def score(self, requests: Sequence[RewardRequest]) -> list[StepRewards]:
        """The step rewards of each request, in order; steps beyond the context get none.

        Raises:
            EngineError: vLLM gave something else than one reward for every step.
            EngineMemoryError: these are too many requests at once.
            EngineDeadError: the engine has to be closed and built anew.
        """
        texts = [self._renderer.render(request).within(self._context) for request in requests]
        rewards = iter(self._pool([text for text in texts if text.ends]))
        return [StepRewards(next(rewards) if text.ends else (), text.truncated) for text in texts]

    def close(self) -> None:
        """Frees the model's memory."""
        self._loop.close()
        gc.collect()  # the engine holds itself in circles
        free_memory(self._device)

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
                found = progress.output.outputs.data
                rewards[progress.place] = self._rewards(texts[progress.place], found)
        finally:
            group.close()
        return [rewards[place] for place in range(len(texts))]

    def _rewards(self, text: ScoredText, probabilities: Tensor) -> tuple[float, ...]:
        """From probabilities, (steps, classes), to the rewards of the steps."""
        found, due = tuple(probabilities.shape), (len(text.ends), _CLASSES)
        if found != due:
            raise EngineError(f"{self.name}: a result of shape {found} where {due} is due")
        return tuple(probabilities[:, 1].tolist())
