"""Reads names and shapes of the tensors in a weight file from its header, without loading weights."""

import json
import pickletools
import struct
import zipfile
from pathlib import Path

from hsstar.checkpoints.files import weight_map
from hsstar.domain.errors import CheckpointError


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
    size = file.stat().st_size
    with file.open("rb") as content:
        prefix = content.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
        if 8 + length > size:
            raise CheckpointError(f"{file} is cut off: {size} bytes do not hold its header")
        try:
            header = json.loads(content.read(length))
            tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
            end = max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
            shapes = {name: tuple(entry["shape"]) for name, entry in tensors.items()}
        except (ValueError, AttributeError, KeyError, TypeError, IndexError) as error:
            raise CheckpointError(f"{file}: its header is broken: {error}") from None
    if size != 8 + length + end:
        raise CheckpointError(
            f"{file} is cut off: {size} bytes where its header announces {8 + length + end}"
        )
    return shapes


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
