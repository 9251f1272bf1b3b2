"""The engines of a worker: each has the weights that its job was registered with, and memory for as many.

Threads share a sampler and take turns over policies; it is reloaded, sent to sleep or built anew.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from hsstar.checkpoints.files import differ_in_weights_only
from hsstar.checkpoints.resolve import fingerprint, resolve
from hsstar.domain.errors import CheckpointError, EngineDeadError
from hsstar.domain.verification import MathSettings
from hsstar.engines.sampling.contract import Sampler
from hsstar.recipe.recipe import Recipe
from hsstar.stages.engine_pool import EnginePool
from hsstar.stages.shared_sampler import SharedSampler
from hsstar.store.models import Model, RewardModel, checkpoint_of
from tests.store.factory import make_recipe
from tests.waiting import wait_for

RECIPE = make_recipe()
KINDS = ("sampler", "scorer", "verifier", "trainer")
OTHER_WEIGHTS = "no longer holds the weights that were registered as "


class Engine:
    """Computes nothing and notes what happens; `refuses` names what it cannot do, `loaded` its folders."""

    name = "engine 1.0"

    def __init__(self, folder: str = "", refuses: str = "") -> None:
        self.loaded = [Path(folder).name]
        self.refuses = refuses
        self.history: list[str] = []

    def note(self, what: str) -> None:
        self.history.append(what)
        if what == self.refuses:
            raise RuntimeError(f"no {what}")

    def draw(self, *_: object) -> Iterator[tuple[int, str]]:
        return iter(())

    def score(self, *_: object) -> list[Any]:
        return []

    def reload(self, model: Path) -> None:
        self.note("reload")
        self.loaded.append(model.name)

    def close(self) -> None:
        self.note("close")

    @property
    def closed(self) -> bool:
        return "close" in self.history


class SleepingEngine(Engine):
    def sleep(self) -> None:
        self.note("sleep")

    def wake(self) -> None:
        self.note("wake")


def write_model(folder: Path, weights: bytes = b"weights", **configuration: object) -> Model:
    """A registered policy, whose folder may hold other weights already."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(configuration))
    (folder / "model.safetensors").write_bytes(weights)
    return Model(1, folder.name, str(folder), fingerprint(str(folder)), None)


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


def test_registered_new_weights_and_those_of_another_place_are_loaded(house: House, tmp_path: Path) -> None:
    house.hold(0)
    copy = write_model(tmp_path / "copy", bytes([0]))
    assert copy.fingerprint == house.policies[0].fingerprint
    house.hold(copy)
    house.hold(0)
    again = write_model(tmp_path / "M0", b"trained further")
    house.hold(again)
    house.hold(again)
    assert house.loaded() == [["M0", "copy", "M0", "M0"]]
    with pytest.raises(CheckpointError, match=f"{OTHER_WEIGHTS}'M0'"):
        house.hold(0)


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
def test_one_that_cannot_sleep_or_wake_is_replaced(house: House, engine: Engine, history: list[str]) -> None:
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
    with pytest.raises(CheckpointError, match=OTHER_WEIGHTS):
        house.hold(0)
    house.shared.close()
    assert house.built[0].history == ["sleep", "close"]


