"""The engines of a worker: each has the weights that its job was registered with, and memory for as many."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hsstar.checkpoints.resolve import fingerprint, resolve
from hsstar.domain.errors import CheckpointError
from hsstar.stages.engine_pool import EnginePool
from hsstar.store.models import Model, RewardModel, checkpoint_of
from tests.store.factory import make_recipe
from tests.unit.engines import Engine, SleepingEngine, write_model

RECIPE = make_recipe()
KINDS = ("sampler", "scorer", "verifier", "trainer")


class Pool(EnginePool):
    """Notes the engines that were built, by kind, and can ask for an engine of each kind."""

    def __init__(self, folder: Path, *, one_at_a_time: bool = False, sampler: type[Engine] = Engine) -> None:
        self.built: dict[str, list[Engine]] = {kind: [] for kind in KINDS}
        self.folder = folder
        builders: Any = [self._builder(kind, sampler) for kind in KINDS]
        super().__init__(*builders, one_at_a_time=one_at_a_time)

    def _builder(self, kind: str, engine: type[Engine]) -> Callable[..., Engine]:
        def build(*arguments: Any) -> Engine:
            made = engine(*arguments[:1]) if kind == "sampler" else Engine(*arguments[:1])
            self.built[kind].append(made)
            return made

        return build

    def ask(self, kind: str) -> Any:
        match kind:
            case "sampler":
                with self.sampler(write_model(self.folder / "M0"), RECIPE) as sampler:
                    return sampler
            case "scorer":
                return self.reward_model(reward_model(self.folder / "prm"), RECIPE)
        return getattr(self, kind)()

    def open(self) -> set[str]:
        return {kind for kind, built in self.built.items() if built and not built[-1].closed}


def reward_model(folder: Path, weights: bytes = b"weights") -> RewardModel:
    written = write_model(folder, weights)
    return RewardModel(1, "prm", written.location, "skywork", written.fingerprint)


def test_an_engine_is_built_once(tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    for kind in KINDS:
        assert pool.ask(kind) is pool.ask(kind) is pool.built[kind][0]
    assert pool.open() == set(KINDS)
    pool.close()
    assert pool.open() == {"trainer"}  # it holds nothing between two trainings
    assert pool.ask("trainer") is pool.built["trainer"][1]


def test_a_reward_model_with_new_weights_at_the_same_place_is_loaded(tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    old = reward_model(tmp_path / "prm")
    first: Any = pool.reward_model(old, RECIPE)
    new = reward_model(tmp_path / "prm", b"trained further")
    second = pool.reward_model(new, RECIPE)

    assert second is not first
    assert first.closed
    assert pool.reward_model(new, RECIPE) is second
    with pytest.raises(CheckpointError, match="no longer holds the weights that were registered as 'prm'"):
        pool.reward_model(old, RECIPE)


def test_another_place_and_other_settings_need_another_reward_model(tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    here, there = (reward_model(tmp_path / name) for name in ("here", "there"))
    assert here.fingerprint == there.fingerprint
    exact = make_recipe(reward={"model": "prm", "dtype": "float32"})
    for model, recipe in ((here, RECIPE), (there, RECIPE), (there, exact)):
        pool.reward_model(model, recipe)

    assert [engine.loaded for engine in pool.built["scorer"]] == [["here"], ["there"], ["there"]]
    assert [engine.closed for engine in pool.built["scorer"]] == [True, True, False]


@pytest.mark.parametrize("sampler", [Engine, SleepingEngine])
def test_where_memory_holds_one_engine_each_makes_room(tmp_path: Path, sampler: type[Engine]) -> None:
    """The verifier needs no memory of a GPU."""
    pool = Pool(tmp_path, one_at_a_time=True, sampler=sampler)
    for kind in ("verifier", "sampler", "scorer", "sampler", "trainer", "scorer", "trainer"):
        pool.ask(kind)
        pool.ask("verifier")
        awake = {name for name in pool.open() if pool.built[name][-1].history[-1:] != ["sleep"]}
        assert awake - {"trainer"} == {kind, "verifier"} - {"trainer"}

    slept = sampler is SleepingEngine
    assert {kind: len(built) for kind, built in pool.built.items()} == {
        "sampler": 1 if slept else 2, "scorer": 2, "verifier": 1, "trainer": 2,
    }  # fmt: skip
    if slept:
        assert pool.built["sampler"][0].history == ["sleep", "wake", "sleep"]


def test_a_registered_checkpoint_is_found_and_one_with_other_weights_by_now_is_refused() -> None:
    name = "builtin:demo-policy"
    assert checkpoint_of(Model(1, "M0", name, fingerprint(name), None)) == resolve(name)
    with pytest.raises(CheckpointError, match="no longer holds the weights that were registered as 'M0'"):
        checkpoint_of(Model(1, "M0", name, "of other weights", None))
