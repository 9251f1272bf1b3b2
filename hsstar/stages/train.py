"""Preference optimisation: the pairs of an iteration make the next policy."""

import shutil
import time
from dataclasses import asdict
from pathlib import Path

from hsstar.domain.seeds import derived_seed
from hsstar.engines.checkpoints import fingerprint
from hsstar.engines.contracts import ProgressCallback, TrainingPair, TrainingSettings
from hsstar.engines.prompts import prompt_renderer
from hsstar.stages.checkpoint import checkpoint_of
from hsstar.stages.context import JobContext, Workshop, load_context
from hsstar.store import jobs, models, training

_REPORT_EVERY_SECONDS = 1.0


def run(workshop: Workshop, job: jobs.Job) -> list[int]:
    """Trains the next policy of a run and registers it; concerns no single problem."""
    with workshop.database.begin() as connection:
        context = load_context(connection, job)
        render = prompt_renderer(context.recipe.policy.prompt, context.policy.location)
        pairs = [
            TrainingPair(render(problem), chosen, rejected)
            for problem, chosen, rejected in training.load_pairs(connection, job.round_id)
        ]
        settings = _settings(context)
        record = training.begin_training(
            connection,
            job,
            context.policy.id,
            context.recipe.training.objective,
            asdict(settings),
            len(pairs),
        )
    label = f"M{context.round.number + 1}"
    folder = workshop.models_folder / context.run.name
    aside = folder / f".{label}-{job.token}"
    try:
        report = workshop.engines.trainer().dpo(
            checkpoint_of(context.policy), pairs, settings, aside, _progress(workshop, record)
        )
        with workshop.database.begin() as connection:
            jobs.complete(connection, job)  # from here on no other attempt can touch the final folder
            final = _put_in_place(aside, folder / label)
            made = models.register_model(
                connection, f"{context.run.name}-{label}", str(final), fingerprint(final), context.policy.id
            )
            training.finish_training(
                connection, record, made.id, report.truncated, report.steps, report.metrics
            )
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return []


def _put_in_place(aside: Path, final: Path) -> Path:
    """Renames a whole checkpoint to its final place; one that was never registered makes room."""
    if final.exists():
        shutil.rmtree(final)
    return aside.rename(final)


def _settings(context: JobContext) -> TrainingSettings:
    chosen = context.recipe.training
    return TrainingSettings(
        learning_rate=chosen.learning_rate,
        batch_size=chosen.batch_size,
        micro_batch_size=chosen.micro_batch_size,
        epochs=chosen.epochs,
        warmup_ratio=chosen.warmup_ratio,
        scheduler=chosen.scheduler,
        weight_decay=chosen.weight_decay,
        beta=chosen.beta,
        nll_weight=chosen.nll_weight,
        maximum_tokens=chosen.maximum_tokens,
        dtype=chosen.dtype,
        seed=derived_seed(context.recipe.seed, "train", context.round.number) % 2**31,
    )


def _progress(workshop: Workshop, record: int) -> ProgressCallback:
    """Writes the optimiser steps done, at most once a second and at the end."""
    last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        if done < total and time.monotonic() - last < _REPORT_EVERY_SECONDS:
            return
        last = time.monotonic()
        with workshop.database.begin() as connection:
            training.report_progress(connection, record, done, total)

    return report
