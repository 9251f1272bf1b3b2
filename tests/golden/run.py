"""A small run with the demo's models, as rows that are the same on every machine.

Commands, stages, conductor, verifier, policy and reward model are the real ones, in float32 on one thread of
a CPU. The training is not: Adam turns the last bits of a gradient, which differ between kinds of CPU, into
other weights. Instead the last layer norm is scaled by a factor that follows from the training's data.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from hsstar.commands.runs import create_run, start_iterations
from hsstar.demo import RECIPE
from hsstar.demo.problems import import_demo_problems
from hsstar.engines.registry import build_reward_model, build_sampler
from hsstar.engines.training.contract import ProgressCallback, TrainingReport, TrainingTask
from hsstar.recipe.recipe import load_recipe
from hsstar.stages.engine_pool import EnginePool
from hsstar.store.database import Database
from hsstar.verifier import MathVerifier
from tests.store.driver import Driver

Rows = dict[str, list[list[Any]]]
GOLDEN = Path(__file__).with_name("rows.json")
ITERATIONS = 2
_RECIPE = {
    "seed": 11,
    "problems": {"dataset": "train", "per_iteration": 20},
    "sampling": {"n": 4, "n_p": 2, "temperature": 0.7, "top_p": 0.95, "max_new_tokens": 75},
    "evaluation": {
        "dataset": "heldout",
        "problems": 5,
        "samples": 2,
        "temperature": 0.6,
        "max_new_tokens": 99,
    },
}


class ScalingTrainer:
    """Scales the policy's last layer norm by a factor between 1 and 2 that follows from the task."""

    layout = "one process"

    def train(self, task: TrainingTask, progress: ProgressCallback | None = None) -> TrainingReport:
        digest = hashlib.sha256(repr((task.objective, task.settings.seed, *task.rows)).encode()).digest()
        shutil.copytree(task.policy, task.output)
        weights = load_file(task.policy / "model.safetensors")
        weights["model.norm.weight"] *= 1 + digest[0] / 256
        save_file(weights, task.output / "model.safetensors", {"format": "pt"})
        return TrainingReport(task.output, len(task.rows), 0, 1)


def golden_rows(database: Database, folder: Path) -> Rows:
    """Make the run in an empty database, with its policies in a folder, and return its rows by table."""
    recipe = load_recipe(RECIPE, _RECIPE)
    import_demo_problems(database, recipe, ITERATIONS)
    run = create_run(database, recipe, "golden")
    start_iterations(database, run, ITERATIONS)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with MathVerifier(1) as verifier:
        engines = EnginePool(
            lambda location, recipe: build_sampler(location, device="cpu", dtype="float32"),
            lambda location, section: build_reward_model(location, device="cpu", dtype="float32"),
            lambda settings: verifier,
            ScalingTrainer,
        )
        driver = Driver(database, run, engines, folder, 32)
        driver.work()
    torch.set_num_threads(threads)
    assert driver.states() == ["done"] * ITERATIONS
    return driver.tables()


def as_json(tables: Rows) -> str:
    """Write a row a line, so that a change can be read."""
    written = [
        f"{json.dumps(name)}: [\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]"
        for name, rows in tables.items()
    ]
    return "{" + ",\n".join(written) + "}\n"
