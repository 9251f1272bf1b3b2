"""Where policies come from, as the rows say."""

from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from hsstar.checkpoints.resolve import fingerprint
from hsstar.commands.export_model import export_model
from hsstar.domain.errors import BadInputError, CheckpointError, ConflictError, NotFoundError
from hsstar.domain.lifecycle import JobKind
from hsstar.store import datasets, evaluations, models, training
from hsstar.store.database import Database
from hsstar.store.evaluations import EvaluationSpec
from hsstar.store.read.lineage import ancestry, lineage
from hsstar.store.runs import Run
from tests.engines import tiny
from tests.store.factory import HELDOUT, add_iteration, add_job, add_problems, add_run, claim, make_recipe


def train(connection: Connection, run: Run, number: int, parent: models.Model) -> models.Model:
    """An iteration of a run that has made a policy of another one, on two pairs."""
    iteration = add_iteration(connection, run, [], number)
    job = claim(connection, add_job(connection, iteration.id, JobKind.TRAIN))
    record = training.begin_training(connection, job, parent.id, "dpo", {"beta": 0.1}, [7, 9])
    name = f"{run.name}-M{number + 1}"
    made = models.register_model(connection, name, f"/models/{name}", f"weights of {name}", parent.id)
    training.finish_training(connection, record, made.id, 0, 5, {"loss": 0.5})
    return made


def evaluate(connection: Connection, run: Run, number: int, model: models.Model, accuracy: float) -> None:
    spec = EvaluationSpec("heldout", datasets.ensure_dataset(connection, HELDOUT), 1, None)
    added = evaluations.add_evaluation(connection, run.id, number, model.id, spec)
    finished = "UPDATE evaluations SET accuracy = :accuracy, standard_error = 0.01, finished_at = now()"
    connection.execute(text(f"{finished} WHERE round_id = :id"), {"accuracy": accuracy, "id": added.id})


@pytest.fixture
def tree(connection: Connection) -> Connection:
    """M0 → a-M1 → a-M2, M0 → b-M1, and a policy that nothing comes from."""
    add_problems(connection, 1)
    first = add_run(connection, make_recipe(evaluation={"dataset": "heldout"}), "a")
    second = add_run(connection, name="b")
    start = models.find_model(connection, "M0")
    middle = train(connection, first, 0, start)
    train(connection, first, 1, middle)
    train(connection, second, 0, start)
    models.register_model(connection, "other", "/models/other", "other weights")
    evaluate(connection, first, 0, start, 0.5)
    evaluate(connection, first, 1, middle, 0.625)
    return connection


def test_every_policy_stands_behind_its_parent(tree: Connection) -> None:
    found = lineage(tree)
    assert [(entry.depth, entry.name, entry.parent) for entry in found] == [
        (0, "M0", None),
        (1, "a-M1", "M0"),
        (2, "a-M2", "a-M1"),
        (1, "b-M1", "M0"),
        (0, "other", None),
    ]
    start, made = found[:2]
    assert (start.run, start.items, [str(score) for score in start.scores]) == (
        None,
        None,
        ["heldout 0.500 ± 0.010"],
    )
    assert (made.run, made.iteration, made.objective, made.items, made.steps) == ("a", 0, "dpo", 2, 5)
    assert made.settings == {"beta": 0.1}
    assert made.recipe is not None
    assert [str(score) for score in made.scores] == ["heldout 0.625 ± 0.010"]


def test_a_name_leaves_ancestors_and_descendants(tree: Connection) -> None:
    assert [entry.name for entry in lineage(tree, "a-M1")] == ["M0", "a-M1", "a-M2"]
    assert [entry.name for entry in lineage(tree, "b-M1")] == ["M0", "b-M1"]
    assert [entry.name for entry in ancestry(tree, "a-M1")] == ["M0", "a-M1"]
    with pytest.raises(NotFoundError, match="there is no model 'c'"):
        lineage(tree, "c")


def test_a_policy_is_exported_whole_or_not(database: Database, tmp_path: Path) -> None:
    source = tiny.tiny_policy(tmp_path / "source")
    with database.begin() as connection:
        models.register_model(connection, "M0", str(source), fingerprint(source))
    target = tmp_path / "deep" / "taken"

    assert export_model(database, "M0", target) == target
    assert fingerprint(target) == fingerprint(source)
    assert {file.name for file in target.iterdir()} == {
        *(file.name for file in source.iterdir()),
        "README.md",
    }
    assert f"registered from {source}" in (target / "README.md").read_text()
    with pytest.raises(ConflictError, match="not an empty folder"):
        export_model(database, "M0", target)
    (tmp_path / "empty").mkdir()
    export_model(database, "M0", tmp_path / "empty")
    with pytest.raises(NotFoundError):
        export_model(database, "M7", tmp_path / "other")
    with pytest.raises(BadInputError, match="cannot write"):
        export_model(database, "M0", source / "config.json" / "below")

    tiny.tiny_policy(source, seed=5)
    with pytest.raises(CheckpointError, match="no longer holds the weights"):
        export_model(database, "M0", tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "empty", "source"]
