"""Puts together what the stages of one worker process work with."""

from functools import partial

from hsstar.engines.contracts import ProcessRewardModel, Sampler, Trainer
from hsstar.engines.registry import build_reward_model, build_sampler, build_trainer
from hsstar.engines.verifier import MathVerifier
from hsstar.recipe import Recipe
from hsstar.settings import Settings
from hsstar.stages.context import Engines, Workshop
from hsstar.store.database import Database


def make_workshop(settings: Settings, database_url: str) -> Workshop:
    """A workshop whose engines are built when the first job needs them."""
    return Workshop(
        database=Database(database_url),
        engines=Engines(_sampler, _reward_model, MathVerifier, partial(_trainer, settings)),
        job_samples=settings.job_samples,
        models_folder=settings.models_directory,
    )


def _sampler(location: str, recipe: Recipe) -> Sampler:
    return build_sampler(location, engine=recipe.policy.engine, dtype=recipe.policy.dtype)


def _reward_model(location: str, recipe: Recipe) -> ProcessRewardModel:
    return build_reward_model(location, dtype=recipe.reward.dtype)


def _trainer(settings: Settings) -> Trainer:
    return build_trainer(processes=settings.train_processes, launch_config=settings.accelerate_config)
