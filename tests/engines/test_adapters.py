"""Policies that are an adapter beside their base: trained, continued, sampled, merged, measured, refused."""

import json
import math
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor

from hsstar.checkpoints.adapters import adapted_layers, factor_names, move_base, read_base, write_base
from hsstar.checkpoints.files import read_json
from hsstar.checkpoints.resolve import base_location, check_policy, fingerprint
from hsstar.checkpoints.size import adapter_parameters, model_size
from hsstar.domain.errors import CheckpointError, EngineError
from hsstar.domain.rounding import ALL_LAYERS
from hsstar.engines.policies import load_merged, load_policy
from hsstar.engines.registry import write_merged
from hsstar.engines.sampling.hf import TransformersSampler
from hsstar.engines.training.contract import TrainingTask
from hsstar.engines.training.trl import TrlTrainer
from tests.engines import tiny
from tests.engines.draws import GREEDY, complete, draw_all, requests
from tests.engines.test_trl_trainer import WatchedTrainer
from tests.engines.trainings import (
    EXAMPLES,
    ONE_STEP,
    PAIRS,
    SETTINGS,
    VERDICTS,
    Events,
    Train,
    logprobs_of,
)

pytestmark = pytest.mark.slow  # nearly every test trains

KEPT = replace(SETTINGS, learning_rate=2e-2, lora_rank=4, lora_alpha=8.0, lora_merge=False)
CPU = torch.device("cpu")


@pytest.fixture
def adapter(train: Train) -> Path:
    """M_1, an adapter on the policy."""
    return train("M1", settings=KEPT).checkpoint


def logits(model: Any) -> Tensor:
    with torch.inference_mode():
        found: Tensor = model(torch.arange(5, 45)[None]).logits
    return found


def near(one: Any, other: Any) -> bool:
    return torch.allclose(logits(one), logits(other), atol=1e-4)


def chosen_logprob(folder: Path) -> float:
    """The mean log-probability of the chosen responses of all pairs, by hand."""
    found = logprobs_of(folder, [(pair.prompt, pair.chosen) for pair in PAIRS])
    return sum(float(tokens.sum()) for tokens in found) / len(found)


@pytest.mark.parametrize("rows", [PAIRS, VERDICTS, EXAMPLES])
def test_an_adapter_beside_its_base_is_what_merging_gives(
    train: Train, policy: Path, tmp_path: Path, rows: Any
) -> None:
    kept = train("kept", rows, KEPT)
    merged = train("merged", rows, replace(KEPT, lora_merge=True))
    folder = kept.checkpoint
    assert {"adapter_config.json", "adapter_model.safetensors", "hsstar_base.json", "config.json"} < {
        file.name for file in folder.iterdir()
    }
    assert not list(folder.glob("model*")) and not any(file.is_dir() for file in folder.iterdir())
    assert near(load_policy(folder, CPU, torch.float32), load_policy(merged.checkpoint, CPU, torch.float32))
    assert near(load_merged(folder, CPU, torch.float32), load_merged(merged.checkpoint, CPU, torch.float32))
    write_merged(folder, tmp_path / "written")
    written, expected = (
        load_file(place / "model.safetensors") for place in (tmp_path / "written", merged.checkpoint)
    )
    assert all(torch.equal(written[name], expected[name]) for name in expected)
    whole = [next(row.norm for row in report.updates if row.layer == ALL_LAYERS) for report in (kept, merged)]
    assert whole[0] == pytest.approx(whole[1], rel=1e-4)
    info, of_base = check_policy(folder), check_policy(policy)
    assert (info.path, info.architecture, info.context) == (folder, of_base.architecture, of_base.context)
    assert info.weight_bytes > of_base.weight_bytes
    assert model_size(str(folder)) == model_size(str(policy))
    assert base_location(folder) == str(policy)
    stored = load_file(folder / "adapter_model.safetensors")
    assert adapter_parameters(policy, 4, ()) == sum(tensor.numel() for tensor in stored.values())
    assert adapter_parameters(policy, 4, ("q_proj",)) == sum(
        tensor.numel() for name, tensor in stored.items() if "q_proj" in name
    )


