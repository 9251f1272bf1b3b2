"""A training that is cut off goes on from its last whole checkpoint, in one process as in several."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DeepSpeedPlugin, FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from safetensors.torch import load_file
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

from hsstar.checkpoints.resolve import check_policy, fingerprint
from hsstar.domain.errors import EngineError, MissingDependencyError
from hsstar.engines.registry import build_trainer
from hsstar.engines.training.contract import ResumePoint, TrainingEvent, TrainingSettings, TrainingStep
from hsstar.engines.training.launch import LaunchedTrainer
from hsstar.engines.training.resume import (
    WRITING,
    adopt_checkpoint,
    clear_removed,
    of_another_training,
    publish,
)
from tests.engines.trainings import EXAMPLES, PAIRS, SAVING, SETTINGS, VERDICTS, Events, Train, identity_of
from tests.waiting import wait_for

pytestmark = pytest.mark.slow  # nearly every test trains

ROOT = Path(__file__).parents[2]
Attempt = Callable[..., ResumePoint]


@pytest.fixture
def attempt(tmp_path: Path, policy: Path) -> Attempt:
    """Begins an attempt by name at the training that settings and rows say."""
    return lambda name, *training: adopt_checkpoint(tmp_path / "work", name, identity_of(policy, *training))


WITH_ADAPTERS = replace(SAVING, lora_rank=4, lora_dropout=0.1)
PRECOMPUTED = replace(SAVING, precompute_reference_logprobs=True)
TRAININGS = [
    (PAIRS, SAVING),
    (VERDICTS, SAVING),
    *(
        pytest.param(*training, marks=pytest.mark.heavy)
        for training in [(PAIRS, WITH_ADAPTERS), (PAIRS, PRECOMPUTED), (EXAMPLES, SAVING)]
    ),
]


@pytest.mark.parametrize(("rows", "settings"), TRAININGS)
def test_a_resumed_training_ends_as_if_nothing_had_happened(
    train: Train, attempt: Attempt, tmp_path: Path, rows: Any, settings: TrainingSettings
) -> None:
    whole, seen, again = Events(), Events(), Events()
    undisturbed = train("undisturbed", rows, settings, progress=whole.append)
    first = attempt("a", rows, settings)
    with pytest.raises(KeyboardInterrupt):
        train("M1", rows, settings, progress=seen.stop_at(5), resume_point=first)
    assert seen.saved == [2, 4]
    assert not (tmp_path / "M1").exists()
    second = attempt("b", rows, settings)
    resumed = train("M1", rows, settings, progress=again.append, resume_point=second)
    assert again.start.resumed_at == 4
    assert [event.step for event in again.steps] == [5, 6, 7, 8, 9]
    assert again.values("loss") == whole.values("loss")[4:]
    assert resumed.metrics == undisturbed.metrics
    assert fingerprint(resumed.checkpoint) == fingerprint(undisturbed.checkpoint)


@pytest.mark.heavy
@pytest.mark.parametrize("rows", [PAIRS, VERDICTS])
def test_a_resumed_training_continues_the_adapter_of_its_policy(
    train: Train, policy: Path, tmp_path: Path, rows: Any
) -> None:
    kept = replace(WITH_ADAPTERS, lora_merge=False)
    first = train("first", rows, kept).checkpoint

    def attempt(name: str) -> ResumePoint:
        return adopt_checkpoint(tmp_path / "work", name, identity_of(first, rows, kept))

    undisturbed = train("undisturbed", rows, kept, policy=first)
    with pytest.raises(KeyboardInterrupt):
        train("M1", rows, kept, progress=Events().stop_at(5), resume_point=attempt("a"), policy=first)
    resumed = train("M1", rows, kept, resume_point=attempt("b"), policy=first)
    assert resumed.metrics == undisturbed.metrics
    assert fingerprint(resumed.checkpoint) == fingerprint(undisturbed.checkpoint)


_DIE = "import sys; from tests.engines.trainings import die_in_training; die_in_training(*sys.argv[1:])"
_OFFLINE = """
import os, socket
def refuse(*address, **_): os._exit(3)
socket.getaddrinfo = socket.socket.connect = refuse
"""


@pytest.mark.heavy
def test_a_killed_process_contacted_nobody_and_another_one_goes_on(
    train: Train, attempt: Attempt, policy: Path, tmp_path: Path
) -> None:
    online = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    command = [sys.executable, "-c", _OFFLINE + _DIE, str(tmp_path), str(policy), "1"]
    killed = subprocess.run(command, env=online, cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    point = attempt("next")
    assert point.checkpoint == tmp_path / "work" / "next" / "step-4"
    resumed = train(settings=SAVING, resume_point=point)
    assert fingerprint(resumed.checkpoint) == fingerprint(train("undisturbed").checkpoint)


@pytest.mark.parametrize(("every", "saved"), [(3, [3, 6]), (0, []), (None, [])])
def test_steps_but_the_last_are_saved(train: Train, attempt: Attempt, every: Any, saved: list[int]) -> None:
    """None: a training of seconds needs none."""
    seen = Events()
    train(settings=replace(SETTINGS, save_every_steps=every), progress=seen.append, resume_point=attempt("a"))
    assert seen.saved == saved


def test_an_unreadable_checkpoint_is_removed(train: Train, attempt: Attempt, tmp_path: Path) -> None:
    def fail(event: TrainingEvent) -> None:
        if isinstance(event, TrainingStep):
            raise RuntimeError("of another kind")

    with pytest.raises(KeyboardInterrupt):
        train(settings=SAVING, progress=Events().stop_at(3), resume_point=attempt("a"))
    with pytest.raises(RuntimeError, match="of another kind"):  # a later error is not the checkpoint's
        train(settings=SAVING, progress=fail, resume_point=attempt("b"))
    point = attempt("c")
    assert point.checkpoint == tmp_path / "work" / "c" / "step-2"
    (point.checkpoint / "optimizer.pt").write_bytes(b"broken")
    with pytest.raises(EngineError, match="could not resume from its intermediate checkpoint of step 2"):
        train(settings=SAVING, resume_point=point)
    anew = attempt("d")
    assert anew.checkpoint is None
    assert train(settings=SAVING, resume_point=anew).steps == 9


def write(point: ResumePoint, step: int) -> Path:
    written = point.folder / WRITING / f"checkpoint-{step}"
    written.mkdir(parents=True)
    (written / "optimizer.pt").write_text(f"after step {step}")
    return written


def save(point: ResumePoint, step: int) -> None:
    publish(point, write(point, step), step)


def test_the_furthest_checkpoint_of_the_same_training_is_adopted(tmp_path: Path) -> None:
    first = adopt_checkpoint(tmp_path, "first", "this")
    save(first, 2)
    save(first, 10)
    assert [path.name for path in first.folder.glob("step-*")] == ["step-10"]
    assert not of_another_training(tmp_path, "this")
    save(ResumePoint(tmp_path / "other", "another training"), 99)
    assert of_another_training(tmp_path, "this")
    save(ResumePoint(tmp_path / "slower", "this"), 9)
    write(first, 12)
    (tmp_path / "further" / "step-11").mkdir(parents=True)
    (tmp_path / "further" / "step-11" / "training.json").write_text('{"identity": "this", "step": 9}')
    second = adopt_checkpoint(tmp_path, "second", "this")
    assert second.checkpoint == tmp_path / "second" / "step-10"
    assert (second.checkpoint / "optimizer.pt").read_text() == "after step 10"
    assert list(tmp_path.iterdir()) == [second.folder]
    clear_removed(second)
    assert {path.name for path in second.folder.iterdir()} == {"step-10", "removed"}
    assert not any((second.folder / "removed").iterdir())


def test_an_attempt_that_should_be_over_cannot_write_any_more(tmp_path: Path) -> None:
    late = adopt_checkpoint(tmp_path, "late", "this")
    save(late, 1)
    written = write(late, 2)
    following = adopt_checkpoint(tmp_path, "next", "this")
    with pytest.raises(FileNotFoundError):
        publish(late, written, 2)
    assert following.checkpoint == tmp_path / "next" / "step-1"


def test_settings_data_policy_and_layout_make_a_training_another(policy: Path, llama_policy: Path) -> None:
    changes = {"learning_rate": 2e-3, "seed": 12, "beta": 0.2, "micro_batch_size": 4, "loss_type": "hinge"}
    others = [replace(SAVING, **{name: value}) for name, value in changes.items()]  # type: ignore[arg-type]
    identities = {
        *(identity_of(policy, settings=settings) for settings in (SAVING, *others)),
        *(identity_of(policy, rows) for rows in (PAIRS[:-1], PAIRS[::-1], EXAMPLES)),
        identity_of(llama_policy),
        identity_of(policy, layout="2 processes"),
    }
    assert len(identities) == 11
    assert identity_of(policy, settings=replace(SAVING, save_every_steps=7)) == identity_of(policy)


@pytest.mark.heavy
def test_two_processes_train_as_one_does(train: Train, policy: Path, tmp_path: Path) -> None:
    seen = Events()
    report = train(trainer=build_trainer(device="cpu", processes=2), progress=seen.append)
    assert (report.checkpoint, report.steps) == (tmp_path / "M1", 9)
    assert report.examples == seen.start.examples == 12
    assert [(event.step, event.steps) for event in seen.steps] == [(step, 9) for step in range(1, 10)]
    assert check_policy(report.checkpoint).family == "policy"
    assert list(tmp_path.iterdir()) == [report.checkpoint]
    alone = train("alone")
    assert [(row.layer, row.format) for row in report.updates] == [
        (row.layer, row.format) for row in alone.updates
    ]
    assert alone.metrics == pytest.approx(report.metrics, rel=5e-3, abs=1e-4)  # accuracy is a mean of means
    one, two = (load_file(folder / "model.safetensors") for folder in (alone.checkpoint, report.checkpoint))
    before = load_file(policy / "model.safetensors")
    for name in one:
        assert (one[name] - two[name]).abs().max() < 0.01 * (one[name] - before[name]).abs().max()


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
    killed = subprocess.run([sys.executable, "-c", _DIE, str(tmp_path), str(policy), "2"], cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    wait_for(lambda: not ranks_in(tmp_path), what="ranks end with the process that launched them")
    trainer = LaunchedTrainer(2, device="cpu")
    point = adopt_checkpoint(tmp_path / "work", "next", identity_of(policy, layout=trainer.layout))
    assert point.checkpoint is not None
    assert len(list(point.checkpoint.glob("rng_state_*"))) == 2
    seen = Events()
    resumed = train(settings=SAVING, trainer=trainer, progress=seen.append, resume_point=point)
    undisturbed = train("undisturbed", trainer=trainer)
    assert seen.start.resumed_at == int(point.checkpoint.name.removeprefix("step-"))
    assert fingerprint(resumed.checkpoint) == fingerprint(undisturbed.checkpoint)


@pytest.mark.heavy
def test_a_failure_of_the_processes_says_why(train: Train, tmp_path: Path) -> None:
    trainer = LaunchedTrainer(1, device="cpu")
    with pytest.raises(EngineError, match="nothing to train on: 12 × prompt fills the limit"):
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
    assert "--multi_gpu" in command("none", device="cpu")  # or accelerate would start one process
    assert {"--use_fsdp", "--fsdp_version=2", "--fsdp_state_dict_type=FULL_STATE_DICT"} <= command("fsdp2")
    assert {"--use_deepspeed", "--zero_stage=2"} <= command("zero2")
    assert {"--zero_stage=3", "--zero3_save_16bit_model=true"} <= command("zero3")
    assert str(own) in command("fsdp2", own)
    assert "--use_fsdp" not in command("fsdp2", own)
    assert build_trainer(launch_config=own).layout.startswith("1 processes, ")
    assert build_trainer().layout == "one process"


@pytest.mark.parametrize(("sharding", "stage"), [("fsdp2", None), ("zero2", 2), ("zero3", 3)])
def test_accelerate_reads_its_commands_as_they_are_meant(
    monkeypatch: pytest.MonkeyPatch, sharding: Any, stage: int | None
) -> None:
    """Float32 weights and moments shared, bfloat16 in between: by accelerate's own parser and plug-ins."""
    monkeypatch.setattr("hsstar.engines.training.launch.find_spec", lambda name: name)
    launched = LaunchedTrainer(8, device="cuda").command(replace(SETTINGS, sharding=sharding))
    arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args([*launched[3:], "FOLDER"]))
    assert (arguments.num_processes, arguments.num_machines, arguments.main_process_port) == (8, 1, 0)
    arguments.deepspeed_fields_from_accelerate_config = ""  # as `launch_command` sets it
    environment = prepare_deepspeed_cmd_env(arguments)[1] if stage else prepare_multi_gpu_env(arguments)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    plugin = DeepSpeedPlugin() if stage else FullyShardedDataParallelPlugin()
    plugin.set_mixed_precision("bf16")
    if stage:
        configuration = plugin.deepspeed_config
        assert configuration["zero_optimization"]["stage"] == stage
        assert configuration["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] == (stage == 3)
        assert configuration["bf16"]["enabled"]
        return
    assert (plugin.fsdp_version, plugin.reshard_after_forward) == (2, True)
    assert plugin.mixed_precision_policy.param_dtype == torch.bfloat16
    assert plugin.auto_wrap_policy is transformer_auto_wrap_policy


def test_a_rank_ends_when_its_standard_input_closes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "job.json")  # it waits for its job
    command = [sys.executable, "-m", "hsstar.engines.training.rank", str(tmp_path)]
    assert subprocess.run(command, stdin=subprocess.DEVNULL, cwd=ROOT, timeout=60).returncode == 1


def test_sharing_that_is_not_possible_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = LaunchedTrainer(2, device="cpu")
    with pytest.raises(EngineError, match="sharding = 'fsdp2' needs GPUs"):
        trainer.command(replace(SETTINGS, sharding="fsdp2"))
    monkeypatch.setattr("hsstar.engines.training.launch.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="needs deepspeed, which is not installed"):
        trainer.command(replace(SETTINGS, sharding="zero3"))
