"""The verifier over HTTP, for pipelines in other languages: `hsstar verify --serve`.

`POST /verify` takes an object, or a list of them, as in the lines of `hsstar verify FILE`, and answers with a
verdict or a list. `GET /healthz` says whether verdicts can be given. An error is `{"error": one line}`.
"""

import asyncio
import hmac
import json
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from hsstar.domain.errors import BadInputError, EngineError
from hsstar.domain.text import kind_of
from hsstar.domain.verdict import Judgement
from hsstar.verifier.contract import VerificationRequest
from hsstar.verifier.requests import read_request, write_judgement
from hsstar.verifier.shared import SharedVerifier

BODY_BYTES = 8 << 20
_BODY_SECONDS = 30.0
_BODIES_AT_ONCE = 8
_LAST_SECONDS = 60
_RETRY_SECONDS = "1"
_LOCAL_NAMES = ["localhost", "127.0.0.1", "[::1]", "::1"]


def listen(host: str, port: int, token: str | None) -> socket.socket:
    """Return a socket bound to an address; port 0 is any free one.

    Raise BadInputError if the address is none, is taken, or can be reached from elsewhere without a token.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        if token is None and not ip_address(address[0]).is_loopback:
            raise BadInputError(
                f"{host} can be reached from elsewhere: set HSSTAR_VERIFY_TOKEN, which each request must bear"
            )
        return socket.create_server(address, family=family)
    except OSError as error:
        raise BadInputError(f"cannot listen on {host}:{port}: {error.strerror}") from None


def address(bound: socket.socket) -> str:
    """Return host and port of a socket, as in a URL."""
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def serve(verifier: SharedVerifier, bound: socket.socket, token: str | None, most_waiting: int) -> None:
    """Answer requests until SIGTERM or Ctrl-C; what has been accepted is answered first.

    Raise EngineError if the checking processes do not start. Call it from the main thread.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn ends by the handler that it found
    verifier.verify([VerificationRequest("x+1", "1+x", is_answer=True)])
    app = make_app(verifier, token, most_waiting)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=_LAST_SECONDS
    )
    uvicorn.Server(config).run(sockets=[bound])


def make_app(verifier: SharedVerifier, token: str | None, most_waiting: int) -> Starlette:
    """Return the application. Without a token it answers only those who call it by a name of this machine."""
    service = _Service(verifier, most_waiting)
    guards = [] if token else [Middleware(TrustedHostMiddleware, allowed_hosts=_LOCAL_NAMES)]
    return Starlette(
        routes=[
            Route("/verify", _guarded(service.verify, token), methods=["POST"]),
            Route("/healthz", service.health),
        ],
        middleware=guards,
        exception_handlers={HTTPException: _refuse, EngineError: _fail},
    )


class _Service:
    """The verifier behind a bounded queue: `waiting` answers have been accepted and have no verdict yet."""

    def __init__(self, verifier: SharedVerifier, most_waiting: int) -> None:
        self._verifier = verifier
        self._most_waiting = most_waiting
        self._waiting = 0
        self._failure: str | None = None
        self._reading = asyncio.Semaphore(_BODIES_AT_ONCE)

    async def verify(self, request: Request) -> Response:
        async with self._reading:
            several, requests = await asyncio.to_thread(_parse, await _read_body(request))
        number = len(requests)
        self._accept(number)
        try:
            judgements = await self._judge(requests)
        finally:
            self._waiting -= number
        verdicts = [write_judgement(judgement) for judgement in judgements]
        return _json(200, verdicts if several else verdicts[0])

    async def health(self, request: Request) -> Response:
        known = {"version": self._verifier.version, "waiting": self._waiting}
        if self._failure is not None:
            return _json(503, {"status": "failing", "error": self._failure} | known)
        return _json(200, {"status": "ok"} | known)

    def _accept(self, number: int) -> None:
        if number > self._most_waiting:
            raise HTTPException(
                413, f"expected at most {self._most_waiting} answers at a time, found {number}"
            )
        if self._waiting + number > self._most_waiting:
            raise HTTPException(
                503,
                f"{self._waiting} answers are waiting, of at most {self._most_waiting}; try again",
                {"Retry-After": _RETRY_SECONDS},
            )
        self._waiting += number

    async def _judge(self, requests: list[VerificationRequest]) -> list[Judgement]:
        futures = await asyncio.to_thread(lambda: list(map(self._verifier.submit, requests)))
        requests.clear()  # their texts may be large, and the verdicts may take long
        computing = not all(future.done() for future in futures)
        try:
            judgements = await asyncio.gather(*map(asyncio.wrap_future, futures))
        except EngineError as error:
            self._failure = _one_line(error)
            raise
        if computing:
            self._failure = None
        return judgements


Endpoint = Callable[[Request], Awaitable[Response]]


def _guarded(endpoint: Endpoint, token: str | None) -> Endpoint:
    """Let only those through who bear the token."""
    if token is None:
        return endpoint
    expected = f"Bearer {token}".encode()

    async def guarded(request: Request) -> Response:
        if not hmac.compare_digest(request.headers.get("authorization", "").encode(), expected):
            raise HTTPException(
                401, "expected the header Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"}
            )
        return await endpoint(request)

    return guarded


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > BODY_BYTES:
                    raise HTTPException(
                        413, f"expected at most {BODY_BYTES >> 20} MiB", {"Connection": "close"}
                    )
    except TimeoutError:
        raise HTTPException(408, f"the body did not arrive within {_BODY_SECONDS:.0f} seconds") from None
    except ClientDisconnect:
        raise HTTPException(400, "the body ended early") from None
    return bytes(body)


def _parse(body: bytes) -> tuple[bool, list[VerificationRequest]]:
    """Return whether the body is a list, and its requests."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"expected JSON: {_one_line(error)}") from None
    several = isinstance(document, list)
    requests = []
    for index, row in enumerate(document if several else [document]):
        try:
            if not isinstance(row, Mapping):
                raise BadInputError(f"expected an object, found {kind_of(row)}")
            requests.append(read_request(row))
        except BadInputError as error:
            raise HTTPException(400, f"{index}: {error}" if several else str(error)) from None
    return several, requests


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - by its registration, for the type checker
    return _json(error.status_code, {"error": error.detail}, error.headers)


async def _fail(request: Request, error: Exception) -> Response:
    return _json(500, {"error": _one_line(error)})


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _json(status: int, document: object, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response in ASCII, which can hold lone surrogates as they came."""
    return Response(json.dumps(document), status, headers, "application/json")
