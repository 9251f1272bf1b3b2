"""Finds model checkpoints and checks them before anything is loaded."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from hsstar.checkpoints import files
from hsstar.checkpoints.adapters import ADAPTER_WEIGHTS, adapter_fingerprint, check_adapter, read_base
from hsstar.checkpoints.files import read_json, weight_files
from hsstar.checkpoints.tensors import missing_tensors, tensor_names
from hsstar.data import builtins
from hsstar.data.hub import HubError, cached_model, download_model, is_model_name
from hsstar.domain.errors import CheckpointError

RewardFamily = Literal["skywork", "qwen-math", "outcome"]
RewardKind = Literal["auto"] | RewardFamily

_CAUSAL_SUFFIXES = ("ForCausalLM", "LMHeadModel")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
_CLASSIFIER_SUFFIX = "ForSequenceClassification"
_HEAD_TENSORS: dict[RewardFamily, frozenset[str]] = {
    "skywork": frozenset({"v_head.summary.weight", "v_head.summary.bias"}),
    "qwen-math": frozenset({"score.0.weight", "score.0.bias", "score.2.weight", "score.2.bias"}),
}
REWARD_ENGINES: dict[RewardFamily, tuple[str, ...]] = {
    "skywork": ("transformers",),
    "qwen-math": ("transformers", "vllm"),
    "outcome": ("transformers",),
}
"""The engines of each family of reward model."""


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """A checked checkpoint; `context` is the most tokens that it attends to, None if it does not say."""

    path: Path
    family: Literal["policy"] | RewardFamily
    architecture: str
    context: int | None
    weight_bytes: int


def resolve(name: str | Path) -> Path:
    """Return the local folder of a checkpoint: a folder, a `builtin:` name, or a hub name `owner/name`.

    A hub model that the local Hugging Face cache lacks is downloaded. Raise CheckpointError if the folder or
    name does not exist, or the hub cannot be reached.
    """
    text = str(name)
    if text.startswith(builtins.PREFIX):
        known = builtins.builtin_checkpoints()
        if text not in known:
            raise CheckpointError(f"there is no checkpoint {text}; known: {', '.join(known)}")
        return known[text]
    folder = Path(text).expanduser()
    if text and folder.is_dir():
        return folder.resolve()
    if is_model_name(text):
        return cached_checkpoint(text) or _download(text)
    raise CheckpointError(f"{text!r}: there is no such folder")


def cached_checkpoint(name: str) -> Path | None:
    """Return the folder of a hub model if the local cache has all of it; never contact the hub."""
    folder = cached_model(name)
    try:
        if folder is not None:
            weight_files(folder)
    except CheckpointError:
        return None
    return folder


def weights_folder(folder: Path) -> Path:
    """Return the folder with the whole weights of a checkpoint: an adapter's base, else itself.

    Raise CheckpointError if the base is gone, or holds other weights than those of the training.
    """
    base = read_base(folder)
    if base is None:
        return folder
    try:
        found = resolve(base.location)
        content = files.fingerprint(found)
    except CheckpointError as error:
        raise CheckpointError(f"{folder} is an adapter, and its base cannot be used: {error}") from error
    if content != base.fingerprint:
        raise CheckpointError(
            f"{folder} is an adapter on {base.location}, which holds other weights by now; put them back"
        )
    return found


def base_location(name: str | Path) -> str | None:
    """Return the location of the base that an adapter needs; None for a whole checkpoint."""
    base = read_base(resolve(name))
    return None if base is None else base.location


def check_policy(name: str | Path) -> CheckpointInfo:
    """Check the policy of a name; raise CheckpointError if it is broken or no causal language model."""
    folder = resolve(name)
    base = weights_folder(folder)
    if base == folder:
        return _check_whole_policy(folder)
    check_adapter(folder)
    info = _check_whole_policy(base)
    stored = (folder / ADAPTER_WEIGHTS).stat().st_size
    return replace(info, path=folder, weight_bytes=info.weight_bytes + stored)


def _check_whole_policy(folder: Path) -> CheckpointInfo:
    config, tensors = _check_common(folder)
    architecture = _architecture(config)
    if family := _reward_family(tensors):
        raise CheckpointError(f"{folder}: this is a process reward model ({family}), not a policy")
    if not architecture.endswith(_CAUSAL_SUFFIXES):
        raise CheckpointError(f"{folder}: {architecture} is not a causal language model")
    return _info(folder, "policy", config)


def check_reward_model(
    name: str | Path, kind: RewardKind = "auto", engine: str = "transformers"
) -> CheckpointInfo:
    """Check the reward model of a name as in `resolve`, and recognise its family.

    `kind` is the expected family; `auto` recognises it by the tensors of a process reward model's head, else
    by the architecture. Raise CheckpointError if something is missing or broken, the family is unknown or
    another, or the engine, a name of `REWARD_ENGINES`, cannot compute it.
    """
    folder = resolve(name)
    config, tensors = _check_common(folder)
    family: RewardFamily | None = _reward_family(tensors)
    if family is None and _architecture(config).endswith(_CLASSIFIER_SUFFIX):
        family = "outcome"
    if kind == "outcome" or (kind != "auto" and _HEAD_TENSORS[kind] <= tensors):
        family = kind
    if family is None:
        raise CheckpointError(
            f"{folder}: no reward head: neither v_head.summary (Skywork) nor score.0 and score.2 "
            f"(Qwen2.5-Math-PRM) is in the checkpoint, nor is it a model {_CLASSIFIER_SUFFIX}"
        )
    if kind not in ("auto", family):
        raise CheckpointError(f"{folder}: this is a reward model of the kind {family}, not {kind}")
    if engine not in REWARD_ENGINES[family]:
        known = " or ".join(REWARD_ENGINES[family])
        raise CheckpointError(
            f"{folder}: {engine} does not compute reward models of the kind {family}; {known} does"
        )
    return _info(folder, family, config)


def fingerprint(name: str | Path) -> str:
    """Return 32 hex digits that name the content of a checkpoint, with its base; names as in `resolve`."""
    folder = resolve(name)
    base = read_base(folder)
    if base is None:
        return files.fingerprint(folder)
    weights_folder(folder)
    return adapter_fingerprint(folder, base)


def _check_common(folder: Path) -> tuple[dict[str, Any], set[str]]:
    if not (folder / "config.json").is_file():
        weight_files(folder)  # an adapter has none
    config = read_json(folder / "config.json")
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise CheckpointError(f"{folder}: no tokenizer ({' or '.join(_TOKENIZER_FILES)})")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        if (folder / name).is_file():
            read_json(folder / name)
    tensors: set[str] = set()
    for file in weight_files(folder):
        tensors |= tensor_names(file)
    if missing := missing_tensors(folder, config, tensors):
        raise CheckpointError(
            f"{folder}: {len(missing)} tensors are missing, such as {missing[0]}; is the copy complete?"
        )
    return config, tensors


def _reward_family(tensors: set[str]) -> RewardFamily | None:
    return next((family for family, head in _HEAD_TENSORS.items() if head <= tensors), None)


def _architecture(config: dict[str, Any]) -> str:
    architectures = config.get("architectures") or ["(no architecture named)"]
    return str(architectures[0])


def _info(folder: Path, family: Literal["policy"] | RewardFamily, config: dict[str, Any]) -> CheckpointInfo:
    context = config.get("max_position_embeddings")
    size = sum(file.stat().st_size for file in weight_files(folder))
    return CheckpointInfo(folder, family, _architecture(config), context, size)


def _download(name: str) -> Path:
    try:
        return download_model(name)
    except HubError as error:
        raise CheckpointError(
            f"{name}: no such folder, not in the local Hugging Face cache, and the hub gives: {error}"
        ) from error
