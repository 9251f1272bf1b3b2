"""Threads share a sampler and take turns over policies; it is reloaded, sent to sleep or built anew."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
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
    """A shared sampler of three policies with the engines that were built for it: new ones, or `ready`."""

    def __init__(self, folder: Path) -> None:
        self.policies = [write_model(folder / f"M{number}", bytes([number])) for number in range(3)]
        self.built: list[Engine] = []
        self.ready: list[Engine] = []
        self.shared = SharedSampler(self._build)

    def _build(self, folder: str, recipe: Recipe) -> Sampler:
        self.built.append(self.ready.pop(0) if self.ready else Engine(folder))
        return self.built[-1]

    def held(self, policy: Model | int, recipe: Recipe = RECIPE) -> AbstractContextManager[Sampler]:
        return self.shared.held(self.policies[policy] if isinstance(policy, int) else policy, recipe)

    def hold(self, policy: Model | int, recipe: Recipe = RECIPE) -> Sampler:
        with self.held(policy, recipe) as sampler:
            return sampler

    def loaded(self) -> list[list[str]]:
        return [engine.loaded for engine in self.built]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_several_threads_hold_the_sampler_of_one_policy(house: House) -> None:
    together = threading.Barrier(3, timeout=10)

    def hold(_: int) -> None:
        with house.held(0):
            together.wait()

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(hold, range(3)))
    assert house.loaded() == [["M0"]]


def test_another_policy_waits_for_all_holders_and_later_comers_wait_behind_it(house: House) -> None:
    entered: list[int] = []

    def hold(policy: int) -> None:
        with house.held(policy):
            entered.append(policy)

    with ThreadPoolExecutor(3) as threads:
        with house.held(0):
            waiting = []
            for policy in (1, 0):
                waiting.append(threads.submit(hold, policy))
                wait_for(lambda: len(house.shared._arrivals) == len(waiting), what="it queues")
            assert entered == []
        for each in waiting:
            each.result(10)
    assert entered == [1, 0]
    assert house.loaded() == [["M0", "M1", "M0"]]


def test_many_threads_always_find_the_weights_of_their_policy(house: House) -> None:
    def hold(number: int) -> bool:
        policy = number * 7 % 3
        found = set()
        with house.held(policy) as sampler:
            assert isinstance(sampler, Engine)
            for _ in range(5):
                found.add(sampler.loaded[-1])
                time.sleep(0.0002)
        return found == {f"M{policy}"}

    with ThreadPoolExecutor(6) as threads:
        assert all(threads.map(hold, range(300)))
    assert len(house.built) == 1


def test_other_settings_and_another_architecture_need_another_engine(house: House, tmp_path: Path) -> None:
    house.hold(0)
    house.hold(0, make_recipe(policy={"model": "M0", "dtype": "float32"}))
    house.hold(write_model(tmp_path / "wider", hidden_size=64))
    assert house.loaded() == [["M0"], ["M0"], ["wider"]]
    assert [engine.closed for engine in house.built] == [True, True, False]


def test_registered_new_weights_at_the_same_place_are_loaded(house: House) -> None:
    house.hold(0)
    again = write_model(Path(house.policies[0].location), b"trained further")
    house.hold(again)
    house.hold(again)
    assert house.loaded() == [["M0", "M0"]]
    with pytest.raises(CheckpointError, match="no longer holds the weights that were registered as 'M0'"):
        house.hold(0)


def test_weights_are_loaded_from_their_place(house: House, tmp_path: Path) -> None:
    house.hold(0)
    copy = write_model(tmp_path / "copy", bytes([0]))
    assert copy.fingerprint == house.policies[0].fingerprint
    house.hold(copy)
    assert house.loaded() == [["M0", "copy"]]


def test_one_that_refuses_the_weights_is_closed_and_replaced(house: House) -> None:
    house.ready = [Engine(refuses="reload")]
    house.hold(0)
    assert house.hold(1) is house.built[1]
    assert house.built[0].history == ["reload", "close"]


def test_a_dead_engine_is_built_anew_once_all_have_let_go(house: House) -> None:
    with pytest.raises(EngineDeadError), house.held(0):
        raise EngineDeadError("gone")
    assert not house.built[0].closed
    assert house.hold(0) is house.built[1]
    assert house.built[0].closed


def test_other_errors_leave_the_engine(house: House) -> None:
    with pytest.raises(ValueError, match="of a sample"), house.held(0):
        raise ValueError("of a sample")
    assert house.hold(0) is house.built[0]


def test_a_policy_that_cannot_be_loaded_blocks_nobody(house: House) -> None:
    for _ in range(2):
        with pytest.raises(CheckpointError):
            house.hold(Model(9, "M9", "/nonexistent/M9", "of no file", None))
        assert house.hold(0) is house.built[-1]


def test_it_sleeps_and_wakes_for_the_same_policy_or_to_take_the_weights_of_another(house: House) -> None:
    house.ready = [SleepingEngine()]
    for policy in (0, 0, 1):
        assert house.hold(policy) is house.built[0]
        house.shared.release()
    assert house.built[0].history == ["sleep", "wake", "sleep", "wake", "reload", "sleep"]
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
    house: House, engine: Engine, history: list[str]
) -> None:
    house.ready = [engine, SleepingEngine()]
    house.hold(0)
    house.shared.release()
    assert house.hold(0) is house.built[1] is not engine
    assert engine.history == history


def test_it_does_not_wake_over_other_weights_than_its_own(house: House) -> None:
    house.ready = [SleepingEngine()]
    house.hold(0)
    house.shared.release()
    write_model(Path(house.policies[0].location), b"replaced")
    with pytest.raises(CheckpointError, match="no longer holds the weights"):
        house.hold(0)
    house.shared.close()
    assert house.built[0].history == ["sleep", "close"]


DTYPES = [{"dtype": dtype, "hidden_size": 8} for dtype in ("float32", "bfloat16")]


@pytest.mark.parametrize(
    ("file", "contents", "same"),
    [
        ("config.json", DTYPES, True),
        ("config.json", [{"rope_theta": 1e4}, {"rope_theta": 1e6}], False),
        ("generation_config.json", [{"eos_token_id": 1}, {"eos_token_id": [1, 2]}], False),
        ("tokenizer.json", [{"model": 1}, {"model": 2}], False),
    ],
)
def test_what_an_engine_reads_besides_the_weights(
    tmp_path: Path, file: str, contents: list[dict[str, object]], same: bool
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, content in zip((one, other), contents, strict=True):
        folder.mkdir()
        (folder / file).write_text(json.dumps(content))
    assert differ_in_weights_only(one, other) == same
    (one / file).unlink()
    assert not differ_in_weights_only(one, other)
