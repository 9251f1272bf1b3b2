"""One OpenAI-compatible completions server: whether it can be used, and attempts at requests."""

import asyncio
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import httpx2

from hsstar.domain.errors import CheckpointError, EngineError, HsstarError
from hsstar.remote.http import TOO_BUSY, described, json_object, message_of, pause_seconds, retry_after

log = logging.getLogger("hsstar.engines.openai")

Reload = Literal["none", "vllm"]
Note = Callable[[str], None]
"""Receives why the engine waits, and that it continues."""

API_KEY_VARIABLE = "HSSTAR_OPENAI_API_KEY"

_CONNECT_SECONDS = 10.0
_LOAD_SECONDS = 1800.0
_LOG_EVERY_SECONDS = 60.0
_RESETS = 20
_START_TIME = re.compile(r"^process_start_time_seconds\s+(\S+)", re.MULTILINE)


class RefusedRequestError(EngineError):
    """The server refuses the content of a request and would refuse it again."""


class ServerTroubleError(EngineError):
    """A request has no answer now: another server may give one, or this one later.

    `away`: the server takes no request before it has shown again that it serves the policy. `counts`: the
    request may be the reason. `pause` is how long to wait, in seconds.
    """

    def __init__(self, text: str, *, away: bool, counts: bool, pause: float = 0.0) -> None:
        super().__init__(text)
        self.away = away
        self.counts = counts
        self.pause = pause


