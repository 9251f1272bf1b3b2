"""Drawing from several completions servers, some of which are away, slow, busy or wrong."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from hsstar.domain.errors import EngineError
from hsstar.engines.sampling.openai import OpenAISampler
from hsstar.remote import http
from tests.engines.completions_host import CUT, Host, running, text_of
from tests.engines.draws import draw_all
from tests.engines.test_openai_sampler import PARAMETERS, REQUESTS, expected, text, texts

Open = Callable[..., OpenAISampler]


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Host]]:
    monkeypatch.setattr(http, "FIRST_PAUSE_SECONDS", 0.05)
    with ExitStack() as started:
        yield [started.enter_context(running(Host(text_of, weights="M0", delay=0.02))) for _ in range(3)]


@pytest.fixture
def connect(hosts: list[Host]) -> Iterator[Open]:
    with ExitStack() as opened:

        def build(count: int, checkpoint: Path | str = "M0", **options: Any) -> OpenAISampler:
            urls = [host.url for host in hosts[:count]]
            defaults: dict[str, Any] = {"base_urls": urls, "model": "policy", "timeout_seconds": 5.0}
            return opened.enter_context(closing(OpenAISampler(checkpoint, **(defaults | options))))

        yield build


def changed_midway(sampler: OpenAISampler, after: int, change: Callable[[], None]) -> list[str]:
    """The texts of all requests; there has to be one for each, although something happens meanwhile."""
    results: dict[int, str] = {}
    for index, result in sampler.draw(REQUESTS, PARAMETERS):
        assert index not in results
        results[index] = text(result)
        if len(results) == after:
            change()
    return [results[index] for index in range(len(REQUESTS))]


def test_requests_are_spread_over_the_servers_and_each_has_its_own_limit(
    hosts: list[Host], connect: Open
) -> None:
    sampler = connect(3, concurrency=2)
    assert texts(sampler, 50) == expected(50)
    assert [host.most for host in hosts] == [2, 2, 2]
    assert sum(len(host.bodies) for host in hosts) == 50
    assert min(len(host.bodies) for host in hosts) >= 10
    assert sampler.name == "openai:vllm 0.32.0"


def test_a_slow_server_gets_fewer_requests(hosts: list[Host], connect: Open) -> None:
    hosts[1].delay = 0.5
    assert texts(connect(3, concurrency=2), 50) == expected(50)
    slow = len(hosts[1].bodies)
    assert 0 < slow < min(len(hosts[0].bodies), len(hosts[2].bodies)) / 2


def test_the_requests_of_a_killed_server_move_to_another(hosts: list[Host], connect: Open) -> None:
    notes: list[str] = []
    sampler = connect(3, concurrency=4, note=notes.append)
    assert changed_midway(sampler, 10, hosts[0].stop) == expected(50)
    assert len(hosts[0].bodies) < 20
    assert texts(sampler, 12) == expected(12)  # it is still away
    assert notes == []  # nothing waits while another server answers


@pytest.mark.slow
def test_a_server_that_answers_again_is_used_again(hosts: list[Host], connect: Open) -> None:
    hosts[1].stop()
    for host in hosts:
        host.delay = 0.1
    assert changed_midway(connect(2, concurrency=2), 6, hosts[1].start) == expected(50)
    assert len(hosts[1].bodies) > 5


@pytest.mark.slow
def test_each_server_loads_the_policy_and_one_that_restarts_loads_it_again(
    hosts: list[Host], connect: Open, tmp_path: Path
) -> None:
    for host in hosts:
        host.delay = 0.1
    sampler = connect(2, tmp_path, reload="vllm", concurrency=3)
    before: list[int] = []

    def restart() -> None:
        hosts[0].restart()
        before.append(len(hosts[0].bodies))

    assert changed_midway(sampler, 10, restart) == expected(50, tmp_path.name)
    assert [host.loads for host in hosts[:2]] == [[str(tmp_path)] * 2, [str(tmp_path)]]
    assert len(hosts[0].bodies) > before[0] + 3
    other = tmp_path / "other"
    other.mkdir()
    sampler.reload(other)
    assert texts(sampler, 12) == expected(12, "other")
    assert [host.loads[-1] for host in hosts[:2]] == [str(other)] * 2


@pytest.mark.slow
def test_a_busy_server_gets_nothing_while_another_answers(hosts: list[Host], connect: Open) -> None:
    hosts[0].faults, hosts[0].headers = [429, 429], {"Retry-After": "60"}
    begin = time.monotonic()
    sampler = connect(2, concurrency=2)
    assert texts(sampler, 50) == expected(50)
    assert time.monotonic() - begin < 30
    assert 1 <= len(hosts[0].bodies) <= 2  # what was under way when it said so
    assert texts(sampler, 10) == expected(10)  # nor in the next draw
    assert len(hosts[0].bodies) <= 2


def test_a_silent_servers_requests_move_after_its_timeout(hosts: list[Host], connect: Open) -> None:
    speaking = threading.Event()

    def say_nothing(weights: str, body: Any) -> Any:
        speaking.wait(60)
        return text_of(weights, body)

    hosts[0].complete = say_nothing
    assert texts(connect(2, concurrency=4, timeout_seconds=0.8), 20) == expected(20)
    speaking.set()


@pytest.mark.parametrize("fault", [CUT, 500, 503])
def test_failing_answers_are_asked_for_at_another_server(
    hosts: list[Host], connect: Open, fault: int
) -> None:
    hosts[0].faults, hosts[1].faults = [fault] * 3, [fault] * 3
    assert texts(connect(3, concurrency=3), 24) == expected(24)


def test_all_servers_away_are_awaited_and_one_is_enough(hosts: list[Host], connect: Open) -> None:
    notes: list[str] = []

    def note(news: str) -> None:
        notes.append(news)
        hosts[1].start()

    for host in hosts[:2]:
        host.stop()
    assert texts(connect(2, note=note), 20) == expected(20)
    assert notes[0].startswith("waiting for http://127.0.0.1:")
    assert any(news.startswith(f"{hosts[1].url} answers again after ") for news in notes)


def test_a_request_that_no_server_answers_fails(hosts: list[Host], connect: Open) -> None:
    for host in hosts[:2]:
        host.faults = [500] * 9
    with pytest.raises(EngineError, match="failed on a request 5 times: status 500: a bad day"):
        draw_all(connect(2), REQUESTS[:1], PARAMETERS)
    assert sorted(len(host.bodies) for host in hosts[:2]) == [2, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [({"model": "other"}, "does not serve 'policy' .it serves other"), ({"api_key": "right"}, "answers 401")],
)
def test_a_wrong_server_is_an_error_that_names_it(
    hosts: list[Host], connect: Open, change: dict[str, str], message: str
) -> None:
    for name, value in change.items():
        setattr(hosts[1], name, value)
    with pytest.raises(EngineError, match=f"{hosts[1].url}.* {message}"):
        texts(connect(3), 30)
    hosts[1].model, hosts[1].api_key = "policy", ""
    assert texts(connect(3), 30) == expected(30)


def test_a_server_that_returns_with_another_policy_is_an_error(hosts: list[Host], connect: Open) -> None:
    def replace() -> None:
        hosts[1].stop()
        hosts[1].model = "other"
        hosts[1].start()

    with pytest.raises(EngineError, match=f"{hosts[1].url} does not serve 'policy'"):
        for host in hosts:
            host.delay = 0.2
        changed_midway(connect(2, concurrency=1), 4, replace)


def test_a_server_that_changes_its_policy_between_two_requests_is_an_error(
    hosts: list[Host], connect: Open
) -> None:
    def complete(weights: str, body: Any) -> Any:
        if len(hosts[1].bodies) == 3:
            hosts[1].model = "other"
        return text_of(weights, body)

    hosts[1].complete, hosts[1].hangs_up = complete, True
    with pytest.raises(EngineError, match=f"{hosts[1].url} does not serve 'policy'"):
        texts(connect(2, concurrency=1), 50)
    assert len(hosts[1].bodies) < 10


def test_another_policy_is_refused_where_servers_cannot_load_it(hosts: list[Host], connect: Open) -> None:
    with pytest.raises(EngineError, match=f"{hosts[0].url}, {hosts[1].url}: nothing loads another policy"):
        connect(2).reload(Path("M1"))
