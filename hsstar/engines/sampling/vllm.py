"""Sampler on vLLM in this process: any causal language model that vLLM knows, on GPUs or on a CPU."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, GenerationConfig

from hsstar.checkpoints.adapters import adapter_rank, read_base
from hsstar.checkpoints.files import weight_files
from hsstar.checkpoints.resolve import check_policy, fingerprint, weights_folder
from hsstar.checkpoints.tensors import tensor_names
from hsstar.domain.errors import BadInputError, EngineDeadError, EngineError
from hsstar.domain.seeds import derived_seed
from hsstar.engines.device import clear_memory
from hsstar.engines.loading import TokenIds, encode_prompts, load_tokenizer, pick_dtype
from hsstar.engines.sampling.completions import (
    closing_of_thinking,
    completion,
    end_of_text_ids,
    refusal,
    stop_check,
)
from hsstar.engines.sampling.contract import Completion, SampleRequest, SamplingParameters
from hsstar.engines.sampling.hf_decoding import STOP_CHECK_INTERVAL, Draw
from hsstar.engines.vllm.loop import EngineLoop, Progress
from hsstar.engines.vllm.options import check_options
from hsstar.engines.vllm.process import (
    LLMEngine,
    LoRARequest,
    RequestOutputKind,
    current_platform,
    start_engine,
    vllm,
)

_CPU_DEFAULTS = {
    "block_size": 32,  # only whole blocks of a prompt are shared by its samples; vLLM would take 128 tokens
    "enforce_eager": True,
    "kv_cache_memory_bytes": 256 << 20,
    "enable_chunked_prefill": False,  # it resets generators, which CPU generators do not support
}
_NEVER = 1 << 30
"""Tokens between two outputs of a request without stop strings: one output, at its end."""
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Limits of the rank of adapters that vLLM knows."""
_BOOKKEEPING = {
    "_name_or_path", "architectures", "bos_token_id", "dtype", "eos_token_id", "pad_token_id",
    "torch_dtype", "transformers_version", "use_cache",
}  # fmt: skip
"""Keys of a model's configuration that do not describe its layers."""


@dataclass(slots=True)
class _Row:
    index: int
    prompt: TokenIds
    seed: int
    limit: int
    begun: float = 0.0
    tokens: TokenIds = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


