"""Drawing by SGLang's own protocol, from a host that speaks it as it is documented."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hsstar.checkpoints.resolve import fingerprint
from hsstar.domain.errors import CheckpointError, EngineError
from hsstar.engines.sampling.contract import Completion, SampleRequest, SamplingParameters
from hsstar.engines.sampling.openai import OpenAISampler
from hsstar.remote import http
from tests.engines import tiny
from tests.engines.completions_host import CUT, Host, Json, running
from tests.engines.draws import draw_all
from tests.engines.trainings import ONE_STEP, train_in

PARAMETERS = SamplingParameters(temperature=0.7, top_p=0.95, max_new_tokens=60, stop=("Q:",))
REQUESTS = [SampleRequest(f"prompt{number}", 2**62 + 5 + number) for number in range(20)]
TOKENIZER = tiny.qwen_tokenizer()

Open = Callable[..., OpenAISampler]


def ids_of(text: str) -> list[int]:
    ids: list[int] = TOKENIZER(text)["input_ids"]
    return ids


def answer(weights: str, body: Json) -> Json:
    """Three tokens, in a text that weights, prompt and seed decide."""
    prompt = TOKENIZER.decode(body["input_ids"])
    drawn = [[-0.5, 7, None], [-0.25, 8, None], [-0.75, 9, None]]
    meta = {"finish_reason": {"type": "stop", "matched": 0}, "completion_tokens": 3, "prompt_tokens": 7}
    if body["return_logprob"]:
        meta["output_token_logprobs"] = drawn
    return {
        "text": f"{Path(weights).name}|{prompt}|{body['sampling_params']['sampling_seed']}",
        "meta_info": meta,
    }


def expected(count: int, weights: str) -> list[str]:
    return [f"{weights}|{request.prompt}|{5 + number}" for number, request in enumerate(REQUESTS[:count])]


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("policies")
    return [tiny.tiny_policy(folder / f"M{seed}", seed=seed) for seed in range(2)]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setattr(http, "FIRST_PAUSE_SECONDS", 0.05)
    with running(Host(answer, weights="first", native=True)) as server:
        yield server


@pytest.fixture
def connect(host: Host, policies: list[Path]) -> Iterator[Open]:
    with ExitStack() as opened:

        def build(checkpoint: Path = policies[0], **options: Any) -> OpenAISampler:
            given: dict[str, Any] = {"base_url": host.url.removesuffix("/v1"), "model": "first"}
            given |= {"protocol": "sglang", "timeout_seconds": 5.0, **options}
            return opened.enter_context(closing(OpenAISampler(checkpoint, **given)))

        yield build


def texts(sampler: OpenAISampler, count: int) -> list[str]:
    results = draw_all(sampler, REQUESTS[:count], PARAMETERS)
    return [result.text if isinstance(result, Completion) else f"refused: {result}" for result in results]


def test_a_request_says_all_that_decides_the_sample(host: Host, connect: Open) -> None:
    sampler = connect(options={"frequency_penalty": 0.1})
    wanted = replace(PARAMETERS, top_k=5, stop_token_ids=(3,))
    [(_, completion)] = sampler.draw(REQUESTS[:1], wanted)
    assert completion == Completion(expected(1, "first")[0], 3, "stop", -1.5, 0.0)
    (body,) = host.bodies
    assert body["input_ids"] == ids_of("prompt0")
    assert body["return_logprob"] is True
    assert body["sampling_params"] == {
        "n": 1, "sampling_seed": 5, "temperature": 0.7, "top_p": 0.95, "top_k": 5, "min_p": 0.0,
        "repetition_penalty": 1.0, "max_new_tokens": 60, "stop": ["Q:"], "stop_token_ids": [3],
        "frequency_penalty": 0.1,
    }  # fmt: skip
    assert sampler.name == "openai:sglang 0.5.9"


def test_without_log_probabilities_and_limits_a_request_says_so(host: Host, connect: Open) -> None:
    [(_, completion)] = connect(logprobs=False).draw(REQUESTS[:1], replace(PARAMETERS, stop=()))
    assert isinstance(completion, Completion) and completion.cumulative_logprob is None
    (body,) = host.bodies
    assert body["return_logprob"] is False
    assert (body["sampling_params"]["top_k"], "stop" in body["sampling_params"]) == (-1, False)


def test_a_completion_ends_with_the_context_and_a_full_one_is_refused(host: Host, connect: Open) -> None:
    prompts = [SampleRequest("y" * length, 1) for length in (255, 196, 256, 0)]
    long, fitting, full, empty = draw_all(connect(), prompts, PARAMETERS)
    assert isinstance(long, Completion) and isinstance(fitting, Completion)
    assert sorted(body["sampling_params"]["max_new_tokens"] for body in host.bodies) == [1, 60]
    assert full == "the prompt has 256 tokens, which fills the model's context of 256"
    assert empty == "the prompt has no tokens"


@pytest.mark.slow
@pytest.mark.parametrize("fault", [CUT, 429, 500, 503])
@pytest.mark.parametrize("asked", ["faults", "checks"])
def test_a_failing_answer_is_asked_for_again(host: Host, connect: Open, asked: str, fault: int) -> None:
    setattr(host, asked, [fault] * 3)
    assert texts(connect(concurrency=3), 12) == expected(12, "first")


def test_requests_are_spread_over_several_servers(host: Host, connect: Open) -> None:
    host.delay = 0.02
    with running(Host(answer, weights="first", native=True, delay=0.02)) as other:
        urls = [one.url.removesuffix("/v1") for one in (host, other)]
        assert texts(connect(base_url=None, base_urls=urls, concurrency=2), 20) == expected(20, "first")
        assert min(len(host.bodies), len(other.bodies)) >= 5


def test_a_new_policy_is_loaded_from_its_folder_and_again_after_a_restart(
    host: Host, connect: Open, policies: list[Path]
) -> None:
    sampler = connect(reload="sglang", model="anything")
    for _ in range(2):
        assert texts(sampler, 8) == expected(8, "M0")
    sampler.reload(policies[1])
    assert texts(sampler, 8) == expected(8, "M1")
    assert host.version == fingerprint(policies[1])
    assert texts(connect(policies[1], reload="sglang"), 8) == expected(8, "M1")  # it is there
    assert host.loads == [str(policy) for policy in policies]
    host.restart()
    assert texts(sampler, 8) == expected(8, "M1")
    assert host.loads[2:] == [str(policies[1])]


def changed(**changes: Any) -> Json:
    """A host whose answers have another `meta_info`, or lack a part of it that is None."""

    def complete(weights: str, body: Json) -> Json:
        made = answer(weights, body)
        meta = {key: value for key, value in (made["meta_info"] | changes).items() if value is not None}
        return made | {"meta_info": meta}

    return {"complete": complete}


@pytest.mark.parametrize(
    ("server", "options", "message"),
    [
        ({}, {"model": "other"}, r"does not serve 'other' \(it serves first\)"),
        (
            {"native": False},
            {},
            "answers 404: Not Found; is policy.openai.base_url right.* ends without a path",
        ),
        (
            changed(output_token_logprobs=None),
            {},
            "without log-probabilities of the tokens; set policy.openai",
        ),
        (changed(completion_tokens=4), {}, "gives 3 log-probabilities for 4 tokens"),
        (changed(finish_reason=None), {}, "without text, finish_reason or completion_tokens"),
        (changed(finish_reason={"type": "abort", "message": "killed"}), {}, "for the reason 'abort': killed"),
        ({"complete": lambda weights, body: "no  such\nthing"}, {}, "refuses a request: no such thing"),
        ({"api_key": "right"}, {}, "HSSTAR_OPENAI_API_KEY is not set"),
    ],
)
def test_lasting_faults_fail(host: Host, connect: Open, server: Json, options: Json, message: str) -> None:
    for name, value in server.items():
        setattr(host, name, value)
    with pytest.raises(EngineError, match=message):
        texts(connect(**options), 1)


@pytest.mark.slow
def test_a_folder_that_the_server_does_not_see_and_an_adapter_are_refused(
    host: Host, connect: Open, policies: list[Path], tmp_path: Path
) -> None:
    host.hidden = str(policies[0])
    with pytest.raises(CheckpointError, match=r"cannot load .*M0 \(status 400: there is no .*must see this"):
        texts(connect(reload="sglang"), 1)
    settings = replace(ONE_STEP, lora_rank=4, lora_merge=False)
    adapter = train_in(settings=settings, folder=tmp_path, policy=policies[0]).checkpoint
    with pytest.raises(EngineError, match=r"M1 is an adapter, and .* into SGLang; set training.lora_merge"):
        texts(connect(adapter, reload="sglang"), 1)
