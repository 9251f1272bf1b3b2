"""A training that is cut off goes on from its last whole checkpoint, to the same result."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from hsstar.checkpoints.resolve import fingerprint
from hsstar.domain.errors import EngineError
from hsstar.engines.training.contract import (
    ResumePoint,
    TrainingEvent,
    TrainingSaved,
    TrainingStart,
    TrainingStep,
    TrainingTask,
)
from hsstar.engines.training.resume import (
    WRITING,
    adopt_checkpoint,
    clear_removed,
    publish,
    training_identity,
)
from hsstar.engines.training.trl import TrlTrainer
from tests.engines.test_trl_trainer import EXAMPLES, PAIRS, SETTINGS

SAVING = replace(SETTINGS, save_every_steps=2)
"""Nine steps of four pairs in three epochs: the second epoch begins in step 4."""


@pytest.fixture
def trainer() -> TrlTrainer:
    return TrlTrainer(device="cpu")


def stop_at(step: int, seen: list[TrainingEvent] | None = None):  # type: ignore[no-untyped-def]
    def interrupt(event: TrainingEvent) -> None:
        if seen is not None:
            seen.append(event)
        if isinstance(event, TrainingStep) and event.step == step:
            raise KeyboardInterrupt

    return interrupt


def steps_seen(events: list[TrainingEvent]) -> list[int]:
    return [event.step for event in events if isinstance(event, TrainingStep)]


@pytest.mark.parametrize(
    "changes", [{}, {"lora_rank": 4, "lora_dropout": 0.1}, {"precompute_reference_logprobs": True}]
)
def test_a_resumed_training_ends_as_if_nothing_had_happened(
    trainer: TrlTrainer, policy: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    settings = replace(SAVING, **changes)  # type: ignore[arg-type]
    whole: list[TrainingEvent] = []
    undisturbed = trainer.train(
        TrainingTask("dpo", policy, PAIRS, settings, tmp_path / "undisturbed"), whole.append
    )
    workspace, identity = tmp_path / "work", training_identity(policy, PAIRS, settings, trainer.layout)
    seen: list[TrainingEvent] = []
    with pytest.raises(KeyboardInterrupt):
        trainer.train(
            TrainingTask(
                "dpo", policy, PAIRS, settings, tmp_path / "M1", adopt_checkpoint(workspace, "a", identity)
            ),
            stop_at(5, seen),
        )
    assert [event for event in seen if isinstance(event, TrainingSaved)] == [
        TrainingSaved(2),
        TrainingSaved(4),
    ]
    assert not (tmp_path / "M1").exists()

    again: list[TrainingEvent] = []
    resume_point = adopt_checkpoint(workspace, "b", identity)
    resumed = trainer.train(
        TrainingTask("dpo", policy, PAIRS, settings, tmp_path / "M1", resume_point), again.append
    )

    assert isinstance(again[0], TrainingStart)
    assert again[0].resumed_at == 4
    assert steps_seen(again) == [5, 6, 7, 8, 9]
    assert fingerprint(resumed.checkpoint) == fingerprint(undisturbed.checkpoint)
    assert resumed.metrics == undisturbed.metrics
    tail = {event.step: event.metrics["loss"] for event in whole if isinstance(event, TrainingStep)}
    assert all(tail[e.step] == e.metrics["loss"] for e in again if isinstance(e, TrainingStep))


def test_fine_tuning_resumes_too(trainer: TrlTrainer, policy: Path, tmp_path: Path) -> None:
    undisturbed = trainer.train(TrainingTask("sft", policy, EXAMPLES, SAVING, tmp_path / "undisturbed"))
    identity = training_identity(policy, EXAMPLES, SAVING, trainer.layout)
    with pytest.raises(KeyboardInterrupt):
        trainer.train(
            TrainingTask(
                "sft",
                policy,
                EXAMPLES,
                SAVING,
                tmp_path / "M0",
                adopt_checkpoint(tmp_path / "work", "a", identity),
            ),
            stop_at(7),
        )

    resumed = trainer.train(
        TrainingTask(
            "sft",
            policy,
            EXAMPLES,
            SAVING,
            tmp_path / "M0",
            adopt_checkpoint(tmp_path / "work", "b", identity),
        )
    )

    assert fingerprint(resumed.checkpoint) == fingerprint(undisturbed.checkpoint)


_KILLED = """
import os, signal, sys
from pathlib import Path
from hsstar.engines.training.contract import TrainingStep, TrainingTask
from hsstar.engines.training.resume import adopt_checkpoint, training_identity
from hsstar.engines.training.trl import TrlTrainer
from tests.engines.test_resumed_training import PAIRS, SAVING
policy, work = map(Path, sys.argv[1:])
def die(event):
    if isinstance(event, TrainingStep) and event.step == 5:
        os.kill(os.getpid(), signal.SIGKILL)
