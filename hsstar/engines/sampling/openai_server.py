"""Requests to an OpenAI-compatible completions server; they wait while it is away or too busy."""

import asyncio
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import httpx2

from hsstar.domain.errors import CheckpointError, EngineError
from hsstar.remote.http import TOO_BUSY, described, json_object, message_of, pause_seconds, retry_after

log = logging.getLogger("hsstar.engines.openai")

Reload = Literal["none", "vllm"]
Note = Callable[[str], None]
"""Receives why the engine waits, and that it continues."""

API_KEY_VARIABLE = "HSSTAR_OPENAI_API_KEY"

_ATTEMPTS = 5
"""How often a request is sent if its answer fails although the server can be reached."""
_CONNECT_SECONDS = 10.0
_LOAD_SECONDS = 1800.0
_LOG_EVERY_SECONDS = 60.0
_RESETS = 20
_START_TIME = re.compile(r"^process_start_time_seconds\s+(\S+)", re.MULTILINE)


class RefusedRequestError(EngineError):
    """The server refuses the content of a request and would refuse it again."""


class CompletionsServer:
    """One server, used from one event loop; `version` and `is_vllm` are known once it was ready."""

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str,
        connections: int,
        timeout_seconds: float,
        reload: Reload,
        checkpoint: Path,
        note: Note,
    ) -> None:
        self._url = base_url.rstrip("/")
        self._root = self._url.removesuffix("/v1")
        self._model = model
        self._api_key = api_key
        self._reload = reload
        self._checkpoint = checkpoint
        self._client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx2.Timeout(timeout_seconds, connect=_CONNECT_SECONDS),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=connections),
        )
        self._gate = asyncio.Lock()
        self._checked = False
        self._loaded: tuple[Path, str] | None = None
        self._waiting = _Waiting(self._url, note)
        self.version = ""
        self.is_vllm = False

    async def close(self) -> None:
        """End its connections."""
        await self._client.aclose()

    def use(self, checkpoint: Path) -> None:
        """Send nothing before the server has loaded the weights of this checkpoint."""
        self._checkpoint = checkpoint
        self._loaded = None
        self._checked = False

    def doubt(self) -> None:
        """Send nothing before the server has shown again that it serves the policy."""
        self._checked = False

    async def ready(self) -> None:
        """Wait until the server serves the policy; raise EngineError if it serves another or refuses."""
        while not self._checked:
            async with self._gate:
                attempt = 0
                while not self._checked:
                    trouble = await self._check()
                    if not trouble:
                        self._checked = True
                        break
                    await self._waiting.pause(trouble, pause_seconds(attempt))
                    attempt += 1
        self._waiting.over()

    async def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a completion request.

        Raise RefusedRequestError if the server refuses its content, EngineError if it refuses access or
        failed repeatedly on this request.
        """
        failures = pauses = 0
        while True:
            await self.ready()
            loaded = self._loaded
            pause = pause_seconds(pauses)
            try:
                response, connected = await self._send(body)
                if self._reload == "vllm" and not await self._held(loaded, connected):
                    self.doubt()
                    continue
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                self.doubt()
                continue
            except httpx2.TransportError as error:  # a time-out, or a cut connection
                self.doubt()
                failures += 1
                trouble = described(error)
            else:
                if response.status_code == httpx2.codes.OK:
                    return json_object(response)
                trouble = f"status {response.status_code}: {message_of(response, self._api_key)}"
                if response.status_code in TOO_BUSY:
                    self._checked &= response.status_code == httpx2.codes.TOO_MANY_REQUESTS
                    pause = max(pause, retry_after(response))
                elif response.status_code < httpx2.codes.INTERNAL_SERVER_ERROR:
                    raise self._refusal(response)
                else:
                    failures += 1
            if failures == _ATTEMPTS:
                raise EngineError(f"{self._url} failed on a request {_ATTEMPTS} times: {trouble}")
            await self._waiting.pause(trouble, pause)
            pauses += 1

    async def _send(self, body: dict[str, Any]) -> tuple[httpx2.Response, bool]:
        """Return the answer to a request, and whether it opened a connection."""
        connected = False

        async def trace(event: str, details: Any) -> None:
            nonlocal connected
            connected |= event.startswith("connection.connect")

        response = await self._client.post(f"{self._url}/completions", json=body, extensions={"trace": trace})
        return response, connected

    async def _held(self, loaded: tuple[Path, str] | None, connected: bool) -> bool:
        """Return whether the server kept these weights; only a new connection reaches a restarted server."""
        if loaded is None or loaded != self._loaded:
            return loaded == self._loaded
        return not connected or await self._start_time() == loaded[1]

    async def count_tokens(self, prompt: str) -> tuple[int, int] | None:
        """Return the tokens of a prompt and of the model's context; None if the server cannot count."""
        try:
            response = await self._client.post(
                f"{self._root}/tokenize", json={"model": self._model, "prompt": prompt}
            )
        except httpx2.TransportError:
            return None
        if response.status_code != httpx2.codes.OK:
            return None
        content = json_object(response)
        count, context = content.get("count"), content.get("max_model_len")
        return (count, context) if isinstance(count, int) and isinstance(context, int) else None

    async def _check(self) -> str:
        """Return why the server cannot be used yet; empty if it can."""
        try:
            response = await self._client.get(f"{self._url}/models", timeout=_CONNECT_SECONDS)
            if response.status_code == 429 or response.status_code >= httpx2.codes.INTERNAL_SERVER_ERROR:
                return f"status {response.status_code}: {message_of(response, self._api_key)}"
            if response.status_code != httpx2.codes.OK:
                raise self._refusal(response)
            await self._look_at(json_object(response).get("data"))
            if self._reload == "vllm":
                await self._load()
        except httpx2.TransportError as error:
            return described(error)
        return ""

    async def _look_at(self, models: Any) -> None:
        served = {str(model.get("id")): model for model in models or () if isinstance(model, dict)}
        if self._model not in served:
            names = ", ".join(sorted(served)) or "no model"
            raise EngineError(
                f"{self._url} does not serve {self._model!r} (it serves {names}); "
                "policy.openai.model must be a name that it serves"
            )
        self.is_vllm = served[self._model].get("owned_by") == "vllm"
        if self.is_vllm and not self.version:
            response = await self._client.get(f"{self._root}/version", timeout=_CONNECT_SECONDS)
            if response.status_code == httpx2.codes.OK:
                self.version = f"vllm {json_object(response).get('version', '')}".strip()

    async def _load(self) -> None:
        """Load the policy's weights, unless this process of the server has them (by its start time)."""
        started = await self._start_time()
        if started and self._loaded == (self._checkpoint, started):
            return
        self._loaded = None
        call = {"method": "reload_weights", "kwargs": {"weights_path": str(self._checkpoint)}}
        await self._post_load("collective_rpc", call)
        for attempt in range(_RESETS):  # it fails while the server ends abandoned requests
            if (await self._post_load("reset_prefix_cache", None)).get("success", True):
                break
            await asyncio.sleep(pause_seconds(attempt) / 10)
        else:
            raise EngineError(f"{self._url} keeps what it cached of other weights; do others use it?")
        self._loaded = (self._checkpoint, started) if started else None

    async def _start_time(self) -> str:
        """Return when this process of the server was started; empty if it does not say."""
        metrics = await self._client.get(f"{self._root}/metrics", timeout=_CONNECT_SECONDS)
        match = _START_TIME.search(metrics.text) if metrics.status_code == httpx2.codes.OK else None
        return match[1] if match else ""

    async def _post_load(self, endpoint: str, body: Any) -> dict[str, Any]:
        response = await self._client.post(f"{self._root}/{endpoint}", json=body, timeout=_LOAD_SECONDS)
        if response.status_code in (404, 405):
            raise EngineError(
                f"{self._root}/{endpoint} is not there, and policy.openai.reload = 'vllm' needs it; "
                "start vLLM with VLLM_SERVER_DEV_MODE=1"
            )
        if response.status_code in (401, 403):
            raise self._refusal(response)
        if response.status_code != httpx2.codes.OK:
            raise CheckpointError(
                f"{self._root} cannot load {self._checkpoint} (status {response.status_code}: "
                f"{message_of(response, self._api_key)}); it must see this folder under this path"
            )
        return json_object(response) if response.content else {}

    def _refusal(self, response: httpx2.Response) -> EngineError:
        trouble = f"{response.url} answers {response.status_code}: {message_of(response, self._api_key)}"
        if response.status_code in (401, 403):
            reason = "is not accepted" if self._api_key else "is not set"
            return EngineError(f"{trouble}; {API_KEY_VARIABLE} {reason}")
        if response.status_code in (400, 413, 422):
            return RefusedRequestError(message_of(response, self._api_key))
        return EngineError(f"{trouble}; is policy.openai.base_url right? It usually ends in /v1")


class _Waiting:
    def __init__(self, url: str, note: Note) -> None:
        self._url = url
        self._note = note
        self._since: float | None = None
        self._logged = 0.0

    async def pause(self, trouble: str, seconds: float) -> None:
        now = time.monotonic()
        if self._since is None:
            self._since, self._logged = now, now - _LOG_EVERY_SECONDS
        if now - self._logged >= _LOG_EVERY_SECONDS:
            self._logged = now
            news = f"waiting for {self._url} for {now - self._since:.0f} s: {trouble}"
            log.warning("%s", news)
            self._note(news)
        await asyncio.sleep(seconds)

    def over(self) -> None:
        if self._since is not None:
            news = f"{self._url} answers again after {time.monotonic() - self._since:.0f} s"
            log.info("%s", news)
            self._note(news)
            self._since = None
