"""A local HTTP server that completes texts and chats as vLLM does, and has all of its bad days."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Json = dict[str, Any]
Complete = Callable[[str, Json], Json | str]
"""Weights (a path) and request to the choice and usage of an answer, or the message of a refusal."""

CUT = 0
"""The fault of a connection that is closed without an answer."""


@dataclass
class Host:
    """The server, and what a test tells it and asks of it."""

    complete: Complete
    model: str = "policy"
    context: int = 256
    faults: list[int] = field(default_factory=list)  # of the next answers to completion requests
    checks: list[int] = field(default_factory=list)  # of the next answers to the question what it serves
    headers: dict[str, str] = field(default_factory=dict)  # of answers with a fault
    shape: Callable[[str], Json | str] = lambda message: {"error": {"message": message}}
    delay: float = 0.0  # seconds before each completion
    owner: str = "somebody"  # as it says, where it is not vLLM
    is_vllm: bool = True  # it says so, and has vLLM's further endpoints
    development: bool = True
    api_key: str = ""  # what it demands
    bodies: list[Json] = field(default_factory=list)  # the completion requests that came
    most: int = 0  # of them that were under way at once
    weights: str = ""  # what it serves; its first weights after each start
    loads: list[str] = field(default_factory=list)  # the weights that were loaded into it

    def __post_init__(self) -> None:
        self.first_weights = self.weights
        self.under_way = 0
        self.lock = threading.Lock()
        self.connections: set[socket.socket] = set()
        self.server: ThreadingHTTPServer | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """A process of the server begins, with its first weights, unless it runs."""
        if self.server is None:
            self.weights, self.stale, self.started = self.first_weights, False, time.time()
            self.server = _Server(("127.0.0.1", self.port), _handler(self))
            threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def restart(self) -> None:
        self.stop()
        self.start()

    def stop(self) -> None:
        """The process is gone: its connections are cut, and new ones refused."""
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None
            for connection in list(self.connections):
                cut(connection)


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # with 5 a busy machine cuts connections that come at once


@contextmanager
def running(host: Host) -> Iterator[Host]:
    host.start()
    try:
        yield host
    finally:
        host.stop()


def cut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def text_of(weights: str, body: Json) -> Json:
    """A completion that weights, prompt and seed decide, of three tokens."""
    text = f"{Path(weights).name}|{body['prompt']}|{body['seed']}"
    choice = {"text": text, "finish_reason": "stop", "logprobs": {"token_logprobs": [-0.5] * 3}}
    return {"choices": [choice], "usage": {"completion_tokens": 3}}


def _handler(host: Host) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            host.connections.add(self.connection)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

        def answer(self, status: int, content: Json | str, **headers: str) -> None:
            sent = (content if isinstance(content, str) else json.dumps(content)).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(sent))}.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(ConnectionError):  # a client that leaves is no matter of the server
                self.wfile.write(sent)

        def refuse(self, status: int, message: str, **headers: str) -> None:
            if status == CUT:
                cut(self.connection)
            else:
                self.answer(status, host.shape(message), **headers)

        def do_GET(self) -> None:
            owner, key = "vllm" if host.is_vllm else host.owner, self.headers.get("Authorization", "")
            known: dict[str, Json | str] = {
                "/v1/models": {"data": [{"id": host.model, "owned_by": owner}]},
                "/version": {"version": "0.32.0"},
                "/metrics": f"# HELP\nprocess_start_time_seconds {host.started!r}\n",
            }
            if self.path not in known:
                self.refuse(404, "Not Found")
            elif self.path == "/v1/models" and host.checks:
                self.refuse(host.checks.pop(0), "not yet")
            elif self.path == "/v1/models" and host.api_key and key != f"Bearer {host.api_key}":
                self.refuse(401, f"wrong key {key}")
            else:
                self.answer(200, known[self.path])

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "null")
            if host.api_key and self.headers.get("Authorization", "") != f"Bearer {host.api_key}":
                self.refuse(401, "wrong key")
            elif self.path in ("/v1/completions", "/v1/chat/completions"):
                self.completion(body)
            elif self.path == "/tokenize" and host.is_vllm:
                self.answer(
                    200,
                    {
                        "count": len(body.get("prompt") or body["messages"][-1]["content"]),
                        "max_model_len": host.context,
                    },
                )
            elif self.path == "/collective_rpc" and host.development:
                weights = body["kwargs"]["weights_path"]
                if not Path(weights).is_dir():
                    self.refuse(500, f"there is no {weights}")
                    return
                host.weights, host.stale = weights, True
                host.loads.append(weights)
                self.answer(200, {"results": [None]})
            elif self.path == "/reset_prefix_cache" and host.development:
                host.stale = bool(host.under_way)
                self.answer(200, {"success": not host.stale})
            else:
                self.refuse(404, "Not Found")

        def completion(self, body: Json) -> None:
            with host.lock:
                host.bodies.append(body)
                host.under_way += 1
                host.most = max(host.most, host.under_way)
                fault = host.faults.pop(0) if host.faults else None
            try:
                time.sleep(host.delay)
                assert not host.stale, "drawn with what was cached of other weights"
                if fault is not None:
                    self.refuse(fault, "a bad day", **host.headers)
                elif isinstance(content := host.complete(host.weights, body), str):
                    self.refuse(400, content)
                else:
                    self.answer(200, content)
            finally:
                with host.lock:
                    host.under_way -= 1

    return Handler
