"""SGLang's own protocol: token ids to `/generate`, the drawn tokens with their log-probabilities back."""

from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from hsstar.domain.errors import EngineError
from hsstar.engines.loading import TokenIds, context_length, encode_prompts, load_tokenizer
from hsstar.engines.sampling.completions import refusal
from hsstar.engines.sampling.contract import Completion, SampleRequest, SamplingParameters
from hsstar.engines.sampling.openai_server import NATIVE_PATH, CompletionsServer

_SEEDS = 2**31
"""SGLang keeps seeds in 32 bits."""


class SglangRequests:
    """Those of `Requests`: this process tokenises, by the tokenizer of the policy's checkpoint.

    `options` are more sampling parameters. SGLang heeds a seed under `--enable-deterministic-inference`, and
    gives log-probabilities at temperature 1 under `SGLANG_RETURN_ORIGINAL_LOGPROB=1`.
    """

    path = NATIVE_PATH

    def __init__(self, checkpoint: Path, logprobs: bool, options: dict[str, Any]) -> None:
        self._logprobs = logprobs
        self._options = options
        self._policy = _Policy(checkpoint)

    def use(self, checkpoint: Path) -> None:
        """Tokenise for another policy."""
        self._policy = _Policy(checkpoint)

    def refusal(self, request: SampleRequest) -> str:
        """Refuse a prompt without tokens, and one that fills the model's context."""
        return refusal(self._policy.tokens_of(request.prompt), self._policy.context)

    def body(
        self, request: SampleRequest, parameters: SamplingParameters, server: CompletionsServer
    ) -> dict[str, Any]:
        """Return token ids and sampling parameters; a completion ends with the context."""
        prompt = self._policy.tokens_of(request.prompt)
        sampling: dict[str, Any] = {
            "n": 1,
            "sampling_seed": request.seed % _SEEDS,
            "temperature": parameters.temperature,
            "top_p": parameters.top_p,
            "top_k": parameters.top_k or -1,
            "min_p": parameters.min_p,
            "repetition_penalty": parameters.repetition_penalty,
            "max_new_tokens": min(parameters.max_new_tokens, self._policy.context - len(prompt)),
        }
        if parameters.stop:
            sampling["stop"] = list(parameters.stop)
        if parameters.stop_token_ids:
            sampling["stop_token_ids"] = list(parameters.stop_token_ids)
        return {
            "input_ids": prompt,
            "sampling_params": sampling | self._options,
            "return_logprob": self._logprobs,
        }

    def shorter(self, body: dict[str, Any], tokens: int) -> dict[str, Any]:
        """Return the same request with another `max_new_tokens`."""
        return body | {"sampling_params": body["sampling_params"] | {"max_new_tokens": tokens}}

    async def count(self, request: SampleRequest, server: CompletionsServer) -> tuple[int, int] | None:
        """Return None: what `body` asks for fits the policy's context, and a server's own is not known."""
        return None

    def completion(
        self,
        request: SampleRequest,
        parameters: SamplingParameters,
        server: CompletionsServer,
        answer: dict[str, Any],
        milliseconds: float,
    ) -> Completion:
        """Return text, tokens and log-probability of an answer."""
        try:
            text, meta = answer["text"], answer["meta_info"]
            reason, tokens = meta["finish_reason"]["type"], int(meta["completion_tokens"])
        except (KeyError, TypeError, ValueError) as error:
            raise EngineError(
                f"{server.url} answers without text, finish_reason or completion_tokens; is it SGLang?"
            ) from error
        if reason not in ("stop", "length"):
            said = meta["finish_reason"].get("message") or "no reason given"
            raise EngineError(f"{server.url} ended a completion for the reason {reason!r}: {said}")
        logprob = self._logprob(meta, tokens, server) if self._logprobs else None
        return Completion(str(text), tokens, "stop" if reason == "stop" else "length", logprob, milliseconds)

    def _logprob(self, meta: dict[str, Any], tokens: int, server: CompletionsServer) -> float:
        try:
            logprobs = [float(entry[0]) for entry in meta["output_token_logprobs"]]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise EngineError(
                f"{server.url} answers without log-probabilities of the tokens; set "
                "policy.openai.logprobs = false to do without"
            ) from error
        if len(logprobs) != tokens:
            raise EngineError(f"{server.url} gives {len(logprobs)} log-probabilities for {tokens} tokens")
        return sum(logprobs)


class _Policy:
    """Tokenizer and context of a checkpoint, read when the first prompt arrives."""

    def __init__(self, checkpoint: Path) -> None:
        self._checkpoint = checkpoint

    def tokens_of(self, prompt: str) -> TokenIds:
        """Return a prompt's token ids."""
        return encode_prompts(self._tokenizer, [prompt])[0]

    @cached_property
    def context(self) -> int:
        """The most tokens that the model attends to."""
        return context_length(AutoConfig.from_pretrained(str(self._checkpoint), local_files_only=True))

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self._checkpoint)