@pytest.mark.parametrize(("rows", "first_loss"), [(PAIRS, math.log(2)), (VERDICTS, 0.5)])
def test_the_next_training_continues_the_adapter_with_it_as_the_reference(
    train: Train, adapter: Path, policy: Path, tmp_path: Path, rows: Any, first_loss: float
) -> None:
    seen, watched = Events(), WatchedTrainer()
    second = train("M2", rows, KEPT, policy=adapter, progress=seen.append, trainer=watched)
    trained = {name for name, weight in watched.trl.model.named_parameters() if weight.requires_grad}
    assert trained and all(".default." in name for name in trained)
    reference = get_peft_model_state_dict(watched.trl.model, adapter_name="ref")
    stored = load_file(adapter / "adapter_model.safetensors")
    assert all(torch.equal(reference[name], stored[name]) for name in stored)
    assert seen.values("loss")[0] == pytest.approx(first_loss, abs=1e-4)
    assert seen.values("loss")[-1] != pytest.approx(first_loss, abs=1e-2)
    assert read_base(second.checkpoint) == read_base(adapter)
    assert base_location(second.checkpoint) == str(policy)
    assert not any(file.is_dir() for file in second.checkpoint.iterdir())
    assert fingerprint(second.checkpoint) != fingerprint(adapter)
    assert not near(
        load_policy(second.checkpoint, CPU, torch.float32), load_policy(adapter, CPU, torch.float32)
    )
    write_merged(adapter, tmp_path / "merged")
    shutil.copytree(
        policy, tmp_path / "merged", dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.safetensors")
    )
    spared = replace(KEPT, epochs=1, batch_size=256, micro_batch_size=256, precompute_reference_logprobs=True)
    if rows is PAIRS:
        metrics = train("one", rows, spared, policy=adapter).metrics
        assert metrics["loss"] == pytest.approx(first_loss, abs=1e-4)
        assert metrics["logps/chosen"] == pytest.approx(chosen_logprob(tmp_path / "merged"), rel=1e-3)
        assert metrics["logps/chosen"] != pytest.approx(chosen_logprob(policy), rel=1e-2)


@pytest.mark.parametrize(
    "changes", [{"lora_merge": True}, {"lora_rank": 0, "lora_merge": True, "learning_rate": 1e-3}]
)
def test_a_training_that_keeps_no_adapter_makes_a_whole_policy_of_one(
    train: Train, adapter: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    seen = Events()
    report = train("M2", PAIRS, replace(KEPT, **changes), policy=adapter, progress=seen.append)
    assert seen.values("loss")[0] == pytest.approx(math.log(2), abs=1e-4)
    assert base_location(report.checkpoint) is None
    assert (report.checkpoint / "model.safetensors").is_file()
    before = load_merged(adapter, CPU, torch.float32).state_dict()
    after = load_file(report.checkpoint / "model.safetensors")
    update = torch.cat([(after[name] - before[name]).flatten() for name in after])
    for row in (row for row in report.updates if row.layer == ALL_LAYERS):
        assert row.weights == len(update)
        assert row.norm == pytest.approx(float(update.norm()), rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"lora_rank": 8},
            "has an adapter of rank 4 and alpha 8.0, and the next policy continues it: set lora_rank",
        ),
        ({"lora_alpha": 16.0}, "set lora_rank and lora_alpha to these, or lora_merge to true"),
        (
            {"lora_target_modules": ("q_proj",)},
            "its adapter is on other layers than lora_target_modules names or the model has",
        ),
        ({"lora_target_modules": ("x_proj",)}, "its adapter cannot be loaded: .*x_proj"),
    ],
)
def test_an_adapter_of_another_kind_cannot_be_continued(
    train: Train, adapter: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        train("M2", settings=replace(KEPT, **changes), policy=adapter)
    assert not (tmp_path / "M2").exists()


def test_quantised_weights_take_no_merged_adapter(adapter: Path) -> None:
    with pytest.raises(
        EngineError, match=r"'4bit' merges no adapter, and .*M1 is one; set training.lora_merge"
    ):
        load_merged(adapter, CPU, torch.float32, quantization_config=object())


def by_hand(folder: Path, dtype: torch.dtype) -> dict[str, Tensor]:
    """What an adapter in a format adds to each layer, from its file."""
    stored = load_file(folder / "adapter_model.safetensors")
    return {
        layer: 2.0 * up.to(dtype).float() @ down.to(dtype).float()
        for layer in adapted_layers(stored)
        for down, up in [[stored[name] for name in factor_names(layer)]]
    }


@pytest.mark.parametrize("saved", ["float32", "bfloat16"])
def test_what_rounding_keeps_of_an_adapter_is_measured_on_the_products(
    train: Train, adapter: Path, saved: Any
) -> None:
    trained = train("trained", settings=KEPT, policy=adapter)
    report = train("M2", settings=replace(KEPT, save_dtype=saved), policy=adapter)
    stored = load_file(report.checkpoint / "adapter_model.safetensors")
    assert {str(tensor.dtype) for tensor in stored.values()} == {f"torch.{saved}"}
    before, after = (by_hand(folder, torch.float32) for folder in (adapter, trained.checkpoint))
    update = torch.cat([(after[layer] - before[layer]).flatten() for layer in after]).double()
    for row in (row for row in report.updates if row.layer == ALL_LAYERS):
        held, earlier = (
            by_hand(folder, getattr(torch, row.format)) for folder in (report.checkpoint, adapter)
        )
        shown = torch.cat([(held[layer] - earlier[layer]).flatten() for layer in held]).double()
        assert row.weights == len(update)
        assert row.norm == pytest.approx(float(update.norm()), rel=1e-4)
        assert row.kept == pytest.approx(float(shown @ update) / float(update @ update), rel=1e-4)
        assert row.changed == pytest.approx(float((shown != 0).double().mean()), abs=1e-3)
    assert {row.layer for row in report.updates} == {ALL_LAYERS, "model.layers.0", "model.layers.1"}


def test_the_sampler_on_transformers_draws_from_base_and_adapter(
    train: Train, adapter: Path, policy: Path
) -> None:
    merged = train("merged", settings=replace(KEPT, lora_merge=True)).checkpoint
    with closing(TransformersSampler(merged, device="cpu")) as sampler:
        expected = [one.text for one in complete(sampler, 12, GREEDY)]
        sampler.reload(policy)
        plain = [one.text for one in complete(sampler, 12, GREEDY)]
        assert plain != expected
        sampler.reload(adapter)
        assert [one.text for one in complete(sampler, 12, GREEDY)] == expected
        sampler.reload(policy)
        assert [one.text for one in complete(sampler, 12, GREEDY)] == plain
    with closing(TransformersSampler(adapter, device="cpu", dtype="bfloat16")) as sampler:
        assert len(draw_all(sampler, requests(3), GREEDY)) == 3


Damage = Callable[[Path, Path], object]


def cut(folder: Path, base: Path) -> None:
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])


