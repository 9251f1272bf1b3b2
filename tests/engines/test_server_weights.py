"""Weights and adapters in servers: vLLM's interface for changing weights, its adapters, and a real server."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hsstar.checkpoints.resolve import fingerprint
from hsstar.domain.errors import CheckpointError, EngineError
from hsstar.engines.registry import build_sampler
from hsstar.engines.sampling.openai import OpenAISampler
from hsstar.remote import http
from tests.engines import tiny
from tests.engines.completions_host import Host, running, text_of
from tests.engines.draws import GREEDY, complete
from tests.engines.test_openai_sampler import expected, texts
from tests.engines.trainings import SETTINGS, train_in
from tests.engines.vllm_server import Server, serving

Open = Callable[..., OpenAISampler]
KEPT = replace(SETTINGS, learning_rate=2e-2, lora_rank=4, lora_alpha=8.0, lora_merge=False)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """M_0, and two adapters on it, the second trained from the first."""
    folder = tmp_path_factory.mktemp("line")
    found = [tiny.tiny_policy(folder / "M0")]
    for name in ("M1", "M2"):
        found.append(train_in(name, settings=KEPT, folder=folder, policy=found[-1]).checkpoint)
    return found


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setattr(http, "FIRST_PAUSE_SECONDS", 0.05)
    with running(Host(text_of, weights="first", changes_weights=True, takes_adapters=True)) as server:
        yield server


@pytest.fixture
def connect(host: Host) -> Iterator[Open]:
    with ExitStack() as opened:

        def build(checkpoint: Path, **options: Any) -> OpenAISampler:
            given: dict[str, Any] = {"base_url": host.url, "model": "policy", "reload": "vllm", **options}
            return opened.enter_context(closing(OpenAISampler(checkpoint, timeout_seconds=5.0, **given)))

        yield build


LOADING = ["/update_weight_version", "/pause?mode=wait", "/collective_rpc", "/reset_prefix_cache", "/resume"]


@pytest.mark.slow
def test_weights_are_changed_while_the_server_pauses_and_their_version_is_written_down(
    host: Host, connect: Open, line: list[Path]
) -> None:
    assert texts(connect(line[0]), 8) == expected(8, "M0")
    assert host.orders == [*LOADING, "/update_weight_version"]
    assert host.version == fingerprint(line[0])


def test_weights_that_another_worker_has_loaded_are_not_loaded_again(
    host: Host, connect: Open, line: list[Path]
) -> None:
    assert texts(connect(line[0]), 8) == expected(8, "M0")
    assert texts(connect(line[0]), 8) == expected(8, "M0")
    assert host.loads == [str(line[0])]
    host.restart()
    assert texts(connect(line[0]), 8) == expected(8, "M0")
    assert host.loads == [str(line[0])] * 2


def test_weights_that_another_worker_replaced_are_loaded_again(
    host: Host, connect: Open, line: list[Path], tmp_path: Path
) -> None:
    other = tiny.tiny_policy(tmp_path / "other", seed=5)
    first, second = connect(line[0]), connect(other)
    assert texts(first, 8) == expected(8, "M0")
    assert texts(second, 8) == expected(8, "other")
    assert texts(first, 8) == expected(8, "M0")
    assert len(host.loads) == 3


def test_a_load_that_fails_leaves_no_version_and_a_server_that_answers(
    host: Host, connect: Open, line: list[Path], tmp_path: Path
) -> None:
    gone = shutil.copytree(line[0], tmp_path / "gone")
    sampler = connect(gone)
    shutil.rmtree(gone)
    with pytest.raises(CheckpointError):
        texts(sampler, 1)
    hidden = shutil.copytree(line[0], tmp_path / "hidden")
    host.hidden = str(hidden)
    with pytest.raises(CheckpointError, match=r"cannot load .*hidden .*it must see this folder"):
        texts(connect(hidden), 1)
    assert host.version == "hsstar is loading weights"
    assert host.orders[-1] == "/resume"
    assert texts(connect(line[0]), 8) == expected(8, "M0")


@pytest.mark.slow
@pytest.mark.parametrize("changes_weights", [True, False])
def test_an_adapter_is_loaded_beside_the_weights_that_stay(
    host: Host, connect: Open, line: list[Path], changes_weights: bool
) -> None:
    host.changes_weights = changes_weights
    sampler = connect(line[0])
    assert texts(sampler, 8) == expected(8, "M0")
    for policy in line[1:]:
        sampler.reload(policy)
        assert texts(sampler, 8) == expected(8, f"M0+{policy.name}")
        assert {body["model"] for body in host.bodies[-8:]} == {f"hsstar-{fingerprint(policy)}"}
    sampler.reload(line[0])
    assert texts(sampler, 8) == expected(8, "M0")
    assert set(host.loads) == {str(line[0])}
    assert len(host.loads) == (1 if changes_weights else 4)
    assert host.orders.count("/v1/load_lora_adapter") == 2


@pytest.mark.slow
def test_two_workers_sample_from_two_adapters_at_once(host: Host, connect: Open, line: list[Path]) -> None:
    first, second = connect(line[1]), connect(line[2])
    for _ in range(2):
        assert texts(first, 8) == expected(8, "M0+M1")
        assert texts(second, 8) == expected(8, "M0+M2")
    assert len(host.loads) == 1
    host.restart()
    assert texts(first, 8) == expected(8, "M0+M1")
    assert len(host.loads) == 2


def test_an_adapter_needs_no_development_mode_where_the_server_has_its_base(
    host: Host, connect: Open, line: list[Path]
) -> None:
    host.changes_weights = host.development = False
    with pytest.raises(EngineError, match="start vLLM with VLLM_SERVER_DEV_MODE=1"):
        texts(connect(line[1]), 1)
    host.first_weights = str(line[0])
    host.restart()
    assert texts(connect(line[1]), 8) == expected(8, "M0+M1")
    assert host.loads == []


def test_a_server_that_takes_no_adapters_says_how_to_start_it(
    host: Host, connect: Open, line: list[Path]
) -> None:
    host.takes_adapters = False
    message = (
        "v1/load_lora_adapter is not there, and a policy with training.lora_merge = false needs it; start "
        "vLLM with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, --enable-lora and --max-lora-rank=4"
    )
    with pytest.raises(EngineError, match=message):
        texts(connect(line[1]), 1)


@pytest.fixture(scope="module")
def vllm(line: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of vLLM in development mode that takes adapters, started with other weights."""
    folder = tmp_path_factory.mktemp("vllm")
    other = tiny.tiny_policy(folder / "other", seed=7)
    with serving(other, folder, adapters=True) as server:
        yield server


@pytest.mark.heavy
def test_vllm_takes_weights_and_adapters_and_shows_which(vllm: Server, line: list[Path]) -> None:
    options: dict[str, Any] = {"base_url": vllm.url, "model": "policy", "note": vllm.check, "reload": "vllm"}
    connect: Open = partial(OpenAISampler, **options)
    drawn: dict[str, list[str]] = {}
    with closing(connect(line[0])) as sampler, closing(connect(line[1])) as other:
        for policy in (*line, *reversed(line)):
            sampler.reload(policy)
            found = [one.text for one in complete(sampler, 12, GREEDY)]
            assert drawn.setdefault(policy.name, found) == found
        assert [one.text for one in complete(other, 12, GREEDY)] == drawn["M1"]
    assert vllm.get("weight_info") == {"weight_version": fingerprint(line[0])}
    assert vllm.log.read_text().count("POST /collective_rpc") == 1
    for policy in line:
        with closing(build_sampler(policy, device="cpu")) as alone:
            assert [one.text for one in complete(alone, 12, GREEDY)] == drawn[policy.name]
    assert len(set(map(tuple, drawn.values()))) == 3