trainer = TrlTrainer("cpu")
identity = training_identity(policy, PAIRS, SAVING, trainer.layout)
point = adopt_checkpoint(work / "work", "killed", identity)
trainer.train(TrainingTask("dpo", policy, PAIRS, SAVING, work / "M1", point), die)
"""


def test_a_killed_process_leaves_what_another_one_goes_on_from(
    trainer: TrlTrainer, policy: Path, tmp_path: Path
) -> None:
    root = Path(__file__).parents[2]
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(policy), str(tmp_path)], cwd=root)
    assert killed.returncode == -signal.SIGKILL
    identity = training_identity(policy, PAIRS, SAVING, trainer.layout)
    resume_point = adopt_checkpoint(tmp_path / "work", "next", identity)
    assert resume_point.checkpoint == tmp_path / "work" / "next" / "step-4"

    resumed = trainer.train(TrainingTask("dpo", policy, PAIRS, SAVING, tmp_path / "M1", resume_point))

    undisturbed = trainer.train(TrainingTask("dpo", policy, PAIRS, SETTINGS, tmp_path / "undisturbed"))
    assert fingerprint(resumed.checkpoint) == fingerprint(undisturbed.checkpoint)


def test_the_last_step_and_a_training_of_its_own_accord_are_not_saved(
    trainer: TrlTrainer, policy: Path, tmp_path: Path
) -> None:
    seen: list[TrainingEvent] = []
    resume_point = adopt_checkpoint(tmp_path / "work", "a", "of this training")
    trainer.train(
        TrainingTask(
            "dpo", policy, PAIRS, replace(SETTINGS, save_every_steps=3), tmp_path / "M1", resume_point
        ),
        seen.append,
    )
    assert [event.step for event in seen if isinstance(event, TrainingSaved)] == [3, 6]

    seen.clear()
    resume_point = adopt_checkpoint(tmp_path / "quick", "a", "of this training")
    trainer.train(TrainingTask("dpo", policy, PAIRS, SETTINGS, tmp_path / "M1", resume_point), seen.append)
    assert not any(isinstance(event, TrainingSaved) for event in seen), "a training of seconds needs none"

    seen.clear()
    resume_point = adopt_checkpoint(tmp_path / "none", "a", "of this training")
    trainer.train(
        TrainingTask(
            "dpo", policy, PAIRS, replace(SETTINGS, save_every_steps=0), tmp_path / "M1", resume_point
        ),
        seen.append,
    )
    assert not any(isinstance(event, TrainingSaved) for event in seen)


def test_a_checkpoint_that_cannot_be_read_is_removed_and_the_next_attempt_begins_anew(
    trainer: TrlTrainer, policy: Path, tmp_path: Path
) -> None:
    identity = training_identity(policy, PAIRS, SAVING, trainer.layout)
    with pytest.raises(KeyboardInterrupt):
        trainer.train(
            TrainingTask(
                "dpo",
                policy,
                PAIRS,
                SAVING,
                tmp_path / "M1",
                adopt_checkpoint(tmp_path / "work", "a", identity),
            ),
            stop_at(3),
        )
    (tmp_path / "work" / "a" / "step-2" / "optimizer.pt").write_bytes(b"broken")

    broken = adopt_checkpoint(tmp_path / "work", "b", identity)
    with pytest.raises(EngineError, match="could not resume from its intermediate checkpoint of step 2"):
        trainer.train(TrainingTask("dpo", policy, PAIRS, SAVING, tmp_path / "M1", broken))

    anew = adopt_checkpoint(tmp_path / "work", "c", identity)
    assert anew.checkpoint is None
    assert trainer.train(TrainingTask("dpo", policy, PAIRS, SAVING, tmp_path / "M1", anew)).steps == 9


def _checkpoint(resume_point: ResumePoint, step: int) -> None:
    written = resume_point.folder / WRITING / f"checkpoint-{step}"
    written.mkdir(parents=True)
    (written / "optimizer.pt").write_text(f"after step {step}")
    publish(resume_point, written, step)


def test_the_furthest_checkpoint_of_the_same_training_is_adopted(tmp_path: Path) -> None:
    first = adopt_checkpoint(tmp_path, "first", "this")
    _checkpoint(first, 2)
    _checkpoint(first, 10)
    assert [path.name for path in first.folder.glob("step-*")] == ["step-10"]
    _checkpoint(ResumePoint(tmp_path / "other", "another training"), 99)
    half = first.folder / WRITING / "checkpoint-12"
    half.mkdir()
    (half / "optimizer.pt").write_text("half")

    second = adopt_checkpoint(tmp_path, "second", "this")

    assert second.checkpoint == tmp_path / "second" / "step-10"
    assert (second.checkpoint / "optimizer.pt").read_text() == "after step 10"
    assert [path.name for path in tmp_path.iterdir()] == ["second"]
    clear_removed(second)
    assert {path.name for path in second.folder.iterdir()} == {"step-10", "removed"}
    assert not any((second.folder / "removed").iterdir())


def test_an_attempt_that_should_be_over_cannot_write_any_more(tmp_path: Path) -> None:
    late = adopt_checkpoint(tmp_path, "late", "this")
    _checkpoint(late, 1)
    written = late.folder / WRITING / "checkpoint-2"
    written.mkdir(parents=True)
    following = adopt_checkpoint(tmp_path, "next", "this")

    with pytest.raises(FileNotFoundError):
        publish(late, written, 2)
    assert following.checkpoint == tmp_path / "next" / "step-1"


@pytest.mark.parametrize(
    "changes", [{"learning_rate": 2e-3}, {"seed": 12}, {"beta": 0.2}, {"micro_batch_size": 4}]
)
def test_other_settings_are_another_training(policy: Path, changes: dict[str, float]) -> None:
    this = training_identity(policy, PAIRS, SETTINGS, "one process")
    other = replace(SETTINGS, **changes)  # type: ignore[arg-type]
    assert training_identity(policy, PAIRS, other, "one process") != this
    assert training_identity(policy, PAIRS, replace(SETTINGS, save_every_steps=7), "one process") == this


def test_other_data_another_policy_and_another_layout_are_another_training(
    policy: Path, llama_policy: Path
) -> None:
    named = {
        training_identity(policy, PAIRS, SETTINGS, "one process"),
        training_identity(policy, PAIRS[:-1], SETTINGS, "one process"),
        training_identity(policy, PAIRS[::-1], SETTINGS, "one process"),
        training_identity(policy, EXAMPLES, SETTINGS, "one process"),
        training_identity(llama_policy, PAIRS, SETTINGS, "one process"),
        training_identity(policy, PAIRS, SETTINGS, "2 processes"),
    }
    assert len(named) == 6


def test_weights_differ_where_training_has_happened(
    trainer: TrlTrainer, policy: Path, tmp_path: Path
) -> None:
    """The comparisons above would not notice a trainer that trains nothing."""
    trained = trainer.train(TrainingTask("dpo", policy, PAIRS, SETTINGS, tmp_path / "M1")).checkpoint
    before, after = load_file(policy / "model.safetensors"), load_file(trained / "model.safetensors")
    assert all((before[name] != after[name]).any() for name in before)
