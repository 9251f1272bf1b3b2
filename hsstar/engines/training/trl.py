"""Trainer on TRL: DPO, KTO, supervised fine-tuning (also for M_0), and process reward models."""

import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset, load_from_disk
from datasets.utils.logging import disable_progress_bar
from torch.distributed.fsdp import fully_shard
from transformers import GenerationConfig, PrinterCallback, TrainingArguments, set_seed
from trl import DPOConfig, KTOConfig, SFTConfig

from hsstar.checkpoints.adapters import read_base
from hsstar.checkpoints.disk_space import check_space, training_bytes
from hsstar.domain.errors import EngineError
from hsstar.engines.heap import keeping_freed_memory
from hsstar.engines.loading import context_length, load_tokenizer, pick_device, pick_dtype
from hsstar.engines.policies import load_merged, load_to_continue
from hsstar.engines.sampling.completions import end_of_text_ids
from hsstar.engines.training.arguments import (
    BatchPlan,
    adapter_arguments,
    common_arguments,
    pace_of_saves,
    plan_batches,
    preference_arguments,
    quantised_loading,
    shared_gradients,
    verdict_arguments,
)
from hsstar.engines.training.callbacks import (
    STEP_METRICS,
    ExampleTrainer,
    PairTrainer,
    Reporter,
    SaveEvery,
    StepTrainer,
    VerdictTrainer,
)
from hsstar.engines.training.contract import (
    ProgressCallback,
    TrainingReport,
    TrainingSettings,
    TrainingStart,
    TrainingTask,
)
from hsstar.engines.training.data import TrainingData, mismatched, tokenise
from hsstar.engines.training.head import labelled_tokens_only
from hsstar.engines.training.output import save_policy, written_aside
from hsstar.engines.training.resume import WRITING, discard, step_of
from hsstar.engines.training.value_head import add_value_head, padded, step_loss

disable_progress_bar()