class VllmSampler:
    """Draws completions with vLLM, every row from its own seed.

    Every request has its own noise generator, so in float32 a completion is the same in every batch. The
    requests of concurrent draws are decoded together; the caller's thread turns tokens into text. A seed
    gives other samples than with `TransformersSampler`.

    The adapter of a policy is a LoRA adapter of vLLM on its base: a new one replaces it while the base stays.
    """

    name = f"vllm {vllm.__version__}"
    _adapter: LoRARequest | None = None
    _adapters = 0  # that the engine has had

    def __init__(
        self,
        model: str | Path,
        *,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 256,
        **options: Any,
    ) -> None:
        check_options(options)
        if device not in ("auto", current_platform.device_type):
            raise BadInputError(
                f"this vLLM runs on {current_platform.device_type}, not on {device}; CUDA_VISIBLE_DEVICES "
                "chooses among several GPUs"
            )
        lora = options.pop("lora", None)
        self._own_adapter = Path(lora).expanduser().resolve() if lora else None
        self._options, self._dtype, self._batch_size = options, dtype, batch_size
        self._start(check_policy(model).path)

    def _start(self, path: Path) -> None:
        base = weights_folder(path)
        self._rank = self._rank_of(path)
        arguments = engine_arguments(
            self._options, self._dtype, self._batch_size, current_platform.device_type, rank=self._rank
        )
        self._sleeps = bool(arguments["enable_sleep_mode"])
        self._layout, self._base = _layout(base), fingerprint(base)
        self._use(path)
        self._loop = EngineLoop(lambda: start_engine(base, **arguments))
        self._context = self._loop.call(lambda engine: int(engine.model_config.max_model_len))

    def _use(self, path: Path) -> None:
        """Take texts and adapter of a policy whose base the engine has."""
        self._path = path
        self._read_texts(path)
        adapter = self._adapter_of(path)
        if adapter is None:
            self._adapter = None
            return
        self._adapters += 1
        name = fingerprint(path)  # by it vLLM tells cached beginnings apart
        self._adapter = LoRARequest(name, self._adapters, str(adapter))

    def _adapter_of(self, path: Path) -> Path | None:
        own = path if read_base(path) else None
        if own and self._own_adapter:
            raise BadInputError(f"policy.vllm.lora: {path} is an adapter itself, and a policy has one alone")
        return own or self._own_adapter

    def _rank_of(self, path: Path) -> int:
        adapter = self._adapter_of(path)
        return adapter_rank(adapter) if adapter else 0

    def _read_texts(self, path: Path) -> None:
        self._tokenizer = load_tokenizer(path)
        self._end_ids = end_of_text_ids(_generation_config(path), self._tokenizer)

    def draw(
        self, requests: Sequence[SampleRequest], parameters: SamplingParameters
    ) -> Iterator[tuple[int, Completion | str]]:
        """Draw, as `contract.Sampler.draw` says; what follows put tokens is a second request of vLLM."""
        prompts = encode_prompts(self._tokenizer, [request.prompt for request in requests])
        rows = []
        for index, (request, prompt) in enumerate(zip(requests, prompts, strict=True)):
            if reason := refusal(prompt, self._context):
                yield index, reason
            else:
                limit = min(parameters.max_new_tokens, self._context - len(prompt))
                rows.append(_Row(index, prompt, request.seed, limit))
        closing = closing_of_thinking(self._tokenizer, parameters)
        if closing is None:
            yield from self._decode(rows, parameters)
            return
        continued = []
        for row, result in self._begin(rows, parameters):
            if result is not None:
                yield row.index, result
                continue
            put = closing(row.tokens)[: row.limit - len(row.tokens)]
            row.tokens += put
            row.logprobs += [0.0] * len(put)
            row.seed = derived_seed(row.seed, "answer")
            continued.append(row)
        yield from self._decode(continued, parameters)

    def _decode(
        self, rows: Sequence[_Row], parameters: SamplingParameters
    ) -> Iterator[tuple[int, Completion | str]]:
        full = [row for row in rows if len(row.tokens) == row.limit]
        for row in full:
            yield row.index, self._completion(row, False, parameters, time.monotonic())
        for row, result in self._begin([row for row in rows if row not in full], parameters, whole=True):
            assert result is not None  # noqa: S101  # no budget ends it before its limit
            yield row.index, result

    def _begin(
        self, rows: Sequence[_Row], parameters: SamplingParameters, *, whole: bool = False
    ) -> Iterator[tuple[_Row, Completion | str | None]]:
        """Draw rows up to a budget of thinking, or `whole`; None for those that continue."""
        budget = None if whole else parameters.thinking_tokens or None
        admitted = [self._arguments_of(row, parameters, budget) for row in rows]
        stopped = stop_check(self._tokenizer, parameters.stop)
        group = self._loop.start(admitted)
        try:
            for progress in group:
                row = rows[progress.place]
                if isinstance(progress.output, str):
                    yield row, progress.output
                    continue
                ended = _add(row, progress)
                enough = stopped is not None and stopped(row.tokens)
                if enough and not progress.finished:
                    group.end(progress.place)
                if enough or progress.finished:
                    continues = not (ended or enough) and len(row.tokens) < row.limit
                    yield row, None if continues else self._completion(row, ended, parameters, progress.ended)
        finally:
            group.close()

    def _completion(self, row: _Row, ended: bool, parameters: SamplingParameters, at: float) -> Completion:
        draw = Draw(row.tokens, row.logprobs, ended)
        return completion(self._tokenizer, draw, parameters.stop, 1000 * (at - row.begun))

    def reload(self, model: Path) -> None:
        """Load another policy in place of this one; only its weights if all else is equal.

        Of an adapter on the base that the engine has, only the adapter.
        """
        path = check_policy(model).path
        base = weights_folder(path)
        if _layout(base) != self._layout or self._rank_of(path) > self._rank:
            self.close()
            self._start(path)
            return
        content = fingerprint(base)
        if content != self._base or not self._rank:
            self._load(base)
            self._base = content
        self._use(path)

    def _load(self, base: Path) -> None:
        try:
            cleared = self._loop.call(lambda engine: _reload(engine, base))
        except EngineDeadError:
            raise
        except Exception as error:  # old and new weights may be mixed
            raise EngineDeadError(f"vLLM could not load {base}: {error}") from error
        if not cleared:
            raise EngineDeadError("vLLM could not clear its cache of the old policy")

    def sleep(self) -> None:
        """Move the weights out of the GPU; close the engine if the platform cannot do that."""
        if self._sleeps:
            self._loop.call(_sleep)
        else:
            self.close()

    def wake(self) -> None:
        """Bring the weights back."""
        if self._sleeps:
            self._loop.call(lambda engine: engine.wake_up())
        else:
            self._start(self._path)

    def close(self) -> None:
        """Free the model's memory."""
        self._loop.close()
        clear_memory()

    def _arguments_of(self, row: _Row, parameters: SamplingParameters, budget: int | None) -> dict[str, Any]:
        most = row.limit if budget is None else min(budget, row.limit)
        return {
            "prompt": vllm.TokensPrompt(prompt_token_ids=row.prompt + row.tokens),
            "params": vllm.SamplingParams(
                temperature=parameters.temperature,
                top_p=parameters.top_p,
                top_k=parameters.top_k,
                min_p=parameters.min_p,
                repetition_penalty=parameters.repetition_penalty,
                seed=row.seed,
                max_tokens=most - len(row.tokens),
                ignore_eos=True,
                stop_token_ids=[*self._end_ids, *parameters.stop_token_ids],
                logprobs=0,
                flat_logprobs=True,
                detokenize=False,
                output_kind=RequestOutputKind.DELTA,
                stream_interval=STOP_CHECK_INTERVAL if parameters.stop else _NEVER,
            ),
            "lora_request": self._adapter,
        }


