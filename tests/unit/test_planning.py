"""What a run takes, whether it fits, and which process has which GPU: each GPU has one owner."""

import json
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from hsstar.checkpoints.size import ModelSize, model_size
from hsstar.commands.models import check_engine, check_installation
from hsstar.domain.allocation.budget import Budget
from hsstar.domain.errors import BadInputError
from hsstar.domain.findings import Level
from hsstar.local.gpus import smallest_memory, visible_gpus
from hsstar.local.placement import GPU_ROLES, ROLES, PlannedWorker, choose_gpus, parse_roles, plan_workers
from hsstar.plan import arithmetic
from hsstar.plan.arithmetic import SamplePlan, plan_samples, plan_tokens
from hsstar.plan.forecast import Forecast, UserFigures, make_forecast
from hsstar.plan.preflight import Device, check_arguments, check_memory, check_models
from hsstar.plan.rounding import check_rounding
from hsstar.recipe.recipe import Recipe
from hsstar.store.read.throughput import Throughput
from tests.store.factory import make_recipe
from tests.unit.tables import tables

PAPER = plan_samples(Budget(8, 3), 7500, iterations=3, policies=4, evaluation_samples=500)
BILLION, SEVEN_BILLION = ModelSize(None, 10**9, True), ModelSize(None, 7 * 10**9, True)
UNKNOWN = UserFigures()
ONE_GPU, FOUR_GPUS = Device(80e9, gpu=True), Device(80e9, gpu=True, processes=4)


def recipe(**sections: Any) -> Recipe:
    usual = {
        "problems": {"dataset": "d", "per_iteration": 100},
        "policy": {"model": "builtin:demo-policy"},
        "reward": {"model": "builtin:demo-prm"},
    }
    return make_recipe(**usual | sections)


def forecast(
    iterations: int, given: UserFigures = UNKNOWN, counts: dict[str, int] | None = None, **sections: Any
) -> Forecast:
    return make_forecast(recipe(**sections), iterations, given, None, BILLION, counts or {}, gpu=True)


def test_the_papers_run_draws_60_000_samples_an_iteration() -> None:
    assert (PAPER.pre_samples, PAPER.re_samples) == (22_500, 37_500)
    assert (PAPER.training, PAPER.evaluation) == (180_000, 4 * 500)


def test_held_out_problems_that_cannot_be_counted_stay_unknown() -> None:
    assert SamplePlan(1, 2, 30, 50, None).evaluation is None
    assert SamplePlan(1, 0, 30, 50, None).evaluation == 0


def test_tokens_are_those_of_responses() -> None:
    tokens = plan_tokens(PAPER, 600, scored=True, pairs_per_sample=0.1, epochs=1)
    assert (tokens.sampled, tokens.scored, tokens.evaluated) == (108e6, 108e6, 1.2e6)
    assert tokens.trained == pytest.approx(180_000 * 0.1 * 2 * 600)
    assert plan_tokens(PAPER, 600, scored=False, pairs_per_sample=0, epochs=1).scored == 0
    assert plan_tokens(PAPER, 600, scored=True, pairs_per_sample=0.1, epochs=2).trained == 43.2e6


def test_hours_are_tokens_by_speed_and_rows_take_their_fixed_part_and_their_text() -> None:
    assert arithmetic.hours(108e6, 3000) == 10
    one = SamplePlan(1, 0, 1, 0, None)
    assert arithmetic.database_bytes(one, 100) == arithmetic.SAMPLE_ROW_BYTES + 450


def test_what_sources_draw_comes_on_top_and_is_scored_too() -> None:
    given = UserFigures(100, 0.1, 1000, 2000, 500)
    teacher = {"name": "teacher", "model": "T", "samples": 3}
    late = teacher | {"name": "late", "levels": ["boundary"]}
    plain, taught = (forecast(2, given, sources=sources) for sources in ([], [teacher, late]))
    assert (plain.samples.of_sources, taught.samples.of_sources) == (0, 600)
    assert taught.tokens.of_sources == 2 * 600 * 100
    assert taught.tokens.scored == plain.tokens.scored + taught.tokens.of_sources
    assert (taught.samples.training, taught.tokens.sampled) == (plain.samples.training, plain.tokens.sampled)
    assert taught.hours == plain.hours | {"scoring": 140_000 * 2 / 2000 / 3600, "sources": None}
    assert taught.database_bytes - plain.database_bytes == arithmetic.database_bytes(
        SamplePlan(1, 0, 1200, 0, None), 100
    )


