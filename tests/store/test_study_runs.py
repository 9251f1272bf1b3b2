"""How a study makes its runs: so many at once, nothing twice, on with what is there. No worker is up here."""

from pathlib import Path

import pytest

from hsstar.domain.errors import ConflictError
from hsstar.domain.lifecycle import IterationState, JobState
from hsstar.store import datasets, rounds, runs
from hsstar.store.database import Database
from hsstar.study import run as running
from hsstar.study.document import Study, load_study
from tests.store.factory import add_job

STUDY = (Path(__file__).parent / "study.toml").read_text()


def study(folder: Path, old: str = "", new: str = "") -> Study:
    (folder / "s.toml").write_text(STUDY.replace(old, new) if old else STUDY)
    return load_study(folder / "s.toml")


@pytest.fixture
def found(database: Database, tmp_path: Path) -> Study:
    """The study, with its problems."""
    found = study(tmp_path)
    running.prepare_problems(database, found)
    return found


def made(database: Database) -> list[str]:
    with database.begin() as connection:
        return [run.name for run in runs.list_runs(connection)]


def finish(database: Database, run: str, *, all_but: int = 0) -> None:
    """Says that the iterations of a run are done, whatever was drawn."""
    with database.begin() as connection:
        iterations = rounds.list_iterations(connection, runs.find_run(connection, run).id)
        for iteration in iterations[: len(iterations) - all_but]:
            rounds.set_state(connection, iteration.round.id, IterationState.DONE)


def test_problems_are_made_once_and_never_grow(database: Database, tmp_path: Path) -> None:
    for _ in range(2):
        running.prepare_problems(database, study(tmp_path))
        with database.begin() as connection:
            sizes = {found.name: found.problems for found in datasets.list_datasets(connection)}
        assert sizes == {"s-train": 8, "s-heldout": 8}
    with pytest.raises(ConflictError, match="'s-heldout' holds 8 problems, the study asks for 9"):
        running.prepare_problems(database, study(tmp_path, "problems = 8", "problems = 9"))


def test_runs_follow_each_other_seed_by_seed(database: Database, found: Study) -> None:
    for _ in range(2):
        states = running.advance(database, found, at_once=1)
        assert made(database) == ["s-HS-STaR-0"]
        assert (states["s-HS-STaR-0"].iterations, states["s-HS-STaR-0"].done) == (2, 0)
    finish(database, "s-HS-STaR-0", all_but=1)
    running.advance(database, found, at_once=1)
    assert made(database) == ["s-HS-STaR-0"]
    finish(database, "s-HS-STaR-0")
    running.advance(database, found, at_once=2)
    assert made(database) == ["s-HS-STaR-0", "s-uniform-0", "s-HS-STaR-1"]


def test_seeds_count_when_all_their_strategies_are_done(database: Database, found: Study) -> None:
    running.advance(database, found, at_once=4)
    for run in ("s-HS-STaR-1", "s-uniform-1", "s-HS-STaR-0"):
        finish(database, run)
    states = running.advance(database, found, at_once=4)
    assert running.complete_seeds(found, states) == [1]
    assert not running.finished(found, states)
    finish(database, "s-uniform-0")
    assert running.finished(found, running.advance(database, found, at_once=4))


def test_a_run_that_is_stuck_makes_room_and_is_named_in_the_end(database: Database, found: Study) -> None:
    running.advance(database, found, at_once=1)
    with database.begin() as connection:
        first, _ = rounds.list_iterations(connection, runs.find_run(connection, "s-HS-STaR-0").id)
        add_job(connection, first.round.id, state=JobState.FAILED)
    states = running.advance(database, found, at_once=1)
    assert made(database) == ["s-HS-STaR-0", "s-uniform-0"]
    assert running.stuck_runs(found, states) == []
    for run in ("s-uniform-0", "s-HS-STaR-1", "s-uniform-1"):
        finish(database, run)
        states = running.advance(database, found, at_once=1)
    assert running.stuck_runs(found, states) == ["s-HS-STaR-0"]


def test_more_seeds_and_iterations_may_come_later_but_no_other_recipe(
    database: Database, tmp_path: Path, found: Study
) -> None:
    running.advance(database, found, at_once=1)
    more = study(tmp_path, "seeds = [0, 1]", "seeds = [0, 1, 2]")
    running.check_recipes(database, more)
    other = study(tmp_path, 'sampling.strategy = "uniform"', 'pairs.rule = "random"')
    running.check_recipes(database, other)  # the run that differs is not made yet
    finish(database, "s-HS-STaR-0")
    fewer = study(tmp_path, "iterations = 2", "iterations = 1")
    assert running.run_finished(fewer, fewer.runs[0], running.advance(database, fewer, at_once=1))
    changed = study(tmp_path, "[strategies.HS-STaR]", "[strategies.HS-STaR]\npairs.rule = 'random'")
    with pytest.raises(ConflictError, match="'s-HS-STaR-0' is there with another recipe"):
        running.check_recipes(database, changed)
