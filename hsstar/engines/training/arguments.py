"""From hsstar's training settings to the arguments of TRL, transformers and PEFT."""

import math
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch

from hsstar.domain.errors import EngineError, MissingDependencyError
from hsstar.engines.training.contract import TrainingSettings

_DEFAULT_SAVES = 10
_DEFAULT_PAUSE_SECONDS = 30.0
"""Least time between the intermediate checkpoints of a training without `save_every_steps`."""


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """How rows are spread: rows of one pass in one process, passes per optimiser step, optimiser steps."""

    micro_batch_size: int
    accumulation: int
    steps: int


def plan_batches(settings: TrainingSettings, rows: int, processes: int) -> BatchPlan:
    """Plan passes that make up `batch_size`, exactly if it is a multiple of `processes`.

    The micro batch is the largest divisor of a process's share that the settings allow.
    """
    share = max(1, settings.batch_size // processes)
    micro = max(
        size for size in range(1, share + 1) if share % size == 0 and size <= settings.micro_batch_size
    )
    accumulation = share // micro
    passes = math.ceil(rows / (micro * processes))
    steps = math.ceil(settings.epochs * math.ceil(passes / accumulation))
    return BatchPlan(micro, accumulation, steps)


def common_arguments(
    settings: TrainingSettings, batches: BatchPlan, device: torch.device, dtype: torch.dtype
) -> dict[str, Any]:
    """Return what all objectives pass to transformers' TrainingArguments; a callback decides when to save.

    The warm-up is rounded down: a warm-up step of a one-step run would have learning rate 0.
    """
    on_cpu = device.type == "cpu"
    checkpointing = settings.gradient_checkpointing
    return {
        "learning_rate": settings.learning_rate,
        "per_device_train_batch_size": batches.micro_batch_size,
        "gradient_accumulation_steps": batches.accumulation,
        "num_train_epochs": settings.epochs,
        "lr_scheduler_type": settings.scheduler,
        "warmup_steps": int(batches.steps * settings.warmup_ratio),
        "weight_decay": settings.weight_decay,
        "seed": settings.seed,
        "bf16": dtype == torch.bfloat16,
        "use_cpu": on_cpu,
        "gradient_checkpointing": not on_cpu if checkpointing is None else checkpointing,
        "dataloader_pin_memory": not on_cpu,
        "save_strategy": "no",
        "report_to": "none",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
    }


def preference_arguments(settings: TrainingSettings) -> dict[str, Any]:
    """Return the arguments that DPOConfig adds; only adapters may have dropout."""
    losses = {settings.loss_type: 1.0}
    if settings.nll_weight:
        losses["sft"] = settings.nll_weight
    return {
        "beta": settings.beta,
        "loss_type": list(losses),
        "loss_weights": list(losses.values()),
        "label_smoothing": settings.label_smoothing,
        "precompute_ref_log_probs": settings.precompute_reference_logprobs,
        "disable_dropout": settings.lora_dropout == 0,
    }


def verdict_arguments(settings: TrainingSettings) -> dict[str, Any]:
    """Return the arguments that KTOConfig adds; only adapters may have dropout."""
    return {
        "beta": settings.beta,
        "desirable_weight": settings.desirable_weight,
        "undesirable_weight": settings.undesirable_weight,
        "precompute_ref_log_probs": settings.precompute_reference_logprobs,
        "disable_dropout": settings.lora_dropout == 0,
    }


def shared_gradients() -> dict[str, Any]:
    """Return the arguments by which each pass adds to a process's own share of the gradients, in float32.

    Otherwise each process of FSDP2 adds up all of them, in bfloat16, until the last pass of a step.
    """
    return {"accelerator_config": {"gradient_accumulation_kwargs": {"sync_each_batch": True}}}


def pace_of_saves(settings: TrainingSettings, steps: int) -> tuple[int, float]:
    """Return optimiser steps and least seconds between two intermediate checkpoints; 0 steps: none."""
    if settings.save_every_steps is not None:
        return settings.save_every_steps, 0.0
    return math.ceil(steps / _DEFAULT_SAVES), _DEFAULT_PAUSE_SECONDS


def adapter_arguments(settings: TrainingSettings) -> Any:
    """Return PEFT's configuration, None to train the weights; raise MissingDependencyError without PEFT."""
    if not settings.lora_rank:
        return None
    _require("peft", "training.lora_rank", "pip install 'hsstar[train]'")
    from peft import LoraConfig

    return LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=list(settings.lora_target_modules) or "all-linear",
        task_type="CAUSAL_LM",
    )


def quantised_loading(settings: TrainingSettings, device: torch.device) -> dict[str, Any]:
    """Return the arguments by which `from_pretrained` loads frozen weights in 4 bits; empty without them.

    Raise EngineError if this worker has no GPU, MissingDependencyError if bitsandbytes is not installed.
    """
    if settings.quantization == "none":
        return {}
    if device.type != "cuda":
        raise EngineError(
            "training.quantization = '4bit' needs an NVIDIA GPU, and this worker has none; set it to 'none'"
        )
    _require("bitsandbytes", "training.quantization = '4bit'", "pip install bitsandbytes")
    from transformers import BitsAndBytesConfig

    return {
        "device_map": {"": device},
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        ),
    }


def _require(package: str, wanted_by: str, advice: str) -> None:
    if find_spec(package) is None:
        raise MissingDependencyError(f"{wanted_by} needs {package}, which is not installed: {advice}")
