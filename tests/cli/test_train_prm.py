"""`hsstar train prm`: what it draws, what it hands to the trainer, and what it says of the result."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from hsstar.checkpoints.resolve import resolve
from hsstar.domain.steps import split_steps
from hsstar.engines import registry
from hsstar.engines.rewards.contract import RewardRequest, StepRewards
from hsstar.engines.training import contract
from hsstar.engines.training.contract import TrainingSteps
from tests.cli.conftest import CommandLine, enqueue, interrupt, let_time_pass, working
from tests.store.factory import add_problems

METRICS = {"loss": 0.5, "learning_rate": 1e-3, "tokens_per_second": 10.0, "left_out": 0.0, "last/loss": 0.25}


class RewardModelCopier:
    """Makes the demo's reward model of every policy, and remembers its tasks."""

    layout = "one process"
    tasks: ClassVar[list[contract.TrainingTask]] = []

    def __init__(self, device: str) -> None:
        assert device == "auto"

    def train(
        self, task: contract.TrainingTask, progress: contract.ProgressCallback | None = None
    ) -> contract.TrainingReport:
        self.tasks.append(task)
        shutil.copytree(resolve("builtin:demo-prm"), task.output)
        return contract.TrainingReport(task.output, len(task.rows), 0, 3, METRICS)


class KnowingRewardModel:
    """Finds every step good but the last one of a wrong response; the number of a problem is its answer."""

    name = "knowing 1"

    def __init__(self, folder: Path, **options: object) -> None:
        assert (folder / "README.md").exists() is False  # it is scored before it is in its place

    def score(self, requests: Sequence[RewardRequest]) -> list[StepRewards]:
        right = [f"{{{of.problem.split()[-1]}}}" in of.steps[-1] for of in requests]
        return [StepRewards((0.75, 0.75 if one else 0.25)) for one in right]

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def trainer(monkeypatch: pytest.MonkeyPatch) -> type[RewardModelCopier]:
    monkeypatch.setitem(registry.TRAINERS, "trl", f"{__name__}:RewardModelCopier")
    monkeypatch.setitem(registry.REWARD_MODELS, "skywork", f"{__name__}:KnowingRewardModel")
    monkeypatch.setattr(RewardModelCopier, "tasks", [])
    return RewardModelCopier


TRAIN = ("train", "prm", "--run", "r", "--continuations", "3", "--responses", "2", "--held-out", "0.4")


REWARD_OF_STEPS = """
name = "with-prm"
problems = { dataset = "train", per_iteration = 2 }
policy = { model = "builtin:demo-policy", prompt = "bare" }
reward = { model = "prm" }
steps = { rule = "sentence" }
"""


@pytest.mark.slow
def test_a_reward_model_is_made_of_labelled_steps_and_measured_on_held_out_problems(
    cli: CommandLine, trainer: type[RewardModelCopier]
) -> None:
    enqueue(cli)
    cli.worker().work()
    with working(cli):
        said = cli.ok(*TRAIN, "--output", "prm", "--set", "batch_size=4", "--set", "epochs=2")
    assert "step labels of 2 responses by 3 continuations" in said
    assert "prm: 8 rows, 0 of them cut, 0 left out, 3 steps, loss 0.5 (last 0.25)" in said
    assert re.search(r"problems, responses, steps +2, 4, 8 *$", said, re.MULTILINE)
    assert re.search(r"AUC of the minimum reward for the verdict +1.000 *$", said, re.MULTILINE)
    assert re.search(r"the same within problems +– *$", said, re.MULTILINE)  # each has one verdict
    assert re.search(r"^0.7–0.8 .* 0.750 ", said, re.MULTILINE)
    (task,) = trainer.tasks
    settings = task.settings
    assert (task.objective, task.policy) == ("prm", cli.checkpoint)
    assert (settings.batch_size, settings.epochs, settings.learning_rate) == (4, 2, 1e-5)
    learned = {row.problem for row in task.rows if isinstance(row, TrainingSteps)}
    assert len(learned) == 4
    for row in task.rows:
        assert isinstance(row, TrainingSteps)
        assert (row.steps, row.labels) in expected_rows(cli, row.problem)
    readme = (cli.folder / "prm" / "README.md").read_text()
    assert "| AUC of the minimum reward for the verdict |" in readme
    assert "on 8 responses of iteration 0 of the run r, each step labelled by 3 continuations" in readme
    recipe = cli.folder / "of-steps.toml"
    recipe.write_text(REWARD_OF_STEPS)
    assert 'prm: it was trained on other steps; set steps = { rule = "blank-line" }' in cli.refused(
        "runs", "create", str(recipe)
    )
    refusal = cli.refused(*TRAIN, "--output", "prm")
    assert "prm is not empty; give another folder, or remove it" in refusal
    samples = "SELECT count(*) FROM samples"
    before = cli.rows(samples)
    cli.ok(*TRAIN, "--output", "again", "--seed", "9")  # no worker: nothing is drawn
    assert cli.rows(samples) == before
    again = trainer.tasks[-1]
    assert again.settings.seed != settings.seed
    assert {row.problem for row in again.rows if isinstance(row, TrainingSteps)} != learned


