"""Drawing from a completions server, whatever happens to it. The server is a local one; HTTP is real."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from hsstar.domain.errors import CheckpointError, EngineDeadError, EngineError
from hsstar.engines.sampling import openai_server
from hsstar.engines.sampling.contract import Completion, SampleRequest, SamplingParameters
from hsstar.engines.sampling.openai import OpenAISampler
from tests.engines.completions_host import CUT, Host, Json, running, text_of
from tests.engines.draws import draw_all

PARAMETERS = SamplingParameters(temperature=0.7, top_p=0.95, max_new_tokens=60, stop=("Q:",))
REQUESTS = [SampleRequest(f"prompt {number}", 2**62 + number) for number in range(50)]
TOO_LONG = "This model's maximum context length is 256"

Open = Callable[..., OpenAISampler]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setattr(openai_server, "_FIRST_PAUSE_SECONDS", 0.05)
    with running(Host(text_of, weights="M0")) as server:
        yield server


@pytest.fixture
def open_sampler(host: Host) -> Iterator[Open]:
    opened: list[OpenAISampler] = []

    def build(checkpoint: Path | str = "M0", path: str = "/v1", **options: Any) -> OpenAISampler:
        url = host.url.replace("/v1", path)
        defaults: dict[str, Any] = {"base_url": url, "model": "policy", "timeout_seconds": 5.0}
        opened.append(OpenAISampler(checkpoint, **(defaults | options)))
        return opened[-1]

    yield build
    for sampler in opened:
        sampler.close()


def text(result: Completion | str) -> str:
    return result.text if isinstance(result, Completion) else f"refused: {result}"


def texts(sampler: OpenAISampler, count: int) -> list[str]:
    return [text(result) for result in draw_all(sampler, REQUESTS[:count], PARAMETERS)]


def disturbed_texts(sampler: OpenAISampler, disturb: Callable[[], None]) -> list[str]:
    """The texts of forty requests, where something happens after ten."""
    results = {}
    for index, result in sampler.draw(REQUESTS[:40], PARAMETERS):
        results[index] = result
        if len(results) == 10:
            disturb()
    return [text(results[index]) for index in range(40)]


def expected(count: int, weights: str = "M0") -> list[str]:
    return [f"{weights}|{request.prompt}|{request.seed}" for request in REQUESTS[:count]]


def test_every_request_gets_its_own_answer(open_sampler: Open) -> None:
    sampler = open_sampler()
    [(_, completion)] = sampler.draw(REQUESTS[:1], PARAMETERS)
    assert completion == Completion(expected(1)[0], 3, "stop", -1.5, 0.0)
    assert isinstance(completion, Completion) and completion.milliseconds > 0
    assert texts(sampler, 50) == expected(50)
    assert sampler.name == "openai:vllm 0.32.0"


@pytest.mark.parametrize("is_vllm", [True, False])
def test_a_request_says_all_that_decides_the_sample(host: Host, open_sampler: Open, is_vllm: bool) -> None:
    host.is_vllm = is_vllm
    sampler = open_sampler(options={"truncate_prompt_tokens": 100, "min_p": 0.1})
    assert texts(sampler, 1) == expected(1)
    body = {
        "model": "policy", "prompt": "prompt 0", "n": 1, "seed": 2**62, "temperature": 0.7, "top_p": 0.95,
        "max_tokens": 60, "logprobs": 0, "stop": ["Q:"], "min_p": 0.1, "truncate_prompt_tokens": 100,
    }  # fmt: skip
    assert host.bodies == [body | ({"top_k": -1, "repetition_penalty": 1.0} if is_vllm else {})]
    assert sampler.name == ("openai:vllm 0.32.0" if is_vllm else "openai")


def test_no_more_requests_are_under_way_than_allowed(host: Host, open_sampler: Open) -> None:
    host.delay = 0.02
    sampler = open_sampler(concurrency=4)
    threads = [threading.Thread(target=texts, args=(sampler, 20)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (host.most, len(host.bodies)) == (4, 60)


@pytest.mark.parametrize("fault", [CUT, 429, 500, 502, 503, 504])
def test_a_failing_answer_is_asked_for_again(fault: int, host: Host, open_sampler: Open) -> None:
    host.faults = [fault] * 3
    assert texts(open_sampler(concurrency=3), 12) == expected(12)


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_is_starting_is_waited_for(host: Host, open_sampler: Open, status: int) -> None:
    host.checks = [status]
    assert texts(open_sampler(), 2) == expected(2)


@pytest.mark.parametrize("wait", [lambda: "0.8", lambda: formatdate(time.time() + 2, usegmt=True)])
def test_the_server_says_how_long_to_wait(host: Host, open_sampler: Open, wait: Callable[[], str]) -> None:
    host.faults, host.headers = [429], {"Retry-After": wait()}
    begin = time.monotonic()
    assert texts(open_sampler(), 1) == expected(1)
    assert time.monotonic() - begin > 0.8


def test_a_silent_server_is_asked_again(host: Host, open_sampler: Open) -> None:
    speaking = threading.Event()

    def complete(weights: str, body: Json) -> Json | str:
        if len(host.bodies) <= 2:
            speaking.wait(60)
        return text_of(weights, body)

    host.complete = complete
    assert texts(open_sampler(timeout_seconds=0.8), 2) == expected(2)
    speaking.set()


def test_a_server_that_is_away_is_waited_for(
    host: Host, open_sampler: Open, caplog: pytest.LogCaptureFixture
) -> None:
    notes: list[str] = []

    def note(news: str) -> None:
        notes.append(news)
        host.start()

    host.stop()
    with caplog.at_level(logging.INFO):
        assert texts(open_sampler(note=note), 20) == expected(20)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert notes == [record.message for record in caplog.records]
    assert notes[0].startswith(f"waiting for {host.url} for 0 s: ")
    assert notes[1].startswith(f"{host.url} answers again after ")


def test_a_server_that_goes_away_in_a_draw_costs_no_samples(host: Host, open_sampler: Open) -> None:
    host.delay = 0.05
    sampler = open_sampler(concurrency=4, note=lambda news: host.start())
    assert disturbed_texts(sampler, host.stop) == expected(40)


def test_closing_ends_the_waiting_at_once(host: Host, open_sampler: Open) -> None:
    host.stop()
    sampler: OpenAISampler = open_sampler(note=lambda news: threading.Thread(target=sampler.close).start())
    for _ in range(2):
        with pytest.raises(EngineDeadError, match="closed"):
            texts(sampler, 5)


def test_a_draw_that_is_closed_early_sends_nothing_more(host: Host, open_sampler: Open) -> None:
    host.delay = 0.1
    sampler = open_sampler(concurrency=2)
    drawing = sampler.draw([SampleRequest("unwanted", seed) for seed in range(50)], PARAMETERS)
    next(drawing)
    drawing.close()  # type: ignore[attr-defined]  # draws are generators
    assert texts(sampler, 3) == expected(3)  # it would queue behind what is still wanted
    assert sum(body["prompt"] == "unwanted" for body in host.bodies) < 8


def answering(**choice: Any) -> Json:
    """A host whose answers have another choice, or lack a part of it that is None."""
    made = text_of("M0", {"prompt": "", "seed": 0})
    changed = {key: value for key, value in (made["choices"][0] | choice).items() if value is not None}
    return {"complete": lambda weights, body: made | {"choices": [changed]}}


REFUSING = {"complete": lambda weights, body: "no  such\nthing"}


@pytest.mark.parametrize(
    ("server", "options", "message"),
    [
        ({"faults": [500] * 5}, {}, "failed on a request 5 times: status 500: a bad day"),
        ({}, {"model": "other"}, r"does not serve 'other' \(it serves policy\)"),
        ({}, {"path": "/v2"}, "answers 404: Not Found; is policy.openai.base_url right"),
        (REFUSING, {}, "refuses a request: no such thing"),
        (REFUSING | {"shape": lambda text: {"message": text}}, {}, "refuses a request: .*no such"),
        (REFUSING | {"shape": lambda text: {"error": {"detail": text}}}, {}, "a request: no such thing"),
        (REFUSING | {"shape": lambda text: {"error": text}}, {}, "refuses a request: no such thing"),
        (REFUSING | {"shape": lambda text: text}, {}, "refuses a request: no such thing"),
        (REFUSING | {"shape": lambda text: ""}, {}, "refuses a request: no reason given"),
        (answering(logprobs=None), {}, "without text, finish_reason, usage or logprobs"),
        (answering(finish_reason="content_filter"), {}, "for the reason 'content_filter'"),
        ({"development": False}, {"reload": "vllm", "checkpoint": "/"}, "with VLLM_SERVER_DEV_MODE=1"),
        ({}, {"reload": "vllm", "checkpoint": "/no"}, r"cannot load /no .*it must see this folder"),
    ],
)
def test_what_no_waiting_mends_fails_the_draw_and_leaves_out_no_problem(
    host: Host, open_sampler: Open, server: Json, options: Json, message: str
) -> None:
    for name, value in server.items():
        setattr(host, name, value)
    with pytest.raises((EngineError, CheckpointError), match=message):
        texts(open_sampler(**options), 1)


def test_the_key_comes_from_the_environment_and_is_never_shown(
    host: Host, open_sampler: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.api_key = "right"
    with pytest.raises(EngineError, match=r"answers 401: .*HSSTAR_OPENAI_API_KEY is not set"):
        texts(open_sampler(), 1)
    monkeypatch.setenv(openai_server.API_KEY_VARIABLE, "wrong-secret")
    with pytest.raises(EngineError, match="HSSTAR_OPENAI_API_KEY is not accepted") as failure:
        texts(open_sampler(), 1)
    assert "wrong-secret" not in str(failure.value)
    monkeypatch.setenv(openai_server.API_KEY_VARIABLE, "right")
    assert texts(open_sampler(), 1) == expected(1)


def test_a_prompt_that_is_too_long_has_its_reason_on_any_server(host: Host, open_sampler: Open) -> None:
    host.is_vllm = False
    host.complete = lambda weights, body: TOO_LONG if body["seed"] == 2**62 else text_of(weights, body)
    assert texts(open_sampler(), 2) == [f"refused: {TOO_LONG}", expected(2)[1]]


@pytest.mark.parametrize(("length", "asked"), [(196, [60]), (197, [60, 59]), (255, [60, 1]), (256, [60])])
def test_vllm_is_asked_for_as_many_tokens_as_the_context_has_left(
    host: Host, open_sampler: Open, length: int, asked: list[int]
) -> None:
    def complete(weights: str, body: Json) -> Json | str:
        """A token per character; vLLM refuses what would not fit."""
        fits = len(body["prompt"]) + body["max_tokens"] <= host.context
        return text_of(weights, body) if fits else TOO_LONG

    host.complete = complete
    [(_, result)] = open_sampler().draw([SampleRequest("x" * length, 1)], PARAMETERS)
    assert [body["max_tokens"] for body in host.bodies] == asked
    too_long = f"refused: the prompt has {length} tokens, which fills the model's context of 256"
    assert text(result) == (too_long if length == 256 else f"M0|{'x' * length}|1")


def test_another_policy_is_refused_where_the_server_cannot_load_it(open_sampler: Open) -> None:
    with pytest.raises(EngineError, match=r"samples from another, M1; set policy.openai.reload = 'vllm'"):
        open_sampler().reload(Path("M1"))


@pytest.fixture
def policies(tmp_path: Path) -> list[Path]:
    for name in ("P0", "P1"):
        (tmp_path / name).mkdir()
    return [tmp_path / "P0", tmp_path / "P1"]


def test_the_server_loads_a_policy_before_draws(host: Host, open_sampler: Open, policies: list[Path]) -> None:
    sampler = open_sampler(policies[0], reload="vllm")
    assert [texts(sampler, 20) for _ in range(2)] == [expected(20, "P0")] * 2
    sampler.reload(policies[1])
    assert texts(sampler, 20) == expected(20, "P1")
    assert host.loads == [str(policies[0]), str(policies[1])]


def test_a_restarted_server_loads_it_again(host: Host, open_sampler: Open, policies: list[Path]) -> None:
    def restart() -> None:
        host.stop()
        host.start()

    host.delay = 0.02
    sampler = open_sampler(policies[1], reload="vllm", concurrency=4)
    assert disturbed_texts(sampler, restart) == expected(40, "P1")
    restart()  # between two draws nobody sees it
    assert texts(sampler, 10) == expected(10, "P1")
    assert len(host.loads) == 3


def test_a_policy_loads_after_an_abandoned_draw(host: Host, open_sampler: Open, policies: list[Path]) -> None:
    host.delay = 0.3
    sampler = open_sampler(policies[0], reload="vllm")
    drawing = sampler.draw(REQUESTS[:8], PARAMETERS)
    next(drawing)
    drawing.close()  # type: ignore[attr-defined]  # draws are generators
    sampler.reload(policies[1])
    assert texts(sampler, 4) == expected(4, "P1")
