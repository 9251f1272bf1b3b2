"""Checks before a run: are models and data there, and do memory and disk hold what the run needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from hsstar.checkpoints.disk_space import bytes_text, disk_space
from hsstar.checkpoints.resolve import check_policy, check_reward_model
from hsstar.checkpoints.size import ModelSize, model_size
from hsstar.commands.benchmarks import check_benchmark
from hsstar.domain.errors import CheckpointError, HsstarError, NotFoundError
from hsstar.plan import arithmetic
from hsstar.plan.forecast import Forecast, number_bytes
from hsstar.recipe.evaluation import BenchmarkSection
from hsstar.recipe.recipe import Recipe
from hsstar.store import datasets
from hsstar.store.database import Database

GIGABYTE = 1e9


class Outcome(StrEnum):
    """What a check came to."""

    OK = "ok"
    FAILS = "fails"
    UNCHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Check:
    """One check: what was looked at, what came of it, and why."""

    subject: str
    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class Device:
    """Where engines are to run.

    Attributes:
        memory: bytes of one GPU, or of the machine where there is none.
        gpu: whether it is a GPU.
        processes: of one training, one per GPU.
        shared: whether they share the model evenly (FSDP, ZeRO-3), whatever the recipe says.
    """

    memory: float
    gpu: bool
    processes: int = 1
    shared: bool = False


def check_models(
    recipe: Recipe, registered: Mapping[str, str] | None
) -> tuple[list[Check], ModelSize | None, ModelSize | None]:
    """Whether policy and reward model are there and whole; their sizes, None where they are not there.

    Args:
        recipe: names the two.
        registered: locations of registered policies by name; None without a database.
    """
    name = recipe.policy.model
    if registered is None and "/" not in name and ":" not in name and not Path(name).exists():
        reason = f"{name} is no folder; whether a policy is registered so, only the database knows"
        policy_check, policy = Check("policy", Outcome.UNCHECKED, reason), None
    else:
        policy_check, policy = _check_model("policy", (registered or {}).get(name, name), recipe)
    if not recipe.reward.used:
        return [policy_check], policy, None
    reward_check, reward = _check_model("reward model", recipe.reward.model, recipe)
    return [policy_check, reward_check], policy, reward


def _check_model(subject: str, name: str, recipe: Recipe) -> tuple[Check, ModelSize | None]:
    try:
        size = model_size(name)
        if size.folder is None:
            return Check(subject, Outcome.UNCHECKED, f"{name} is not downloaded{_assumed(size)}"), size
        if subject == "policy":
            check_policy(size.folder)
        else:
            check_reward_model(size.folder, recipe.reward.kind, recipe.reward.engine)
    except CheckpointError as error:
        return Check(subject, Outcome.FAILS, str(error)), None
    return Check(subject, Outcome.OK, f"{name}: {_parameters(size)}"), size


def _assumed(size: ModelSize) -> str:
    return "" if size.parameters is None else f"; {_parameters(size)}, by its name"


def _parameters(size: ModelSize) -> str:
    count = size.parameters
    if count is None:
        return "number of parameters not known"
    unit, name = (1e9, "billion") if count >= 1e9 else (1e6, "million")
    return f"{count / unit:.1f} {name} parameters"


def check_data(database: Database, recipe: Recipe, iterations: int) -> list[Check]:
    """Whether the datasets hold enough usable problems, and the benchmarks are imported."""
    wanted = [("training problems", recipe.problems.dataset, recipe.problems.per_iteration * iterations)]
    if recipe.evaluation.dataset is not None:
        wanted.append(("held-out problems", recipe.evaluation.dataset, recipe.evaluation.problems or 1))
    checks = [_check_dataset(database, *entry) for entry in wanted]
    return checks + [_check_benchmark(database, benchmark) for benchmark in recipe.evaluation.benchmarks]


def _check_benchmark(database: Database, benchmark: BenchmarkSection) -> Check:
    try:
        with database.begin() as connection:
            check_benchmark(connection, benchmark)
    except HsstarError as error:
        return Check("benchmark", Outcome.FAILS, str(error))
    return Check("benchmark", Outcome.OK, f"{benchmark.evaluation_key} is imported")


def _check_dataset(database: Database, subject: str, name: str, wanted: int) -> Check:
    try:
        with database.begin() as connection:
            usable = datasets.find_dataset(connection, name).usable
    except NotFoundError as error:
        return Check(subject, Outcome.FAILS, str(error))
    outcome = Outcome.OK if usable >= wanted else Outcome.FAILS
    return Check(subject, outcome, f"{name} holds {usable:,} usable problems, {wanted:,} are needed")


def check_memory(
    recipe: Recipe, policy: ModelSize | None, reward: ModelSize | None, device: Device
) -> list[Check]:
    """Whether each engine's weights, and what training keeps beside them, fit into one device."""
    sampling = recipe.policy
    shared = sampling.vllm.tensor_parallel_size if sampling.vllm else None
    checks = []
    if sampling.engine != "openai":
        need = _weights(policy, number_bytes(sampling.dtype, device.gpu), shared or 1)
        checks.append(_compare("memory, sampling", need, device, "weights; the cache comes on top"))
    if reward is not None:
        need = _weights(reward, number_bytes(recipe.reward.dtype, device.gpu))
        checks.append(_compare("memory, scoring", need, device, "weights; activations come on top"))
    if recipe.training.objective != "none":
        checks.append(_check_training(recipe, policy, device))
    return checks


def _check_training(recipe: Recipe, policy: ModelSize | None, device: Device) -> Check:
    training = recipe.training
    number = number_bytes(training.dtype, device.gpu)
    count = None if policy is None else policy.parameters
    if training.lora_rank:
        each = arithmetic.FOUR_BIT_BYTES if training.quantization == "4bit" else number
        need = None if count is None else arithmetic.adapter_training_bytes(count, each)
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
    shared = f", shared by {shards}" if shards > 1 else ""
    return _compare("memory, training", need, device, f"{kept}{shared}; activations on top")


def _weights(size: ModelSize | None, bytes_each: float, shards: int = 1) -> float | None:
    if size is None or size.parameters is None:
        return None
    return arithmetic.weight_bytes(size.parameters, bytes_each, shards)


def _compare(subject: str, need: float | None, device: Device, what: str) -> Check:
    place = "one GPU" if device.gpu else "no GPU is found; this machine"
    if need is None:
        return Check(subject, Outcome.UNCHECKED, "the model's number of parameters is not known")
    outcome = Outcome.OK if need <= device.memory else Outcome.FAILS
    needed = f"{bytes_text(need)} at the least ({what})"
    return Check(subject, outcome, f"{needed}; {place} has {bytes_text(device.memory)}")


def check_disk(found: Forecast, models_directory: Path) -> Check:
    """Whether the disk of the checkpoints holds all of them, and what a training writes on its way."""
    if found.checkpoint_bytes is None:
        return Check("disk, checkpoints", Outcome.UNCHECKED, "the size of a checkpoint is not known")
    space = disk_space(models_directory)
    need = found.checkpoint_bytes + found.intermediate_bytes
    outcome = Outcome.OK if need <= space.free else Outcome.FAILS
    reason = f"{bytes_text(need)}; {space.folder} has {bytes_text(space.free)} free"
    return Check("disk, checkpoints", outcome, reason)
