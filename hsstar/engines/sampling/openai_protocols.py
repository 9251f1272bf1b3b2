"""Protocols of completions: what a request says, and what an answer holds. Here OpenAI's two."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from hsstar.domain.answers.thinking import Thinking
from hsstar.domain.chat_prompts import asked_by, beginning_of
from hsstar.domain.errors import EngineError
from hsstar.engines.sampling.contract import Completion, SampleRequest, SamplingParameters
from hsstar.engines.sampling.openai_server import CompletionsServer

OpenAIName = Literal["completions", "chat"]
ProtocolName = OpenAIName | Literal["sglang"]

_BEYOND_THE_PROTOCOL = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "stop_token_ids": ()}
"""Keys that vLLM has beside the protocol's, with what changes nothing.

Without the first three vLLM takes those of the checkpoint's generation_config.json.
"""
_USUAL_MARKS = Thinking("<think>", "</think>")
_SHOWN_CHARACTERS = 300


class Requests(Protocol):
    """Writes the requests of a protocol and reads its answers."""

    @property
    def path(self) -> str:
        """Where requests go, below the address of a server."""
        ...

    def use(self, checkpoint: Path) -> None:
        """Ask for another policy from now on."""
        ...

    def refusal(self, request: SampleRequest) -> str:
        """Return why no server is asked for this; empty if one is."""
        ...

    def body(
        self, request: SampleRequest, parameters: SamplingParameters, server: CompletionsServer
    ) -> dict[str, Any]:
        """Return a request; raise EngineError if the server cannot do what it says."""
        ...

    def shorter(self, body: dict[str, Any], tokens: int) -> dict[str, Any]:
        """Return the same request for fewer tokens."""
        ...

    async def count(self, request: SampleRequest, server: CompletionsServer) -> tuple[int, int] | None:
        """Return the tokens of a prompt and of the model's context; None if they are not known."""
        ...

    def completion(
        self,
        request: SampleRequest,
        parameters: SamplingParameters,
        server: CompletionsServer,
        answer: dict[str, Any],
        milliseconds: float,
    ) -> Completion:
        """Return what an answer holds; raise EngineError if something is missing or ended it early."""
        ...


def requests_by(
    protocol: ProtocolName, logprobs: bool, options: dict[str, Any], checkpoint: Path
) -> Requests:
    """Return the requests of a protocol; `options` are more keys of each."""
    if protocol == "sglang":
        from hsstar.engines.sampling.sglang_protocol import SglangRequests  # it imports PyTorch

        return SglangRequests(checkpoint, logprobs, options)
    return OpenAIRequests(protocol, logprobs, options)


class Speech(Protocol):
    """How one of OpenAI's protocols says a prompt, and a response."""

    path: str
    logprobs: Any
    """What asks for the log-probabilities of the drawn tokens."""

    def prompt(self, text: str) -> dict[str, Any]:
        """Return what a prompt decides of a request."""
        ...

    def response(self, choice: dict[str, Any], prompt: str, thinking: Thinking | None) -> str:
        """Return the whole text of an answer's choice."""
        ...

    def logprob(self, choice: dict[str, Any]) -> float:
        """Return the sum of the log-probabilities of a choice."""
        ...


class _Completions:
    path = "completions"
    logprobs = 0

    def prompt(self, text: str) -> dict[str, Any]:
        return {"prompt": text}

    def response(self, choice: dict[str, Any], prompt: str, thinking: Thinking | None) -> str:
        text: str = choice["text"]
        return text

    def logprob(self, choice: dict[str, Any]) -> float:
        return float(sum(choice["logprobs"]["token_logprobs"]))


class _Chat:
    path = "chat/completions"
    logprobs = True

    def prompt(self, text: str) -> dict[str, Any]:
        return asked_by(text)

    def response(self, choice: dict[str, Any], prompt: str, thinking: Thinking | None) -> str:
        """Put thinking that the server took out of a text back in front of it, between its marks."""
        message = choice["message"]
        reply = message["content"] or ""
        thought = message.get("reasoning_content") or message.get("reasoning")
        if not thought:
            return str(reply)
        marks = thinking or _USUAL_MARKS
        opening = "" if marks.is_open(beginning_of(prompt)) else marks.opening
        return opening + thought + (marks.closing + reply if reply else "")

    def logprob(self, choice: dict[str, Any]) -> float:
        return float(sum(token["logprob"] for token in choice["logprobs"]["content"]))


_SPEECHES: dict[OpenAIName, Speech] = {"completions": _Completions(), "chat": _Chat()}


