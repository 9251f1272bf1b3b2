"""The same training in two processes, as on a machine with two GPUs."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file

from hsstar.checkpoints.resolve import check_policy, fingerprint
from hsstar.domain.errors import EngineError, MissingDependencyError
from hsstar.engines.registry import build_trainer
from hsstar.engines.training.launch import LaunchedTrainer
from hsstar.engines.training.resume import adopt_checkpoint
from tests.engines.trainings import EXAMPLES, SAVING, SETTINGS, Events, Train, identity_of
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]


def test_two_processes_train_as_one_does(train: Train, policy: Path, tmp_path: Path) -> None:
    seen = Events()
    trainer = build_trainer(device="cpu", processes=2)
    report = train(trainer=trainer, progress=seen.append)
    assert (report.checkpoint, report.examples, report.steps) == (tmp_path / "M1", 12, 9)
    assert seen.start.examples == 12
    assert [(event.step, event.steps) for event in seen.steps] == [(step, 9) for step in range(1, 10)]
    assert check_policy(report.checkpoint).family == "policy"
    assert list(tmp_path.iterdir()) == [report.checkpoint]
    alone = train("alone")
    assert alone.metrics == pytest.approx(report.metrics, rel=1e-3, abs=1e-4)
    one, two = (load_file(folder / "model.safetensors") for folder in (alone.checkpoint, report.checkpoint))
    before = load_file(policy / "model.safetensors")
    for name in one:
        assert (one[name] - two[name]).abs().max() < 0.01 * (one[name] - before[name]).abs().max()


_KILLED = """
import sys
from hsstar.engines.training.launch import LaunchedTrainer
from tests.engines.trainings import die_in_training
die_in_training(*sys.argv[1:], LaunchedTrainer(2, device="cpu"))
"""


def ranks_in(folder: Path) -> list[psutil.Process]:
    """The processes of launched trainings whose temporary files lie in a folder."""
    ranks = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            if any(part.startswith(f"{folder}/hsstar-training-") for part in process.cmdline()):
                ranks.append(process)
    return ranks


@pytest.mark.heavy
def test_ranks_end_with_the_process_that_launched_them_and_others_go_on(
    train: Train, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path), str(policy)], cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    wait_for(lambda: not ranks_in(tmp_path), what="ranks end with the process that launched them")
    trainer = LaunchedTrainer(2, device="cpu")
    point = adopt_checkpoint(tmp_path / "work", "next", identity_of(policy, layout=trainer.layout))
    assert point.checkpoint is not None
    seen = Events()
    resumed = train(settings=SAVING, trainer=trainer, progress=seen.append, resume_point=point)
    undisturbed = train("undisturbed", trainer=trainer)
    assert seen.start.resumed_at == int(point.checkpoint.name.removeprefix("step-"))
    assert fingerprint(resumed.checkpoint) == fingerprint(undisturbed.checkpoint)


def test_a_failure_of_the_processes_says_why(train: Train, tmp_path: Path) -> None:
    trainer = LaunchedTrainer(1, device="cpu")
    with pytest.raises(EngineError, match="every prompt fills the 3 tokens"):
        train(rows=EXAMPLES, settings=replace(SETTINGS, maximum_tokens=3), trainer=trainer)
    assert list(tmp_path.iterdir()) == []


def test_the_recipe_says_how_processes_share_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands are accelerate's; nothing here has the GPUs to run them."""
    monkeypatch.setattr("hsstar.engines.training.launch.find_spec", lambda name: name)
    own = tmp_path / "own.yaml"
    own.write_text("distributed_type: FSDP\n")

    def command(sharding: Any, file: Path | None = None, device: str = "cuda") -> set[str]:
        trainer = LaunchedTrainer(8, device=device, launch_config=file)
        return set(trainer.command(replace(SETTINGS, sharding=sharding)))

    assert {"--multi_gpu", "--num_processes", "8"} <= command("none")
    assert "--cpu" in command("none", device="cpu")
    assert {"--use_fsdp", "--fsdp_version=2", "--fsdp_state_dict_type=FULL_STATE_DICT"} <= command("fsdp2")
    assert {"--use_deepspeed", "--zero_stage=2"} <= command("zero2")
    assert {"--zero_stage=3", "--zero3_save_16bit_model=true"} <= command("zero3")
    assert str(own) in command("fsdp2", own)
    assert "--use_fsdp" not in command("fsdp2", own)
    layouts = [build_trainer(launch_config=file).layout for file in (own, None)]
    assert layouts[0].startswith("1 processes, ")
    assert layouts[1] == "one process"


def test_a_rank_ends_when_its_standard_input_closes(tmp_path: Path) -> None:
    """It waits for its job, and whoever launched it dies."""
    os.mkfifo(tmp_path / "job.json")
    command = [sys.executable, "-m", "hsstar.engines.training.rank", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT) as rank:
        assert rank.stdin is not None
        rank.stdin.close()
        try:
            assert rank.wait(60) == 1
        finally:
            rank.kill()


def test_sharing_that_is_not_possible_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = LaunchedTrainer(2, device="cpu")
    with pytest.raises(EngineError, match="sharding = 'fsdp2' needs GPUs"):
        trainer.command(replace(SETTINGS, sharding="fsdp2"))
    monkeypatch.setattr("hsstar.engines.training.launch.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="needs deepspeed, which is not installed"):
        trainer.command(replace(SETTINGS, sharding="zero3"))
