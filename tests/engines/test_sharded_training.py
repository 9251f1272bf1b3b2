"""Training on several GPUs, by the very commands for them, on a CPU: FSDP2, several machines, and memory."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from hsstar.checkpoints.size import model_size
from hsstar.domain.errors import BadInputError
from hsstar.engines.registry import build_trainer
from hsstar.engines.training.contract import TrainingPair, TrainingSettings
from hsstar.engines.training.launch import LaunchedTrainer
from hsstar.engines.training.resume import adopt_checkpoint
from hsstar.plan.arithmetic import full_training_bytes
from tests.engines import sharded_rank, tiny
from tests.engines.trainings import SETTINGS, Events, Train, identity_of

pytestmark = pytest.mark.heavy

TWO_PASSES = replace(SETTINGS, batch_size=8)
"""A process of two makes two passes a step."""


class OnCpu(LaunchedTrainer):
    """Launches ranks as on GPUs, but on this machine."""

    def command(self, settings: TrainingSettings) -> list[str]:
        self._device = "cuda"
        command = super().command(settings)
        self._device = "cpu"
        return [*command[:-1], sharded_rank.__name__]


def apart(one: Path, other: Path, before: Path) -> float:
    """How far two trained policies are apart, as a share of what training has changed."""
    mine, its, was = (load_file(folder / "model.safetensors") for folder in (one, other, before))
    return max(
        float((mine[name] - its[name]).abs().max() / (mine[name] - was[name]).abs().max()) for name in was
    )


def test_fsdp2_trains_as_one_process_does_and_resumes(train: Train, policy: Path, tmp_path: Path) -> None:
    settings = replace(TWO_PASSES, sharding="fsdp2", save_every_steps=2)
    trainer = OnCpu(2, device="cpu")
    identity = identity_of(policy, settings=settings, layout=trainer.layout)
    seen, again = Events(), Events()
    point = adopt_checkpoint(tmp_path / "work", "first", identity)
    with pytest.raises(KeyboardInterrupt):
        train(settings=settings, trainer=trainer, progress=seen.stop_at(3), resume_point=point)
    point = adopt_checkpoint(tmp_path / "work", "second", identity)
    assert point.checkpoint == tmp_path / "work" / "second" / "step-2"
    assert len(list(point.checkpoint.glob("rng_state_*"))) == 2
    shared = train(settings=settings, trainer=trainer, progress=again.append, resume_point=point)
    alone = Events()
    whole = train("alone", settings=TWO_PASSES, progress=alone.append)
    losses = [*seen.values("loss")[:2], *again.values("loss")]
    assert losses == pytest.approx(alone.values("loss"), rel=1e-4)
    assert apart(shared.checkpoint, whole.checkpoint, policy) < 0.01


def test_two_machines_train_as_one_does(train: Train, policy: Path, tmp_path: Path) -> None:
    """A script stands for `srun`: it starts the program twice."""
    both = tmp_path / "both"
    both.write_text('#!/usr/bin/env bash\n"$@" <&0 &\n"$@"\nwait $!\n')
    both.chmod(0o755)
    trainer = build_trainer(device="cpu", nodes=2, node_launcher=str(both))
    assert trainer.layout == "2 processes"
    report = train("models/M1", trainer=trainer)
    assert list((tmp_path / "models").iterdir()) == [report.checkpoint]
    assert apart(report.checkpoint, train("alone").checkpoint, policy) < 0.01


def test_several_machines_need_a_command_that_reaches_them() -> None:
    with pytest.raises(BadInputError, match=r"HSSTAR_TRAIN_NODES=2 needs HSSTAR_TRAIN_LAUNCHER.*srun"):
        build_trainer(nodes=2)


SIZES: dict[str, dict[str, Any]] = {
    "30M": {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 28},
    "135M": {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 32},
}
HEADS: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 4, "initializer_range": 0.02}
SHORT = [TrainingPair(f"{n}+", f"{n}", f"{n + 1}") for n in range(8)]


def peaks(
    size: str, processes: int, train: Train, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, Sequence[int]]:
    """Parameters of a random policy, and the peak of each process that trains it on a few tokens."""
    policy = tiny.tiny_policy(folder / "policy", **SIZES[size], **HEADS)
    monkeypatch.setenv(sharded_rank.PEAKS, str(folder))
    monkeypatch.setenv(sharded_rank.WARM_UP, str(tiny.tiny_policy(folder / "tiny")))
    for name, value in {"MMAP_THRESHOLD_": "65536", "TRIM_THRESHOLD_": "65536", "ARENA_MAX": "1"}.items():
        monkeypatch.setenv(f"MALLOC_{name}", value)  # what is freed goes back at once, as on a GPU
    settings = replace(SETTINGS, epochs=1, batch_size=4, micro_batch_size=1, learning_rate=1e-5)
    settings = replace(settings, sharding="fsdp2" if processes > 1 else "none")
    train("M1", SHORT, settings, policy=policy, trainer=OnCpu(processes, device="cpu"))
    parameters = model_size(str(policy)).parameters
    assert parameters is not None
    return parameters, [int((folder / str(rank)).read_text()) for rank in range(processes)]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("processes", [1, 2])
def test_the_memory_of_a_training_is_what_the_plan_says(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: str, processes: int
) -> None:
    """Measured: 3 % and 1 % more in one process, 15 % and 8 % in two, which hold some layers whole."""
    parameters, measured = peaks(size, processes, train, tmp_path, monkeypatch)
    planned = full_training_bytes(parameters, 4, processes)
    assert measured == pytest.approx([planned] * processes, rel=0.2)
