"""Checks before a run: that models and data exist, and that memory and disk hold what the run needs."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from hsstar.checkpoints.disk_space import bytes_text, disk_space
from hsstar.checkpoints.resolve import check_policy, check_reward_model
from hsstar.checkpoints.size import ModelSize, model_size
from hsstar.checkpoints.step_rule import check_step_rule
from hsstar.commands.benchmarks import check_benchmark
from hsstar.commands.rewards import check_scorer
from hsstar.domain.errors import (
    BadInputError,
    CheckpointError,
    EngineError,
    HsstarError,
    MissingDependencyError,
)
from hsstar.domain.findings import Finding, Level
from hsstar.domain.verification import MATH
from hsstar.engines.prompts import prompt_renderer
from hsstar.engines.registry import check_installed, check_reward_options, check_sampler_options
from hsstar.local.gpus import least_gpu_memory
from hsstar.plan import arithmetic
from hsstar.plan.forecast import Forecast, number_bytes
from hsstar.recipe.evaluation import BenchmarkSection
from hsstar.recipe.prompt import IS_JINJA
from hsstar.recipe.recipe import Recipe
from hsstar.recipe.reward import NamedRewardSection
from hsstar.settings import Settings
from hsstar.store.database import Database
from hsstar.verifier.kinds import check_settings

GIGABYTE = 1e9


@dataclass(frozen=True, slots=True)
class Device:
    """Where engines are to run."""

    memory: float  # bytes of one GPU, or of the machine if it has none
    gpu: bool
    processes: int = 1  # of one training, one per GPU
    shared: bool = False  # whether they share the model evenly (FSDP, ZeRO-3), whatever the recipe says


def find_device(settings: Settings, gpu_memory: float | None, training_gpus: int | None) -> Device:
    """Return the device that is stated, in gigabytes of one GPU, else the one that this machine has.

    Without `training_gpus` the settings say how many processes train.
    """
    processes = training_gpus or settings.train_processes * settings.train_nodes
    shared = training_gpus is not None or settings.accelerate_config is not None
    memory = gpu_memory * GIGABYTE if gpu_memory is not None else least_gpu_memory(os.environ)
    if memory is None:
        return Device(psutil.virtual_memory().total, False, processes, shared)
    return Device(memory, True, processes, shared)


def check_models(
    recipe: Recipe, registered: Mapping[str, str] | None
) -> tuple[list[Finding], ModelSize | None, dict[str, ModelSize | None]]:
    """Check that policy and reward models exist and are whole; return their sizes too, None if missing.

    Those of the reward models are by the name of the reward, one for each model.

    `registered` has the locations of registered policies by name; None without a database.
    """
    name = recipe.policy.model
    if registered is None and "/" not in name and ":" not in name and not Path(name).exists():
        reason = f"{name} is no folder; whether a policy is registered so, only the database knows"
        policy_finding, policy = Finding(Level.UNCHECKED, "policy", reason), None
    else:
        policy_finding, policy = _check_model("policy", (registered or {}).get(name, name), check_policy)
    findings, sizes = [policy_finding], dict[str, ModelSize | None]()
    for source in recipe.sources:
        location = (registered or {}).get(source.model, source.model)
        findings.append(_check_model(f"source {source.name}", location, check_policy)[0])
    for reward in recipe.scoring:
        if reward.has_model:
            finding, sizes[reward.name] = _check_reward_model(reward, recipe)
        else:
            finding = _check_rule(reward, recipe)
        findings.append(finding)
    return findings, policy, sizes


def _check_rule(reward: NamedRewardSection, recipe: Recipe) -> Finding:
    subject = _subject(reward, "reward")
    try:
        scorer = check_scorer(reward, recipe.steps)
    except HsstarError as error:
        return Finding(Level.FAIL, subject, str(error))
    return Finding(Level.OK, subject, scorer.location)


def _subject(reward: NamedRewardSection, single: str) -> str:
    return single if reward.name == "reward" else f"reward {reward.name}"


def _check_reward_model(reward: NamedRewardSection, recipe: Recipe) -> tuple[Finding, ModelSize | None]:
    def check(folder: Path) -> None:
        check_reward_model(folder, reward.model_kind, reward.engine)
        check_step_rule(folder, recipe.steps.trained)

    return _check_model(_subject(reward, "reward model"), reward.model, check)


def _check_model(
    subject: str, name: str, check: Callable[[Path], object]
) -> tuple[Finding, ModelSize | None]:
    try:
        size = model_size(name)
        if size.folder is None:
            return Finding(Level.UNCHECKED, subject, f"{name} is not downloaded{_assumed(size)}"), size
        check(size.folder)
    except CheckpointError as error:
        return Finding(Level.FAIL, subject, str(error)), None
    return Finding(Level.OK, subject, f"{name}: {_parameters(size)}"), size


def _assumed(size: ModelSize) -> str:
    return "" if size.parameters is None else f"; {_parameters(size)}, by its name"


def _parameters(size: ModelSize) -> str:
    count = size.parameters
    if count is None:
        return "number of parameters not known"
    unit, name = (1e9, "billion") if count >= 1e9 else (1e6, "million")
    return f"{count / unit:.1f} {name} parameters"


def check_arguments(recipe: Recipe) -> list[Finding]:
    """Check the engine arguments of vLLM where it is installed; without it they are not checked."""
    sections = {
        "policy": (recipe.policy.engine, check_sampler_options, recipe.policy.engine_options),
        **{
            f"source {source.name}": (source.engine, check_sampler_options, source.engine_options)
            for source in recipe.sources
        },
        **{
            _subject(reward, "reward"): (reward.engine, check_reward_options, reward.engine_options)
            for reward in recipe.scoring
            if reward.has_model
        },
    }
    findings = []
    for section, (engine, check, options) in sections.items():
        if engine == "vllm":
            name = f"{section}.vllm"
            try:
                check_installed(engine)
                check(engine, options)
            except MissingDependencyError:
                unknown = f"its {len(options)} arguments can be checked where vLLM is installed"
                findings.append(Finding(Level.UNCHECKED, name, unknown))
            except BadInputError as error:
                findings.append(Finding(Level.FAIL, name, str(error)))
            else:
                known = f"the installed vLLM knows all {len(options)} arguments"
                findings.append(Finding(Level.OK, name, known))
    return findings


def check_prompt(recipe: Recipe) -> list[Finding]:
    """Check that a template of the recipe's own renders a problem."""
    prompt, subject = recipe.policy.prompt, "prompt template"
    if not IS_JINJA.search(prompt.template):
        return []
    if prompt.examples is not None and not prompt.examples.rows:
        return [Finding(Level.UNCHECKED, subject, "its examples are drawn when a run is created")]
    try:
        prompt_renderer(prompt.resolved, recipe.policy.model)
    except BadInputError as error:
        return [Finding(Level.FAIL, subject, str(error))]
    except MissingDependencyError as error:
        return [Finding(Level.UNCHECKED, subject, str(error))]
    return [Finding(Level.OK, subject, "it renders a problem")]


