"""Chat completions of an OpenAI-compatible server; requests are repeated, bounded and counted."""

import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any

import httpx2

from hsstar.domain.errors import EngineError
from hsstar.remote.http import TOO_BUSY, described, json_object, message_of, pause_seconds, retry_after

_CONNECT_SECONDS = 10.0
_LONGEST_RETRY_AFTER_SECONDS = 600.0


class NoAnswerError(Exception):
    """The server gave no answer to one request; the text says why."""


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """What the assistant said; `finish_reason` is `length` where it was cut."""

    text: str
    finish_reason: str


class ChatClient:
    """One model of one server, for any number of threads.

    A request is sent up to `attempts` times: while the server is away, too busy or fails. `used` counts
    requests, repeated ones, and the tokens that the server reports.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str,
        key_variable: str,
        timeout_seconds: float,
        attempts: int,
    ) -> None:
        self._url, self._model = base_url.rstrip("/"), model
        self._api_key, self._key_variable = api_key, key_variable
        self._attempts = attempts
        self._client = httpx2.Client(
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx2.Timeout(timeout_seconds, connect=_CONNECT_SECONDS),
            limits=httpx2.Limits(max_connections=None),
        )
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self.used: Counter[str] = Counter()

    def ask(self, message: str, **options: Any) -> ChatAnswer:
        """Return the answer to a message of the user.

        Raise NoAnswerError if this request has none, EngineError if the server refuses every one (key,
        address, model) or the client is closed.
        """
        body = {"model": self._model, "messages": [{"role": "user", "content": message}], **options}
        trouble = ""
        for attempt in range(self._attempts):
            self._count(requests=1, repeated=int(attempt > 0))
            pause = pause_seconds(attempt)
            try:
                response = self._client.post(f"{self._url}/chat/completions", json=body)
                if response.status_code == httpx2.codes.OK:
                    return self._answer(response)
                trouble = f"status {response.status_code}: {message_of(response, self._api_key)}"
                if response.status_code in TOO_BUSY:
                    pause = max(pause, retry_after(response))
                elif response.status_code < httpx2.codes.INTERNAL_SERVER_ERROR:
                    raise self._refusal(response)
            except httpx2.TransportError as error:
                trouble = described(error)
            except RuntimeError:  # the client was closed by another thread
                pass
            if self._closed.is_set():
                break
            if pause > _LONGEST_RETRY_AFTER_SECONDS:
                raise NoAnswerError(f"{self._url}: {trouble}; it asks to wait for {pause:.0f} s")
            if attempt + 1 < self._attempts and self._closed.wait(pause):
                break
        if self._closed.is_set():
            raise EngineError("the verifier was closed during a verification")
        raise NoAnswerError(f"{self._url} failed {self._attempts} times: {trouble}")

    def close(self) -> None:
        """End the waiting and the connections."""
        self._closed.set()
        self._client.close()

    def _answer(self, response: httpx2.Response) -> ChatAnswer:
        try:
            content = json_object(response)
        except EngineError as error:
            raise NoAnswerError(str(error)) from None
        if content.get("error"):
            raise NoAnswerError(
                f"{self._url} answers 200 with an error: {message_of(response, self._api_key)}"
            )
        usage = content.get("usage")
        if isinstance(usage, dict):
            self._count(**{key: usage.get(key) for key in ("prompt_tokens", "completion_tokens")})
        match content:
            case {"choices": [{"message": {"content": str(text)}} as choice, *_]}:
                return ChatAnswer(text, str(choice.get("finish_reason")))
        raise NoAnswerError(f"{self._url} answers without a choice that holds text")

    def _count(self, **numbers: Any) -> None:
        with self._lock:
            self.used.update({key: number for key, number in numbers.items() if isinstance(number, int)})

    def _refusal(self, response: httpx2.Response) -> Exception:
        trouble = f"{response.url} answers {response.status_code}: {message_of(response, self._api_key)}"
        match response.status_code:
            case 401 | 403:
                state = "is not accepted" if self._api_key else "is not set"
                return EngineError(f"{trouble}; {self._key_variable} {state}")
            case 404 | 405:
                return EngineError(f"{trouble}; are base_url, which usually ends in /v1, and model right?")
        return NoAnswerError(trouble)
