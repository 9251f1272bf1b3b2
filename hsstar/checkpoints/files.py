"""The files of a checkpoint: their presence, their fingerprint, and their way to the disk."""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hsstar.domain.errors import CheckpointError

WEIGHT_LAYOUTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Weight files in the order in which transformers looks for them."""
_SHAPE_FILES = {
    "config.json": frozenset({"_name_or_path", "dtype", "torch_dtype", "transformers_version", "use_cache"}),
    "generation_config.json": frozenset({"_from_model_config", "transformers_version"}),
    "tokenizer.json": frozenset[str](),
    "tokenizer_config.json": frozenset[str](),
    "vocab.json": frozenset[str](),
}
"""Files that an engine reads besides the weights, and the keys that have no effect."""
KEPT_FILES = (
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
)
"""Files that training does not change: a checkpoint gets the bytes of its parent."""
_ADAPTER = "adapter_config.json"
_SHARD = re.compile(r"(?P<stem>.+)-\d{5,}-of-(?P<count>\d{5,})(?P<suffix>\.safetensors|\.bin)")
_MOST_SHARDS = 10_000
_WHOLE_BYTES = 1 << 26
_BLOCK_BYTES = 1 << 16
_BLOCKS = 256


def weight_files(folder: Path) -> list[Path]:
    """Return a checkpoint's weight files; raise CheckpointError if one of its index, or all, are missing."""
    for layout in WEIGHT_LAYOUTS:
        file = folder / layout
        if not file.is_file():
            continue
        if file.suffix != ".json":
            return [file]
        shards = sorted({folder / str(name) for name in weight_map(file).values()})
        announced = {other for shard in shards for other in _of_one_checkpoint(shard)}
        if missing := [shard.name for shard in shards if not shard.is_file()]:
            raise CheckpointError(f"{file} names {missing[0]}, which is missing")
        if left_out := sorted(announced - {shard.name for shard in shards}):
            raise CheckpointError(f"{file} is incomplete: it does not name {left_out[0]}")
        return shards
    raise CheckpointError(f"{folder}: {_why_no_weights(folder)}")


def _of_one_checkpoint(shard: Path) -> list[str]:
    """The names of all shards, by the name of one."""
    found = _SHARD.fullmatch(shard.name)
    if found is None:
        return [shard.name]
    count = int(found["count"])
    return [
        f"{found['stem']}-{number:0{len(found['count'])}}-of-{found['count']}{found['suffix']}"
        for number in range(1, min(count, _MOST_SHARDS) + 1)
    ]


def _why_no_weights(folder: Path) -> str:
    if shards := sorted(file for file in folder.glob("*") if _SHARD.fullmatch(file.name)):
        single = "model.safetensors" if shards[0].suffix == ".safetensors" else "pytorch_model.bin"
        return f"{shards[0].name} and others lie there without their index, {single}.index.json"
    if (folder / _ADAPTER).is_file():
        base = read_json(folder / _ADAPTER).get("base_model_name_or_path")
        return f"this is an adapter alone; merge it into its base model {base} (PEFT: merge_and_unload)"
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    return f"no {' and no '.join([*missing, 'weights'])} ({' or '.join(WEIGHT_LAYOUTS[::2])})"


def fingerprint(folder: Path) -> str:
    """Return 32 hex digits that digest configuration and weight files: name, size and content.

    For a file over 64 MiB, 256 evenly spread blocks stand for the content: training changes every block.
    """
    return content_digest(read_json(folder / "config.json"), weight_files(folder))


def content_digest(described: Any, files: Sequence[Path]) -> str:
    """Return 32 hex digits that digest a value of JSON and files, as `fingerprint` says."""
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for file in files:
        size = file.stat().st_size
        digest.update(f"\n{file.name}:{size}\n".encode())
        with file.open("rb") as content:
            if size <= _WHOLE_BYTES:
                digest.update(content.read())
                continue
            for block in range(_BLOCKS):
                content.seek((size - _BLOCK_BYTES) * block // (_BLOCKS - 1))
                digest.update(content.read(_BLOCK_BYTES))
    return digest.hexdigest()[:32]


def differ_in_weights_only(one: Path, other: Path) -> bool:
    """Return whether an engine that was built for one policy fits the other one's weights."""
    return all(
        _without(one / name, ignored) == _without(other / name, ignored)
        for name, ignored in _SHAPE_FILES.items()
    )


def _without(file: Path, ignored: frozenset[str]) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    return {key: value for key, value in read_json(file).items() if key not in ignored}


def read_json(file: Path) -> dict[str, Any]:
    """Return the JSON object in a file; raise CheckpointError if it is missing or holds something else."""
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{file.parent}: no {file.name}") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} does not hold a JSON object")
    return content


def weight_map(index: Path) -> dict[str, Any]:
    """Return the file of each tensor, from the index of a sharded checkpoint."""
    entries = read_json(index).get("weight_map")
    if not isinstance(entries, dict) or not entries:
        raise CheckpointError(f"{index} has no weight_map")
    return entries


def fsync_tree(folder: Path) -> None:
    """Wait until every file below a folder is on the disk, so that a rename cannot outlive its content."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as content:
                os.fsync(content.fileno())
    for path in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        fsync_folder(path)


def fsync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
