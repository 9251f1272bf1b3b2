"""Sampler on any server that speaks OpenAI's completions protocol, such as `vllm serve`."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from hsstar.domain.errors import EngineDeadError, EngineError
from hsstar.engines.sampling.contract import Completion, SampleRequest, SamplingParameters
from hsstar.engines.sampling.openai_server import (
    API_KEY_VARIABLE,
    CompletionsServer,
    Note,
    RefusedRequestError,
    Reload,
)
from hsstar.remote.secrets import read_secret

_BEYOND_THE_PROTOCOL = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "stop_token_ids": ()}
"""Keys that vLLM has beside the protocol's, with what changes nothing.

Without the first three vLLM takes those of the checkpoint's generation_config.json.
"""

Result = tuple[int, Completion | str]


class OpenAISampler:
    """Draws completions from a server, one request each, at most `concurrency` at once over all draws.

    The server tokenises the prompts. It also decides whether a seed fixes a completion, and whether
    log-probabilities are those of the raw distribution; vLLM does both by default (`--logprobs-mode
    raw_logprobs`). It decides `device`, `dtype` and `batch_size` (`of_the_server`) as well.

    `model` is the server's name of the policy; with `reload = "vllm"` it loads `checkpoint` from its path.
    `timeout_seconds` is the longest silence about one request, `options` are more keys of each. `note`
    receives the reason when draws wait.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        *,
        base_url: str,
        model: str,
        concurrency: int = 64,
        timeout_seconds: float = 600.0,
        options: dict[str, Any] | None = None,
        reload: Reload = "none",
        note: Note = lambda text: None,
        **of_the_server: Any,
    ) -> None:
        self.name = "openai"
        self._base_url = base_url
        self._model = model
        self._options = options or {}
        self._reload = reload
        self._closed = False
        self._places = asyncio.Semaphore(concurrency)
        self._server = CompletionsServer(
            base_url,
            model,
            api_key=read_secret(os.environ, API_KEY_VARIABLE) or "",
            connections=concurrency,
            timeout_seconds=timeout_seconds,
            reload=reload,
            checkpoint=Path(checkpoint),
            note=note,
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="openai-sampler", daemon=True)
        self._thread.start()

    def draw(self, requests: Sequence[SampleRequest], parameters: SamplingParameters) -> Iterator[Result]:
        """Yield index and result of each request as its answer arrives; wait while the server is away.

        Raise EngineError if the server does not serve the policy or failed repeatedly on a request,
        EngineDeadError if the sampler was closed.
        """
        if self._closed:
            raise EngineDeadError("the sampler is closed")
        results: SimpleQueue[Result | BaseException] = SimpleQueue()
        drawing = asyncio.run_coroutine_threadsafe(
            self._draw_all(requests, parameters, results.put), self._loop
        )
        drawing.add_done_callback(lambda done: results.put(_failure(done)))
        try:
            for _ in requests:
                result = results.get()
                if isinstance(result, BaseException):
                    raise result
                yield result
        finally:
            drawing.cancel()

    def reload(self, model: Path) -> None:
        """Make the server load another policy before the next draw; raise EngineError if it cannot reload."""
        if self._reload == "none":
            raise EngineError(
                f"{self._base_url} serves one policy, and this job samples from another, {model}; "
                "set policy.openai.reload = 'vllm', or sample with another engine"
            )
        self._loop.call_soon_threadsafe(self._server.use, model)

    def close(self) -> None:
        """Abandon all requests and end the connections."""
        if self._closed:
            return
        self._closed = True
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.close()

    async def _draw_all(
        self,
        requests: Sequence[SampleRequest],
        parameters: SamplingParameters,
        put: Callable[[Result], None],
    ) -> None:
        async def draw(index: int, request: SampleRequest) -> None:
            async with self._places:
                put((index, await self._draw_one(request, parameters)))

        self._server.doubt()
        try:
            async with asyncio.TaskGroup() as group:
                for index, request in enumerate(requests):
                    group.create_task(draw(index, request))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _draw_one(self, request: SampleRequest, parameters: SamplingParameters) -> Completion | str:
        if not request.prompt:
            return "the prompt has no tokens"
        await self._server.ready()
        self.name = f"openai:{self._server.version}" if self._server.version else "openai"
        body = self._body(request, parameters)
        begin = time.monotonic()
        try:
            answer = await self._server.complete(body)
        except RefusedRequestError as refusal:
            count = await self._server.count_tokens(request.prompt)
            if count is None and "context length" in str(refusal).lower():
                return str(refusal)
            if count is None or count[0] + parameters.max_new_tokens <= count[1]:
                raise EngineError(f"{self._base_url} refuses a request: {refusal}") from refusal
            tokens, context = count
            if tokens >= context:
                return f"the prompt has {tokens} tokens, which fills the model's context of {context}"
            answer = await self._server.complete(body | {"max_tokens": context - tokens})
        return self._completion(answer, (time.monotonic() - begin) * 1000)

    def _body(self, request: SampleRequest, parameters: SamplingParameters) -> dict[str, Any]:
        body = {
            "model": self._model,
            "prompt": request.prompt,
            "n": 1,
            "seed": request.seed,
            "temperature": parameters.temperature,
            "top_p": parameters.top_p,
            "max_tokens": parameters.max_new_tokens,
            "logprobs": 0,
        }
        if parameters.stop:
            body["stop"] = list(parameters.stop)
        return body | self._beyond_the_protocol(parameters) | self._options

    def _beyond_the_protocol(self, parameters: SamplingParameters) -> dict[str, Any]:
        chosen = {key: getattr(parameters, key) for key in _BEYOND_THE_PROTOCOL}
        changed = [key for key, plain in _BEYOND_THE_PROTOCOL.items() if chosen[key] != plain]
        if self._server.is_vllm:
            ends = chosen.pop("stop_token_ids")
            chosen["top_k"] = chosen["top_k"] or -1  # older versions know no 0
            return chosen | ({"stop_token_ids": list(ends)} if ends else {})
        if changed:
            raise EngineError(
                f"{self._base_url} is no vLLM server, and {changed[0]} is no key of the protocol; leave it "
                "out of the recipe, or send the server's own key by policy.openai.options"
            )
        return {}

    def _completion(self, answer: dict[str, Any], milliseconds: float) -> Completion:
        try:
            choice = answer["choices"][0]
            text, reason = choice["text"], choice["finish_reason"]
            tokens = answer["usage"]["completion_tokens"]
            logprob = float(sum(choice["logprobs"]["token_logprobs"]))
        except (KeyError, IndexError, TypeError) as error:
            raise EngineError(
                f"{self._base_url} answers without text, finish_reason, usage or logprobs of the tokens; "
                "hsstar needs them all"
            ) from error
        if reason not in ("stop", "length"):
            raise EngineError(f"{self._base_url} ended a completion for the reason {reason!r}")
        return Completion(text, tokens, reason, logprob, milliseconds)


def _failure(done: Future[None]) -> BaseException:
    if done.cancelled():
        return EngineDeadError("the sampler was closed")
    return done.exception() or EngineError("a draw ended without all of its results")
