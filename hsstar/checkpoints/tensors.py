"""Reads tensors of weight files without PyTorch: names and shapes from headers, and a sample of weights."""

import json
import math
import pickletools
import re
import struct
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hsstar.checkpoints.files import weight_files, weight_map
from hsstar.domain.errors import CheckpointError

_OF_LAYER = re.compile(r"(?P<stem>.*\b(?:layers|h|blocks))\.(?P<layer>\d+)\.(?P<name>.+)")
_LAYER_COUNTS = ("num_hidden_layers", "n_layer", "num_layers")


def tensor_names(file: Path) -> set[str]:
    """Return the names of the tensors in a weight file; raise CheckpointError if it is cut off or broken."""
    if file.suffix == ".safetensors":
        return set(tensor_shapes(file))
    if not zipfile.is_zipfile(file):
        raise CheckpointError(f"{file} is cut off or no PyTorch archive")
    index = file.parent / "pytorch_model.bin.index.json"
    return set(weight_map(index)) if index.is_file() else _pickled_names(file)


def tensor_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Return the tensors' shapes in a safetensors file; raise CheckpointError if it is cut off or broken."""
    return {name: tensor.shape for name, tensor in _stored_tensors(file).items()}


@dataclass(frozen=True, slots=True)
class _StoredTensor:
    dtype: str  # such as `BF16`
    shape: tuple[int, ...]
    start: int  # in the file


def _stored_tensors(file: Path) -> dict[str, _StoredTensor]:
    size = file.stat().st_size
    with file.open("rb") as content:
        prefix = content.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
        if 8 + length > size:
            raise CheckpointError(f"{file} is cut off: {size} bytes do not hold its header")
        try:
            header = json.loads(content.read(length))
            entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
            end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
            tensors = {
                name: _StoredTensor(
                    entry["dtype"], tuple(entry["shape"]), 8 + length + entry["data_offsets"][0]
                )
                for name, entry in entries.items()
            }
        except (ValueError, AttributeError, KeyError, TypeError, IndexError) as error:
            raise CheckpointError(f"{file}: its header is broken: {error}") from None
    if size != 8 + length + end:
        raise CheckpointError(
            f"{file} is cut off: {size} bytes where its header announces {8 + length + end}"
        )
    return tensors


_RUN = 256
"""Neighbouring weights that are read together."""
_READERS: dict[str, Callable[[bytes], tuple[float, ...]]] = {
    "F32": lambda stored: struct.unpack(f"<{len(stored) // 4}f", stored),
    "F16": lambda stored: struct.unpack(f"<{len(stored) // 2}e", stored),
    "BF16": lambda stored: struct.unpack(
        f"<{len(stored) // 2}f", b"".join(b"\0\0" + stored[at : at + 2] for at in range(0, len(stored), 2))
    ),
}
"""By the name of a number format in safetensors files."""


def sample_weights(folder: Path, count: int) -> list[float]:
    """Return about `count` weights of a checkpoint, evenly spread; none if their format is not read."""
    files = weight_files(folder)
    if any(file.suffix != ".safetensors" for file in files):
        return []
    tensors = [(file, tensor) for file in files for tensor in _stored_tensors(file).values()]
    if any(tensor.dtype not in _READERS for _, tensor in tensors):
        return []
    every = max(1, sum(math.prod(tensor.shape) for _, tensor in tensors) * _RUN // count)
    weights: list[float] = []
    position = 0  # of the next run, from the start of the tensor
    for file, tensor in tensors:
        size, width = math.prod(tensor.shape), 4 if tensor.dtype == "F32" else 2
        with file.open("rb") as content:
            while position < size:
                content.seek(tensor.start + width * position)
                stored = content.read(width * min(_RUN, size - position))
                weights += _READERS[tensor.dtype](stored)
                position += max(every, _RUN)
        position -= size
    return weights


def layer_of(tensor: str) -> str:
    """Return the layer of a tensor by its name: `model.layers.3` of a block, else the module's own name."""
    found = _OF_LAYER.fullmatch(tensor)
    return f"{found['stem']}.{found['layer']}" if found else tensor.rpartition(".")[0] or tensor


def in_block(tensor: str) -> bool:
    """Tell whether a tensor belongs to one of the repeated blocks, neither to embeddings nor to a head."""
    return _OF_LAYER.fullmatch(tensor) is not None


def _pickled_names(file: Path) -> set[str]:
    """Read the keys of a state dictionary from its opcodes, without unpickling.

    Texts under further marks belong to a tensor's arguments, and a further dictionary holds no keys.
    """
    names: set[str] = set()
    marks = 0
    try:
        with zipfile.ZipFile(file) as archive:
            (member,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
            for operation, argument, _ in pickletools.genops(archive.read(member)):
                if operation.name == "EMPTY_DICT" and names:
                    break
                if operation.name == "BINUNICODE" and marks < 2:
                    names.add(str(argument))
                marks += (operation.name == "MARK") - (operation.name in ("TUPLE", "SETITEMS"))
    except (ValueError, zipfile.BadZipFile, OSError) as error:
        raise CheckpointError(f"{file}: its list of tensors cannot be read: {error}") from None
    return names


def missing_tensors(folder: Path, config: Mapping[str, Any], tensors: Set[str]) -> list[str]:
    """Return names of tensors that a checkpoint lacks, as far as its index and its layers tell, sorted.

    A layer lacks what all the other layers have. An engine looks more closely when it loads the model.
    """
    index = folder / "model.safetensors.index.json"
    named = set(weight_map(index)) if index.is_file() else set[str]()
    layers: defaultdict[str, defaultdict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for tensor in tensors:
        if found := _OF_LAYER.fullmatch(tensor):
            layers[found["stem"]][int(found["layer"])].add(found["name"])
    missing = named - tensors
    count = next((config[key] for key in _LAYER_COUNTS if isinstance(config.get(key), int)), 0)
    for stem, by_layer in layers.items():
        (common, times), *_ = Counter(map(frozenset, by_layer.values())).most_common(1)
        absent = set(range(count)) - by_layer.keys() if len(layers) == 1 else set[int]()
        alike = times == len(by_layer) - 1 > 1  # all but one
        partial = {layer for layer, names in by_layer.items() if alike and names < common}
        missing |= {
            f"{stem}.{layer}.{name}"
            for layer in absent | partial
            for name in common - by_layer.get(layer, set())
        }
    return sorted(missing)