def test_memory_of_training_is_16_bytes_a_parameter_and_the_reference() -> None:
    # 7.6 billion parameters: 16 bytes of weights, gradients and moments, 2 of the bfloat16 reference
    assert arithmetic.full_training_bytes(7_600_000_000, 2, 1) == pytest.approx(136.8e9)
    assert arithmetic.full_training_bytes(7_600_000_000, 2, 4) == pytest.approx(45.6e9)  # while they load
    assert arithmetic.full_training_bytes(7_600_000_000, 2, 2) == pytest.approx(68.4e9)
    zero_2 = arithmetic.full_training_bytes(7_600_000_000, 2, 8, weights_shared=False)
    assert zero_2 == pytest.approx(7.6e9 * (6 + 12 / 8))
    assert arithmetic.weight_bytes(7_600_000_000, 2) == pytest.approx(15.2e9)
    assert arithmetic.weight_bytes(7_600_000_000, 2, 2) == pytest.approx(7.6e9)


def test_given_figures_go_before_measured_ones_and_these_before_assumptions() -> None:
    given, measured = UserFigures(tokens_per_sample=40), Throughput(50.0, 0.2, 1000.0, None, None)
    figures = make_forecast(recipe(), 2, given, measured, BILLION, {}, gpu=True).figures
    assert (figures["tokens per sample"].value, figures["tokens per sample"].source) == (40, "given")
    assert figures["pairs per sample"].value == 0.2
    assert figures["sampling speed"].source == "measured in earlier runs of builtin:demo-policy"
    assert figures["scoring speed"].value is None
    assert "--scoring-tokens-per-second" in figures["scoring speed"].source
    bare = forecast(2).figures["tokens per sample"]
    assert bare.value == 512
    assert bare.source.startswith("assumed: 25% of max_new_tokens")


def test_hours_and_disk_follow_from_the_figures() -> None:
    given = UserFigures(100, 0.1, 1000, 2000, 500)
    found = forecast(2, given, counts={"e": 80}, evaluation={"dataset": "e", "problems": 50})
    # 2 × 800 samples × 100 tokens; 3 policies × 50 problems; 160 pairs × 2 responses
    seconds = {"sampling": 160, "evaluation": 15, "scoring": 80, "training": 64}
    assert found.hours == pytest.approx({kind: each / 3600 for kind, each in seconds.items()})
    assert found.known_hours == pytest.approx(sum(seconds.values()) / 3600)
    assert (found.checkpoint_bytes, found.intermediate_bytes) == (2 * 4 * 10**9, 2 * 12 * 10**9)


def test_benchmarks_are_measured_by_their_protocol() -> None:
    seven = ["gsm8k", "math500", "minerva_math", "olympiadbench", "college_math", "aime24", "amc23"]
    found = forecast(3, evaluation={"benchmarks": seven}).samples
    assert found.evaluation_samples == 1319 + 500 + 272 + 675 + 2818 + 32 * (30 + 40)
    assert found.policies == 4
    mine = {"dataset": "e", "benchmarks": ["gsm8k", "mine"]}
    for counts, samples in (({"e": 10}, None), ({"e": 10, "mine": 5}, 1319 + 15)):
        assert forecast(1, counts=counts, evaluation=mine).samples.evaluation_samples == samples


def test_a_run_without_training_makes_no_policy() -> None:
    found = forecast(3, UserFigures(100), training={"objective": "none"}, evaluation={"dataset": "e"})
    assert (found.samples.policies, found.tokens.trained, found.hours["training"]) == (1, 0, 0)
    assert found.checkpoint_bytes == found.intermediate_bytes == 0


def test_what_is_trained_on_correct_samples_alone_is_not_foreseen() -> None:
    found = forecast(1, UserFigures(100, training_speed=100), training={"objective": "sft"})
    assert (found.tokens.trained, found.hours["training"]) == (None, None)


def test_adapters_and_trainings_without_intermediate_checkpoints_need_no_room_for_them() -> None:
    for training in ({"lora_rank": 8}, {"save_every_steps": 0}):
        assert forecast(1, training=training).intermediate_bytes == 0


def test_uniform_sampling_re_samples_nothing() -> None:
    found = forecast(1, sampling={"strategy": "uniform"}).samples
    assert (found.pre_samples, found.re_samples) == (800, 0)


def test_parameters_are_counted_over_all_shards(tmp_path: Path) -> None:
    shards = {"1.safetensors": {"a": (3, 4), "b": (2, 5)}, "2.safetensors": {"c": (10, 10)}}
    for file, shapes in shards.items():
        save_file({name: np.zeros(shape, np.float16) for name, shape in shapes.items()}, tmp_path / file)
    places = {name: file for file, shapes in shards.items() for name in shapes}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    assert model_size(str(tmp_path)) == ModelSize(tmp_path.resolve(), 122, False)


