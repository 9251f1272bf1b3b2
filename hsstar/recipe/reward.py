"""`[reward]` and `[[rewards]]` of a recipe: what scores samples, and what its rewards decide."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from hsstar.domain.rewards import Aggregation, RewardUse
from hsstar.recipe.base import Name, Natural, Positive, Section
from hsstar.recipe.policy import VllmSection
from hsstar.recipe.prompt import MOST_CHARACTERS
from hsstar.recipe.steps import FunctionName, check_source

_REWARD_VLLM_OWN = {"model", "runner", "pooler_config", "dtype", "enable_prefix_caching"}
"""Arguments of vLLM that hsstar decides for scoring."""
_OF_KIND = {"python": "function", "length": "limit", "format": "pattern"}
"""Kinds of rewards without a model, and the key that says the most of each."""
_OTHER_KEYS = {
    "function": "python",
    "source": "python",
    "target": "length",
    "limit": "length",
    "pattern": "format",
}
"""Keys that one kind alone has."""


class RewardSection(Section):
    """The reward model and its engine, or a rule; `model = "none"` without another kind scores nothing."""

    model: Name = "none"
    """A folder, a Hugging Face name or `builtin:demo-prm`; `none` scores nothing."""
    kind: Literal["auto", "skywork", "qwen-math", "outcome", "python", "length", "format"] = "auto"
    """`auto` recognises the kind by the checkpoint; the last three need no model."""
    engine: Literal["transformers", "vllm"] = "transformers"
    """What computes the rewards; `vllm` knows the kind `qwen-math` only."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format while scoring, as `policy.dtype`."""
    batch_tokens: Positive | None = None
    """Tokens that pass through the model at once; default: 16,384 on a GPU, 4,096 on a CPU."""
    attention: Literal["auto", "sdpa", "flash_attention_2", "eager"] = "auto"
    """`auto` is PyTorch's `sdpa`; `flash_attention_2` needs the package `flash-attn`."""
    aggregate: Aggregation = Aggregation.MIN
    """How the rewards of steps become that of the response."""
    function: FunctionName | None = None
    """For `python`: `my_rewards.py:reward` or `package.module:reward`, called with response, reference and
    problem; it returns a number in [0, 1], or one for each step."""
    source: Annotated[str, Field(max_length=MOST_CHARACTERS)] | None = None
    """For `python`: the text of the function's file, which the run stores here for its workers."""
    target: Natural = 0
    """For `length`: up to so many tokens the reward is 1."""
    limit: Positive | None = None
    """For `length`: from so many tokens on it is 0, between the two it falls evenly; default:
    `sampling.max_new_tokens`."""
    pattern: Annotated[str, Field(min_length=1, max_length=2000)] | None = None
    """For `format`: a regular expression that the response has to hold, with `^` and `$` at lines and `.` for
    line breaks too; default: it announces its answer."""
    vllm: VllmSection | None = None

    @property
    def engine_options(self) -> dict[str, Any]:
        """Options of the engine besides model and number format."""
        if self.engine == "vllm":
            return self.vllm.model_dump(mode="json", exclude_none=True) if self.vllm else {}
        return {"batch_tokens": self.batch_tokens, "attention": self.attention}

    @field_validator("pattern")
    @classmethod
    def _is_a_pattern(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from None
        return pattern

    @model_validator(mode="after")
    def _keys_of_the_kind(self) -> Self:
        for key, kind in _OTHER_KEYS.items():
            is_set = getattr(self, key) != type(self).model_fields[key].default
            if is_set and self.kind != kind:
                raise ValueError(f"{key} needs kind = {kind!r}, and kind is {self.kind!r}")
        if self.kind in _OF_KIND and self.model != "none":
            raise ValueError(f"kind = {self.kind!r} needs no model; leave it out")
        if self.kind == "python" and self.function is None:
            raise ValueError(
                "kind = 'python' needs function: 'my_rewards.py:reward' or 'package.module:reward'"
            )
        check_source(self.function, self.source)
        if self.limit is not None and self.target >= self.limit:
            raise ValueError(f"target = {self.target} must be below limit = {self.limit}")
        return self

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
    def engine_keys(self) -> str:
        """Everything that its engine is built from, as one text."""
        return self.model_dump_json(exclude={"name", "weight", "use", "aggregate"})

    @property
    def model_kind(self) -> Literal["auto", "skywork", "qwen-math", "outcome"]:
        """The kind of its model."""
        match self.kind:
            case "python" | "length" | "format":
                raise ValueError(f"a reward of the kind {self.kind} has no model")
            case kind:
                return kind

    @property
    def rule_options(self) -> dict[str, Any]:
        """The keys of its kind, if it has no model."""
        keys = [key for key, kind in _OTHER_KEYS.items() if kind == self.kind]
        return self.model_dump(mode="json", include=set(keys))

    @property
    def has_model(self) -> bool:
        """Whether a model scores, and no rule."""
        return self.kind not in _OF_KIND

    @property
    def used(self) -> bool:
        """Whether samples are scored."""
        return self.model != "none" or not self.has_model


class NamedRewardSection(RewardSection):
    """One of several rewards: the keys of `[reward]`, and what it decides."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,49}$")]
    """How views and pages call it: up to 50 small letters, digits, `_` and `-`."""
    weight: Annotated[float, Field(ge=1e-6, le=1e6)] = 1.0
    """Its share of the combined reward, which is the mean by weight."""
    use: RewardUse = RewardUse.BOTH
    """What it decides: the `difficulty` of problems, the rank of samples in `pairs`, `both`, or nothing
    (`record`)."""

    @model_validator(mode="after")
    def _scores(self) -> Self:
        if not self.used:
            raise ValueError(f"reward {self.name!r} needs a model, or kind = 'python', 'length' or 'format'")
        return self
