"""`[policy]` of a recipe: M_0, the engine that samples from it, and the prompt."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from hsstar.domain.answers.thinking import AUTO, marks_of
from hsstar.domain.errors import BadInputError
from hsstar.domain.prompts import CHAT, DEFAULT
from hsstar.domain.rounding import resolve_format
from hsstar.domain.run_quality import context_of
from hsstar.recipe.base import Name, Positive, Section
from hsstar.recipe.prompt import PromptSection


class VllmSection(Section):
    """Engine arguments of vLLM: the keys below and any other by its name there."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, JsonValue]

    tensor_parallel_size: Positive | None = None
    """GPUs that share one engine; default: 1."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of a GPU's memory for weights and cache; default: vLLM's."""
    max_model_len: Positive | None = None
    """Context in tokens, prompt and response together; default: the model's."""
    max_num_seqs: Positive | None = None
    """Sequences that are decoded together; default: 256."""
    quantization: Name | None = None
    """A method of vLLM, such as `fp8`; default: the model's."""
    lora: Name | None = None
    """Folder of a LoRA adapter to sample with; needs `training.objective = "none"`."""


OWN_REQUEST_KEYS = frozenset(
    {
        "model", "prompt", "prompt_embeds", "n", "best_of", "seed", "temperature", "top_p", "max_tokens",
        "stop", "logprobs", "echo", "stream", "stream_options", "suffix", "add_special_tokens",
    }
)  # fmt: skip
"""Keys of a request that hsstar decides."""
_OWN_CHAT_KEYS = frozenset(
    {
        "messages", "chat_template_kwargs", "add_generation_prompt", "continue_final_message",
        "top_logprobs", "max_completion_tokens", "tools", "tool_choice",
    }
)  # fmt: skip
"""Further ones of a chat."""


_Address = Annotated[str, Field(pattern=r"^https?://[^\s/?#@]+(/[^\s?#@]*)?$")]


_OWN_NATIVE_KEYS = frozenset({"max_new_tokens", "sampling_seed", "top_k", "min_p", "repetition_penalty"})
"""Sampling parameters of SGLang that hsstar decides."""