def test_a_model_that_is_not_here_is_judged_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    names = ("HS-STaR-Qwen2.5-7B-M0", "Skywork-o1-Open-PRM-Qwen-2.5-1.5B", "tiny")
    expected = [ModelSize(None, parameters, True) for parameters in (7_000_000_000, 1_500_000_000, None)]
    assert [model_size(f"Nobody-Here/{name}") for name in names] == expected


def test_the_demos_models_are_there() -> None:
    checks, policy, reward = check_models(recipe(), None)
    assert [check.level for check in checks] == [Level.OK, Level.OK]
    assert policy
    assert reward
    assert 800_000 < (policy.parameters or 0) < 900_000


def test_a_missing_or_wrong_model_fails_and_says_why() -> None:
    checks, policy, _ = check_models(recipe(policy={"model": "./none-such"}), None)
    assert (checks[0].level, policy) == (Level.FAIL, None)
    assert "no such folder" in checks[0].text
    swapped, _, _ = check_models(recipe(policy={"model": "builtin:demo-prm"}), None)
    assert "not a policy" in swapped[0].text


@pytest.mark.parametrize(
    ("registered", "level"),
    [(None, Level.UNCHECKED), ({}, Level.FAIL), ({"mine": "builtin:demo-policy"}, Level.OK)],
)
def test_a_registered_policy_is_found_by_its_name(registered: dict[str, str] | None, level: Level) -> None:
    assert check_models(recipe(policy={"model": "mine"}), registered)[0][0].level is level


@pytest.mark.parametrize(
    ("training", "device", "level", "need"),
    [
        ({}, ONE_GPU, Level.FAIL, "126 GB"),  # 18 bytes × 7 billion
        ({}, FOUR_GPUS, Level.FAIL, "126 GB"),  # they share nothing
        ({}, Device(80e9, gpu=True, processes=4, shared=True), Level.OK, "42 GB"),
        ({"lora_rank": 64}, ONE_GPU, Level.OK, "14 GB"),
        ({"lora_rank": 64, "quantization": "4bit"}, ONE_GPU, Level.OK, "3.5 GB"),
        ({"precompute_reference_logprobs": True}, FOUR_GPUS, Level.FAIL, "112 GB"),  # 16 bytes × 7 billion
        ({"sharding": "fsdp2"}, FOUR_GPUS, Level.OK, "42 GB"),
        ({"sharding": "zero2"}, FOUR_GPUS, Level.OK, "63 GB"),  # 4 + 2 whole, 12 / 4
    ],
)
def test_a_training_of_7b_needs_what_its_kind_keeps_on_each_device(
    training: dict[str, Any], device: Device, level: Level, need: str
) -> None:
    *before, found = check_memory(recipe(training=training), SEVEN_BILLION, {"reward": SEVEN_BILLION}, device)
    assert [check.level for check in (*before, found)] == [Level.OK, Level.OK, level]
    assert found.text.startswith(need)


def test_the_reward_models_of_a_run_have_to_fit_together() -> None:
    """A model under two names counts once, and a rule weighs nothing."""
    named = [
        {"name": "one", "model": "builtin:demo-prm"},
        {"name": "again", "model": "builtin:demo-prm", "aggregate": "mean"},
        {"name": "other", "model": "x"},
        {"name": "brevity", "kind": "length", "use": "record"},
    ]
    run = recipe(reward={"model": "none"}, rewards=named)
    sizes = dict.fromkeys(("one", "again", "other"), SEVEN_BILLION)
    _, found, *_ = check_memory(run, SEVEN_BILLION, sizes, ONE_GPU)
    assert found.text.startswith("28 GB at the least (weights of 2 reward models)")
    checks, _, _ = check_models(run, None)
    assert [check.name for check in checks] == [
        "policy", "reward one", "reward again", "reward other", "reward brevity"
    ]  # fmt: skip
    assert [check.level for check in checks[1:]] == [Level.OK, Level.OK, Level.FAIL, Level.OK]


@pytest.mark.parametrize(("name", "level"), [("max_num_seqs", Level.OK), ("max_seqs", Level.FAIL)])
def test_an_engine_argument_that_vllm_lacks_is_named_by_its_key(
    monkeypatch: pytest.MonkeyPatch, name: str, level: Level
) -> None:
    monkeypatch.setattr("hsstar.engines.vllm.options.engine_arguments", lambda: frozenset({"max_num_seqs"}))
    monkeypatch.setattr("hsstar.engines.registry.find_spec", lambda package: package)
    sections = {"policy": {"model": "m", "engine": "vllm", "vllm": {name: 8}}}
    [found] = check_arguments(recipe(**sections))
    assert (found.level, found.name) == (level, "policy.vllm")
    assert level is Level.OK or found.text.startswith("policy.vllm.max_seqs: the installed vLLM has no such")
    monkeypatch.setattr("hsstar.engines.registry.find_spec", lambda package: None)
    assert check_arguments(recipe(**sections))[0].level is Level.UNCHECKED
    assert check_arguments(recipe()) == []


