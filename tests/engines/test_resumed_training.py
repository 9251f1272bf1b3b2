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
    Intermediate,
    TrainingEvent,
    TrainingSaved,
    TrainingStart,
    TrainingStep,
)
from hsstar.engines.training.resume import (
    WRITING,
    clear_removed,
    publish,
    take_over,
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
    undisturbed = trainer.dpo(policy, PAIRS, settings, tmp_path / "undisturbed", whole.append)
    workspace, identity = tmp_path / "work", training_identity(policy, PAIRS, settings, trainer.layout)
    seen: list[TrainingEvent] = []
    with pytest.raises(KeyboardInterrupt):
        trainer.dpo(
            policy, PAIRS, settings, tmp_path / "M1", stop_at(5, seen), take_over(workspace, "a", identity)
        )
    assert [event for event in seen if isinstance(event, TrainingSaved)] == [
        TrainingSaved(2),
        TrainingSaved(4),
    ]
    assert not (tmp_path / "M1").exists()

    again: list[TrainingEvent] = []
    intermediate = take_over(workspace, "b", identity)
    resumed = trainer.dpo(policy, PAIRS, settings, tmp_path / "M1", again.append, intermediate)

    assert isinstance(again[0], TrainingStart)
    assert again[0].resumed_at == 4
    assert steps_seen(again) == [5, 6, 7, 8, 9]
    assert fingerprint(resumed.checkpoint) == fingerprint(undisturbed.checkpoint)
    assert resumed.metrics == undisturbed.metrics
    tail = {event.step: event.metrics["loss"] for event in whole if isinstance(event, TrainingStep)}
    assert all(tail[e.step] == e.metrics["loss"] for e in again if isinstance(e, TrainingStep))


def test_fine_tuning_resumes_too(trainer: TrlTrainer, policy: Path, tmp_path: Path) -> None:
    undisturbed = trainer.sft(policy, EXAMPLES, SAVING, tmp_path / "undisturbed")
    identity = training_identity(policy, EXAMPLES, SAVING, trainer.layout)
    with pytest.raises(KeyboardInterrupt):
        trainer.sft(
            policy, EXAMPLES, SAVING, tmp_path / "M0", stop_at(7), take_over(tmp_path / "work", "a", identity)
        )

    resumed = trainer.sft(
        policy, EXAMPLES, SAVING, tmp_path / "M0", None, take_over(tmp_path / "work", "b", identity)
    )

    assert fingerprint(resumed.checkpoint) == fingerprint(undisturbed.checkpoint)


_KILLED = """
import os, signal, sys
from pathlib import Path
from hsstar.engines.training.contract import TrainingStep
from hsstar.engines.training.resume import take_over, training_identity
from hsstar.engines.training.trl import TrlTrainer
from tests.engines.test_resumed_training import PAIRS, SAVING
policy, work = map(Path, sys.argv[1:])
def die(event):
    if isinstance(event, TrainingStep) and event.step == 5:
        os.kill(os.getpid(), signal.SIGKILL)
trainer = TrlTrainer("cpu")
identity = training_identity(policy, PAIRS, SAVING, trainer.layout)
trainer.dpo(policy, PAIRS, SAVING, work / "M1", die, take_over(work / "work", "killed", identity))
"""


def test_a_killed_process_leaves_what_another_one_goes_on_from(
    trainer: TrlTrainer, policy: Path, tmp_path: Path
) -> None:
    root = Path(__file__).parents[2]
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(policy), str(tmp_path)], cwd=root)
    assert killed.returncode == -signal.SIGKILL
    identity = training_identity(policy, PAIRS, SAVING, trainer.layout)
    intermediate = take_over(tmp_path / "work", "next", identity)
    assert intermediate.resume_from == tmp_path / "work" / "next" / "step-4"

    resumed = trainer.dpo(policy, PAIRS, SAVING, tmp_path / "M1", None, intermediate)

    undisturbed = trainer.dpo(policy, PAIRS, SETTINGS, tmp_path / "undisturbed")
    assert fingerprint(resumed.checkpoint) == fingerprint(undisturbed.checkpoint)