class OpenAISection(Section):
    """A server, or several, that serve the policy by a protocol of OpenAI's or by SGLang's own."""

    base_url: _Address | None = None
    """Address of the protocol, without user and password: `http://gpu1:8000/v1`; that of SGLang ends before
    `/v1`."""
    base_urls: tuple[_Address, ...] | None = None
    """Those of several servers, instead of `base_url`: each request goes to the least busy one."""
    model: Annotated[str, Field(min_length=1, max_length=500)]
    """The server's name for the policy (`--served-model-name`)."""
    concurrency: Positive = 64
    """Requests that one worker process sends to a server at once."""
    timeout_seconds: Annotated[float, Field(gt=0)] = 600.0
    """How long the server may be silent about one request."""
    protocol: Literal["completions", "chat", "sglang"] = "completions"
    """`chat`: the server renders the prompt by its chat template; needs `policy.prompt.template = "chat"`.
    `sglang`: SGLang's own, with token ids."""
    logprobs: bool = True
    """Whether the server gives log-probabilities; without them samples have none."""
    reload: Literal["none", "vllm", "sglang"] = "none"
    """How a newly trained policy gets into the server: by vLLM's endpoints or SGLang's; `none` allows one
    policy."""
    key_variable: Annotated[str, Field(pattern=r"^HSSTAR_([A-Z0-9]+_)*API_KEY$")] | None = None
    """Environment variable of the workers with its key; default: `HSSTAR_OPENAI_API_KEY`, of a source
    `HSSTAR_SOURCE_API_KEY`."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Further keys of each request, sent as they are: `{ min_p = 0.05 }`; under `sglang` sampling
    parameters."""

    @field_validator("base_urls")
    @classmethod
    def _different(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value == ():
            raise ValueError("give the address of a server")
        addresses = [address.rstrip("/").lower() for address in value or ()]
        for place, address in enumerate(addresses):
            if address in addresses[:place]:
                raise ValueError(f"{(value or ())[place]} is there twice")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.base_url is None) == (self.base_urls is None):
            raise ValueError("give either base_url or base_urls")
        further = {"chat": _OWN_CHAT_KEYS, "sglang": _OWN_NATIVE_KEYS}.get(self.protocol, frozenset())
        if own := sorted(further & self.options.keys()):
            raise ValueError(f"options: {own[0]!r} belongs to hsstar and cannot be set")
        if self.protocol == "sglang" and self.reload == "vllm":
            raise ValueError("protocol = 'sglang' needs reload = 'sglang' or 'none'")
        return self

    @field_validator("options")
    @classmethod
    def _not_decided_elsewhere(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if own := sorted(OWN_REQUEST_KEYS & value.keys()):
            raise ValueError(f"{own[0]!r} belongs to hsstar and cannot be set")
        return value


def _known_engine(value: str) -> str:
    if value not in ENGINES and not _IMPORT_PATH.fullmatch(value):
        raise ValueError(f"expected {', '.join(ENGINES)} or package.module:Class")
    return value


ENGINES = ("transformers", "vllm", "openai")
_IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
Engine = Annotated[Name, AfterValidator(_known_engine)]


class PolicySection(Section):
    """`M_0`, the engine that samples from it, and its prompt."""

    model: Name
    """M_0: a folder, a Hugging Face name, `builtin:demo-policy`, or a name from `hsstar models list`."""
    engine: Engine = "transformers"
    """What samples: `transformers`, `vllm`, `openai`, or a class of yours, `package.module:Class`
    ([extending.md](extending.md)). For one seed, engines draw different samples."""
    prompt: PromptSection = PromptSection(template=DEFAULT.template)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format while sampling; `auto` is bfloat16 on a GPU and float32 on a CPU."""
    thinking: Annotated[str, Field(max_length=200)] = AUTO
    """Marks of blocks of thinking, which count in no answer and no step: `auto` (all that are known), `none`,
    or two: `<think>,</think>`. A third word, `prompt`, says that the prompt ends with the first mark."""
    thinking_tokens: Positive | None = None
    """After so many tokens of a response that still thinks, the closing mark is put and the answer follows;
    needs two marks, and a server cannot do it. It holds in evaluation too."""
    vllm: VllmSection | None = None
    openai: OpenAISection | None = None
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Of an engine of yours: further arguments of its class."""

    @field_validator("thinking")
    @classmethod
    def _names_marks(cls, value: str) -> str:
        try:
            marks_of(value)
        except BadInputError as error:
            raise ValueError(str(error)) from None
        return value

    @model_validator(mode="after")
    def _budget_of_thinking(self) -> Self:
        if self.thinking_tokens is None:
            return self
        if marks_of(self.thinking) is None:
            raise ValueError("thinking_tokens needs the marks: thinking = '<think>,</think>'")
        if self.engine == "openai":
            raise ValueError(
                "thinking_tokens needs engine = 'transformers' or 'vllm'; "
                "a server may have a key of its own for policy.openai.options"
            )
        return self

    @property
    def one_policy_only(self) -> bool:
        """Whether the engine cannot load the weights of a trained policy."""
        return self.openai is not None and self.openai.reload == "none"

    @property
    def served(self) -> tuple[str, str | None]:
        """What is sampled from: the model, and the server's name for it."""
        return self.model, self.openai.model if self.openai else None

    @property
    def sends_messages(self) -> bool:
        """Whether a server renders the prompt."""
        return self.openai is not None and self.openai.protocol == "chat"

    def sampled_as(self, *, gpu: bool) -> str | None:
        """Return the number format of the weights while sampling; None if a server decides it."""
        return None if self.engine == "openai" else resolve_format(self.dtype, gpu=gpu)

    def context(self, of_model: int | None) -> int | None:
        """Return how many tokens a prompt and its response have at most; None if that is not known."""
        return context_of(of_model, self.vllm.max_model_len if self.vllm else None)

    @property
    def engine_options(self) -> dict[str, Any]:
        """The keys of the table with the engine's name that are set; of an engine of yours its options."""
        if self.options:
            return self.options
        table: BaseModel | None = getattr(self, self.engine, None)
        return table.model_dump(mode="json", exclude_none=True) if table else {}

    @model_validator(mode="after")
    def _table_of_the_engine(self) -> Self:
        for key, value in self:
            if isinstance(value, VllmSection | OpenAISection) and key != self.engine:
                raise ValueError(f"[policy.{key}] needs engine = {key!r}, and engine is {self.engine!r}")
        if self.options and self.engine in ENGINES:
            raise ValueError(f"[policy.options] is for an engine of yours, and engine is {self.engine!r}")
        if self.engine == "openai":
            if self.openai is None:
                raise ValueError("engine = 'openai' needs [policy.openai] with base_url and model")
            if self.dtype != "auto":
                raise ValueError("the server decides dtype under engine = 'openai'; leave it out")
        if self.sends_messages and self.prompt.template != CHAT:
            raise ValueError(
                "policy.openai.protocol = 'chat' needs policy.prompt.template = 'chat': the server "
                "renders the messages; for another template take protocol = 'completions'"
            )
        return self
