"""A sampler that makes room: asleep and back, or closed and built anew; never with other weights."""

from pathlib import Path

import pytest

from hsstar.checkpoints.files import fingerprint
from hsstar.domain.errors import CheckpointError
from hsstar.recipe.recipe import Recipe
from hsstar.stages.shared_sampler import SharedSampler
from hsstar.store.models import Model
from tests.store.drawing import FragileSampler
from tests.store.factory import make_recipe

EMPTY_WEIGHTS = b"\x02\x00\x00\x00\x00\x00\x00\x00{}"


class SleepingSampler(FragileSampler):
    """Notes what happens to it; `refuses` names what it cannot do."""

    def __init__(self, refuses: str = "") -> None:
        super().__init__()
        self.refuses = refuses
        self.history: list[str] = []

    def note(self, what: str) -> None:
        self.history.append(what)
        if what == self.refuses:
            raise RuntimeError(f"no {what}")

    def sleep(self) -> None:
        self.note("sleep")

    def wake(self) -> None:
        self.note("wake")

    def reload(self, model: Path) -> None:
        self.note("reload")

    def close(self) -> None:
        self.note("close")


@pytest.fixture
def policy(tmp_path: Path) -> Model:
    return make_policy(tmp_path / "policy")


def make_policy(folder: Path, config: str = "{}", weights: bytes = EMPTY_WEIGHTS) -> Model:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(config)
    (folder / "model.safetensors").write_bytes(weights)
    return Model(1, folder.name, str(folder), fingerprint(folder), None)


def shared(*engines: FragileSampler) -> SharedSampler:
    left = list(engines)

    def build(folder: str, recipe: Recipe) -> FragileSampler:
        return left.pop(0)

    return SharedSampler(build)


def held(sampler: SharedSampler, policy: Model) -> object:
    with sampler.held(policy, make_recipe()) as engine:
        return engine


def test_it_sleeps_and_wakes_for_the_same_policy(policy: Model) -> None:
    engine = SleepingSampler()
    sampler = shared(engine)
    for _ in range(2):
        assert held(sampler, policy) is engine
        sampler.release()
    assert engine.history == ["sleep", "wake", "sleep"]


def test_it_wakes_to_take_the_weights_of_another_policy(policy: Model, tmp_path: Path) -> None:
    engine = SleepingSampler()
    sampler = shared(engine)
    held(sampler, policy)
    sampler.release()
    trained = make_policy(tmp_path / "trained", weights=EMPTY_WEIGHTS + b"trained")
    assert held(sampler, trained) is engine
    assert engine.history == ["sleep", "wake", "reload"]


def test_one_that_cannot_sleep_is_closed(policy: Model) -> None:
    plain, refusing, third = FragileSampler(), SleepingSampler("sleep"), SleepingSampler()
    sampler = shared(plain, refusing, third)
    for engine in (plain, refusing, third):
        assert held(sampler, policy) is engine
        sampler.release()
    assert plain.closed
    assert refusing.history == ["sleep", "close"]


def test_one_that_does_not_wake_is_closed_and_built_anew(policy: Model) -> None:
    first, second = SleepingSampler("wake"), SleepingSampler()
    sampler = shared(first, second)
    held(sampler, policy)
    sampler.release()
    assert held(sampler, policy) is second
    assert first.history == ["sleep", "wake", "close"]


def test_it_does_not_wake_over_other_weights_than_it_was_built_with(policy: Model, tmp_path: Path) -> None:
    engine = SleepingSampler()
    sampler = shared(engine)
    held(sampler, policy)
    sampler.release()
    make_policy(tmp_path / "policy", weights=EMPTY_WEIGHTS + b"replaced")
    with pytest.raises(CheckpointError, match="no longer holds the weights"):
        held(sampler, policy)
    assert engine.history == ["sleep"]
    sampler.close()
    assert engine.history == ["sleep", "close"]