def check_verification(recipe: Recipe) -> list[Finding]:
    """Check that what the recipe's kinds of verification load is there: functions, reasoning-gym."""
    findings = []
    for settings in recipe.verification.all_settings:
        if settings != MATH:
            try:
                check_settings(settings)
            except (EngineError, BadInputError, MissingDependencyError) as error:
                findings.append(Finding(Level.FAIL, "verification", str(error)))
            else:
                findings.append(Finding(Level.OK, "verification", f"{settings.kind}: what it needs is there"))
    return findings


def check_data(
    database: Database, recipe: Recipe, iterations: int, sizes: Mapping[str, int]
) -> list[Finding]:
    """Check that the datasets hold enough usable problems (`sizes`, by name), and benchmarks are imported."""
    evaluation = recipe.evaluation
    wanted = [("training problems", recipe.problems.dataset, recipe.problems.per_iteration * iterations)]
    if evaluation.dataset is not None:
        wanted.append(("held-out problems", evaluation.dataset, evaluation.problems or 1))
    return [
        *(_check_dataset(subject, name, count, sizes.get(name)) for subject, name, count in wanted),
        *(_check_benchmark(database, benchmark) for benchmark in evaluation.benchmarks),
    ]


def _check_benchmark(database: Database, benchmark: BenchmarkSection) -> Finding:
    try:
        with database.begin() as connection:
            check_benchmark(connection, benchmark)
    except HsstarError as error:
        return Finding(Level.FAIL, "benchmark", str(error))
    return Finding(Level.OK, "benchmark", f"{benchmark.evaluation_key} is imported")


