"""Sampler on servers that speak OpenAI's completions protocol, such as `vllm serve`."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from hsstar.domain.errors import EngineDeadError, EngineError
from hsstar.engines.sampling.contract import Completion, SampleRequest, SamplingParameters
from hsstar.engines.sampling.openai_pool import ServerPool
from hsstar.engines.sampling.openai_protocols import ProtocolName, Requests, requests_by
from hsstar.engines.sampling.openai_server import CompletionsServer, Note, RefusedRequestError
from hsstar.engines.sampling.openai_weights import API_KEY_VARIABLE, Reload
from hsstar.remote.secrets import read_secret

Result = tuple[int, Completion | str]


class OpenAISampler:
    """Draws completions from servers, one request each, at most `concurrency` at once per server.

    A server tokenises the prompts. It also decides whether a seed fixes a completion, and whether
    log-probabilities are those of the raw distribution; vLLM does both by default (`--logprobs-mode
    raw_logprobs`). It decides `device`, `dtype` and `batch_size` (`of_the_server`) as well.

    By the `chat` protocol a server renders the prompt too, a text of `domain.chat_prompts`. Without
    `logprobs` completions have none. Either `base_url` or `base_urls` says where they are. `model` is their
    name of the policy; with `reload = "vllm"` they load `checkpoint` from its path. `timeout_seconds` is the
    longest silence about one request, `options` are more keys of each. `note` receives the reason when draws
    wait.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        *,
        base_url: str | None = None,
        base_urls: Sequence[str] = (),
        model: str,
        concurrency: int = 64,
        timeout_seconds: float = 600.0,
        protocol: ProtocolName = "completions",
        logprobs: bool = True,
        options: dict[str, Any] | None = None,
        reload: Reload = "none",
        key_variable: str = API_KEY_VARIABLE,
        note: Note = lambda text: None,
        **of_the_server: Any,
    ) -> None:
        self.name = "openai"
        self._addresses = base_urls if base_url is None else (base_url,)
        self._requests: Requests = requests_by(protocol, logprobs, options or {}, Path(checkpoint))
        self._reload = reload
        self._closed = False
        self._places = asyncio.Semaphore(concurrency * len(self._addresses))

        def build(address: str, matters: Callable[[], bool]) -> CompletionsServer:
            return CompletionsServer(
                address,
                model,
                self._requests.path,
                api_key=read_secret(os.environ, key_variable) or "",
                key_variable=key_variable,
                connections=concurrency,
                timeout_seconds=timeout_seconds,
                reload=reload,
                checkpoint=Path(checkpoint),
                note=note,
                matters=matters,
            )

        self._servers = ServerPool(self._addresses, build, concurrency)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="openai-sampler", daemon=True)
        self._thread.start()

    def draw(self, requests: Sequence[SampleRequest], parameters: SamplingParameters) -> Iterator[Result]:
        """Yield index and result of each request as its answer arrives; wait while all servers are away.

        Raise EngineError if a server does not serve the policy or servers failed repeatedly on a request,
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
        """Make the servers load another policy before the next draw; raise EngineError if they cannot."""
        if self._reload == "none":
            raise EngineError(
                f"{', '.join(self._addresses)}: nothing loads another policy into a server, and this job "
                f"samples from another, {model}; set policy.openai.reload = 'vllm' or 'sglang', or take "
                "another engine"
            )
        self._requests.use(model)
        self._loop.call_soon_threadsafe(self._servers.use, model)

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
        await self._servers.close()

    async def _draw_all(
        self,
        requests: Sequence[SampleRequest],
        parameters: SamplingParameters,
        put: Callable[[Result], None],
    ) -> None:
        async def draw(index: int, request: SampleRequest) -> None:
            async with self._places:
                put((index, await self._draw_one(request, parameters)))

        await self._servers.look()
        try:
            async with asyncio.TaskGroup() as group:
                for index, request in enumerate(requests):
                    group.create_task(draw(index, request))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _draw_one(self, request: SampleRequest, parameters: SamplingParameters) -> Completion | str:
        if reason := self._requests.refusal(request):
            return reason
        return await self._servers.run(partial(self._ask, request, parameters))

    async def _ask(
        self, request: SampleRequest, parameters: SamplingParameters, server: CompletionsServer
    ) -> Completion | str:
        self.name = f"openai:{self._servers.versions}".rstrip(":")
        body = self._requests.body(request, parameters, server)
        begin = time.monotonic()
        try:
            answer = await server.ask(body)
        except RefusedRequestError as refusal:
            count = await self._requests.count(request, server)
            if count is None and "context length" in str(refusal).lower():
                return str(refusal)
            if count is None or count[0] + parameters.max_new_tokens <= count[1]:
                raise EngineError(f"{server.url} refuses a request: {refusal}") from refusal
            tokens, context = count
            if tokens >= context:
                return f"the prompt has {tokens} tokens, which fills the model's context of {context}"
            answer = await server.ask(self._requests.shorter(body, context - tokens))
        milliseconds = (time.monotonic() - begin) * 1000
        return self._requests.completion(request, parameters, server, answer, milliseconds)


def _failure(done: Future[None]) -> BaseException:
    if done.cancelled():
        return EngineDeadError("the sampler was closed")
    return done.exception() or EngineError("a draw ended without all of its results")