class CompletionsServer:
    """One server, used from one event loop; `version` and `is_vllm` are known once it was ready.

    Requests go to `path` below its address. `note` receives the reason why it is waited for if that
    `matters`, and that it answers again.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        path: str,
        *,
        api_key: str,
        connections: int,
        timeout_seconds: float,
        reload: Reload,
        checkpoint: Path,
        note: Note,
        matters: Callable[[], bool],
    ) -> None:
        self.url = base_url.rstrip("/")
        self._root = self.url.removesuffix("/v1")
        self._model = model
        self._path = path
        self._api_key = api_key
        self._reload = reload
        self._checkpoint = checkpoint
        self._client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx2.Timeout(timeout_seconds, connect=_CONNECT_SECONDS),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=connections),
        )
        self._loaded: tuple[Path, str] | None = None
        self._pauses = 0  # since its last answer
        self._waiting = _Waiting(self.url, note, matters)
        self.version = ""
        self.is_vllm = False

    async def close(self) -> None:
        """End its connections."""
        await self._client.aclose()

    def use(self, checkpoint: Path) -> None:
        """Be ready only with the weights of this checkpoint."""
        self._checkpoint = checkpoint
        self._loaded = None

    async def ready(self, trouble: str, pause: float, checked: asyncio.Event) -> None:
        """Wait until the server serves the policy; raise EngineError if it serves another or refuses.

        `trouble` is why that is in doubt, `pause` the seconds before the first look, after which the event
        is set.
        """
        if trouble:
            await self._waiting.pause(trouble, pause)
        while True:
            checkpoint = self._checkpoint
            try:
                trouble = await self._check()
            except HsstarError:
                if checkpoint == self._checkpoint:
                    raise
            finally:
                checked.set()
            if not trouble and checkpoint == self._checkpoint:
                break
            if trouble:
                await self._waiting.pause(trouble, self._next_pause())
        self._waiting.over()

    async def ask(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a completion request, sent once.

        Raise ServerTroubleError if it has none now, RefusedRequestError if the server refuses its content,
        EngineError if it refuses access.
        """
        loaded = self._loaded
        try:
            response, connected = await self._send(body)
            if self._reload == "vllm" and not await self._held(loaded, connected):
                raise ServerTroubleError("", away=True, counts=False)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise ServerTroubleError(described(error), away=True, counts=False) from error
        except httpx2.TransportError as error:  # a time-out, or a cut connection
            pause = self._next_pause()
            raise ServerTroubleError(described(error), away=True, counts=True, pause=pause) from error
        if response.status_code == httpx2.codes.OK:
            self._pauses = 0
            return json_object(response)
        trouble = f"status {response.status_code}: {message_of(response, self._api_key)}"
        if response.status_code in TOO_BUSY:
            pause = max(self._next_pause(), retry_after(response))
            raise ServerTroubleError(trouble, away=True, counts=False, pause=pause)
        if response.status_code < httpx2.codes.INTERNAL_SERVER_ERROR:
            raise self._refusal(response)
        raise ServerTroubleError(trouble, away=False, counts=True, pause=self._next_pause())

    def _next_pause(self) -> float:
        self._pauses += 1
        return pause_seconds(self._pauses - 1)

    async def _send(self, body: dict[str, Any]) -> tuple[httpx2.Response, bool]:
        """Return the answer to a request, and whether it opened a connection."""
        connected = False

        async def trace(event: str, details: Any) -> None:
            nonlocal connected
            connected |= event.startswith("connection.connect")

        response = await self._client.post(f"{self.url}/{self._path}", json=body, extensions={"trace": trace})
        return response, connected

    async def _held(self, loaded: tuple[Path, str] | None, connected: bool) -> bool:
        """Return whether the server kept these weights; only a new connection reaches a restarted server."""
        if loaded is None or loaded != self._loaded:
            return loaded == self._loaded
        return not connected or await self._start_time() == loaded[1]

    async def count_tokens(self, prompt: dict[str, Any]) -> tuple[int, int] | None:
        """Return the tokens of a prompt and of the model's context; None if the server cannot count."""
        try:
            response = await self._client.post(
                f"{self._root}/tokenize", json={"model": self._model, **prompt}
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
            response = await self._client.get(f"{self.url}/models", timeout=_CONNECT_SECONDS)
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
                f"{self.url} does not serve {self._model!r} (it serves {names}); "
                "policy.openai.model must be a name that it serves"
            )
        self.is_vllm = served[self._model].get("owned_by") == "vllm"
        if self.is_vllm and not self.version:
            response = await self._client.get(f"{self._root}/version", timeout=_CONNECT_SECONDS)
            if response.status_code == httpx2.codes.OK:
                self.version = f"vllm {json_object(response).get('version', '')}".strip()

    async def _load(self) -> None:
        """Load the policy's weights, unless this process of the server has them (by its start time)."""
        checkpoint = self._checkpoint
        started = await self._start_time()
        if started and self._loaded == (checkpoint, started):
            return
        self._loaded = None
        call = {"method": "reload_weights", "kwargs": {"weights_path": str(checkpoint)}}
        await self._post_load("collective_rpc", call)
        for attempt in range(_RESETS):  # it fails while the server ends abandoned requests
            if (await self._post_load("reset_prefix_cache", None)).get("success", True):
                break
            await asyncio.sleep(pause_seconds(attempt) / 10)
        else:
            raise EngineError(f"{self.url} keeps what it cached of other weights; do others use it?")
        self._loaded = (checkpoint, started) if started else None

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
    def __init__(self, url: str, note: Note, matters: Callable[[], bool]) -> None:
        self._url = url
        self._note = note
        self._matters = matters
        self._since: float | None = None
        self._logged = self._noted = 0.0

    async def pause(self, trouble: str, seconds: float) -> None:
        now = time.monotonic()
        if self._since is None:
            self._since, self._logged, self._noted = now, 0.0, 0.0
        news = f"waiting for {self._url} for {now - self._since:.0f} s: {trouble}"
        if not self._logged or now - self._logged >= _LOG_EVERY_SECONDS:
            self._logged = now
            log.warning("%s", news)
        if self._matters() and (not self._noted or now - self._noted >= _LOG_EVERY_SECONDS):
            self._noted = now
            self._note(news)
        await asyncio.sleep(seconds)

    def over(self) -> None:
        if self._since is not None:
            news = f"{self._url} answers again after {time.monotonic() - self._since:.0f} s"
            log.info("%s", news)
            if self._noted:
                self._note(news)
            self._since = None
