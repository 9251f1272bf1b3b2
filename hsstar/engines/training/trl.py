"""Trainer on TRL: DPO for preference optimisation, supervised fine-tuning for step-wise initialisation."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset, load_from_disk
from datasets.utils.logging import disable_progress_bar
from transformers import GenerationConfig, PrinterCallback
from trl import DPOConfig, SFTConfig

from hsstar.checkpoints.disk_space import check_space, training_bytes
from hsstar.domain.errors import EngineError
from hsstar.engines.loading import context_length, load_policy, load_tokenizer, pick_device, pick_dtype
from hsstar.engines.training.arguments import (
    adapter_arguments,
    common_arguments,
    pace_of_saves,
    plan_batches,
    preference_arguments,
    quantised_loading,
)
from hsstar.engines.training.callbacks import (
    STEP_METRICS,
    ExampleTrainer,
    PairTrainer,
    Reporter,
    SaveEvery,
)
from hsstar.engines.training.contract import (
    Intermediate,
    ProgressCallback,
    TrainingExample,
    TrainingPair,
    TrainingReport,
    TrainingSettings,
    TrainingStart,
)
from hsstar.engines.training.data import Row, TrainingData, tokenise_examples, tokenise_pairs
from hsstar.engines.training.output import save_policy, written_aside
from hsstar.engines.training.resume import WRITING, discard, step_of

disable_progress_bar()


class TrlTrainer:
    """Trains in this process, on one device or as one rank of an `accelerate launch`.

    Weights are kept in float32 while they are trained, under bfloat16 autocast where the settings
    ask for bfloat16: at the method's learning rates most updates are lost in bfloat16 weights. Under
    adapters the frozen weights have the number format of the arithmetic.
    """

    layout = "one process"

    def __init__(self, device: str = "auto") -> None:
        self._device = pick_device(device)

    def dpo(
        self,
        policy: Path,
        pairs: Sequence[TrainingPair],
        settings: TrainingSettings,
        output: Path,
        progress: ProgressCallback | None = None,
        intermediate: Intermediate | None = None,
    ) -> TrainingReport:
        """Direct preference optimisation from `policy`, which is also the frozen reference.

        Raises:
            CheckpointError: the policy cannot be loaded.
            BadInputError: there is no pair to train on.
            EngineError: training ran out of memory or diverged, or there is no room on the disk.
        """
        model = self._trainable(policy, settings)
        tokenizer = load_tokenizer(policy)
        data = tokenise_pairs(pairs, tokenizer, _token_limit(model, settings))
        without_reference = settings.lora_rank or settings.precompute_reference_logprobs
        with written_aside(output) as folder:
            trainer = PairTrainer(
                model=model,
                ref_model=None
                if without_reference
                else load_policy(policy, self._device, self._compute_dtype(settings)),
                args=_on_one_device(
                    DPOConfig(
                        **self._arguments(settings, data, folder, intermediate),
                        **preference_arguments(settings),
                    )
                ),
                train_dataset=_dataset(data, folder),
                processing_class=tokenizer,
                peft_config=adapter_arguments(settings),
            )
            metrics = self._train(trainer, data, settings, folder, progress, intermediate)
            save_policy(trainer, policy, self._compute_dtype(settings), folder)
        return _report(trainer, data, metrics, output)

    def sft(
        self,
        policy: Path,
        examples: Sequence[TrainingExample],
        settings: TrainingSettings,
        output: Path,
        progress: ProgressCallback | None = None,
        intermediate: Intermediate | None = None,
    ) -> TrainingReport:
        """Supervised fine-tuning on responses; the tokens of the prompts are masked from the loss.

        Raises:
            CheckpointError: the policy cannot be loaded.
            BadInputError: there is no example to train on.
            EngineError: training ran out of memory or diverged, or there is no room on the disk.
        """
        model = self._trainable(policy, settings)
        tokenizer = load_tokenizer(policy)
        data = tokenise_examples(examples, tokenizer, _token_limit(model, settings))
        with written_aside(output) as folder:
            trainer = ExampleTrainer(
                model=model,
                args=_on_one_device(SFTConfig(**self._arguments(settings, data, folder, intermediate))),
                train_dataset=_dataset(data, folder),
                processing_class=tokenizer,
                peft_config=adapter_arguments(settings),
            )
            metrics = self._train(trainer, data, settings, folder, progress, intermediate)
            save_policy(trainer, policy, self._compute_dtype(settings), folder)
        return _report(trainer, data, metrics, output)

    def _compute_dtype(self, settings: TrainingSettings) -> torch.dtype:
        return pick_dtype(settings.dtype, self._device)

    def _trainable(self, policy: Path, settings: TrainingSettings) -> Any:
        """The model whose weights, or adapters, are trained."""
        if settings.sharding != "none" and PartialState().num_processes == 1:
            raise EngineError(
                f"training.sharding = {settings.sharding!r} shares a model among several processes: set "
                "HSSTAR_TRAIN_PROCESSES to the GPUs of this worker, or sharding to 'none'"
            )
        dtype = self._compute_dtype(settings) if settings.lora_rank else torch.float32
        return load_policy(policy, self._device, dtype, **quantised_loading(settings, self._device))

    def _arguments(
        self,
        settings: TrainingSettings,
        data: TrainingData[Row],
        folder: Path,
        intermediate: Intermediate | None,
    ) -> dict[str, Any]:
        batches = plan_batches(settings, len(data.rows), PartialState().num_processes)
        writing = intermediate.folder / WRITING if intermediate else folder / "trainer"
        return common_arguments(settings, batches, self._device, self._compute_dtype(settings)) | {
            "output_dir": str(writing)
        }

    def _train(
        self,
        trainer: Any,
        data: TrainingData[Row],
        settings: TrainingSettings,
        folder: Path,
        progress: ProgressCallback | None,
        intermediate: Intermediate | None,
    ) -> dict[str, float]:
        """Runs the training, from where the last attempt has left it; its metrics as in `TrainingReport`."""
        steps = plan_batches(settings, len(data.rows), PartialState().num_processes).steps
        every, pause = pace_of_saves(settings, steps) if intermediate else (0, 0.0)
        resumed = intermediate.resume_from if intermediate else None
        _check_space(trainer.model, self._compute_dtype(settings), folder, saves=0 < every < steps)
        if progress and PartialState().is_main_process:
            done = step_of(resumed) if resumed else 0
            progress(TrainingStart(steps, done, len(data.rows), data.truncated, data.left_out, data.lengths))
        reporter = Reporter(progress)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(reporter)
        if every:
            trainer.add_callback(SaveEvery(every, pause))
            trainer.intermediate, trainer.saved = intermediate, progress
        trainer.model.generation_config = GenerationConfig()  # the parent's may be one that is refused
        try:
            trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
        except torch.OutOfMemoryError as error:
            raise EngineError(f"training ran out of memory; lower micro_batch_size: {error}") from error
        except EngineError:
            raise
        except Exception as error:  # whatever a broken file makes of the libraries that read it
            if resumed is None or intermediate is None or reporter.steps_done:
                raise
            if PartialState().is_main_process:
                discard(intermediate)
            raise EngineError(
                f"training could not go on from its intermediate checkpoint of step {step_of(resumed)}, "
                f"which is removed; the next attempt begins anew ({type(error).__name__}: {error})"
            ) from error
        return _means(trainer.state.log_history)


def _on_one_device(arguments: Any) -> Any:
    """Keeps a process to its own GPU; transformers would spread it over all, which TRL refuses."""
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments


def _token_limit(model: Any, settings: TrainingSettings) -> int:
    return min(settings.maximum_tokens, context_length(model.config))


def _dataset(data: TrainingData[Row], folder: Path) -> Dataset:
    """The rows, in a folder that every rank sees: the first one leaves reference log-probabilities there."""
    state = PartialState()
    if state.is_main_process:
        Dataset.from_list([asdict(row) for row in data.rows]).save_to_disk(str(folder / "rows"))
    state.wait_for_everyone()
    return load_from_disk(str(folder / "rows"))


def _check_space(model: Any, dtype: torch.dtype, folder: Path, *, saves: bool) -> None:
    trained = model.num_parameters(only_trainable=True)
    check_space(folder.parent, *training_bytes(model.num_parameters(), trained, dtype.itemsize, saves=saves))


def _means(history: list[dict[str, float]]) -> dict[str, float]:
    """For each metric of the steps its mean, and under `last/` its last value."""
    metrics = {}
    for name in STEP_METRICS:
        if values := [entry[name] for entry in history if "loss" in entry and name in entry]:
            metrics[name], metrics[f"last/{name}"] = sum(values) / len(values), values[-1]
    return metrics


def _report(trainer: Any, data: TrainingData[Row], metrics: dict[str, float], output: Path) -> TrainingReport:
    metrics["left_out"] = data.left_out
    return TrainingReport(output, len(data.rows), data.truncated, trainer.state.global_step, metrics)