@dataclass(frozen=True, slots=True)
class OpenAIRequests:
    """Those of OpenAI's protocols, as `Requests` says."""

    protocol: OpenAIName
    logprobs: bool
    options: dict[str, Any]

    @property
    def path(self) -> str:
        """Where the server has the protocol."""
        return _SPEECHES[self.protocol].path

    def body(
        self, request: SampleRequest, parameters: SamplingParameters, server: CompletionsServer
    ) -> dict[str, Any]:
        """Return the keys of the protocol, of vLLM where it is the server, and of the recipe."""
        speech = _SPEECHES[self.protocol]
        body = {
            "model": server.model,
            **self.prompt(request, server),
            "n": 1,
            "seed": request.seed,
            "temperature": parameters.temperature,
            "top_p": parameters.top_p,
            "max_tokens": parameters.max_new_tokens,
        }
        if self.logprobs:
            body["logprobs"] = speech.logprobs
        if parameters.stop:
            body["stop"] = list(parameters.stop)
        return body | _beyond_the_protocol(parameters, server) | self.options

    def use(self, checkpoint: Path) -> None:
        """Change nothing: the server tokenises."""

    def refusal(self, request: SampleRequest) -> str:
        """Refuse an empty prompt alone: the server knows the model's context."""
        return "" if request.prompt else "the prompt has no tokens"

    def shorter(self, body: dict[str, Any], tokens: int) -> dict[str, Any]:
        """Return the same request with another `max_tokens`."""
        return body | {"max_tokens": tokens}

    async def count(self, request: SampleRequest, server: CompletionsServer) -> tuple[int, int] | None:
        """Ask the server, if it can count."""
        return await server.count_tokens(self.prompt(request, server))

    def prompt(self, request: SampleRequest, server: CompletionsServer) -> dict[str, Any]:
        """Return the part of a request that its prompt decides; raise EngineError as `body` does."""
        if self.protocol == "chat" and beginning_of(request.prompt) and not server.is_vllm:
            raise EngineError(
                f"{server.url} is no vLLM server, and a chat cannot continue a response there "
                "(policy.prompt.prefill, or continuations of steps); use protocol = 'completions'"
            )
        return _SPEECHES[self.protocol].prompt(request.prompt)

    def completion(
        self,
        request: SampleRequest,
        parameters: SamplingParameters,
        server: CompletionsServer,
        answer: dict[str, Any],
        milliseconds: float,
    ) -> Completion:
        """Return text, tokens and log-probability of an answer's one choice."""
        speech = _SPEECHES[self.protocol]
        if answer.get("error"):
            raise EngineError(f"{server.url} answers with an error: {answer['error']!s:.{_SHOWN_CHARACTERS}}")
        try:
            choice = answer["choices"][0]
            reason = "tool_calls" if choice.get("message", {}).get("tool_calls") else choice["finish_reason"]
            if reason not in ("stop", "length"):
                raise EngineError(f"{server.url} ended a completion for the reason {reason!r}")
            text = speech.response(choice, request.prompt, parameters.thinking)
            tokens = answer["usage"]["completion_tokens"]
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise EngineError(
                f"{server.url} answers without text, finish_reason or usage; hsstar needs them all"
            ) from error
        logprob = self._logprob(choice, server) if self.logprobs else None
        return Completion(text, tokens, "stop" if reason == "stop" else "length", logprob, milliseconds)

    def _logprob(self, choice: dict[str, Any], server: CompletionsServer) -> float:
        try:
            return _SPEECHES[self.protocol].logprob(choice)
        except (KeyError, TypeError) as error:
            raise EngineError(
                f"{server.url} answers without log-probabilities of the tokens; set "
                "policy.openai.logprobs = false to do without"
            ) from error


def _beyond_the_protocol(parameters: SamplingParameters, server: CompletionsServer) -> dict[str, Any]:
    chosen = {key: getattr(parameters, key) for key in _BEYOND_THE_PROTOCOL}
    changed = [key for key, plain in _BEYOND_THE_PROTOCOL.items() if chosen[key] != plain]
    if server.is_vllm:
        ends = chosen.pop("stop_token_ids")
        chosen["top_k"] = chosen["top_k"] or -1  # older versions know no 0
        return chosen | ({"stop_token_ids": list(ends)} if ends else {})
    if changed:
        raise EngineError(
            f"{server.url} is no vLLM server, and {changed[0]} is no key of the protocol; leave it "
            "out of the recipe, or send the server's own key by policy.openai.options"
        )
    return {}
