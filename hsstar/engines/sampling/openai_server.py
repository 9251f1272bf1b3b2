"""One server of completions: whether it can be used, and attempts at requests."""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2

from hsstar.domain.errors import EngineError, HsstarError
from hsstar.engines.sampling.openai_weights import CHECK_SECONDS, WEIGHTS, Control, Reload, Weights
from hsstar.remote.http import TOO_BUSY, described, json_object, message_of, pause_seconds, retry_after

log = logging.getLogger("hsstar.engines.openai")

Note = Callable[[str], None]
"""Receives why the engine waits, and that it continues."""

NATIVE_PATH = "generate"
"""Of SGLang's own protocol."""
_LOG_EVERY_SECONDS = 60.0


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

    Requests go to `path` below its address; by the native protocol of SGLang the address ends without `/v1`.
    `note` receives the reason why it is waited for if that `matters`, and that it answers again.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        path: str,
        *,
        api_key: str,
        key_variable: str,
        connections: int,
        timeout_seconds: float,
        reload: Reload,
        checkpoint: Path,
        note: Note,
        matters: Callable[[], bool],
    ) -> None:
        self._is_native = path == NATIVE_PATH
        self.url = base_url.rstrip("/")
        root = self.url.removesuffix("/v1")
        if self._is_native:
            self.url = root
        self._model = model
        self._path = path
        self._api_key = api_key
        self._client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx2.Timeout(timeout_seconds, connect=CHECK_SECONDS),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=connections),
        )
        self._control = Control(root, self._client, api_key, key_variable)
        self._weights: Weights | None = (
            None if reload == "none" else WEIGHTS[reload](self._control, checkpoint)
        )
        self._pauses = 0  # since its last answer
        self._waiting = _Waiting(self.url, note, matters)
        self.version = ""
        self.is_vllm = False

    async def close(self) -> None:
        """End its connections."""
        await self._client.aclose()

    @property
    def model(self) -> str:
        """What requests name as their model: the adapter of the policy, if it has one, else the policy."""
        return (self._weights.adapter if self._weights else "") or self._model

    def use(self, checkpoint: Path) -> None:
        """Be ready only with the weights of this checkpoint."""
        if self._weights is not None:
            self._weights.checkpoint = checkpoint
            self._weights.loaded = None

    async def ready(self, trouble: str, pause: float, checked: asyncio.Event) -> None:
        """Wait until the server serves the policy; raise EngineError if it serves another or refuses.

        `trouble` is why that is in doubt, `pause` the seconds before the first look, after which the event
        is set.
        """
        if trouble:
            await self._waiting.pause(trouble, pause)
        while True:
            checkpoint = self._wanted
            try:
                trouble = await self._check()
            except HsstarError:
                if checkpoint == self._wanted:
                    raise
            finally:
                checked.set()
            if not trouble and checkpoint == self._wanted:
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
            if not await self._held(loaded, connected):
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
        """Return whether the server kept these weights; only a new connection reaches a restarted server.

        Raise EngineError if it says that it serves another policy now.
        """
        if loaded != self._loaded:
            return False
        if connected and self._weights is None:
            await self._check()  # one that does not say may still be the same
        elif connected and self._weights and loaded:
            return await self._weights.mark() == loaded[1]
        return True

    @property
    def _wanted(self) -> Path | None:
        return self._weights.checkpoint if self._weights else None

    @property
    def _loaded(self) -> tuple[Path, str] | None:
        return self._weights.loaded if self._weights else None

    async def count_tokens(self, prompt: dict[str, Any]) -> tuple[int, int] | None:
        """Return the tokens of a prompt and of the model's context; None if the server cannot count."""
        try:
            response = await self._client.post(
                f"{self._control.root}/tokenize", json={"model": self._model, **prompt}
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
            looked_at = f"{self.url}/{'get_model_info' if self._is_native else 'models'}"
            response = await self._client.get(looked_at, timeout=CHECK_SECONDS)
            if response.status_code == 429 or response.status_code >= httpx2.codes.INTERNAL_SERVER_ERROR:
                return f"status {response.status_code}: {message_of(response, self._api_key)}"
            if response.status_code != httpx2.codes.OK:
                raise self._refusal(response)
            served = await self._look_at(json_object(response))
            if self._weights is not None:
                await self._weights.load(served)
        except httpx2.TransportError as error:
            return described(error)
        return ""

    async def _look_at(self, content: dict[str, Any]) -> dict[str, Any]:
        """Return what the server serves, by name; raise EngineError if the policy is not among it."""
        if self._is_native:
            served = {str(content.get(key)): content for key in ("served_model_name", "model_path")}
        else:
            models = content.get("data")
            served = {str(model.get("id")): model for model in models or () if isinstance(model, dict)}
        if self._model not in served and not (self._is_native and self._weights):
            names = ", ".join(sorted(served.keys() - {"None"})) or "no model"
            raise EngineError(
                f"{self.url} does not serve {self._model!r} (it serves {names}); "
                "policy.openai.model must be a name that it serves"
            )
        self.is_vllm = not self._is_native and served[self._model].get("owned_by") == "vllm"
        if self._is_native:
            await self._find_version("sglang", "get_server_info")
        elif self.is_vllm:
            await self._find_version("vllm", "version")
        return served

    async def _find_version(self, server: str, endpoint: str) -> None:
        response = None if self.version else await self._control.get(endpoint)
        if response is not None:
            self.version = f"{server} {json_object(response).get('version', '')}".strip()

    def _refusal(self, response: httpx2.Response) -> EngineError:
        if response.status_code in (401, 403):
            return self._control.no_access(response)
        if response.status_code in (400, 413, 422):
            return RefusedRequestError(message_of(response, self._api_key))
        usual = "without a path" if self._is_native else "in /v1"
        return EngineError(
            f"{response.url} answers {response.status_code}: {message_of(response, self._api_key)}; is "
            f"policy.openai.base_url right? It usually ends {usual}"
        )


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