def configured(**changes: Any) -> Damage:
    def damage(folder: Path, base: Path) -> None:
        file = folder / "adapter_config.json"
        file.write_text(json.dumps(read_json(file) | changes))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda folder, base: shutil.rmtree(base),
            "is an adapter, and its base cannot be used: .*no such folder",
        ),
        (
            lambda folder, base: tiny.tiny_policy(base, seed=9),
            "an adapter on .*base, which holds other weights by now",
        ),
        (
            lambda folder, base: (folder / "adapter_model.safetensors").unlink(),
            "no adapter_model.safetensors",
        ),
        (cut, "is cut off"),
        (configured(peft_type="IA3"), "only LoRA adapters of one rank and scale are known"),
        (configured(r=8), "has not the rank 8"),
        (
            lambda folder, base: (folder / "hsstar_base.json").write_text("{}"),
            "does not say location and fingerprint",
        ),
        (lambda folder, base: (folder / "hsstar_base.json").unlink(), "this is an adapter alone; merge it"),
    ],
)
def test_a_broken_adapter_is_refused_before_anything_is_loaded(
    train: Train, policy: Path, tmp_path: Path, damage: Damage, message: str
) -> None:
    base = shutil.copytree(policy, tmp_path / "base")
    folder = train("M1", settings=replace(ONE_STEP, lora_rank=4, lora_merge=False), policy=base).checkpoint
    assert check_policy(folder).path == folder
    damage(folder, base)
    with pytest.raises(CheckpointError, match=message):
        check_policy(folder)


def test_a_base_that_moves_is_found_again_and_changes_no_fingerprint(
    train: Train, policy: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(policy, tmp_path / "old" / "base")
    folder = train("M1", settings=replace(ONE_STEP, lora_rank=4, lora_merge=False), policy=base).checkpoint
    before = fingerprint(folder)
    (tmp_path / "old").rename(tmp_path / "new")
    with pytest.raises(CheckpointError, match="its base cannot be used"):
        fingerprint(folder)
    for _ in range(2):  # an interrupted move is repeated
        move_base(folder, str(tmp_path / "old"), str(tmp_path / "new"))
    assert fingerprint(folder) == before
    assert read_json(folder / "adapter_config.json")["base_model_name_or_path"] == str(
        tmp_path / "new" / "base"
    )
    other = read_base(folder)
    assert other is not None
    write_base(folder, replace(other, fingerprint="0" * 32))
    with pytest.raises(CheckpointError, match="holds other weights by now; put them back"):
        check_policy(folder)


def test_an_adapter_names_its_base_as_the_run_does(policy: Path, tmp_path: Path) -> None:
    settings = replace(ONE_STEP, lora_rank=4, lora_merge=False)
    task = TrainingTask(
        "dpo",
        check_policy("builtin:demo-policy").path,
        PAIRS,
        settings,
        tmp_path / "M1",
        None,
        "builtin:demo-policy",
    )
    folder = TrlTrainer("cpu").train(task).checkpoint
    assert base_location(folder) == "builtin:demo-policy"
    assert near(load_policy(folder, CPU, torch.float32), load_merged(folder, CPU, torch.float32))
