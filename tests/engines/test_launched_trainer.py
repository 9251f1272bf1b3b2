"""The same training in two processes, as on a machine with two GPUs."""

from dataclasses import replace
from pathlib import Path

import pytest

from hsstar.domain.errors import EngineError
from hsstar.engines.checkpoints import check_policy
from hsstar.engines.launched_trainer import LaunchedTrainer
from hsstar.engines.registry import build_trainer
from tests.engines.test_trl_trainer import PAIRS, SETTINGS


def test_two_processes_train_one_policy(policy: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    trainer = build_trainer(device="cpu", processes=2)

    report = trainer.dpo(
        policy, PAIRS, SETTINGS, tmp_path / "M1", lambda done, total: seen.append((done, total))
    )

    assert (report.checkpoint, report.examples, report.steps) == (tmp_path / "M1", 12, 9)
    assert report.metrics["last/rewards/margins"] > 0.5
    assert seen == [(step, 9) for step in range(1, 10)]
    assert check_policy(report.checkpoint).family == "policy"
    assert list(tmp_path.iterdir()) == [report.checkpoint]


def test_a_failure_of_the_processes_says_why(policy: Path, tmp_path: Path) -> None:
    trainer = LaunchedTrainer(1, device="cpu")

    with pytest.raises(EngineError, match="every prompt fills the 3 tokens"):
        trainer.dpo(policy, PAIRS, replace(SETTINGS, maximum_tokens=3), tmp_path / "M1")
    assert list(tmp_path.iterdir()) == []