def test_an_engine_that_is_not_here_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    on_vllm = recipe(policy={"model": "m", "engine": "vllm"}, reward={"model": "prm", "engine": "vllm"})
    monkeypatch.setattr("hsstar.engines.registry.find_spec", lambda package: package)
    assert check_installation(on_vllm) == []
    monkeypatch.setattr("hsstar.engines.registry.find_spec", lambda package: None)
    found = {finding.name: finding for finding in check_installation(on_vllm)}
    assert list(found) == ["policy.engine", "reward.engine"]
    for name, kind in (("policy.engine", "sampling"), ("reward.engine", "scoring")):
        assert found[name].level is Level.WARN
        assert "pip install 'hsstar[vllm]'" in found[name].text
        assert found[name].text.endswith(f"; on a machine without it every {kind} job fails")
    assert check_installation(recipe()) == []


@pytest.mark.parametrize(
    ("policy", "parameters", "level"),
    [
        ({}, 7 * 10**9, Level.FAIL),
        ({"engine": "transformers"}, 7 * 10**9, Level.WARN),
        ({"engine": "vllm"}, 7 * 10**9, None),
        ({}, 10**9, None),
        ({}, None, None),
    ],
)
def test_transformers_samples_from_a_large_policy_only_where_the_recipe_says_so(
    policy: dict[str, Any], parameters: int | None, level: Level | None
) -> None:
    found = check_engine(recipe(policy={"model": "m"} | policy).policy, parameters)
    assert [finding.level for finding in found] == ([] if level is None else [level])
    assert all(
        "7.0 billion parameters" in finding.text and "vllm" in finding.text.lower() for finding in found
    )


def test_weights_shared_by_gpus_count_in_parts() -> None:
    shared = {"model": "m", "engine": "vllm", "vllm": {"tensor_parallel_size": 2}}
    for run, level in ((recipe(), Level.FAIL), (recipe(policy=shared), Level.OK)):
        assert check_memory(run, SEVEN_BILLION, {}, Device(10e9, gpu=True))[0].level is level


def test_what_is_not_known_is_not_judged() -> None:
    unknown = ModelSize(None, None, True)
    assert {check.level for check in check_memory(recipe(), unknown, {}, ONE_GPU)} == {Level.UNCHECKED}


SERVER = {"model": "m", "engine": "openai", "openai": {"base_url": "http://localhost:8000/v1", "model": "m"}}
KEPT = "bfloat16 keeps about"
STOCHASTIC = {"save_dtype": "bfloat16", "save_rounding": "stochastic"}


