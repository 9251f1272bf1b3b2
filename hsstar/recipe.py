"""What a run is: one TOML document that says everything which decides its result."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)

from hsstar.domain.budget import Budget
from hsstar.domain.difficulty import Difficulty, Signal, Thresholds
from hsstar.domain.errors import RecipeError
from hsstar.domain.preference import PairRule
from hsstar.domain.prompts import TEMPLATE_NAMES
from hsstar.recipe_base import Name, Positive
from hsstar.recipe_base import Section as _Section
from hsstar.recipe_evaluation import EvaluationSection


class ProblemsSection(_Section):
    """Which problems an iteration takes: a fresh slice of a dataset, in the run's seeded order."""

    dataset: Name
    per_iteration: Positive
    overlaps: Literal["report", "exclude"] = "report"
    """What is done with problems that overlap a benchmark or held-out problems."""

    @property
    def used(self) -> bool:
        """Whether there are training problems; a run without them (`dataset = "none"`) only evaluates."""
        return self.dataset != "none"


class VllmSection(_Section):
    """What vLLM is started with: the keys below, and any other of its engine arguments by name."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, JsonValue]

    tensor_parallel_size: Positive | None = None
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = None
    max_model_len: Positive | None = None
    max_num_seqs: Positive | None = None
    quantization: Name | None = None
    lora: Name | None = None
    """Folder of a LoRA adapter that every policy of the run is sampled with."""


OWN_REQUEST_KEYS = frozenset(
    {
        "model", "prompt", "prompt_embeds", "n", "best_of", "seed", "temperature", "top_p", "max_tokens",
        "stop", "logprobs", "echo", "stream", "stream_options", "suffix", "add_special_tokens",
    }
)  # fmt: skip
"""Keys of a completion request that hsstar decides."""


class OpenAISection(_Section):
    """A server that speaks OpenAI's completions protocol and serves the policy."""

    base_url: Annotated[str, Field(pattern=r"^https?://[^\s/?#@]+(/[^\s?#@]*)?$")]
    model: Annotated[str, Field(min_length=1, max_length=500)]
    """The name under which the server serves the policy."""
    concurrency: Positive = 64
    timeout_seconds: Annotated[float, Field(gt=0)] = 600.0
    reload: Literal["none", "vllm"] = "none"
    """How the next policy gets into the server."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Further keys of each request."""

    @field_validator("options")
    @classmethod
    def _not_decided_elsewhere(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if own := sorted(OWN_REQUEST_KEYS & value.keys()):
            raise ValueError(f"{own[0]!r} belongs to hsstar and cannot be set")
        return value


class PolicySection(_Section):
    """`M_0`, the engine that samples from it, and the prompt it is given."""

    model: Name
    engine: Literal["transformers", "vllm", "openai"] = "transformers"
    prompt: str = "qwen25-step-cot"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    vllm: VllmSection | None = None
    openai: OpenAISection | None = None

    @property
    def one_policy_only(self) -> bool:
        """Whether the engine cannot take the weights of a policy that was trained meanwhile."""
        return self.openai is not None and self.openai.reload == "none"

    @property
    def engine_options(self) -> dict[str, Any]:
        """The table of the engine, which has its name, without the keys that are left out."""
        table: BaseModel | None = getattr(self, self.engine, None)
        return table.model_dump(mode="json", exclude_none=True) if table else {}

    @model_validator(mode="after")
    def _table_of_the_engine(self) -> Self:
        for key, value in self:
            if isinstance(value, BaseModel) and key != self.engine:
                raise ValueError(f"[policy.{key}] needs engine = {key!r}, and engine is {self.engine!r}")
        if self.engine == "openai":
            if self.openai is None:
                raise ValueError("engine = 'openai' needs [policy.openai] with base_url and model")
            if self.dtype != "auto":
                raise ValueError("dtype is the server's own affair under engine = 'openai'; leave it out")
        return self

    @field_validator("prompt")
    @classmethod
    def _known_template(cls, value: str) -> str:
        if value not in TEMPLATE_NAMES:
            raise ValueError(f"unknown prompt template; legal values: {', '.join(sorted(TEMPLATE_NAMES))}")
        return value


class SamplingSection(_Section):
    """The budget and how samples are drawn."""

    n: Positive = 8
    n_p: Positive = 3
    strategy: Literal["hierarchical", "uniform"] = "hierarchical"
    """`uniform` draws all `n` samples of every problem in pre-sampling and re-samples nothing."""
    temperature: Annotated[float, Field(ge=0, le=10)] = 0.7
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    max_new_tokens: Positive = 2048
    stop: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _pre_samples_within_budget(self) -> Self:
        if self.n_p > self.n:
            raise ValueError(
                f"n_p = {self.n_p} is more than n = {self.n}; pre-samples are part of the budget"
            )
        return self

    @property
    def budget(self) -> Budget:
        """The budget as the method reads it: under `uniform` every sample is a pre-sample."""
        return Budget(self.n, self.n if self.strategy == "uniform" else self.n_p)


_REWARD_VLLM_OWN = {"model", "runner", "pooler_config", "dtype", "enable_prefix_caching"}
"""Arguments of vLLM that hsstar decides when it scores."""


class RewardSection(_Section):
    """The reward model and what computes it; `model = "none"` runs without one."""

    model: Name = "none"
    kind: Literal["auto", "skywork", "qwen-math", "outcome"] = "auto"
    engine: Literal["transformers", "vllm"] = "transformers"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    batch_tokens: Positive | None = None
    """Tokens, padding included, that pass through the model at once; by default what suits the device."""
    attention: Literal["auto", "sdpa", "flash_attention_2", "eager"] = "auto"
    vllm: VllmSection | None = None

    @property
    def engine_options(self) -> dict[str, Any]:
        """What the engine is built with besides model and number format."""
        if self.engine == "vllm":
            return self.vllm.model_dump(mode="json", exclude_none=True) if self.vllm else {}
        return {"batch_tokens": self.batch_tokens, "attention": self.attention}

    @model_validator(mode="after")
    def _keys_of_the_engine(self) -> Self:
        if self.engine == "vllm":
            if self.batch_tokens is not None or self.attention != "auto":
                raise ValueError(
                    "batch_tokens and attention need engine = 'transformers'; vLLM's own engine arguments "
                    "(max_num_batched_tokens, say) stand in [reward.vllm]"
                )
            if self.vllm and self.vllm.lora is not None:
                raise ValueError("lora is of [policy.vllm] alone: a reward model takes no adapter")
            if own := sorted(_REWARD_VLLM_OWN & self.engine_options.keys()):
                raise ValueError(f"vllm.{own[0]} belongs to hsstar and cannot be set")
        elif self.vllm is not None:
            raise ValueError(f"[reward.vllm] needs engine = 'vllm', and engine is {self.engine!r}")
        return self

    @property
    def used(self) -> bool:
        """Whether samples are scored at all."""
        return self.model != "none"


class DifficultySection(_Section):
    """How problems are labelled and which levels are re-sampled and trained on."""

    signal: Signal = Signal.ACCURACY_AND_REWARD
    tau_low: float = 0.15
    tau_high: float = 0.65
    resample: tuple[Difficulty, ...] = (Difficulty.BOUNDARY,)
    train: tuple[Difficulty, ...] = (Difficulty.BOUNDARY,)

    @model_validator(mode="after")
    def _ordered_thresholds(self) -> Self:
        if not 0 <= self.tau_low < self.tau_high <= 1:
            raise ValueError(
                f"tau_low = {self.tau_low} and tau_high = {self.tau_high} must satisfy "
                "0 ≤ tau_low < tau_high ≤ 1"
            )
        if not self.train:
            raise ValueError("train needs at least one of inlier, boundary, outlier")
        return self

    @property
    def thresholds(self) -> Thresholds:
        """`τ_l` and `τ_h`."""
        return Thresholds(self.tau_low, self.tau_high)


class PairsSection(_Section):
    """How preference pairs are chosen."""

    rule: PairRule = PairRule.HIGHEST_REWARD
    at_most_per_problem: Positive | None = None


class TrainingSection(_Section):
    """Preference optimisation; `objective = "none"` ends an iteration with its pairs."""

    objective: Literal["dpo", "none"] = "dpo"
    learning_rate: Annotated[float, Field(gt=0)] = 5e-7
    batch_size: Positive = 256
    micro_batch_size: Positive = 8
    epochs: Annotated[float, Field(gt=0)] = 1.0
    scheduler: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.03
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    beta: Annotated[float, Field(gt=0)] = 0.1
    nll_weight: Annotated[float, Field(ge=0)] = 0.0
    maximum_tokens: Positive = 2048
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"


class Recipe(_Section):
    """Everything that decides the result of a run."""

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[\w.+-]+$")]
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    problems: ProblemsSection
    policy: PolicySection
    sampling: SamplingSection = SamplingSection()
    reward: RewardSection = RewardSection()
    difficulty: DifficultySection = DifficultySection()
    pairs: PairsSection = PairsSection()
    training: TrainingSection = TrainingSection()
    evaluation: EvaluationSection = EvaluationSection()

    @model_validator(mode="after")
    def _rewards_where_needed(self) -> Self:
        if self.reward.used:
            return self
        if self.difficulty.signal.needs_reward:
            raise ValueError(
                f"difficulty.signal = {self.difficulty.signal.value!r} needs reward.model; "
                "name one, or set difficulty.signal = 'accuracy'"
            )
        if self.pairs.rule is PairRule.HIGHEST_REWARD:
            raise ValueError(
                "pairs.rule = 'highest-reward' needs reward.model; name one, or set pairs.rule = 'random'"
            )
        return self

    @model_validator(mode="after")
    def _adapter_not_trained(self) -> Self:
        if self.policy.vllm and self.policy.vllm.lora and self.training.objective != "none":
            raise ValueError(
                "policy.vllm.lora needs training.objective = 'none': training starts from policy.model "
                "without the adapter; merge the two to train"
            )
        return self

    @model_validator(mode="after")
    def _no_policy_that_the_server_has_not(self) -> Self:
        trains = self.training.objective != "none"
        if self.policy.one_policy_only and trains and self.evaluation.used:
            key = "evaluation.dataset" if self.evaluation.dataset is not None else "evaluation.benchmarks"
            raise ValueError(
                f"{key} is measured for every new policy too, and policy.openai.reload = 'none' "
                f"says that the server cannot load one; set reload = 'vllm', or leave {key} out"
            )
        return self

    def document(self) -> dict[str, Any]:
        """The recipe as plain values, every default written out: what is stored with a run."""
        return self.model_dump(mode="json")


def parse_recipe(document: dict[str, Any], source: str = "recipe") -> Recipe:
    """A recipe from plain values.

    Raises:
        RecipeError: one line that names the first wrong key and its legal values.
    """
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        raise RecipeError(f"{source}: {_first_line(error)}") from None


def parse_policy(document: dict[str, Any]) -> PolicySection:
    """`[policy]` from plain values.

    Raises:
        RecipeError: as `parse_recipe`.
    """
    try:
        return PolicySection.model_validate(document)
    except ValidationError as error:
        raise RecipeError(_first_line(error, "[policy]")) from None


def load_recipe(path: Path, overrides: dict[str, Any] | None = None) -> Recipe:
    """A recipe from a TOML file; `overrides` replace top-level keys (`name`, `seed`).

    Raises:
        RecipeError: the file is missing, not TOML, or not a recipe.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: not TOML: {error}") from None
    return parse_recipe(document | (overrides or {}), str(path))


def _first_line(error: ValidationError, whole: str = "the recipe as a whole") -> str:
    found = error.errors()
    first = found[0]
    key = ".".join(str(part) for part in first["loc"]) or whole
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"unknown key {key!r}; legal keys there: {', '.join(_legal_keys(first['loc']))}{more}"
    if first["type"] == "missing":
        return f"key {key!r} is missing{more}"
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    given = first.get("input")
    shown = f", got {given!r}" if isinstance(given, str | int | float) else ""
    return f"{key}: {message}{shown}{more}"


def _legal_keys(location: tuple[int | str, ...]) -> list[str]:
    section: type[BaseModel] = Recipe
    for part in location[:-1]:
        if isinstance(part, int):  # the place in a list of tables
            continue
        annotation = section.model_fields[str(part)].annotation
        choices = (annotation, *get_args(annotation))
        tables = [kind for kind in choices if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not tables:
            break
        section = tables[0]
    return sorted(section.model_fields)
