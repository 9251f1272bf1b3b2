"""`hsstar train` and `hsstar data`: what they pass to a trainer, and what they say of its work."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from hsstar.checkpoints.resolve import resolve
from hsstar.domain.seeds import derived_seed
from hsstar.engines import registry
from hsstar.engines.training.contract import (
    ProgressCallback,
    TrainingExample,
    TrainingPair,
    TrainingReport,
    TrainingStart,
    TrainingStep,
    TrainingTask,
)
from hsstar.engines.training.resume import WRITING, publish
from tests.cli.conftest import CommandLine

DEMO = "builtin:demo-policy"
PAIRS = [{"prompt": f"p{n}", "chosen": f"c{n}", "rejected": f"r{n}"} for n in range(3)]
SOLUTIONS = [
    {"problem": "1+1=?", "solution": "One and one.\n\nSo \\boxed{2}", "answer": "2"},
    {"problem": "1+2=?", "solution": "\\boxed{3}", "answer": "3"},
    {"problem": "2+2=?", "solution": "", "answer": "4"},
]
METRICS = {"loss": 0.25, "learning_rate": 1e-3, "tokens_per_second": 1234.0}


class CopyingTrainer:
    """Copies the policy, in three steps, and remembers its tasks."""

    layout = "one process"
    tasks: ClassVar[list[TrainingTask]] = []
    resumed_at: ClassVar[int] = 0
    before_end: ClassVar[Callable[[], None]] = lambda: None

    def __init__(self, device: str) -> None:
        assert device == "auto"

    def train(self, task: TrainingTask, progress: ProgressCallback | None = None) -> TrainingReport:
        self.tasks.append(task)
        assert progress
        progress(TrainingStart(3, self.resumed_at, len(task.rows), 1, 2, {}))
        for step in (1, 2, 3):
            progress(TrainingStep(step, 3, METRICS))
        type(self).before_end()
        shutil.copytree(task.policy, task.output)
        return TrainingReport(
            task.output, len(task.rows), 1, 3, METRICS | {"left_out": 2.0, "last/loss": 0.125}
        )


@pytest.fixture(autouse=True)
def trainer(monkeypatch: pytest.MonkeyPatch) -> type[CopyingTrainer]:
    monkeypatch.setitem(registry.TRAINERS, "trl", f"{__name__}:CopyingTrainer")
    monkeypatch.setattr(CopyingTrainer, "tasks", [])
    return CopyingTrainer


def test_pairs_and_options_reach_the_trainer(cli: CommandLine, trainer: type[CopyingTrainer]) -> None:
    data, output = cli.file("pairs.jsonl", *PAIRS), cli.folder / "M1"
    changes = ("--set", "batch_size=8", "--set", "scheduler = linear", "--set", "loss_type='ipo'")
    command = ("train", "dpo", "--data", data, "--output", str(output))
    called = cli(*command, "--recipe", cli.recipe(), *changes, "--seed", "5")
    assert called.code == 0, called
    assert called.out == f"{output}: 3 rows, 1 of them cut, 2 left out, 3 steps, loss 0.25 (last 0.125)\n"
    assert called.err.splitlines() == [
        "beginning: 3 steps, 3 rows, 1 cut, 2 left out",
        "step 1/3  loss 0.2500  learning rate 1.00e-03  1,234 tokens/s",
        "step 3/3  loss 0.2500  learning rate 1.00e-03  1,234 tokens/s",
    ]
    (task,) = trainer.tasks
    assert (task.objective, task.policy) == ("dpo", resolve(DEMO))
    assert task.rows == [TrainingPair(**row) for row in PAIRS]
    settings = task.settings
    assert (settings.batch_size, settings.scheduler, settings.loss_type) == (8, "linear", "ipo")
    assert (settings.learning_rate, settings.beta, settings.maximum_tokens) == (1e-4, 0.5, 256)  # recipe's
    assert settings.seed == derived_seed(5, "train") % 2**31
    readme = (output / "README.md").read_text()
    assert f"| M1 | {DEMO} | by DPO on 3 rows of {data} in 3 optimiser steps | – |" in readme
    assert json.dumps(dataclasses.asdict(settings), indent=2) in readme
    assert Path(cli.recipe()).read_text().strip() in readme
    assert sorted(path.name for path in cli.folder.iterdir()) == ["M1", "pairs.jsonl", "recipe.toml"]
    assert "is not empty; give another folder" in cli.refused(*command, "--model", DEMO)

    again = ("train", "dpo", "--data", data, "--output", str(cli.folder / "M2"), "--model", DEMO)
    cli.ok(*again, "--seed", "6")
    assert trainer.tasks[-1].settings.seed == derived_seed(6, "train") % 2**31
    assert trainer.tasks[-1].settings.learning_rate == 5e-7
    live = cli(*again[:-3], str(cli.folder / "M3"), "--model", DEMO, terminal=True).err
    assert live.count("\r\x1b[Kstep ") == 3
    assert live.endswith(" tokens/s\n")


def test_solutions_and_options_reach_the_trainer(cli: CommandLine, trainer: type[CopyingTrainer]) -> None:
    data, output = cli.file("steps.jsonl", *SOLUTIONS), cli.folder / "M0"
    called = cli(
        "train", "init", "--data", data, "--model", DEMO, "--output", str(output), "--prompt", "bare"
    )
    assert called.code == 0, called
    assert "1 problems without a solution were left out" in called.err
    assert "1 solutions have one step only; see: hsstar data steps" in called.err
    (task,) = trainer.tasks
    assert (task.objective, task.policy) == ("sft", resolve(DEMO))
    assert task.rows == [TrainingExample(f"{row['problem']}\n", row["solution"]) for row in SOLUTIONS[:2]]
    assert task.settings.seed == derived_seed(0, "initialise") % 2**31
    assert (task.settings.learning_rate, task.settings.maximum_tokens) == (1e-6, 4096)
    readme = (output / "README.md").read_text()
    assert f"| M0 | {DEMO} | by supervised fine-tuning on 2 rows of {data} in 3 optimiser steps" in readme

    of_recipe = f'\n[initialisation]\nmodel = "{DEMO}"\ndata = "{data}"\nbatch_size = 3\n'
    recipe = Path(cli.recipe())
    recipe.write_text(recipe.read_text() + of_recipe)
    cli.ok("train", "init", "--recipe", str(recipe), "--output", str(cli.folder / "again"))
    assert trainer.tasks[-1].settings.batch_size == 3
    assert trainer.tasks[-1].rows == trainer.tasks[0].rows  # by the recipe's prompt
    cli.ok("train", "init", "--data", data, "--model", DEMO, "--output", str(cli.folder / "third"))
    row = trainer.tasks[-1].rows[0]
    assert isinstance(row, TrainingExample)
    assert row.prompt.startswith("Please reason step by step")


def test_an_interrupted_training_is_continued_and_not_mixed_with_another(
    cli: CommandLine, trainer: type[CopyingTrainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = cli.folder / "M1"
    command = (
        "train",
        "dpo",
        "--data",
        cli.file("pairs.jsonl", *PAIRS),
        "--model",
        DEMO,
        "--output",
        str(output),
    )

    def interrupt() -> None:
        assert "another process is training" in cli.refused(*command)
        point = trainer.tasks[-1].resume_point
        assert point
        (point.folder / WRITING).mkdir()
        publish(point, point.folder / WRITING, 1)
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "before_end", staticmethod(interrupt))
    called = cli(*command)
    assert called.code == 130
    assert "interrupted; the same command continues from the last intermediate checkpoint" in called.err
    assert not output.exists()
    monkeypatch.setattr(trainer, "before_end", staticmethod(lambda: None))
    message = cli.refused(*command, "--set", "beta=0.2")
    assert message.startswith(f"an interrupted training of {output} with other data or settings exists")
    monkeypatch.setattr(trainer, "resumed_at", 1)
    assert cli(*command).err.startswith("continuing from step 1: 3 steps, 3 rows, ")
    point = trainer.tasks[-1].resume_point
    assert point
    assert point.checkpoint == point.folder / "step-1"
    assert sorted(path.name for path in cli.folder.iterdir()) == ["M1", "pairs.jsonl"]


class LaunchedTrainer(CopyingTrainer):
    """Remembers how it was to be launched."""

    launched: ClassVar[list[tuple[int, Path | None]]] = []

    def __init__(self, processes: int, launch_config: Path | None, device: str) -> None:
        super().__init__(device)
        self.launched.append((processes, launch_config))


def test_several_processes_train_as_the_environment_says(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.TRAINERS, "trl-launched", f"{__name__}:LaunchedTrainer")
    config = cli.folder / "accelerate.yaml"
    config.touch()
    monkeypatch.setenv("HSSTAR_TRAIN_PROCESSES", "3")
    monkeypatch.setenv("HSSTAR_ACCELERATE_CONFIG", str(config))
    data = cli.file("pairs.jsonl", *PAIRS)
    cli.ok("train", "dpo", "--data", data, "--model", DEMO, "--output", str(cli.folder / "M1"))
    assert LaunchedTrainer.launched == [(3, config)]


def test_solutions_are_brought_into_steps_or_named_with_the_reason(cli: CommandLine) -> None:
    data = cli.file("d.jsonl", *({"problem": f"{n}=?", "solution": f"\\boxed{{{n}}}", "answer": str(n)}
                                 for n in range(14)), SOLUTIONS[0])  # fmt: skip
    output, refused = cli.folder / "steps.jsonl", cli.folder / "refused.jsonl"
    called = cli(
        "data", "steps", data, "--format", "math", "--output", str(output), "--refused", str(refused)
    )
    assert (called.code, called.out) == (0, "")
    said = called.err.splitlines()
    assert said[0] == "1 solutions in steps, 14 left out"
    assert said[1].startswith("  one step only: 14 (1, 2, 3, ")
    assert said[1].endswith("12 and 2 more (--refused FILE names all))")
    (row,) = map(json.loads, output.read_text().splitlines())
    assert row["query"] == "1+1=?"
    assert row["resp"].split("\n\n")[0] == "One and one."
    reasons: list[dict[str, Any]] = [json.loads(line) for line in refused.read_text().splitlines()]
    assert [row["reason"] for row in reasons] == ["one step only"] * 14
    assert cli.ok("data", "steps", data) == output.read_text()
