"""A training that is cut off goes on from its last whole checkpoint, to the same result."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hsstar.checkpoints.resolve import fingerprint
from hsstar.domain.errors import EngineError
from hsstar.engines.training.contract import ResumePoint, TrainingEvent, TrainingStep
from hsstar.engines.training.resume import (
    WRITING,
    adopt_checkpoint,
    clear_removed,
    of_another_training,
    publish,
)
from tests.engines.trainings import EXAMPLES, PAIRS, SAVING, SETTINGS, Events, Train, identity_of

Attempt = Callable[..., ResumePoint]


@pytest.fixture
def attempt(tmp_path: Path, policy: Path) -> Attempt:
    """Begins an attempt by name at the training that settings and rows say."""
    return lambda name, *training: adopt_checkpoint(tmp_path / "work", name, identity_of(policy, *training))


@pytest.mark.parametrize(
    ("rows", "changes"),
    [
        (PAIRS, {}),
        (PAIRS, {"lora_rank": 4, "lora_dropout": 0.1}),
        (PAIRS, {"precompute_reference_logprobs": True}),
        (EXAMPLES, {}),
    ],
)
def test_a_resumed_training_ends_as_if_nothing_had_happened(
    train: Train, attempt: Attempt, tmp_path: Path, rows: Any, changes: dict[str, Any]
) -> None:
    settings = replace(SAVING, **changes)
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


_OFFLINE = """
import os, socket, sys
def refuse(*address, **_): os._exit(3)
socket.getaddrinfo = socket.socket.connect = refuse
from hsstar.engines.training.trl import TrlTrainer
from tests.engines.trainings import die_in_training
die_in_training(*sys.argv[1:], TrlTrainer("cpu"))
"""


def test_a_killed_process_has_contacted_nobody_and_leaves_what_another_one_goes_on_from(
    train: Train, attempt: Attempt, policy: Path, tmp_path: Path
) -> None:
    online = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    command = [sys.executable, "-c", _OFFLINE, str(tmp_path), str(policy)]
    killed = subprocess.run(command, env=online, cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL
    point = attempt("next")
    assert point.checkpoint == tmp_path / "work" / "next" / "step-4"
    resumed = train(settings=SAVING, resume_point=point)
    assert fingerprint(resumed.checkpoint) == fingerprint(train("undisturbed").checkpoint)


@pytest.mark.parametrize(
    ("every", "saved"),
    [(3, [3, 6]), (0, []), pytest.param(None, [], id="None: a training of seconds needs none")],
)
def test_the_last_step_is_not_saved_and_what_lies_between_as_the_settings_say(
    train: Train, attempt: Attempt, every: int | None, saved: list[int]
) -> None:
    seen = Events()
    settings = replace(SETTINGS, save_every_steps=every)
    train(settings=settings, progress=seen.append, resume_point=attempt("a"))
    assert seen.saved == saved


def test_a_checkpoint_that_cannot_be_read_is_removed_and_the_next_attempt_begins_anew(
    train: Train, attempt: Attempt, tmp_path: Path
) -> None:
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


def test_other_settings_other_data_another_policy_and_another_layout_are_another_training(
    policy: Path, llama_policy: Path
) -> None:
    changes: list[dict[str, Any]] = [
        {}, {"learning_rate": 2e-3}, {"seed": 12}, {"beta": 0.2}, {"micro_batch_size": 4},
    ]  # fmt: skip
    identities = {
        *(identity_of(policy, settings=replace(SAVING, **change)) for change in changes),
        *(identity_of(policy, rows) for rows in (PAIRS[:-1], PAIRS[::-1], EXAMPLES)),
        identity_of(llama_policy),
        identity_of(policy, layout="2 processes"),
    }
    assert len(identities) == 10
    assert identity_of(policy, settings=replace(SAVING, save_every_steps=7)) == identity_of(policy)
