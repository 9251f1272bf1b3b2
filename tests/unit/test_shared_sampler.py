"""Threads share a sampler and take turns over policies; a sampler is reloaded or built anew."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hsstar.checkpoints.files import differ_in_weights_only
from hsstar.checkpoints.resolve import fingerprint
from hsstar.domain.errors import CheckpointError, EngineDeadError
from hsstar.engines.sampling.contract import Sampler
from hsstar.recipe.recipe import Recipe, parse_recipe
from hsstar.stages.shared_sampler import SharedSampler
from hsstar.store.models import Model


class Engine:
    """A sampler that draws nothing and remembers which folder it has the weights of."""

    name = "engine 1.0"

    def __init__(self, folder: str) -> None:
        self.loaded = [Path(folder).name]
        self.closed = False
        self.refuses = False

    def draw(self, *arguments: object) -> Iterator[tuple[int, str]]:
        return iter(())

    def reload(self, model: Path) -> None:
        if self.refuses:
            raise ValueError("not this one")
        self.loaded.append(model.name)

    def close(self) -> None:
        self.closed = True


class House:
    """A shared sampler with everything that was built for it."""

    def __init__(self) -> None:
        self.built: list[Engine] = []
        self.shared = SharedSampler(self._build)

    def _build(self, folder: str, recipe: Recipe) -> Sampler:
        self.built.append(Engine(folder))
        return self.built[-1]


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
def policies(tmp_path: Path) -> list[Model]:
    return [write_policy(tmp_path / f"M{number}", number) for number in range(3)]


def write_policy(folder: Path, number: int, **configuration: object) -> Model:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(configuration))
    (folder / "model.safetensors").write_bytes(bytes([number]))
    return Model(number, folder.name, str(folder), fingerprint(folder), None)


def make_recipe(**policy: object) -> Recipe:
    document = {
        "name": "test",
        "problems": {"dataset": "train", "per_iteration": 1},
        "policy": {"model": "M0"} | policy,
        "difficulty": {"signal": "accuracy"},
        "pairs": {"rule": "random"},
    }
    return parse_recipe(document, "test recipe")


RECIPE = make_recipe()


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


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
            waiting = [threads.submit(hold, "other", policies[1])]
            time.sleep(0.1)
            waiting += [threads.submit(hold, "same", policies[0])]
            time.sleep(0.1)
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
    for recipe in (RECIPE, make_recipe(dtype="float32")):
        with house.shared.held(policies[0], recipe):
            pass
    assert [engine.closed for engine in house.built] == [True, False]


def test_another_architecture_needs_another_engine(
    house: House, policies: list[Model], tmp_path: Path
) -> None:
    for policy in (policies[0], write_policy(tmp_path / "wider", 7, hidden_size=64)):
        with house.shared.held(policy, RECIPE):
            pass
    assert [engine.loaded for engine in house.built] == [["M0"], ["wider"]]
    assert house.built[0].closed


def test_an_engine_that_refuses_the_weights_is_closed_and_built_anew(
    house: House, policies: list[Model]
) -> None:
    with house.shared.held(policies[0], RECIPE):
        house.built[0].refuses = True
    with house.shared.held(policies[1], RECIPE) as sampler:
        assert sampler is house.built[1]
    assert house.built[0].closed


def test_a_dead_engine_is_built_anew_once_all_have_let_go(house: House, policies: list[Model]) -> None:
    with pytest.raises(EngineDeadError), house.shared.held(policies[0], RECIPE):
        raise EngineDeadError("gone")
    assert not house.built[0].closed
    with house.shared.held(policies[0], RECIPE) as sampler:
        assert sampler is house.built[1]
    assert house.built[0].closed


def test_a_policy_that_cannot_be_loaded_blocks_nobody(house: House, policies: list[Model]) -> None:
    gone = Model(9, "M9", "/nonexistent/M9", "of no file", None)
    for _ in range(2):
        with pytest.raises(CheckpointError), house.shared.held(gone, RECIPE):
            pass
        with house.shared.held(policies[0], RECIPE) as sampler:
            assert sampler is house.built[-1]


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
