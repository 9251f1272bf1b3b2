"""Drawing by the chat protocol: from hosts like vLLM, SGLang and llama.cpp, and one that says little."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hsstar.domain.answers.thinking import Thinking
from hsstar.domain.chat_prompts import asked_by, chat_prompt, for_people
from hsstar.domain.errors import EngineError
from hsstar.domain.prompts import Example, PromptFormat
from hsstar.engines.sampling.contract import Completion, SampleRequest, SamplingParameters
from hsstar.engines.sampling.openai import OpenAISampler
from hsstar.remote import http
from tests.engines.completions_host import Host, Json, running

PARAMETERS = SamplingParameters(temperature=0.7, top_p=0.95, max_new_tokens=60)
FORM = PromptFormat("chat", "Be brief.", "Box it.", (Example("1+1", "2"),), 1)
TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "1+1\n\nBox it."},
    {"role": "assistant", "content": "2"},
    {"role": "user", "content": "line\nand “quote”\n\nBox it."},
]
PROBLEM = "line\nand “quote”"


def answer(message: Json, reason: str = "stop", logprobs: Any = "two") -> Json:
    """An answer of two tokens."""
    given = {"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1.0}]}
    choice = {"message": message, "finish_reason": reason, "logprobs": given if logprobs == "two" else None}
    return {"choices": [choice], "usage": {"completion_tokens": 2}}


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setattr(http, "FIRST_PAUSE_SECONDS", 0.05)
    with running(Host(lambda weights, body: answer({"content": "so 2"}), weights="M0")) as server:
        yield server


def drawn(host: Host, prompt: str, thinking: Thinking | None = None, **options: Any) -> Completion | str:
    parameters = SamplingParameters(0.7, 0.95, 60, thinking=thinking)
    defaults: Json = {"base_url": host.url, "model": "policy", "protocol": "chat", "timeout_seconds": 5.0}
    with closing(OpenAISampler(Path("M0"), **(defaults | options))) as sampler:
        [(_, result)] = sampler.draw([SampleRequest(prompt, 7)], parameters)
    return result


def text(result: Completion | str) -> str:
    assert isinstance(result, Completion), result
    return result.text


def test_vllm_gets_messages_and_the_templates_arguments(host: Host) -> None:
    form = PromptFormat(
        "chat",
        "Be brief.",
        "Box it.",
        (Example("1+1", "2"),),
        1,
        chat_arguments=(("enable_thinking", False),),
    )
    result = drawn(host, chat_prompt(form, PROBLEM))
    assert result == Completion("so 2", 2, "stop", -1.5, 0.0)
    assert host.bodies == [
        {
            "model": "policy",
            "messages": TURNS,
            "chat_template_kwargs": {"enable_thinking": False},
            "n": 1,
            "seed": 7,
            "temperature": 0.7,
            "top_p": 0.95,
            "max_tokens": 60,
            "logprobs": True,
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
        }
    ]


@pytest.mark.parametrize("owner", ["sglang", "llamacpp", "somebody"])
def test_other_servers_get_keys_of_the_protocol_alone(host: Host, owner: str) -> None:
    host.is_vllm, host.owner = False, owner
    assert text(drawn(host, chat_prompt(FORM, PROBLEM))) == "so 2"
    [body] = host.bodies
    assert body["messages"] == TURNS
    assert not body.keys() & {"top_k", "min_p", "chat_template_kwargs", "continue_final_message"}


def test_a_server_without_log_probabilities_gives_samples_without(host: Host) -> None:
    host.is_vllm = False
    host.complete = lambda weights, body: answer({"content": "so 2"}, logprobs=None)
    prompt = chat_prompt(FORM, PROBLEM)
    with pytest.raises(EngineError, match=r"without log-probabilities .*policy.openai.logprobs = false"):
        drawn(host, prompt)
    assert drawn(host, prompt, logprobs=False) == Completion("so 2", 2, "stop", None, 0.0)
    assert ["logprobs" in body for body in host.bodies] == [True, False]


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize(
    ("content", "thinking", "expected"),
    [
        ("\n\nso 2", None, "<think>\nhm\n</think>\n\nso 2"),
        ("so 2", Thinking("[T]", "[/T]"), "[T]\nhm\n[/T]so 2"),
        ("so 2", Thinking("<think>", "</think>", begun=True), "\nhm\n</think>so 2"),
        (None, None, "<think>\nhm\n"),
    ],
)
def test_thinking_in_a_field_of_its_own_is_part_of_the_response(
    host: Host, key: str, content: str | None, thinking: Thinking | None, expected: str
) -> None:
    host.complete = lambda weights, body: answer({"content": content, key: "\nhm\n"}, "length")
    assert text(drawn(host, chat_prompt(FORM, PROBLEM), thinking)) == expected


def test_vllm_continues_a_response_that_has_begun_and_others_refuse(host: Host) -> None:
    prompt = chat_prompt(PromptFormat("chat", answer_instruction="", prefill="First,\n"), "2+2") + "four"
    assert text(drawn(host, prompt)) == "so 2"
    [body] = host.bodies
    begun = {"role": "assistant", "content": "First,\nfour"}
    assert body["messages"] == [{"role": "user", "content": "2+2"}, begun]
    assert (body["add_generation_prompt"], body["continue_final_message"]) == (False, True)
    host.is_vllm = False
    with pytest.raises(EngineError, match=f"{host.url} is no vLLM server, and a chat cannot continue"):
        drawn(host, prompt)


@pytest.mark.parametrize(
    ("message", "reason", "named"),
    [
        ({"content": "so"}, "content_filter", "content_filter"),
        ({"content": None, "tool_calls": [{"id": "1"}]}, "stop", "tool_calls"),
        ({"content": None}, "tool_calls", "tool_calls"),
    ],
)
def test_another_end_of_a_response_is_an_error_that_names_it(
    host: Host, message: Json, reason: str, named: str
) -> None:
    host.complete = lambda weights, body: answer(message, reason)
    with pytest.raises(EngineError, match=f"{host.url} ended a completion for the reason '{named}'"):
        drawn(host, chat_prompt(FORM, PROBLEM))


@pytest.mark.parametrize(("length", "asked"), [(196, [60]), (200, [60, 56]), (256, [60])])
def test_a_chat_fills_the_context_too(host: Host, length: int, asked: list[int]) -> None:
    def complete(weights: str, body: Json) -> Json | str:
        fits = len(body["messages"][-1]["content"]) + body["max_tokens"] <= host.context
        return answer({"content": "so 2"}) if fits else "too long"

    host.complete = complete
    result = drawn(host, chat_prompt(PromptFormat("chat", answer_instruction=""), "x" * length))
    assert [body["max_tokens"] for body in host.bodies] == asked
    too_long = f"the prompt has {length} tokens, which fills the model's context of 256"
    assert result == too_long if length == 256 else text(result) == "so 2"


def test_a_prompt_is_one_text_that_people_can_read() -> None:
    prompt = chat_prompt(FORM, PROBLEM)
    assert asked_by(prompt) == {"messages": TURNS}
    assert json.loads(for_people(prompt)) == {"messages": TURNS}
    assert "“quote”" in for_people(prompt)
