"""Drawing from a completions server, whatever happens to it: from a local one, at last from vLLM's own."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hsstar.domain.errors import CheckpointError, EngineDeadError, EngineError
from hsstar.domain.prompts import PromptFormat
from hsstar.engines.prompts import request_renderer
from hsstar.engines.sampling import openai_weights
from hsstar.engines.sampling.contract import Completion, SampleRequest, SamplingParameters
from hsstar.engines.sampling.openai import OpenAISampler
from hsstar.remote import http
from tests.engines import tiny
from tests.engines.completions_host import CUT, Host, Json, running, text_of
from tests.engines.draws import all_same, complete, draw_all
from tests.engines.vllm_server import serving

PARAMETERS = SamplingParameters(temperature=0.7, top_p=0.95, max_new_tokens=60, stop=("Q:",))
REQUESTS = [SampleRequest(f"prompt {number}", 2**62 + number) for number in range(50)]
TOO_LONG = "This model's maximum context length is 256"

Open = Callable[..., OpenAISampler]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setattr(http, "FIRST_PAUSE_SECONDS", 0.05)
    with running(Host(text_of, weights="M0")) as server:
        yield server


@pytest.fixture
def connect(host: Host) -> Iterator[Open]:
    with ExitStack() as opened:

        def build(checkpoint: Path | str = "M0", path: str = "/v1", **options: Any) -> OpenAISampler:
            url = host.url.replace("/v1", path)
            defaults: dict[str, Any] = {"base_url": url, "model": "policy", "timeout_seconds": 5.0}
            return opened.enter_context(closing(OpenAISampler(checkpoint, **(defaults | options))))

        yield build


def text(result: Completion | str) -> str:
    return result.text if isinstance(result, Completion) else f"refused: {result}"


def texts(sampler: OpenAISampler, count: int) -> list[str]:
    return [text(result) for result in draw_all(sampler, REQUESTS[:count], PARAMETERS)]


def expected(count: int, weights: str = "M0") -> list[str]:
    return [f"{weights}|{request.prompt}|{request.seed}" for request in REQUESTS[:count]]


@pytest.mark.parametrize("is_vllm", [True, False])
def test_a_request_says_all_that_decides_the_sample(host: Host, connect: Open, is_vllm: bool) -> None:
    host.is_vllm = is_vllm
    sampler = connect(options={"truncate_prompt_tokens": 100, "min_p": 0.1})
    [(_, completion)] = sampler.draw(REQUESTS[:1], PARAMETERS)
    assert completion == Completion(expected(1)[0], 3, "stop", -1.5, 0.0)
    assert isinstance(completion, Completion) and completion.milliseconds > 0
    body = {"model": "policy", "prompt": "prompt 0", "n": 1, "seed": 2**62, "max_tokens": 60, "logprobs": 0}
    chances = {"temperature": 0.7, "top_p": 0.95, "stop": ["Q:"], "min_p": 0.1, "truncate_prompt_tokens": 100}
    of_vllm = {"top_k": -1, "repetition_penalty": 1.0} if is_vllm else {}
    assert host.bodies == [body | chances | of_vllm]
    assert sampler.name == ("openai:vllm 0.32.0" if is_vllm else "openai")


@pytest.mark.parametrize(
    ("key", "value"), [("top_k", 5), ("min_p", 0.1), ("repetition_penalty", 1.2), ("stop_token_ids", (3, 4))]
)
def test_keys_beyond_the_protocol_go_to_vllm_alone(host: Host, connect: Open, key: str, value: Any) -> None:
    parameters = replace(PARAMETERS, **{key: value})
    draw_all(connect(), REQUESTS[:1], parameters)
    sent = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0} | {key: value}
    assert {name: host.bodies[0].get(name) for name in sent} == json.loads(json.dumps(sent))
    host.is_vllm = False
    with pytest.raises(EngineError, match=f"is no vLLM server, and {key} is no key of the protocol"):
        draw_all(connect(), REQUESTS[:1], parameters)
    assert len(host.bodies) == 1


def test_no_more_requests_are_under_way_than_allowed(host: Host, connect: Open) -> None:
    host.delay = 0.02
    sampler = connect(concurrency=4)
    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(lambda count: texts(sampler, count), [20] * 3)) == [expected(20)] * 3
    assert (host.most, len(host.bodies)) == (4, 60)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [CUT, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("asked", ["faults", "checks"])
def test_a_failing_answer_is_asked_for_again(asked: str, fault: int, host: Host, connect: Open) -> None:
    setattr(host, asked, [fault] * 3)
    assert texts(connect(concurrency=3), 12) == expected(12)


@pytest.mark.slow
@pytest.mark.parametrize("wait", [lambda: "0.8", lambda: formatdate(time.time() + 2, usegmt=True)])
def test_the_server_says_how_long_to_wait(host: Host, connect: Open, wait: Callable[[], str]) -> None:
    host.faults, host.headers = [429], {"Retry-After": wait()}
    begin = time.monotonic()
    assert texts(connect(), 1) == expected(1)
    assert time.monotonic() - begin > 0.8


def test_the_pauses_between_requests_double_up_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    pauses = [http.pause_seconds(attempt) for attempt in range(40)]
    first, longest = http.FIRST_PAUSE_SECONDS, http.LONGEST_PAUSE_SECONDS
    assert pauses == [min(longest, first * 2**attempt) for attempt in range(40)]


def test_a_silent_server_is_asked_again(host: Host, connect: Open) -> None:
    speaking = threading.Event()

    def complete(weights: str, body: Json) -> Json | str:
        if len(host.bodies) <= 2:
            speaking.wait(60)
        return text_of(weights, body)

    host.complete = complete
    assert texts(connect(timeout_seconds=0.8), 2) == expected(2)
    speaking.set()


def test_an_absent_server_is_awaited(host: Host, connect: Open, caplog: pytest.LogCaptureFixture) -> None:
    notes: list[str] = []

    def note(news: str) -> None:
        notes.append(news)
        host.start()

    host.stop()
    with caplog.at_level(logging.INFO):
        assert texts(connect(note=note), 20) == expected(20)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert notes == [record.message for record in caplog.records]
    assert notes[0].startswith(f"waiting for {host.url} for 0 s: ")
    assert notes[1].startswith(f"{host.url} answers again after ")


def test_closing_ends_the_waiting_at_once(host: Host, connect: Open) -> None:
    host.stop()
    sampler: OpenAISampler = connect(note=lambda news: threading.Thread(target=sampler.close).start())
    for _ in range(2):
        with pytest.raises(EngineDeadError, match="closed"):
            texts(sampler, 5)


def test_a_draw_that_is_closed_early_sends_nothing_more(host: Host, connect: Open) -> None:
    host.delay = 0.1
    sampler = connect(concurrency=2)
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


@pytest.mark.slow
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
        (answering(logprobs=None), {}, "without log-probabilities of the tokens; set policy.openai.logprobs"),
        (answering(text=None), {}, "without text, finish_reason or usage"),
        ({"complete": lambda weights, body: {"error": "over quota"}}, {}, "with an error: over quota"),
        (answering(finish_reason="content_filter"), {}, "for the reason 'content_filter'"),
        ({"development": False}, {"reload": "vllm", "checkpoint": "/"}, "with VLLM_SERVER_DEV_MODE=1"),
        ({}, {"reload": "vllm", "checkpoint": "/no"}, r"cannot load /no .*it must see this folder"),
    ],
)
def test_lasting_faults_fail(host: Host, connect: Open, server: Json, options: Json, message: str) -> None:
    for name, value in server.items():
        setattr(host, name, value)
    with pytest.raises((EngineError, CheckpointError), match=message):
        texts(connect(**options), 1)


def test_the_environments_key_is_never_shown(
    host: Host, connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.api_key = "right"
    with pytest.raises(EngineError, match=r"answers 401: .*HSSTAR_OPENAI_API_KEY is not set"):
        texts(connect(), 1)
    monkeypatch.setenv(openai_weights.API_KEY_VARIABLE, "wrong-secret")
    with pytest.raises(EngineError, match="HSSTAR_OPENAI_API_KEY is not accepted") as failure:
        texts(connect(), 1)
    assert "wrong-secret" not in str(failure.value)
    monkeypatch.setenv(openai_weights.API_KEY_VARIABLE, "right")
    assert texts(connect(), 1) == expected(1)


def test_a_server_with_a_variable_of_its_own_gets_no_other_key(
    host: Host, connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.api_key = "right"
    monkeypatch.setenv(openai_weights.API_KEY_VARIABLE, "right")
    with pytest.raises(EngineError, match=r"answers 401: .*HSSTAR_SOURCE_API_KEY is not set"):
        texts(connect(key_variable="HSSTAR_SOURCE_API_KEY"), 1)
    monkeypatch.setenv("HSSTAR_SOURCE_API_KEY", "right")
    monkeypatch.setenv(openai_weights.API_KEY_VARIABLE, "other")
    assert texts(connect(key_variable="HSSTAR_SOURCE_API_KEY"), 1) == expected(1)


def test_a_prompt_that_is_too_long_has_its_reason_on_any_server(host: Host, connect: Open) -> None:
    host.is_vllm = False
    host.complete = lambda weights, body: TOO_LONG if body["seed"] == 2**62 else text_of(weights, body)
    assert texts(connect(), 2) == [f"refused: {TOO_LONG}", expected(2)[1]]


@pytest.mark.parametrize(("length", "asked"), [(196, [60]), (197, [60, 59]), (255, [60, 1]), (256, [60])])
def test_vllm_is_asked_to_fill_the_context(host: Host, connect: Open, length: int, asked: list[int]) -> None:
    def fits(body: Json) -> bool:  # a token per character; vLLM refuses what would not fit
        return len(body["prompt"]) + int(body["max_tokens"]) <= host.context

    host.complete = lambda weights, body: text_of(weights, body) if fits(body) else TOO_LONG
    [(_, result)] = connect().draw([SampleRequest("x" * length, 1)], PARAMETERS)
    assert [body["max_tokens"] for body in host.bodies] == asked
    too_long = f"refused: the prompt has {length} tokens, which fills the model's context of 256"
    assert text(result) == (too_long if length == 256 else f"M0|{'x' * length}|1")


def test_another_policy_is_refused_where_the_server_cannot_load_it(connect: Open) -> None:
    with pytest.raises(EngineError, match=r"samples from another, M1; set policy.openai.reload = 'vllm'"):
        connect().reload(Path("M1"))


def test_a_restarted_server_loads_the_policy_again(host: Host, connect: Open, tmp_path: Path) -> None:
    host.delay = 0.02
    sampler, results = connect(tmp_path, reload="vllm", concurrency=4), {}
    for index, result in sampler.draw(REQUESTS[:40], PARAMETERS):
        results[index] = text(result)
        if len(results) == 10:
            host.restart()
    assert [results[index] for index in range(40)] == expected(40, tmp_path.name)
    host.restart()  # between two draws nobody sees it
    assert texts(sampler, 10) == expected(10, tmp_path.name)
    assert len(host.loads) == 3


def test_a_policy_loads_after_an_abandoned_draw(host: Host, connect: Open, tmp_path: Path) -> None:
    host.delay = 0.3
    sampler = connect(tmp_path.parent, reload="vllm")
    drawing = sampler.draw(REQUESTS[:8], PARAMETERS)
    next(drawing)
    drawing.close()  # type: ignore[attr-defined]  # draws are generators
    sampler.reload(tmp_path)
    assert [texts(sampler, 4) for _ in range(2)] == [expected(4, tmp_path.name)] * 2
    assert host.loads == [str(tmp_path.parent), str(tmp_path)]


CHAT_TEMPLATE = (
    "{% for turn in messages %}{{ turn.role }}: {{ turn.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    tokenizer = tiny.qwen_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    folders = [tmp_path_factory.mktemp("M") for _ in range(2)]
    return [tiny.tiny_policy(folder, seed=seed, tokenizer=tokenizer) for seed, folder in enumerate(folders)]


@pytest.fixture(scope="module")
def serve(policies: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Makes samplers of the first policy on one server of vLLM."""
    with serving(policies[0], tmp_path_factory.mktemp("vllm")) as server:
        options: dict[str, Any] = {"base_url": server.url, "model": "policy", "note": server.check}
        yield partial(OpenAISampler, policies[0], **options)


