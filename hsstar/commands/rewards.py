"""Check and register what gives the rewards of a recipe."""

import hashlib
from contextlib import closing
from dataclasses import dataclass

from sqlalchemy import Connection

from hsstar.checkpoints.resolve import check_reward_model, fingerprint
from hsstar.checkpoints.step_rule import check_step_rule
from hsstar.commands.models import lasting_location
from hsstar.domain.errors import BadInputError
from hsstar.engines.registry import check_reward_options
from hsstar.engines.rewards.function import FunctionReward
from hsstar.engines.step_splitting import check_splitting
from hsstar.recipe.recipe import Recipe
from hsstar.recipe.reward import RewardSection
from hsstar.recipe.steps import StepsSection
from hsstar.store import models
from hsstar.verifier.kinds.sources import source_of


@dataclass(frozen=True, slots=True)
class Scorer:
    """What gives a reward, checked: a model, a function or a rule."""

    location: str  # of a rule its settings
    family: str
    fingerprint: str

    def register(self, connection: Connection) -> models.RewardModel:
        """Return its row, added if it is missing."""
        return models.register_reward_model(
            connection, self.location, self.location, self.family, self.fingerprint
        )


def check_rewards(recipe: Recipe) -> list[Scorer]:
    """Check everything that the rewards of a recipe name, in order.

    Raise CheckpointError if a reward model is missing, broken or of another kind, or was trained on other
    steps, BadInputError for an option that its engine lacks, or for one model with two sets of options, and
    EngineError for a function that does not import or cannot be called.
    """
    check_splitting(recipe.steps)
    scorers: list[Scorer] = []
    for place, reward in enumerate(recipe.scoring):
        scorer = check_scorer(reward, recipe.steps)
        for other, same in zip(recipe.scoring[:place], scorers, strict=True):
            if scorer == same and reward.engine_keys != other.engine_keys:
                raise BadInputError(
                    f"rewards {other.name!r} and {reward.name!r} name one model with different keys of its "
                    "engine; a response has one reward by each model: make the keys equal"
                )
        scorers.append(scorer)
    return scorers


def check_scorer(reward: RewardSection, steps: StepsSection) -> Scorer:
    """Check what a reward names, for responses that are split so; errors as in `check_rewards`."""
    if reward.function is not None:
        with closing(FunctionReward(reward.function, reward.source)) as function:
            function.check()
        return Scorer(reward.function, reward.kind, _digest(source_of(reward.function, reward.source)))
    if not reward.has_model:
        options = reward.rule_options.items()
        settings = ", ".join(f"{key} {value}" for key, value in options if value is not None)
        text = f"{reward.kind}: {settings or 'final answer'}"
        return Scorer(text, reward.kind, _digest(text))
    location = lasting_location(reward.model)
    info = check_reward_model(location, reward.model_kind, reward.engine)
    check_reward_options(reward.engine, reward.engine_options)
    check_step_rule(info.path, steps.trained)
    return Scorer(location, info.family, fingerprint(location))


def refuse_uncounted(recipe: Recipe) -> None:
    """Raise BadInputError where a reward counts tokens, which imported samples have no number of."""
    for reward in recipe.scoring:
        if reward.kind == "length":
            raise BadInputError(
                f"the reward {reward.name!r} counts tokens, and imported samples have no number of them; "
                "make a run without it"
            )


def _digest(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