@pytest.mark.parametrize(
    ("file", "contents", "same"),
    [
        ("config.json", [{"dtype": "float32", "h": 8}, {"dtype": "bfloat16", "h": 8}], True),
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


class Pool(EnginePool):
    """Notes the engines that were built, by kind, and can ask for an engine of each kind."""

    def __init__(self, folder: Path, *, one_at_a_time: bool = False, sampler: type[Engine] = Engine) -> None:
        self.built: dict[str, list[Engine]] = {kind: [] for kind in KINDS}
        self.folder = folder
        builders: Any = [self._builder(kind, sampler if kind == "sampler" else Engine) for kind in KINDS]
        super().__init__(*builders, one_at_a_time=one_at_a_time)

    def _builder(self, kind: str, engine: type[Engine]) -> Callable[..., Engine]:
        def build(*arguments: Any) -> Engine:
            folder = arguments[:1] if kind in ("sampler", "scorer") else ()
            self.built[kind].append(engine(*folder))
            return self.built[kind][-1]

        return build

    def ask(self, kind: str) -> Any:
        if kind == "sampler":
            with self.sampler(write_model(self.folder / "M0"), RECIPE) as sampler:
                return sampler
        if kind == "scorer":
            return only(self, reward_model(self.folder / "prm"), RECIPE)
        return self.verifier(MathSettings()) if kind == "verifier" else self.trainer()

    def open(self) -> set[str]:
        return {kind for kind, built in self.built.items() if built and not built[-1].closed}


def reward_model(folder: Path, weights: bytes = b"weights") -> RewardModel:
    written = write_model(folder, weights)
    return RewardModel(1, "prm", written.location, "skywork", written.fingerprint)


def only(pool: EnginePool, registered: RewardModel, recipe: Recipe) -> Any:
    """The reward model of a recipe that has one."""
    (built,) = pool.reward_models([(registered, recipe.scoring[0])])
    return built


def test_the_reward_models_of_a_run_stay_loaded_together(tmp_path: Path) -> None:
    """A model under two names is one engine; the next run closes what it does not need."""
    pool = Pool(tmp_path)
    recipe = make_recipe(
        reward={},
        rewards=[
            {"name": "least", "model": "prm"},
            {"name": "mean", "model": "prm", "aggregate": "mean", "weight": 2.0, "use": "record"},
            {"name": "exact", "model": "prm", "dtype": "float32"},
        ],
    )
    wanted = [(reward_model(tmp_path / "prm"), section) for section in recipe.scoring]
    least, mean, exact = pool.reward_models(wanted)
    assert least is mean is not exact
    assert pool.reward_models(wanted) == [least, mean, exact] and len(pool.built["scorer"]) == 2
    assert pool.reward_models(wanted[2:]) == [exact]
    assert [engine.closed for engine in pool.built["scorer"]] == [True, False]


def test_an_engine_is_built_once(tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    for kind in KINDS:
        assert pool.ask(kind) is pool.ask(kind) is pool.built[kind][0]
    assert pool.open() == set(KINDS)
    pool.close()
    assert pool.open() == {"trainer"}  # it holds nothing between two trainings
    assert pool.ask("trainer") is pool.built["trainer"][1]


def test_another_place_other_settings_and_new_weights_need_another_reward_model(tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    here, there = (reward_model(tmp_path / name) for name in ("here", "there"))
    assert here.fingerprint == there.fingerprint
    exact = make_recipe(reward={"model": "prm", "dtype": "float32"})
    for model, recipe in ((here, RECIPE), (there, RECIPE), (there, exact)):
        only(pool, model, recipe)
    new = reward_model(tmp_path / "there", b"trained further")
    assert only(pool, new, exact) is only(pool, new, exact) is pool.built["scorer"][-1]
    assert [engine.loaded for engine in pool.built["scorer"]] == [["here"], ["there"], ["there"], ["there"]]
    assert [engine.closed for engine in pool.built["scorer"]] == [True, True, True, False]
    with pytest.raises(CheckpointError, match=f"{OTHER_WEIGHTS}'prm'"):
        only(pool, there, exact)


@pytest.mark.slow
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
    built = {kind: len(engines) for kind, engines in pool.built.items()}
    assert built == {"sampler": 1 if slept else 2, "scorer": 2, "verifier": 1, "trainer": 2}
    assert pool.built["sampler"][0].history == (["sleep", "wake", "sleep"] if slept else ["close"])


def test_a_registered_checkpoint_is_found_and_one_with_other_weights_by_now_is_refused() -> None:
    name = "builtin:demo-policy"
    assert checkpoint_of(Model(1, "M0", name, fingerprint(name), None)) == resolve(name)
    with pytest.raises(CheckpointError, match=f"{OTHER_WEIGHTS}'M0'"):
        checkpoint_of(Model(1, "M0", name, "of other weights", None))
