"""A local HTTP server that completes texts and chats as vLLM or SGLang do, and has all of their bad days."""

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
    hangs_up: bool = False  # after each completion
    owner: str = "somebody"  # as it says, where it is not vLLM
    is_vllm: bool = True  # it says so, and has vLLM's further endpoints
    development: bool = True
    api_key: str = ""  # what it demands
    bodies: list[Json] = field(default_factory=list)  # the completion requests that came
    most: int = 0  # of them that were under way at once
    weights: str = ""  # what it serves; its first weights after each start
    loads: list[str] = field(default_factory=list)  # the weights that were loaded into it
    changes_weights: bool = False  # it has vLLM's interface for that
    takes_adapters: bool = False
    hidden: str = ""  # a folder that it does not see
    native: bool = False  # it speaks SGLang's own protocol alone
    orders: list[str] = field(default_factory=list)  # what it was told beside completions

    def __post_init__(self) -> None:
        self.version = "default"
        self.adapters: dict[str, str] = {}
        self.running = threading.Event()
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
            self.version, self.adapters = "default", {}
            self.running.set()
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
            self.running.set()
            for connection in list(self.connections):
                cut(connection)


_LOOKED_AT = ("/v1/models", "/get_model_info")
_WEIGHT_ORDERS = ("/pause?mode=wait", "/resume", "/update_weight_version")
_WEIGHT_ROUTES = ("/pause", *_WEIGHT_ORDERS[1:], "/collective_rpc")


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
            with suppress(ConnectionError):  # a client that leaves is no matter of the server
                self.end_headers()
                self.wfile.write(sent)

        def refuse(self, status: int, message: str, **headers: str) -> None:
            if status == CUT:
                cut(self.connection)
            else:
                self.answer(status, host.shape(message), **headers)

        def do_GET(self) -> None:
            owner, key = "vllm" if host.is_vllm else host.owner, self.headers.get("Authorization", "")
            served = [{"id": host.model, "owned_by": owner, "root": host.first_weights}]
            served += [{"id": name, "owned_by": owner, "root": path} for name, path in host.adapters.items()]
            known: dict[str, Json | str] = {
                "/v1/models": {"data": served},
                "/version": {"version": "0.32.0"},
                "/metrics": f"# HELP\nprocess_start_time_seconds {host.started!r}\n",
            }
            if host.changes_weights:
                known["/openapi.json"] = {"paths": {path: {} for path in (*_WEIGHT_ROUTES, "/weight_info")}}
                known["/weight_info"] = {"weight_version": host.version}
            if host.native:
                known = {
                    "/get_model_info": {"model_path": host.weights, "weight_version": host.version},
                    "/get_server_info": {"version": "0.5.9"},
                }
            if self.path not in known:
                self.refuse(404, "Not Found")
            elif self.path in _LOOKED_AT and host.checks:
                self.refuse(host.checks.pop(0), "not yet")
            elif self.path in _LOOKED_AT and host.api_key and key != f"Bearer {host.api_key}":
                self.refuse(401, f"wrong key {key}")
            else:
                self.answer(200, known[self.path])

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "null")
            if self.path not in ("/v1/completions", "/v1/chat/completions", "/tokenize", "/generate"):
                host.orders.append(self.path)
            if host.api_key and self.headers.get("Authorization", "") != f"Bearer {host.api_key}":
                self.refuse(401, "wrong key")
            elif self.path in (["/generate"] if host.native else ["/v1/completions", "/v1/chat/completions"]):
                self.completion(body)
            elif self.path == "/update_weights_from_disk" and host.native:
                if self.load(body["model_path"], 400):
                    host.version = body["weight_version"]
            elif self.path == "/v1/load_lora_adapter" and host.takes_adapters:
                host.adapters[body["lora_name"]] = body["lora_path"]
                self.answer(200, "Success: it is added")
            elif self.path in _WEIGHT_ORDERS and host.changes_weights:
                self.change_weights(body)
            elif self.path == "/tokenize" and host.is_vllm:
                self.answer(
                    200,
                    {
                        "count": len(body.get("prompt") or body["messages"][-1]["content"]),
                        "max_model_len": host.context,
                    },
                )
            elif self.path == "/collective_rpc" and host.development:
                assert not (host.changes_weights and host.running.is_set()), "it may answer meanwhile"
                host.stale |= self.load(body["kwargs"]["weights_path"], 500)
            elif self.path == "/reset_prefix_cache" and host.development:
                host.stale = bool(host.under_way)
                self.answer(200, {"success": not host.stale})
            else:
                self.refuse(404, "Not Found")

        def load(self, weights: str, refusal: int) -> bool:
            if weights == host.hidden or not Path(weights).is_dir():
                self.refuse(refusal, f"there is no {weights}")
                return False
            host.weights = weights
            host.loads.append(weights)
            self.answer(200, {"results": [None]})
            return True

        def change_weights(self, body: Json) -> None:
            if self.path == "/pause?mode=wait":
                host.running.clear()
                while host.under_way:
                    time.sleep(0.01)
            elif self.path == "/resume":
                host.running.set()
            else:
                host.version = body["new_version"]
            self.answer(200, {"status": "done"})

        def completion(self, body: Json) -> None:
            host.running.wait(60)
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
                elif isinstance(content := host.complete(self.weights_of(body), body), str):
                    self.refuse(400, content)
                else:
                    self.answer(200, content, **({"Connection": "close"} if host.hangs_up else {}))
            finally:
                with host.lock:
                    host.under_way -= 1

        def weights_of(self, body: Json) -> str:
            """What draws: the weights, and the adapter that the request names as its model."""
            adapter = host.adapters.get(body.get("model", ""))
            return host.weights if adapter is None else f"{host.weights}+{Path(adapter).name}"

    return Handler
