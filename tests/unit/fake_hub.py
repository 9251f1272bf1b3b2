"""A stand-in for the library of the Hugging Face hub, where no network is."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest


def fake_hub(monkeypatch: pytest.MonkeyPatch, files: list[str], folder: Path) -> list[list[str]]:
    """Let every repository hold these files below a local folder; return the patterns of later snapshots."""
    asked: list[list[str]] = []

    def dataset_info(api: object, name: str, timeout: float) -> object:
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=file) for file in files])

    def download(dataset: str, file: str, repo_type: str, etag_timeout: float) -> str:
        assert repo_type == "dataset"
        return str(folder / dataset / file)

    def snapshot(name: str, allow_patterns: Sequence[str] = (), **options: object) -> str:
        asked.append(["cached only"] if options.get("local_files_only") else list(allow_patterns))
        return str(folder)

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    return asked
