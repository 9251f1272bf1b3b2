"""The engine arguments that a recipe may give to vLLM, looked at without importing it."""

import ast
from collections.abc import Mapping
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
"""Arguments that hsstar decides; a recipe that sets one is refused."""


def check_options(options: Mapping[str, Any]) -> None:
    """Refuses options that vLLM would refuse, where it is installed, or that belong to hsstar.

    Raises:
        BadInputError: one line that names the first wrong one.
    """
    if own := sorted(OWN_ARGUMENTS & options.keys()):
        raise BadInputError(f"policy.vllm.{own[0]} belongs to hsstar and cannot be set")
    known = engine_arguments()
    for name in sorted(options.keys() - known - {"lora"}) if known else []:
        close = get_close_matches(name, known, n=3)
        hint = f"; close: {', '.join(close)}" if close else ""
        raise BadInputError(f"policy.vllm.{name}: the installed vLLM has no such engine argument{hint}")
    lora = options.get("lora")
    if lora is not None and not (Path(lora).expanduser() / "adapter_config.json").is_file():
        raise BadInputError(f"policy.vllm.lora: {lora} holds no adapter_config.json")


@cache
def engine_arguments() -> frozenset[str]:
    """The fields of vLLM's `EngineArgs`, read from its source; empty where vLLM is not installed."""
    found = find_spec("vllm")
    if found is None or not found.origin:
        return frozenset()
    source = Path(found.origin).parent / "engine" / "arg_utils.py"
    tree = ast.parse(source.read_text(encoding="utf-8"))
    return frozenset(
        field.target.id
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == "EngineArgs"
        for field in node.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    )