def engine_arguments(
    options: Mapping[str, Any], dtype: str, batch_size: int, device: str, *, rank: int = 0
) -> dict[str, Any]:
    """Return the arguments of vLLM for a sampler on this type of device; `options` are the recipe's.

    `rank` is that of the adapters to come, 0 for none.
    """
    return {
        **({"max_lora_rank": next((known for known in _RANKS if known >= rank), rank)} if rank else {}),
        **(_CPU_DEFAULTS if device == "cpu" else {}),
        "enable_sleep_mode": current_platform.is_sleep_mode_available(),
        "max_num_seqs": batch_size,
        **options,
        "dtype": str(pick_dtype(dtype, torch.device(device))).removeprefix("torch."),
        "enable_lora": rank > 0,
        "generation_config": "vllm",
        "logprobs_mode": "raw_logprobs",
    }


def _reload(engine: LLMEngine, path: Path) -> bool:
    """Load other weights into an engine; return whether its cache of the old ones is cleared."""
    engine.collective_rpc("reload_weights", kwargs={"weights_path": str(path)})
    return bool(engine.reset_prefix_cache())


def _sleep(engine: LLMEngine) -> None:
    engine.reset_prefix_cache()
    engine.sleep(level=1)


def _add(row: _Row, progress: Progress) -> bool:
    (output,) = progress.output.outputs
    if not row.tokens:
        row.begun = progress.begun
    row.tokens.extend(output.token_ids)
    row.logprobs.extend(output.logprobs.logprobs)
    if progress.finished and output.finish_reason not in ("stop", "length"):
        raise EngineError(f"vLLM ended a sample for the reason {output.finish_reason!r}")
    return bool(output.finish_reason == "stop")


def _generation_config(path: Path) -> GenerationConfig:
    if (path / "generation_config.json").is_file():
        return GenerationConfig.from_pretrained(str(path), local_files_only=True)
    return GenerationConfig.from_model_config(AutoConfig.from_pretrained(str(path), local_files_only=True))


def _layout(path: Path) -> tuple[dict[str, Any], set[str]]:
    """Return configuration and tensor names; two checkpoints with equal ones differ in weights only."""
    configuration = AutoConfig.from_pretrained(str(path), local_files_only=True).to_dict()
    kept = {key: value for key, value in configuration.items() if key not in _BOOKKEEPING}
    return kept, set().union(*map(tensor_names, weight_files(path)))