def test_the_last_step_and_a_training_of_its_own_accord_are_not_saved(
    trainer: TrlTrainer, policy: Path, tmp_path: Path
) -> None:
    seen: list[TrainingEvent] = []
    intermediate = take_over(tmp_path / "work", "a", "of this training")
    trainer.dpo(
        policy, PAIRS, replace(SETTINGS, save_every_steps=3), tmp_path / "M1", seen.append, intermediate
    )
    assert [event.step for event in seen if isinstance(event, TrainingSaved)] == [3, 6]

    seen.clear()
    intermediate = take_over(tmp_path / "quick", "a", "of this training")
    trainer.dpo(policy, PAIRS, SETTINGS, tmp_path / "M1", seen.append, intermediate)
    assert not any(isinstance(event, TrainingSaved) for event in seen), "a training of seconds needs none"

    seen.clear()
    intermediate = take_over(tmp_path / "none", "a", "of this training")
    trainer.dpo(
        policy, PAIRS, replace(SETTINGS, save_every_steps=0), tmp_path / "M1", seen.append, intermediate
    )
    assert not any(isinstance(event, TrainingSaved) for event in seen)


def test_a_checkpoint_that_cannot_be_read_is_removed_and_the_next_attempt_begins_anew(
    trainer: TrlTrainer, policy: Path, tmp_path: Path
) -> None:
    identity = training_identity(policy, PAIRS, SAVING, trainer.layout)
    with pytest.raises(KeyboardInterrupt):
        trainer.dpo(
            policy, PAIRS, SAVING, tmp_path / "M1", stop_at(3), take_over(tmp_path / "work", "a", identity)
        )
    (tmp_path / "work" / "a" / "step-2" / "optimizer.pt").write_bytes(b"broken")

    broken = take_over(tmp_path / "work", "b", identity)
    with pytest.raises(EngineError, match="could not go on from its intermediate checkpoint of step 2"):
        trainer.dpo(policy, PAIRS, SAVING, tmp_path / "M1", None, broken)

    anew = take_over(tmp_path / "work", "c", identity)
    assert anew.resume_from is None
    assert trainer.dpo(policy, PAIRS, SAVING, tmp_path / "M1", None, anew).steps == 9


def _checkpoint(intermediate: Intermediate, step: int) -> None:
    written = intermediate.folder / WRITING / f"checkpoint-{step}"
    written.mkdir(parents=True)
    (written / "optimizer.pt").write_text(f"after step {step}")
    publish(intermediate, written, step)


def test_the_furthest_checkpoint_of_the_same_training_is_taken_over(tmp_path: Path) -> None:
    first = take_over(tmp_path, "first", "this")
    _checkpoint(first, 2)
    _checkpoint(first, 10)
    assert [path.name for path in first.folder.glob("step-*")] == ["step-10"]
    _checkpoint(Intermediate(tmp_path / "other", "another training"), 99)
    half = first.folder / WRITING / "checkpoint-12"
    half.mkdir()
    (half / "optimizer.pt").write_text("half")

    second = take_over(tmp_path, "second", "this")

    assert second.resume_from == tmp_path / "second" / "step-10"
    assert (second.resume_from / "optimizer.pt").read_text() == "after step 10"
    assert [path.name for path in tmp_path.iterdir()] == ["second"]
    clear_removed(second)
    assert {path.name for path in second.folder.iterdir()} == {"step-10", "removed"}
    assert not any((second.folder / "removed").iterdir())


def test_an_attempt_that_should_be_over_cannot_write_any_more(tmp_path: Path) -> None:
    late = take_over(tmp_path, "late", "this")
    _checkpoint(late, 1)
    written = late.folder / WRITING / "checkpoint-2"
    written.mkdir(parents=True)
    following = take_over(tmp_path, "next", "this")

    with pytest.raises(FileNotFoundError):
        publish(late, written, 2)
    assert following.resume_from == tmp_path / "next" / "step-1"


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
    trained = trainer.dpo(policy, PAIRS, SETTINGS, tmp_path / "M1").checkpoint
    before, after = load_file(policy / "model.safetensors"), load_file(trained / "model.safetensors")
    assert all((before[name] != after[name]).any() for name in before)