def _check_dataset(subject: str, name: str, wanted: int, usable: int | None) -> Finding:
    if usable is None:
        how = f"import it: hsstar problems import FILE --dataset {name}"
        return Finding(Level.FAIL, subject, f"there is no dataset {name!r}; {how}")
    level = Level.OK if usable >= wanted else Level.FAIL
    return Finding(level, subject, f"{name} holds {usable:,} usable problems, {wanted:,} are needed")


def check_memory(
    recipe: Recipe, policy: ModelSize | None, rewards: Mapping[str, ModelSize | None], device: Device
) -> list[Finding]:
    """Check that the weights of each engine, and what training keeps beside them, fit into one device."""
    sampling = recipe.policy
    shared = sampling.vllm.tensor_parallel_size if sampling.vllm else None
    findings = []
    if sampling.engine != "openai":
        need = _weights(policy, number_bytes(sampling.dtype, device.gpu), shared or 1)
        findings.append(_compare("memory, sampling", need, device, "weights; the cache comes on top"))
    if any(size is not None for size in rewards.values()):
        findings.append(_check_scoring(recipe, rewards, device))
    if recipe.training.objective != "none":
        findings.append(_check_training(recipe, policy, device))
    return findings


def _check_scoring(recipe: Recipe, sizes: Mapping[str, ModelSize | None], device: Device) -> Finding:
    """Check that the reward models fit together: a worker keeps all of a run, each of them once."""
    needs = {
        reward.engine_keys: _weights(sizes[reward.name], number_bytes(reward.dtype, device.gpu))
        for reward in recipe.scoring
        if reward.name in sizes
    }
    known = [need for need in needs.values() if need is not None]
    what = "weights; activations come on top" if len(needs) == 1 else f"weights of {len(needs)} reward models"
    return _compare("memory, scoring", sum(known) if len(known) == len(needs) else None, device, what)


def _check_training(recipe: Recipe, policy: ModelSize | None, device: Device) -> Finding:
    training = recipe.training
    number = number_bytes(training.dtype, device.gpu)
    count = None if policy is None else policy.parameters
    if training.lora_rank:
        bytes_each = arithmetic.FOUR_BIT_BYTES if training.quantization == "4bit" else number
        need = None if count is None else arithmetic.weight_bytes(count, bytes_each)
        return _compare("memory, training", need, device, "frozen weights; adapter and activations on top")
    without = training.objective == "sft" or training.precompute_reference_logprobs
    shards = device.processes if device.shared or training.sharding != "none" else 1
    weights_shared = device.shared or training.sharding != "zero2"
    need = (
        None
        if count is None
        else arithmetic.full_training_bytes(
            count, 0 if without else number, shards, weights_shared=weights_shared
        )
    )
    kept = "weights, gradients and Adam's moments" + ("" if without else ", and the reference")
    shared = f", shared by {shards}, or weights whole while they load" if shards > 1 else ""
    return _compare("memory, training", need, device, f"{kept}{shared}; activations on top")


def _weights(size: ModelSize | None, bytes_each: float, shards: int = 1) -> float | None:
    if size is None or size.parameters is None:
        return None
    return arithmetic.weight_bytes(size.parameters, bytes_each, shards)


def _compare(subject: str, need: float | None, device: Device, what: str) -> Finding:
    place = "one GPU" if device.gpu else "no GPU is found; this machine"
    if need is None:
        return Finding(Level.UNCHECKED, subject, "the model's number of parameters is not known")
    level = Level.OK if need <= device.memory else Level.FAIL
    needed = f"{bytes_text(need)} at the least ({what})"
    return Finding(level, subject, f"{needed}; {place} has {bytes_text(device.memory)}")


def check_disk(forecast: Forecast, models_directory: Path) -> Finding:
    """Check that the disk holds all checkpoints of the run, and what a training writes meanwhile."""
    name = "disk, checkpoints"
    if forecast.checkpoint_bytes is None:
        return Finding(Level.UNCHECKED, name, "the size of a checkpoint is not known")
    space = disk_space(models_directory)
    need = forecast.checkpoint_bytes + forecast.intermediate_bytes
    level = Level.OK if need <= space.free else Level.FAIL
    return Finding(level, name, f"{bytes_text(need)}; {space.folder} has {bytes_text(space.free)} free")
