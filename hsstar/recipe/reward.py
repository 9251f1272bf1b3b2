"""`[reward]` of a recipe: the reward model and its engine."""

from typing import Any, Literal, Self

from pydantic import model_validator

from hsstar.recipe.base import Name, Positive, Section
from hsstar.recipe.policy import VllmSection

_REWARD_VLLM_OWN = {"model", "runner", "pooler_config", "dtype", "enable_prefix_caching"}
"""Arguments of vLLM that hsstar decides for scoring."""


class RewardSection(Section):
    """The reward model and its engine; `model = "none"` runs without one."""

    model: Name = "none"
    """A folder, a Hugging Face name or `builtin:demo-prm`; `none` scores nothing."""
    kind: Literal["auto", "skywork", "qwen-math", "outcome"] = "auto"
    """`auto` recognises the kind by the checkpoint."""
    engine: Literal["transformers", "vllm"] = "transformers"
    """What computes the rewards; `vllm` knows the kind `qwen-math` only."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format while scoring, as `policy.dtype`."""
    batch_tokens: Positive | None = None
    """Tokens that pass through the model at once; default: 16,384 on a GPU, 4,096 on a CPU."""
    attention: Literal["auto", "sdpa", "flash_attention_2", "eager"] = "auto"
    """`auto` is PyTorch's `sdpa`; `flash_attention_2` needs the package `flash-attn`."""
    vllm: VllmSection | None = None

    @property
    def engine_options(self) -> dict[str, Any]:
        """Options of the engine besides model and number format."""
        if self.engine == "vllm":
            return self.vllm.model_dump(mode="json", exclude_none=True) if self.vllm else {}
        return {"batch_tokens": self.batch_tokens, "attention": self.attention}

    @model_validator(mode="after")
    def _keys_of_the_engine(self) -> Self:
        if self.engine == "vllm":
            if self.batch_tokens is not None or self.attention != "auto":
                raise ValueError(
                    "batch_tokens and attention need engine = 'transformers'; vLLM's own engine arguments "
                    "(such as max_num_batched_tokens) belong in [reward.vllm]"
                )
            if self.vllm and self.vllm.lora is not None:
                raise ValueError("lora belongs in [policy.vllm] only: a reward model takes no adapter")
            if own := sorted(_REWARD_VLLM_OWN & self.engine_options.keys()):
                raise ValueError(f"vllm.{own[0]} belongs to hsstar and cannot be set")
        elif self.vllm is not None:
            raise ValueError(f"[reward.vllm] needs engine = 'vllm', and engine is {self.engine!r}")
        return self

    @property
    def used(self) -> bool:
        """Whether samples are scored."""
        return self.model != "none"
