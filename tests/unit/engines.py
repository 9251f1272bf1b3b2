"""Engines that compute nothing and note what happens to them, and folders of models for them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hsstar.checkpoints.files import fingerprint
from hsstar.store.models import Model


class Engine:
    """A sampler; `refuses` names what it cannot do, `loaded` the folders whose weights it has had."""

    name = "engine 1.0"

    def __init__(self, folder: str = "", refuses: str = "") -> None:
        self.loaded = [Path(folder).name]
        self.refuses = refuses
        self.history: list[str] = []

    def note(self, what: str) -> None:
        self.history.append(what)
        if what == self.refuses:
            raise RuntimeError(f"no {what}")

    def draw(self, *_: object) -> Iterator[tuple[int, str]]:
        return iter(())

    def score(self, *_: object) -> list[Any]:
        return []

    def reload(self, model: Path) -> None:
        self.note("reload")
        self.loaded.append(model.name)

    def close(self) -> None:
        self.note("close")

    @property
    def closed(self) -> bool:
        return "close" in self.history


class SleepingEngine(Engine):
    """A sampler that can sleep."""

    def sleep(self) -> None:
        self.note("sleep")

    def wake(self) -> None:
        self.note("wake")


def write_model(folder: Path, weights: bytes = b"weights", **configuration: object) -> Model:
    """A registered policy, whose folder may hold other weights already."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(configuration))
    (folder / "model.safetensors").write_bytes(weights)
    return Model(1, folder.name, str(folder), fingerprint(folder), None)
