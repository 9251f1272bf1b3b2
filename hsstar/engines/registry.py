"""Engines by name. Their modules, and PyTorch with them, are imported when one is built."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from hsstar.domain.errors import BadInputError, MissingDependencyError
from hsstar.domain.lifecycle import JobKind
from hsstar.engines.checkpoints import check_policy, check_reward_model
from hsstar.engines.contracts import ProcessRewardModel, Sampler, Trainer

SAMPLERS = {"transformers": "hsstar.engines.transformers_sampler:TransformersSampler"}
"""Engine name to module and class."""
REWARD_MODELS = {
    "skywork": "hsstar.engines.skywork_prm:SkyworkRewardModel",
    "qwen-math": "hsstar.engines.qwen_prm:QwenMathRewardModel",
}
"""Family of process reward model to module and class."""
TRAINERS = {
    "trl": "hsstar.engines.trl_trainer:TrlTrainer",
    "trl-launched": "hsstar.engines.launched_trainer:LaunchedTrainer",
}
"""Engine name to module and class; `trl-launched` is `trl` in several processes."""


def build_sampler(
    model: str | Path,
    *,
    engine: str = "transformers",
    device: str = "auto",
    dtype: str = "auto",
    batch_size: int = 256,
) -> Sampler:
    """The sampler of a policy.

    Args:
        model: a checkpoint's name as in `checkpoints.resolve`.
        engine: a name of `SAMPLERS`.
        device: `auto`, `cpu`, `cuda`, `cuda:1` ...
        dtype: `auto`, `float32`, `bfloat16` or `float16`.
        batch_size: completions that pass through the model together.

    Raises:
        CheckpointError: the checkpoint is missing, broken or no policy.
        MissingDependencyError: a package that the engine needs is not installed.
    """
    sampler_class = _engine_class(engine, SAMPLERS)
    path = check_policy(model).path
    sampler: Sampler = sampler_class(path, device=device, dtype=dtype, batch_size=batch_size)
    return sampler


def build_reward_model(model: str | Path, *, device: str = "auto", dtype: str = "auto") -> ProcessRewardModel:
    """The process reward model of a checkpoint, whose files tell the family.

    Raises:
        CheckpointError: the checkpoint is missing, broken or no process reward model.
        MissingDependencyError: a package that the engine needs is not installed.
    """
    info = check_reward_model(model)
    reward_class = _engine_class(info.family, REWARD_MODELS)
    reward_model: ProcessRewardModel = reward_class(info.path, device=device, dtype=dtype)
    return reward_model


def build_trainer(*, device: str = "auto", processes: int = 1, launch_config: Path | None = None) -> Trainer:
    """The trainer on TRL.

    Args:
        device: `auto`, `cpu`, `cuda` ...
        processes: more than one: `accelerate launch` starts so many, one per GPU.
        launch_config: a file of `accelerate config` that says how they share the model.

    Raises:
        MissingDependencyError: a package that the engine needs is not installed.
    """
    trainer_class = _engine_class("trl", TRAINERS)
    if processes > 1 or launch_config:
        launched_class = _engine_class("trl-launched", TRAINERS)
        launched: Trainer = launched_class(processes, device=device, launch_config=launch_config)
        return launched
    trainer: Trainer = trainer_class(device=device)
    return trainer


def import_engines(kind: JobKind) -> None:
    """Imports what the jobs of this kind compute with, which takes seconds, before the first job comes.

    Raises:
        MissingDependencyError: a package that they need is not installed.
    """
    tables = {JobKind.SAMPLE: SAMPLERS, JobKind.SCORE: REWARD_MODELS, JobKind.TRAIN: TRAINERS}
    for name in tables.get(kind, {}):
        _engine_class(name, tables[kind])


def _engine_class(name: str, known: dict[str, str]) -> Callable[..., Any]:
    if name not in known:
        raise BadInputError(f"there is no engine {name!r}; known: {', '.join(known)}")
    module, _, attribute = known[name].partition(":")
    try:
        engine_class: Callable[..., Any] = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("hsstar"):
            raise
        raise MissingDependencyError(
            f"the engine {name!r} needs the package {error.name}: pip install 'hsstar[train]'"
        ) from error
    return engine_class