class TrlTrainer:
    """Trains in this process, on one device or as one rank of an `accelerate launch`.

    Trained weights are float32, under bfloat16 autocast where the settings ask for bfloat16: at the method's
    learning rates bfloat16 weights lose most updates. Frozen weights under adapters have the number format
    of the arithmetic.
    """

    layout = "one process"

    def __init__(self, device: str = "auto") -> None:
        self._device = pick_device(device)

    def train(self, task: TrainingTask, progress: ProgressCallback | None = None) -> TrainingReport:
        """Run a training, as `contract.Trainer.train` says."""
        whole_on_cpu = self._device.type == "cpu" and task.settings.sharding == "none"
        with keeping_freed_memory() if whole_on_cpu else nullcontext(), labelled_tokens_only():
            return self._train(task, progress)

    def _train(self, task: TrainingTask, progress: ProgressCallback | None) -> TrainingReport:
        model = self._trainable(task)
        if task.objective == "prm":
            set_seed(task.settings.seed)
            add_value_head(model)
        tokenizer = load_tokenizer(task.policy)
        limit = min(task.settings.maximum_tokens, context_length(model.config))
        end_ids = end_of_text_ids(model.generation_config, tokenizer)
        data = tokenise(task.objective, task.rows, tokenizer, limit, end_ids)
        batches = plan_batches(task.settings, len(data.rows), PartialState().num_processes)
        if task.objective == "kto":
            data = _for_kto(data, batches, limit, task.settings.seed)
        dtype = self._compute_dtype(task.settings)
        with written_aside(task.output) as folder:
            writing = task.resume_point.folder / WRITING if task.resume_point else folder / "trainer"
            arguments = common_arguments(task.settings, batches, self._device, dtype)
            if _shares_layers():
                arguments |= shared_gradients()
            trainer = self._trl_trainer(
                task,
                arguments | {"output_dir": str(writing)},
                model=model,
                train_dataset=_dataset(data, folder),
                processing_class=tokenizer,
            )
            metrics = self._run(trainer, task, data, batches.steps, progress)
            updates = save_policy(trainer, task, self._device, folder)
        metrics["left_out"] = sum(data.left_out.values())
        steps = trainer.state.global_step
        return TrainingReport(task.output, len(data.rows), data.truncated, steps, metrics, updates)

    def _compute_dtype(self, settings: TrainingSettings) -> torch.dtype:
        return pick_dtype(settings.dtype, self._device)

    def _trainable(self, task: TrainingTask) -> Any:
        settings = task.settings
        if settings.sharding != "none" and PartialState().num_processes == 1:
            raise EngineError(
                f"training.sharding = {settings.sharding!r} shares a model among several processes: set "
                "HSSTAR_TRAIN_PROCESSES to the GPUs of this worker, or sharding to 'none'"
            )
        dtype = self._compute_dtype(settings) if settings.lora_rank else torch.float32
        quantised = quantised_loading(settings, self._device)
        if _continues(task):
            config = adapter_arguments(settings)
            return load_to_continue(task.policy, self._device, dtype, config, **quantised)
        return load_merged(task.policy, self._device, dtype, **quantised)

    def _trl_trainer(self, task: TrainingTask, arguments: dict[str, Any], **parts: Any) -> Any:
        settings = task.settings
        if task.objective == "prm":
            config = TrainingArguments(
                **arguments, remove_unused_columns=False, include_num_input_tokens_seen="non_padding"
            )
            return StepTrainer(
                args=_on_one_device(config), data_collator=padded, compute_loss_func=step_loss, **parts
            )
        arguments["max_length"] = None  # rows come cut
        parts["peft_config"] = None if _continues(task) else adapter_arguments(settings)
        if task.objective == "sft":
            return ExampleTrainer(args=_on_one_device(SFTConfig(**arguments)), **parts)
        reference = None
        if not settings.lora_rank and not settings.precompute_reference_logprobs:
            reference = load_merged(task.policy, self._device, self._compute_dtype(settings))
            if _shares_layers():
                _shard_layers(reference)
        if task.objective == "kto":
            verdicts = KTOConfig(**arguments, **verdict_arguments(settings))
            return VerdictTrainer(args=_on_one_device(verdicts), ref_model=reference, **parts)
        config = DPOConfig(**arguments, **preference_arguments(settings))
        return PairTrainer(args=_on_one_device(config), ref_model=reference, **parts)

    def _run(
        self,
        trainer: Any,
        task: TrainingTask,
        data: TrainingData,
        steps: int,
        progress: ProgressCallback | None,
    ) -> dict[str, float]:
        resume_point = task.resume_point
        every, pause = pace_of_saves(task.settings, steps) if resume_point else (0, 0.0)
        checkpoint = resume_point.checkpoint if resume_point else None
        self._check_space(trainer.model, task, saves=0 < every < steps)
        if progress and PartialState().is_main_process:
            done = step_of(checkpoint) if checkpoint else 0
            progress(TrainingStart(steps, done, len(data.rows), data.truncated, data.left_out, data.lengths))
        reporter = Reporter(progress)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(reporter)
        if every:
            trainer.add_callback(SaveEvery(every, pause))
            trainer.resume_point, trainer.progress = resume_point, progress
        trainer.model.generation_config = GenerationConfig()  # transformers refuses some policies' own
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except torch.OutOfMemoryError as error:
            raise EngineError(f"training ran out of memory; lower micro_batch_size: {error}") from error
        except EngineError:
            raise
        except Exception as error:  # libraries raise all kinds of errors on a broken file
            if checkpoint is None or resume_point is None or reporter.steps_done:
                raise
            if PartialState().is_main_process:
                discard(resume_point)
            raise EngineError(
                f"training could not resume from its intermediate checkpoint of step {step_of(checkpoint)}, "
                f"which is removed; the next attempt starts anew ({type(error).__name__}: {error})"
            ) from error
        return _means(trainer.state.log_history)

    def _check_space(self, model: Any, task: TrainingTask, *, saves: bool) -> None:
        parameters, trained = model.num_parameters(), model.num_parameters(only_trainable=True)
        saved = task.settings.save_dtype  # rounded copies are written beside the float32 weights
        bytes_per_weight = 4 if saved == "float32" else 4 + getattr(torch, saved).itemsize
        stored = trained if task.keeps_adapters else parameters
        check_space(task.output.parent, *training_bytes(stored, trained, bytes_per_weight, saves=saves))


def _continues(task: TrainingTask) -> bool:
    """Tell whether the training continues the adapter that the policy has; TRL copies it as the reference."""
    return task.keeps_adapters and read_base(task.policy) is not None


def _for_kto(data: TrainingData, batches: BatchPlan, limit: int, seed: int) -> TrainingData:
    if batches.micro_batch_size < 2:
        raise EngineError(
            "objective 'kto' compares the samples of a pass, and one sample makes a pass here; set "
            "training.batch_size to an even multiple of the processes"
        )
    return replace(data, rows=mismatched(data.rows, batches.micro_batch_size, limit, seed))


def _shares_layers() -> bool:
    """Tell whether this is a rank of FSDP2, as `accelerate launch` says it to its ranks."""
    return os.environ.get("FSDP_VERSION") == "2"


def _shard_layers(model: Any) -> None:
    """Share a frozen model among the processes layer by layer; TRL would gather all of it at once."""
    for module in model.modules():
        if type(module).__name__ in model._no_split_modules:
            fully_shard(module)


def _on_one_device(arguments: Any) -> Any:
    """Keep a process on its own GPU; transformers would spread it over all GPUs, which TRL refuses."""
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments


def _dataset(data: TrainingData, folder: Path) -> Dataset:
    """Store the rows in a folder that every rank reads; rank 0 adds reference log-probabilities there."""
    state = PartialState()
    if state.is_main_process:
        Dataset.from_list(data.rows).save_to_disk(str(folder / "rows"))
    state.wait_for_everyone()
    return load_from_disk(str(folder / "rows"))


def _means(history: list[dict[str, float]]) -> dict[str, float]:
    metrics = {}
    for name in STEP_METRICS:
        if values := [entry[name] for entry in history if "loss" in entry and name in entry]:
            metrics[name], metrics[f"last/{name}"] = sum(values) / len(values), values[-1]
    return metrics
