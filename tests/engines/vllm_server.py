"""A server of vLLM on the CPU, with a tiny policy."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_SWITCHES = ("VLLM_SERVER_DEV_MODE", "VLLM_NO_USAGE_STATS", "TORCHDYNAMO_DISABLE", "HF_HUB_OFFLINE")
_ENVIRONMENT = dict.fromkeys(_SWITCHES, "1") | {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}


@dataclass(frozen=True)
class Server:
    """A process of the server; its policy is named `policy`."""

    url: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def check(self, news: str = "") -> None:
        """While somebody waits for the server: it has to live."""
        assert self.process.poll() is None, self.log.read_text()[-3000:]

    def get(self, endpoint: str) -> Any:
        """The JSON of an endpoint beside the protocol's."""
        with urllib.request.urlopen(f"{self.url.removesuffix('/v1')}/{endpoint}", timeout=30) as answer:
            return json.load(answer)

    def await_ready(self) -> None:
        """Wait until it answers."""
        while True:
            self.check()
            try:
                urllib.request.urlopen(f"{self.url}/models", timeout=5).close()
                return
            except OSError:
                time.sleep(0.5)


@contextmanager
def serving(policy: Path, folder: Path, *, adapters: bool = False) -> Iterator[Server]:
    """Serve a policy while the block runs, perhaps with adapters; skip the test without vLLM."""
    pytest.importorskip("vllm")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    served = {"model": policy, "served-model-name": "policy", "host": "127.0.0.1", "port": port}
    options = served | {"dtype": "float32", "kv-cache-memory-bytes": 64 << 20, "max-num-seqs": 32}
    arguments = [f"--{name}={value}" for name, value in options.items()]
    environment = os.environ | _ENVIRONMENT
    if adapters:
        arguments += ["--enable-lora", "--max-lora-rank=8"]
        environment |= {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager", *arguments]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        yield Server(f"http://127.0.0.1:{port}/v1", process, log)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:  # it has not got as far as to listen
            process.kill()
            process.wait()
