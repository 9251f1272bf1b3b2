"""How the weights of a policy get into a server: by the endpoints of vLLM, and by SGLang's."""

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import httpx2

from hsstar.checkpoints.adapters import Base, adapter_rank, read_base
from hsstar.checkpoints.resolve import fingerprint, weights_folder
from hsstar.domain.errors import CheckpointError, EngineError
from hsstar.remote.http import json_object, message_of, pause_seconds

Reload = Literal["none", "vllm", "sglang"]

API_KEY_VARIABLE = "HSSTAR_OPENAI_API_KEY"
CHECK_SECONDS = 10.0
_LOAD_SECONDS = 1800.0
_RESETS = 20
_NO_ROUTE = "Not Found"
"""What a server says of an endpoint that it lacks; of a missing adapter it says more."""
_START_TIME = re.compile(r"^process_start_time_seconds\s+(\S+)", re.MULTILINE)
_BETWEEN = "hsstar is loading weights"
"""The version of weights that may be mixed."""


class Control:
    """Requests to a server besides those for completions, below its address without `/v1`."""

    def __init__(self, root: str, client: httpx2.AsyncClient, api_key: str, key_variable: str) -> None:
        self.root = root
        self._client = client
        self._api_key, self._key_variable = api_key, key_variable

    async def get(self, endpoint: str) -> httpx2.Response | None:
        """Return an answer; None if the server has none for this endpoint."""
        response = await self._client.get(f"{self.root}/{endpoint}", timeout=CHECK_SECONDS)
        return response if response.status_code == httpx2.codes.OK else None

    async def post(self, endpoint: str, body: Any, checkpoint: Path, missing: str) -> dict[str, Any]:
        """Return the answer to an order that concerns a checkpoint; `missing` says what starts its endpoint.

        Raise EngineError if the server has no such endpoint or refuses access, CheckpointError if it cannot
        do it.
        """
        response = await self._client.post(f"{self.root}/{endpoint}", json=body, timeout=_LOAD_SECONDS)
        if response.status_code == 405 or (response.status_code == 404 and message_of(response) == _NO_ROUTE):
            raise EngineError(f"{self.root}/{endpoint} is not there, and {missing}")
        if response.status_code in (401, 403):
            raise self.no_access(response)
        if response.status_code != httpx2.codes.OK:
            raise CheckpointError(
                f"{self.root} cannot load {checkpoint} (status {response.status_code}: "
                f"{message_of(response, self._api_key)}); it must see this folder under this path"
            )
        try:
            return json_object(response)
        except EngineError:  # some endpoints answer nothing, or a sentence
            return {}

    def no_access(self, response: httpx2.Response) -> EngineError:
        """Return the error of a refused key."""
        trouble = f"{response.url} answers {response.status_code}: {message_of(response, self._api_key)}"
        reason = "is not accepted" if self._api_key else "is not set"
        return EngineError(f"{trouble}; {self._key_variable} {reason}")


class Weights(Protocol):
    """The weights of one server; used from one event loop."""

    checkpoint: Path
    loaded: tuple[Path, str] | None
    """What was loaded last, and a mark by which the server shows that it still holds it."""
    adapter: str
    """What requests name as their model; empty: the server's own name."""

    async def load(self, served: Mapping[str, Any]) -> None:
        """Load `checkpoint`, unless the server shows that it holds it; `served` is what it serves by name.

        Raise EngineError if the server cannot load weights, CheckpointError if it cannot load these.
        """
        ...

    async def mark(self) -> str:
        """Return what changes when the server restarts or gets other weights; empty if nothing does."""
        ...


