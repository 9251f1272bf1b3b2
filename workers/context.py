"""Builds the context of a worker process."""

import logging
import os
from collections.abc import Callable
from functools import partial

from hsstar.domain.errors import DatabaseError
from hsstar.engines.registry import build_sampler, build_scorer, build_trainer
from hsstar.engines.sampling.contract import Sampler
from hsstar.local.gpus import find_gpus
from hsstar.recipe.recipe import Recipe
from hsstar.settings import Settings
from hsstar.stages.context import WorkerContext
from hsstar.stages.engine_pool import EnginePool
from hsstar.store.database import Database
from hsstar.store.queue import workers
from hsstar.verifier.kinds import make_verifier

log = logging.getLogger("hsstar.worker")


def make_context(settings: Settings, database: Database, worker: str) -> WorkerContext:
    """Make the context of a worker; its engines are built when the first job needs them."""
    return WorkerContext(
        database=database,
        engines=EnginePool(
            partial(_sampler, note_taker(database, worker)),
            build_scorer,
            make_verifier,
            lambda: build_trainer(**settings.trainer_options),
            one_at_a_time=_one_at_a_time(settings),
        ),
        job_samples=settings.job_samples,
        models_folder=settings.models_dir,
    )


def _one_at_a_time(settings: Settings) -> bool:
    """Tell whether memory holds one engine only: as the settings say, else if the worker has a GPU."""
    if settings.resident_engines == "auto":
        return bool(find_gpus(os.environ))
    return settings.resident_engines == "one"


def _sampler(note: Callable[[str], None], location: str, recipe: Recipe) -> Sampler:
    policy = recipe.policy
    options = policy.engine_options
    if policy.engine == "openai":
        options["note"] = note  # waits for its server and says so
    return build_sampler(location, engine=policy.engine, dtype=policy.dtype, **options)


def note_taker(database: Database, worker: str) -> Callable[[str], None]:
    """Return a function that sets a worker's note; if the database fails, it logs the error."""

    def note(text: str) -> None:
        try:
            with database.begin() as connection:
                workers.set_note(connection, worker, text)
        except DatabaseError as error:
            log.warning("a note was not stored: %s", error)

    return note
