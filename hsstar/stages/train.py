"""Training: the pairs (or correct samples) of an iteration make the next policy."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hsstar.checkpoints.resolve import fingerprint
from hsstar.domain.seeds import derived_seed
from hsstar.engines.prompts import prompt_renderer
from hsstar.engines.training.contract import (
    Intermediate,
    Trainer,
    TrainingExample,
    TrainingPair,
    TrainingReport,
    TrainingSettings,
    training_settings,
)
from hsstar.engines.training.resume import clear_removed, take_over, training_identity
from hsstar.stages.context import JobContext, WorkerContext, load_context
from hsstar.stages.training_recorder import TrainingRecorder
from hsstar.store import models, training
from hsstar.store.models import checkpoint_of
from hsstar.store.queue import jobs


@dataclass(frozen=True, slots=True)
class _Assignment:
    """What one attempt has to do, as the rows say.

    Attributes:
        rows: pairs or examples, by the objective.
        record: id of the training run.
    """

    context: JobContext
    rows: Sequence[TrainingPair | TrainingExample]
    settings: TrainingSettings
    record: int

    @property
    def label(self) -> str:
        """The name of the new policy within its run."""
        return f"M{self.context.round.number + 1}"


def run(worker: WorkerContext, job: jobs.Job) -> list[int]:
    """Trains the next policy of a run and registers it; concerns no single problem."""
    assignment = _load(worker, job)
    context, settings = assignment.context, assignment.settings
    policy = checkpoint_of(context.policy)
    trainer = worker.engines.trainer()
    folder = worker.models_folder / context.run.name
    identity = training_identity(policy, assignment.rows, settings, trainer.layout)
    with worker.database.begin() as connection:
        jobs.fence(connection, job)  # nobody else takes over meanwhile
        intermediate = take_over(folder / f".{assignment.label}-training", str(job.token), identity)
    clear_removed(intermediate)
    recorder = TrainingRecorder(worker.database, job, assignment.record)
    report = _train(trainer, assignment, policy, recorder, intermediate)
    _register(worker, job, assignment, recorder, report, folder / assignment.label)
    shutil.rmtree(intermediate.folder.parent, ignore_errors=True)
    return []


def _load(worker: WorkerContext, job: jobs.Job) -> _Assignment:
    with worker.database.begin() as connection:
        context = load_context(connection, job)
        section = context.recipe.training
        render = prompt_renderer(context.recipe.policy.prompt, context.policy.location)
        rows: list[TrainingPair | TrainingExample]
        if section.objective == "sft":
            examples = training.load_examples(connection, context.run, context.round)
            ids = [found[0] for found in examples]
            rows = [TrainingExample(render(problem), response) for _, problem, response in examples]
        else:
            pairs = training.load_pairs(connection, job.round_id)
            ids = [found[0] for found in pairs]
            rows = [TrainingPair(render(problem), chosen, worse) for _, problem, chosen, worse in pairs]
        seed = derived_seed(context.recipe.seed, "train", context.round.number) % 2**31
        settings = training_settings(section, seed)
        record = training.begin_training(
            connection, job, context.policy.id, section.objective, asdict(settings), ids
        )
    return _Assignment(context, rows, settings, record)


def _train(
    trainer: Trainer,
    assignment: _Assignment,
    policy: Path,
    recorder: TrainingRecorder,
    intermediate: Intermediate,
) -> TrainingReport:
    """Trains by the recipe's objective into the folder of this attempt."""
    pairs = [row for row in assignment.rows if isinstance(row, TrainingPair)]
    examples = [row for row in assignment.rows if isinstance(row, TrainingExample)]
    output = intermediate.folder / assignment.label
    if assignment.context.recipe.training.objective == "sft":
        return trainer.sft(policy, examples, assignment.settings, output, recorder, intermediate)
    return trainer.dpo(policy, pairs, assignment.settings, output, recorder, intermediate)


def _register(
    worker: WorkerContext,
    job: jobs.Job,
    assignment: _Assignment,
    recorder: TrainingRecorder,
    report: TrainingReport,
    final: Path,
) -> None:
    """Ends the job: the new policy in its place and its row, or nothing of it."""
    context = assignment.context
    mark = fingerprint(report.checkpoint)
    with worker.database.begin() as connection:
        jobs.complete(connection, job)  # from here on no other attempt can touch the final folder
        recorder.write(connection)
        _put_in_place(report.checkpoint, final)
        made = models.register_model(
            connection, f"{context.run.name}-{assignment.label}", str(final), mark, context.policy.id
        )
        training.finish_training(
            connection, assignment.record, made.id, report.truncated, report.steps, report.metrics
        )


def _put_in_place(aside: Path, final: Path) -> None:
    """Renames a whole checkpoint to its final place; one that was never registered makes room."""
    if final.exists():
        shutil.rmtree(final)
    aside.rename(final)
