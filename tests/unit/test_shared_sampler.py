"""Threads share a sampler and take turns over policies; it is reloaded, sent to sleep or built anew."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hsstar.checkpoints.files import differ_in_weights_only
from hsstar.domain.errors import CheckpointError, EngineDeadError
from hsstar.engines.sampling.contract import Sampler
from hsstar.recipe.recipe import Recipe
from hsstar.stages.shared_sampler import SharedSampler
from hsstar.store.models import Model
from tests.store.factory import make_recipe
from tests.unit.engines import Engine, SleepingEngine, write_model
from tests.waiting import wait_for

RECIPE = make_recipe()


class House:
    """A shared sampler with everything that was built for it: of `make`, or what is `ready`."""

    def __init__(self) -> None:
        self.built: list[Engine] = []
        self.ready: list[Engine] = []
        self.shared = SharedSampler(self._build)

    def _build(self, folder: str, recipe: Recipe) -> Sampler:
        self.built.append(self.ready.pop(0) if self.ready else Engine(folder))
        return self.built[-1]

    def hold(self, policy: Model, recipe: Recipe = RECIPE) -> Sampler:
        with self.shared.held(policy, recipe) as sampler:
            return sampler


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
def policies(tmp_path: Path) -> list[Model]:
    return [write_model(tmp_path / f"M{number}", bytes([number])) for number in range(3)]


def test_several_threads_hold_the_sampler_of_one_policy(house: House, policies: list[Model]) -> None:
    together = threading.Barrier(3, timeout=10)

    def hold(_: int) -> None:
        with house.shared.held(policies[0], RECIPE):
            together.wait()

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(hold, range(3)))
    assert [engine.loaded for engine in house.built] == [["M0"]]


def test_another_policy_waits_for_all_holders_and_later_comers_wait_behind_it(
    house: House, policies: list[Model]
) -> None:
    entered: list[str] = []

    def hold(who: str, policy: Model) -> None:
        with house.shared.held(policy, RECIPE):
            entered.append(who)

    with ThreadPoolExecutor(3) as threads:
        with house.shared.held(policies[0], RECIPE):
            waiting = []
            for who, policy in (("other", policies[1]), ("same", policies[0])):
                waiting.append(threads.submit(hold, who, policy))
                wait_for(lambda: len(house.shared._arrivals) == len(waiting), what="it queues")
            assert entered == []
        for each in waiting:
            each.result(10)
    assert entered == ["other", "same"]
    assert [engine.loaded for engine in house.built] == [["M0", "M1", "M0"]]


def test_many_threads_always_find_the_weights_of_their_policy(house: House, policies: list[Model]) -> None:
    def hold(number: int) -> bool:
        policy = policies[number * 7 % 3]
        with house.shared.held(policy, RECIPE) as sampler:
            found = []
            for _ in range(5):
                assert isinstance(sampler, Engine)
                found.append(sampler.loaded[-1])
                time.sleep(0.0002)
        return set(found) == {policy.name}

    with ThreadPoolExecutor(6) as threads:
        assert all(threads.map(hold, range(300)))
    assert len(house.built) == 1


def test_other_settings_need_another_engine(house: House, policies: list[Model]) -> None:
    house.hold(policies[0])
    house.hold(policies[0], make_recipe(policy={"model": "M0", "dtype": "float32"}))
    assert [engine.closed for engine in house.built] == [True, False]


def test_another_architecture_needs_a_new_engine(house: House, policies: list[Model], tmp_path: Path) -> None:
    house.hold(policies[0])
    house.hold(write_model(tmp_path / "wider", hidden_size=64))
    assert [engine.loaded for engine in house.built] == [["M0"], ["wider"]]
    assert house.built[0].closed


def test_registered_new_weights_at_the_same_place_are_loaded(house: House, policies: list[Model]) -> None:
    house.hold(policies[0])
    again = write_model(Path(policies[0].location), b"trained further")
    house.hold(again)
    house.hold(again)
    assert [engine.loaded for engine in house.built] == [["M0", "M0"]]
    with pytest.raises(CheckpointError, match="no longer holds the weights that were registered as 'M0'"):
        house.hold(policies[0])


def test_weights_are_loaded_from_their_place(house: House, policies: list[Model], tmp_path: Path) -> None:
    house.hold(policies[0])
    copy = write_model(tmp_path / "copy", bytes([0]))
    assert copy.fingerprint == policies[0].fingerprint
    house.hold(copy)
    assert [engine.loaded for engine in house.built] == [["M0", "copy"]]


def test_one_that_refuses_the_weights_is_closed_and_replaced(house: House, policies: list[Model]) -> None:
    house.ready = [Engine(refuses="reload")]
    house.hold(policies[0])
    assert house.hold(policies[1]) is house.built[1]
    assert house.built[0].history == ["reload", "close"]


def test_a_dead_engine_is_built_anew_once_all_have_let_go(house: House, policies: list[Model]) -> None:
    with pytest.raises(EngineDeadError), house.shared.held(policies[0], RECIPE):
        raise EngineDeadError("gone")
    assert not house.built[0].closed
    assert house.hold(policies[0]) is house.built[1]
    assert house.built[0].closed


def test_other_errors_leave_the_engine(house: House, policies: list[Model]) -> None:
    with pytest.raises(ValueError, match="of a sample"), house.shared.held(policies[0], RECIPE):
        raise ValueError("of a sample")
    assert house.hold(policies[0]) is house.built[0]


def test_a_policy_that_cannot_be_loaded_blocks_nobody(house: House, policies: list[Model]) -> None:
    gone = Model(9, "M9", "/nonexistent/M9", "of no file", None)
    for _ in range(2):
        with pytest.raises(CheckpointError):
            house.hold(gone)
        assert house.hold(policies[0]) is house.built[-1]


def test_it_sleeps_and_wakes_for_the_same_policy(house: House, policies: list[Model]) -> None:
    house.ready = [SleepingEngine()]
    for _ in range(2):
        assert house.hold(policies[0]) is house.built[0]
        house.shared.release()
    assert house.built[0].history == ["sleep", "wake", "sleep"]


def test_it_wakes_to_take_the_weights_of_another_policy(house: House, policies: list[Model]) -> None:
    house.ready = [SleepingEngine()]
    house.hold(policies[0])
    house.shared.release()
    assert house.hold(policies[1]) is house.built[0]
    assert house.built[0].history == ["sleep", "wake", "reload"]
    assert house.built[0].loaded[-1] == "M1"


@pytest.mark.parametrize(
    ("engine", "history"),
    [
        (Engine(), ["close"]),
        (SleepingEngine(refuses="sleep"), ["sleep", "close"]),
        (SleepingEngine(refuses="wake"), ["sleep", "wake", "close"]),
        (Engine(refuses="close"), ["close"]),
    ],
)
def test_one_that_cannot_sleep_or_wake_is_closed_and_built_anew(
    house: House, policies: list[Model], engine: Engine, history: list[str]
) -> None:
    house.ready = [engine, SleepingEngine()]
    house.hold(policies[0])
    house.shared.release()
    assert house.hold(policies[0]) is house.built[1] is not engine
    assert engine.history == history


def test_it_does_not_wake_over_other_weights_than_its_own(house: House, policies: list[Model]) -> None:
    house.ready = [SleepingEngine()]
    house.hold(policies[0])
    house.shared.release()
    write_model(Path(policies[0].location), b"replaced")
    with pytest.raises(CheckpointError, match="no longer holds the weights"):
        house.hold(policies[0])
    house.shared.close()
    assert house.built[0].history == ["sleep", "close"]


@pytest.mark.parametrize(
    ("file", "one", "other", "same"),
    [
        (
            "config.json",
            {"dtype": "float32", "hidden_size": 8},
            {"dtype": "bfloat16", "hidden_size": 8},
            True,
        ),
        ("config.json", {"rope_theta": 1e4}, {"rope_theta": 1e6}, False),
        ("generation_config.json", {"eos_token_id": 1}, {"eos_token_id": [1, 2]}, False),
        ("tokenizer.json", {"model": 1}, {"model": 2}, False),
    ],
)
def test_what_an_engine_reads_besides_the_weights(
    tmp_path: Path, file: str, one: dict[str, object], other: dict[str, object], same: bool
) -> None:
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder, content in zip(folders, (one, other), strict=True):
        folder.mkdir()
        (folder / file).write_text(json.dumps(content))
    assert differ_in_weights_only(*folders) == same
    (folders[0] / file).unlink()
    assert not differ_in_weights_only(*folders)