class VllmWeights:
    """Of vLLM in development mode (`VLLM_SERVER_DEV_MODE=1`), which reads a folder by `/collective_rpc`.

    Its interface for changing weights is used where it is there: `/pause` ends the requests under way before,
    `/update_weight_version` writes down the fingerprint of what is loaded, and `/weight_info` shows it, so
    that weights which are there are not loaded again.
    """

    _MISSING = "policy.openai.reload = 'vllm' needs it; start vLLM with VLLM_SERVER_DEV_MODE=1"
    _NO_ADAPTERS = (
        "a policy with training.lora_merge = false needs it; start vLLM with "
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, --enable-lora and --max-lora-rank={rank}"
    )

    def __init__(self, control: Control, checkpoint: Path) -> None:
        self._control = control
        self._endpoints: frozenset[str] = frozenset()
        self.checkpoint = checkpoint
        self.loaded: tuple[Path, str] | None = None
        self.adapter = ""

    async def load(self, served: Mapping[str, Any]) -> None:
        """Load weights, and the adapter on them, as `Weights.load` says."""
        checkpoint = self.checkpoint
        mark = await self.mark()
        if mark and self.loaded == (checkpoint, mark):
            return
        self.loaded = None
        self._endpoints = await self._find_endpoints()
        base = read_base(checkpoint)
        folder = checkpoint if base is None else await asyncio.to_thread(weights_folder, checkpoint)
        if base is None or not self._serves(base, folder, served):
            await self._load_whole(folder)
        self.adapter = "" if base is None else await self._load_adapter(checkpoint, served)
        mark = await self.mark()
        self.loaded = (checkpoint, mark) if mark else None

    async def mark(self) -> str:
        """Return the start time of the server's process, and the version of its weights where it has one."""
        metrics = await self._control.get("metrics")
        match = _START_TIME.search(metrics.text) if metrics is not None else None
        version = await self._version()
        return f"{match[1] if match else ''} {version}".strip()

    async def _version(self) -> str:
        if "/weight_info" not in self._endpoints:
            return ""
        info = await self._control.get("weight_info")
        return "" if info is None else str(json_object(info).get("weight_version", ""))

    async def _find_endpoints(self) -> frozenset[str]:
        """Return the paths that the server describes; none where it describes none."""
        described = await self._control.get("openapi.json")
        return frozenset() if described is None else frozenset(json_object(described).get("paths", ()))

    def _serves(self, base: Base, folder: Path, served: Mapping[str, Any]) -> bool:
        """Tell whether a server that cannot load whole weights was started with the base."""
        roots = {str(model.get("root")) for model in served.values()}
        return "/collective_rpc" not in self._endpoints and not roots.isdisjoint((base.location, str(folder)))

    async def _load_whole(self, folder: Path) -> None:
        if "/update_weight_version" not in self._endpoints:
            await self._replace(folder)
            return
        wanted = await asyncio.to_thread(fingerprint, folder)
        if await self._version() == wanted:
            return
        await self._post("update_weight_version", {"new_version": _BETWEEN})
        await self._replace(folder)
        await self._post("update_weight_version", {"new_version": wanted})

    async def _replace(self, folder: Path) -> None:
        pauses = {"/pause", "/resume"} <= self._endpoints
        if pauses:
            await self._post("pause?mode=wait", None)
        try:
            call = {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}}
            await self._post("collective_rpc", call)
            await self._clear_cache()
        finally:
            if pauses:
                await self._post("resume", None)

    async def _clear_cache(self) -> None:
        for attempt in range(_RESETS):  # it fails while the server ends abandoned requests
            if (await self._post("reset_prefix_cache", None)).get("success", True):
                return
            await asyncio.sleep(pause_seconds(attempt) / 10)
        raise EngineError(f"{self._control.root} keeps what it cached of other weights; do others use it?")

    async def _load_adapter(self, checkpoint: Path, served: Mapping[str, Any]) -> str:
        """Return the name of the adapter in the server, by its content: vLLM caches prefixes by name."""
        name = f"hsstar-{await asyncio.to_thread(fingerprint, checkpoint)}"
        if name not in served:
            missing = self._NO_ADAPTERS.format(rank=adapter_rank(checkpoint))
            order = {"lora_name": name, "lora_path": str(checkpoint)}
            await self._control.post("v1/load_lora_adapter", order, checkpoint, missing)
        return name

    async def _post(self, endpoint: str, body: Any) -> dict[str, Any]:
        return await self._control.post(endpoint, body, self.checkpoint, self._MISSING)


class SglangWeights:
    """Of SGLang, which reads a folder by `/update_weights_from_disk` and says what it holds."""

    _MISSING = "policy.openai.reload = 'sglang' needs it; is this an SGLang server?"

    def __init__(self, control: Control, checkpoint: Path) -> None:
        self._control = control
        self.checkpoint = checkpoint
        self.loaded: tuple[Path, str] | None = None
        self.adapter = ""

    async def load(self, served: Mapping[str, Any]) -> None:
        """Load weights, as `Weights.load` says; an adapter is refused."""
        checkpoint = self.checkpoint
        if read_base(checkpoint) is not None:
            raise EngineError(
                f"{checkpoint} is an adapter, and hsstar loads whole checkpoints alone into SGLang; "
                "set training.lora_merge = true, or take vLLM"
            )
        content = await asyncio.to_thread(fingerprint, checkpoint)
        wanted = f"{checkpoint} {content}"
        if await self.mark() != wanted:
            self.loaded = None
            order = {"model_path": str(checkpoint), "weight_version": content}
            await self._control.post("update_weights_from_disk", order, checkpoint, self._MISSING)
        mark = await self.mark()
        self.loaded = (checkpoint, mark) if mark else None

    async def mark(self) -> str:
        """Return the folder that the server has loaded, and its version of the weights."""
        response = await self._control.get("get_model_info")
        if response is None:
            return ""
        info = json_object(response)
        return f"{info.get('model_path', '')} {info.get('weight_version', '')}".strip()


WEIGHTS: dict[Reload, type[VllmWeights] | type[SglangWeights]] = {
    "vllm": VllmWeights,
    "sglang": SglangWeights,
}
"""By the value of `policy.openai.reload`."""