def expected_rows(cli: CommandLine, statement: str) -> list[tuple[Any, Any]]:
    """Steps and labels of a problem's responses, from the rows of samples alone."""
    query = f"""
        SELECT response, verdict = 'correct' FROM samples JOIN rounds ON rounds.id = round_id
        JOIN problems ON problems.id = problem_id JOIN sample_responses ON sample_id = samples.id
        WHERE statement = '{statement}' AND slot < 2 AND kind = 'iteration'
    """
    continued = cli.rows(query.replace("slot < 2 AND kind = 'iteration'", "kind = 'steps'"))
    found = []
    for response, correct in cli.rows(query):
        first, _ = steps = split_steps(response)
        own = [verdict for text, verdict in continued if text.startswith(f"{first}\n\n")]
        assert len(own) == 3
        found.append((steps, (sum(own) / 3, float(correct))))
    return found


def test_what_cannot_be_trained_on_is_refused_in_a_line(cli: CommandLine, tmp_path: Path) -> None:
    assert "there is no run 'r'" in cli.refused(*TRAIN, "--output", "prm")
    enqueue(cli)
    assert cli.refused(*TRAIN, "--output", "prm") == "no iteration of run 'r' is done; see: hsstar status r"
    named = (*TRAIN, "--output", "prm", "--iteration")
    assert cli.refused(*named, "0") == "iteration 0 of run 'r' is not done; see: hsstar status r"
    assert cli.refused(*named, "1") == "run 'r' has no iteration 1"
    for key in ("lora_rank=2", "quantization=4bit", "sharding=fsdp2"):
        assert "--set: " in cli.refused(*TRAIN, "--output", "prm", "--set", key)
    (tmp_path / "file").touch()
    assert "is a file; give the folder" in cli.refused(*TRAIN, "--output", "file")
    assert cli.rows("SELECT count(*) FROM rounds") == [(1,)]


def test_an_interrupted_view_leaves_the_drawing_to_the_workers(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch, trainer: type[RewardModelCopier]
) -> None:
    enqueue(cli)
    cli.worker().work()
    let_time_pass(monkeypatch, "hsstar.cli.views.progress", interrupt)
    called = cli(*TRAIN, "--output", "prm")
    assert called.code == 130
    assert "the workers go on; the same command continues when the steps are labelled" in called.err
    assert trainer.tasks == []
    cli.worker().work()
    assert "3 steps, loss 0.5" in cli.ok(*TRAIN, "--output", "prm")


@pytest.mark.slow
def test_the_shared_iteration_of_a_fork_is_labelled_where_it_belongs(
    cli: CommandLine, trainer: type[RewardModelCopier]
) -> None:
    with cli.database.begin() as connection:
        add_problems(connection, 8, "demo-train")
        add_problems(connection, 5, "demo-heldout")
    small = ("--set", "sampling.n=4", "--set", "sampling.n_p=2")
    cli.ok("runs", "create", cli.recipe(), "--name", "r", *small)
    cli.ok("iterate", "r")
    cli.worker().work()
    cli.ok("runs", "fork", "r", "--from", "1", "--name", "f")
    with working(cli):
        cli.ok(*TRAIN[:3], "f", *TRAIN[4:], "--output", "of-fork")
    owners = "SELECT DISTINCT runs.name FROM rounds JOIN runs ON runs.id = run_id WHERE kind = 'steps'"
    assert cli.rows(owners) == [("r",)]
    ((drawn,),) = cli.rows("SELECT count(*) FROM samples")
    cli.ok(*TRAIN, "--output", "of-run")  # the labels are there
    assert cli.rows("SELECT count(*) FROM samples") == [(drawn,)]
    mine, its = trainer.tasks
    assert mine.rows == its.rows
