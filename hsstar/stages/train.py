"""Training: trains the next policy on the pairs (or samples) of an iteration."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hsstar.checkpoints.marker import Marker, check_place, put_in_place, scratch_name
from hsstar.checkpoints.resolve import base_location, fingerprint
from hsstar.domain.answers.thinking import without_thinking
from hsstar.domain.preference import LEARNT_FROM, rows_seen
from hsstar.domain.rounding import SampledUpdate
from hsstar.domain.seeds import derived_seed
from hsstar.engines.device import has_gpu
from hsstar.engines.prompts import prompt_renderer
from hsstar.engines.training.contract import (
    Objective,
    TrainingExample,
    TrainingPair,
    TrainingReport,
    TrainingRow,
    TrainingSettings,
    TrainingTask,
    TrainingVerdict,
    training_settings,
)
from hsstar.engines.training.resume import adopt_checkpoint, clear_removed, training_identity
from hsstar.stages.context import JobContext, WorkerContext, load_context
from hsstar.stages.training_recorder import TrainingRecorder
from hsstar.store import models, training
from hsstar.store.models import checkpoint_of
from hsstar.store.queue import jobs


@dataclass(frozen=True, slots=True)
class _Assignment:
    context: JobContext
    objective: Objective
    rows: Sequence[TrainingRow]
    settings: TrainingSettings
    record: int
    database: str

    @property
    def label(self) -> str:
        return f"M{self.context.round.number + 1}"


def run(worker: WorkerContext, job: jobs.Job) -> list[int]:
    """Train the next policy of a run and register it; the job concerns no single problem."""
    with worker.span("load"):
        assignment = _load(worker, job)
    context, rows, settings = assignment.context, assignment.rows, assignment.settings
    policy = checkpoint_of(context.policy)
    trainer = worker.engines.trainer()
    folder = worker.models_folder / context.run.name
    final = folder / assignment.label
    check_place(final, assignment.database, context.run.name, context.round.number)
    scratch = folder / scratch_name(assignment.label, assignment.database)
    identity = training_identity(policy, rows, settings, trainer.layout)
    with worker.database.begin() as connection:
        jobs.fence(connection, job)  # no other attempt can begin meanwhile
        resume_point = adopt_checkpoint(scratch, str(job.token), identity)
    clear_removed(resume_point)
    recorder = TrainingRecorder(worker.database, job, assignment.record, worker.progress)
    output = resume_point.folder / assignment.label
    location = context.policy.location
    task = TrainingTask(assignment.objective, policy, rows, settings, output, resume_point, location)
    with worker.span("train", rows=len(rows)):
        report = trainer.train(task, recorder)
    with worker.span("save"):
        _register(worker, job, assignment, recorder, report, final)
    shutil.rmtree(resume_point.folder.parent, ignore_errors=True)
    return []


def _load(worker: WorkerContext, job: jobs.Job) -> _Assignment:
    with worker.database.begin() as connection:
        context = load_context(connection, job)
        section = context.recipe.training
        render = prompt_renderer(context.recipe.policy.prompt.resolved, context.policy.location)
        objective: Objective = "dpo" if section.objective == "none" else section.objective
        rows: list[TrainingRow]

        def taught(response: str, source: str | None) -> str:
            keeps = section.thinking == "keep"
            return response if keeps else without_thinking(response, context.recipe.thinking_of(source))

        if objective in LEARNT_FROM:
            examples = training.load_examples(connection, context.run, context.round, LEARNT_FROM[objective])
            ids = [example.sample_id for example in examples]
            rows = [
                _row(objective, render(example.statement), taught(example.response, example.source), example)
                for example in examples
            ]
        else:
            pairs = training.load_pairs(connection, job.round_id)
            ids = [pair.id for pair in pairs]
            rows = [
                TrainingPair(
                    render(pair.statement),
                    taught(pair.chosen, pair.chosen_source),
                    taught(pair.rejected, pair.rejected_source),
                    pair.chosen_cut,
                    pair.rejected_cut,
                )
                for pair in pairs
            ]
        seed = derived_seed(context.recipe.seed, "train", context.round.number) % 2**31
        seen = rows_seen(len(rows), section.rows, context.recipe.seed, context.round.number)
        rows, ids = [rows[place] for place in seen], [ids[place] for place in seen]
        settings = training_settings(section, seed)
        record = training.begin_training(connection, job, context.policy.id, objective, asdict(settings), ids)
        database = models.database_id(connection)
    return _Assignment(context, objective, rows, settings, record, database)


def _row(objective: Objective, prompt: str, response: str, example: training.StoredExample) -> TrainingRow:
    if objective == "kto":
        return TrainingVerdict(prompt, response, example.correct, example.cut)
    return TrainingExample(prompt, response, example.cut)


def _register(
    worker: WorkerContext,
    job: jobs.Job,
    assignment: _Assignment,
    recorder: TrainingRecorder,
    report: TrainingReport,
    final: Path,
) -> None:
    """End the job: the new policy gets its final folder and its row, or neither."""
    context = assignment.context
    mark = fingerprint(report.checkpoint)
    marker = Marker(assignment.database, context.run.name, context.round.number, mark)
    with worker.database.begin() as connection:
        jobs.complete(connection, job)  # from here on no other attempt can touch the final folder
        recorder.write(connection)
        put_in_place(report.checkpoint, final, marker)
        name = f"{context.run.name}-{assignment.label}"
        made = models.register_model(
            connection, name, str(final), mark, context.policy.id, base=base_location(final)
        )
        training.finish_training(
            connection,
            assignment.record,
            made.id,
            report.truncated,
            report.steps,
            report.metrics,
            SampledUpdate(context.recipe.policy.sampled_as(gpu=has_gpu()), report.updates),
        )
