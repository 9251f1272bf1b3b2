"""Checks a recipe's vLLM engine arguments without importing vLLM."""

import ast
from collections.abc import Mapping, Set
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hsstar.domain.errors import BadInputError

OWN_ARGUMENTS = frozenset(
    {
        "model", "tokenizer", "skip_tokenizer_init", "dtype", "seed", "runner", "generation_config",
        "override_generation_config", "logprobs_mode", "enable_lora",
    }
)  # fmt: skip
"""Arguments that hsstar decides; a recipe must not set them."""


def check_options(options: Mapping[str, Any]) -> None:
    """Raise BadInputError for an option of `[policy.vllm]` that is hsstar\'s own or unknown to vLLM."""
    if own := sorted(OWN_ARGUMENTS & options.keys()):
        raise BadInputError(f"policy.vllm.{own[0]} belongs to hsstar and cannot be set")
    check_names("policy", options.keys() - {"lora"})
    lora = options.get("lora")
    if lora is not None and not (Path(lora).expanduser() / "adapter_config.json").is_file():
        raise BadInputError(f"policy.vllm.lora: {lora} holds no adapter_config.json")


def check_names(section: str, names: Set[str]) -> None:
    """Raise BadInputError for the first argument of `[SECTION.vllm]` that the installed vLLM lacks."""
    known = engine_arguments()
    for name in sorted(names - known) if known else []:
        close = get_close_matches(name, known, n=3)
        hint = f"; close: {', '.join(close)}" if close else ""
        raise BadInputError(f"{section}.vllm.{name}: the installed vLLM has no such engine argument{hint}")


@cache
def engine_arguments() -> frozenset[str]:
    """Return the fields of vLLM's `EngineArgs`, read from its source; empty without vLLM."""
    package = find_spec("vllm")
    if package is None or not package.origin:
        return frozenset()
    source = Path(package.origin).parent / "engine" / "arg_utils.py"
    tree = ast.parse(source.read_text(encoding="utf-8"))
    return frozenset(
        field.target.id
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == "EngineArgs"
        for field in node.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    )