@pytest.mark.heavy
def test_on_vllm_a_seed_decides_a_completion_whatever_the_order(serve: Any) -> None:
    with closing(serve()) as sampler, closing(serve(concurrency=1)) as alone:
        together = complete(sampler, 24)
        assert [one.text for one in complete(alone, 24)] == [one.text for one in together]
        assert sampler.name.startswith("openai:vllm 0.")
    assert len({one.text for one in together}) == len(together)
    for one in together:
        assert tiny.END not in one.text
        assert one.tokens == len(one.text) + (one.finish_reason == "stop")  # one per character, and the end
        assert one.cumulative_logprob is not None and one.cumulative_logprob < 0


@pytest.mark.heavy
def test_on_vllm_prompts_at_the_border_of_the_context(serve: Any) -> None:
    with closing(serve()) as sampler:
        prompts = [SampleRequest("y" * length, 1) for length in (300, 250, 256, 0)]
        too_long, fitting, full, empty = draw_all(sampler, prompts)
    assert too_long == "the prompt has 300 tokens, which fills the model's context of 256"
    assert isinstance(fitting, Completion) and fitting.tokens <= 6
    assert isinstance(full, str) and isinstance(empty, str)


@pytest.mark.heavy
def test_vllm_takes_the_weights_of_another_policy(serve: Any, policies: list[Path]) -> None:
    with closing(serve(reload="vllm")) as sampler:
        first = complete(sampler, 24)
        sampler.reload(policies[1])
        second = complete(sampler, 24)
        sampler.reload(policies[0])
        assert [one.text for one in complete(sampler, 24)] == [one.text for one in first]
    assert not {one.text for one in first} & {one.text for one in second}


@pytest.mark.heavy
def test_on_vllm_a_chat_draws_what_its_rendered_prompt_does(serve: Any, policies: list[Path]) -> None:
    form = PromptFormat("chat", "Be brief.", answer_instruction="")
    problems = [f"{number}+{number}" for number in range(12)]
    drawn = []
    for messages, protocol in ((False, "completions"), (True, "chat")):
        render = request_renderer(form, policies[0], messages=messages)
        asked = [SampleRequest(render(problem), seed) for seed, problem in enumerate(problems)]
        with closing(serve(protocol=protocol)) as sampler:
            drawn.append(complete(sampler, asked))
    assert [one.text for one in drawn[0]] == [one.text for one in drawn[1]]
    assert all_same(*drawn)
    with closing(serve(protocol="chat")) as sampler:
        [refused] = draw_all(sampler, [SampleRequest(render("y" * 300), 1)])
        [begun] = complete(sampler, [SampleRequest(render("1+1") + "so", 1)])
    assert isinstance(refused, str) and "fills the model's context of 256" in refused
    assert begun.text
