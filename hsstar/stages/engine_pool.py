"""The engines of a worker process."""

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from hsstar.domain.lifecycle import JobKind
from hsstar.domain.verification import KindSettings
from hsstar.engines.device import clear_memory
from hsstar.engines.rewards.contract import ProcessRewardModel
from hsstar.engines.sampling.contract import Sampler
from hsstar.engines.training.contract import Trainer
from hsstar.recipe.recipe import Recipe
from hsstar.recipe.reward import RewardSection
from hsstar.stages.shared_sampler import SharedSampler
from hsstar.store import models
from hsstar.store.models import scorer_location
from hsstar.verifier.contract import Verifier
from hsstar.verifier.kinds.open_verifiers import OpenVerifiers


class EnginePool:
    """At most one engine of each kind (of all with `one_at_a_time`), but all reward models of one run.

    Threads share only the sampler.
    """

    def __init__(
        self,
        build_sampler: Callable[[str, Recipe], Sampler],
        build_reward_model: Callable[[str, RewardSection], ProcessRewardModel],
        build_verifier: Callable[[KindSettings], Verifier],
        build_trainer: Callable[[], Trainer],
        *,
        one_at_a_time: bool = False,
    ) -> None:
        self.one_at_a_time = one_at_a_time
        self._build_reward_model = build_reward_model
        self._build_trainer = build_trainer
        self._sampler = SharedSampler(build_sampler)
        self._reward_models: dict[object, ProcessRewardModel] = {}
        self._verifiers = OpenVerifiers(build_verifier)
        self._trainer: Trainer | None = None
        self._moving = threading.Lock()
        self._present: JobKind | None = None

    def sampler(self, policy: models.Model, recipe: Recipe) -> AbstractContextManager[Sampler]:
        """Hold the sampler of this policy for a block; wait while others hold it for another policy."""
        self._make_room(JobKind.SAMPLE)
        return self._sampler.held(policy, recipe)

    def reward_models(
        self, wanted: Sequence[tuple[models.RewardModel, RewardSection]]
    ) -> list[ProcessRewardModel]:
        """Return the reward models of a run, in order; close all others first. They stay loaded together."""
        self._make_room(JobKind.SCORE)
        keys = [(of.fingerprint, of.location, section.engine_keys) for of, section in wanted]
        for key in self._reward_models.keys() - set(keys):
            self._reward_models.pop(key).close()
        for key, (registered, section) in zip(keys, wanted, strict=True):
            if key not in self._reward_models:
                location = scorer_location(registered)
                self._reward_models[key] = self._build_reward_model(location, section)
        return [self._reward_models[key] for key in keys]

    def close_reward_models(self) -> None:
        """Close the reward models, if there are any."""
        while self._reward_models:
            self._reward_models.popitem()[1].close()

    def verifier(self, settings: KindSettings) -> Verifier:
        """Return the verifier of these settings."""
        return self._verifiers.get(settings)

    def trainer(self) -> Trainer:
        """Return the trainer."""
        self._make_room(JobKind.TRAIN)
        if self._trainer is None:
            self._trainer = self._build_trainer()
        return self._trainer

    def close(self) -> None:
        """Close all engines."""
        self._sampler.close()
        self.close_reward_models()
        self._verifiers.close()
        self._trainer = None

    def _make_room(self, kind: JobKind) -> None:
        if not self.one_at_a_time:
            return
        with self._moving:
            if self._present is not kind:
                self._sampler.release()
                self.close_reward_models()
                self._trainer = None
                clear_memory()
                self._present = kind