@pytest.mark.parametrize(
    ("sections", "pairs", "gpu", "level", "text"),
    [
        ({}, 7500, True, Level.WARN, f"{KEPT} [1-5]% .*: 30 steps at learning rate 5e-07; keep more by "),
        ({"training": {"rows": 256}}, None, True, Level.WARN, f"{KEPT} [0-3]% .*: 1 steps at"),
        ({"training": {"learning_rate": 3e-6}}, 7500, True, Level.WARN, f'{KEPT} .*dtype = "float16" '),
        ({"training": {"learning_rate": 1e-3}}, 7500, True, Level.OK, f"{KEPT} (99|100)%"),
        ({"training": STOCHASTIC}, 7500, True, Level.OK, KEPT),
        (
            {"training": {"save_dtype": "bfloat16"}},
            7500,
            False,
            Level.WARN,
            'float32 .*keep all by .* = "float32"',
        ),
        ({"policy": {"model": "m", "dtype": "float32"}}, 7500, True, Level.OK, "float32 keeps about 100%"),
        ({}, 7500, False, Level.OK, "float32 keeps about 100%"),
        ({}, None, True, Level.UNCHECKED, "the number of optimiser steps is not known"),
        ({"training": {"lora_rank": 8}}, 7500, True, Level.UNCHECKED, "the updates of adapters"),
        ({"policy": SERVER}, 7500, True, Level.UNCHECKED, "the server decides"),
    ],
)
def test_what_rounding_leaves_of_a_training_is_foreseen(
    tmp_path: Path, sections: dict[str, Any], pairs: float | None, gpu: bool, level: Level, text: str
) -> None:
    """The policy has 8,192 weights of bfloat16 from 0.06 down to 0.0038."""
    stored = b"".join(struct.pack("<f", 0.06 * 2 ** -(place / 2048))[2:] for place in range(8192))
    header = json.dumps({"w": {"dtype": "BF16", "shape": [8192], "data_offsets": [0, len(stored)]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + stored)
    found = check_rounding(recipe(**sections), ModelSize(tmp_path, 8192, False), pairs, gpu=gpu)
    assert found.level is level, found
    assert re.match(text, found.text), found


def test_nothing_is_foreseen_without_the_weights() -> None:
    assert check_rounding(recipe(), BILLION, 7500, gpu=True).level is Level.UNCHECKED


def test_the_smallest_visible_gpu_counts() -> None:
    listed = "0, 81559\n1, 24564\n2, [N/A]\n"
    memories = {("0", "1", "2"): 24564 << 20, ("0",): 81559 << 20, ("2",): None}
    assert {gpus: smallest_memory(listed, gpus) for gpus in memories} == memories
    assert smallest_memory("", ()) is None


EIGHT = tuple(map(str, range(8)))
TABLES = tables("plan")
role_counts = st.dictionaries(st.sampled_from(ROLES), st.none() | st.integers(1, 9), min_size=1)


@pytest.mark.parametrize(("roles", "gpus", "each", "workers"), TABLES["planned"])
def test_roles_share_the_gpus_and_one_without_a_number_takes_what_the_others_leave(
    roles: str, gpus: list[str], each: dict[str, int], workers: dict[str, list[str]]
) -> None:
    """Several without a number get one process each; verification, and a machine without GPUs, need none."""
    found = {worker.name: [*worker.gpus] for worker in plan_workers(parse_roles(roles), (*gpus,), each)}
    assert [*found.items()] == [*workers.items()]


@pytest.mark.parametrize(("roles", "gpus", "message"), TABLES["refused"])
def test_what_cannot_be_is_refused_in_one_line(roles: str, gpus: str, message: str) -> None:
    with pytest.raises(BadInputError) as caught:
        plan_workers(parse_roles(roles), choose_gpus(gpus, EIGHT), {})
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_gpu_on_a_machine_without_any() -> None:
    assert choose_gpus("all", ()) == choose_gpus("none", EIGHT) == ()
    with pytest.raises(BadInputError, match="there is no GPU '0' here; there is none"):
        choose_gpus("0", ())


@given(role_counts, st.integers(0, 16), st.integers(1, 3))
def test_a_gpu_has_one_owner_and_names_differ(roles: dict[str, int | None], machine: int, each: int) -> None:
    gpus = tuple(map(str, range(machine)))
    needs = {role: each if role in ("train", "all") else int(role in GPU_ROLES) for role in ROLES}
    try:
        workers = plan_workers(roles, gpus, {"train": each, "all": each})
    except BadInputError:
        assert sum((count or 1) * needs[role] for role, count in roles.items()) > machine > 0
        return
    used = [gpu for worker in workers for gpu in worker.gpus]
    assert len(used) == len(set(used))
    assert set(used) <= set(gpus)
    assert len({worker.name for worker in workers}) == len(workers)
    for role, count in roles.items():
        found = [worker for worker in workers if worker.role == role]
        assert len(found) == count if count else found
        assert {len(worker.gpus) for worker in found} == {needs[role] if machine else 0}


@given(st.text("samplecorvfyin:=,0123456789 ", max_size=24))
def test_any_text_is_roles_or_refused(text: str) -> None:
    try:
        counts = parse_roles(text)
    except BadInputError:
        return
    assert counts
    assert set(counts) <= set(ROLES)


def test_the_environment_of_a_worker_keeps_what_the_user_has_set() -> None:
    worker = PlannedWorker("sample-gpu3", "sample", ("3",))
    always = {"CUDA_VISIBLE_DEVICES": "3", "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "OMP_WAIT_POLICY": "PASSIVE"}
    assert worker.environment({}, 4) == always | {"OMP_NUM_THREADS": "4"}
    assert worker.environment({"OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": "3,4"}, 4) == always
    assert PlannedWorker("verify-cpu1", "verify").environment({}, 1)["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(("visible", "expected"), TABLES["visible"])
def test_cuda_visible_devices_is_read_as_cuda_reads_it(visible: str | None, expected: list[str]) -> None:
    """A beginning of two UUIDs is none, and the list ends there."""
    assert [*visible_gpus(("GPU-aa11", "GPU-ab22", "GPU-b333"), visible)] == expected
    assert visible_gpus((), visible) == ()
