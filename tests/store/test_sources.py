"""Sources: they draw beside the policy by the same jobs, count in nothing of it, and teach what is asked."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from hsstar.checkpoints.resolve import fingerprint, resolve
from hsstar.cli.views.progress_lines import round_lines
from hsstar.commands.runs import accept_missing, create_run
from hsstar.domain.errors import BadInputError, CheckpointError
from hsstar.domain.seeds import source_seed
from hsstar.insights.progress import run_progress
from hsstar.recipe.recipe import Recipe
from hsstar.store import models, rounds, sources, training
from hsstar.store.database import Database
from hsstar.store.read import exports, progress
from tests.deterministic import DeterministicSampler, Script
from tests.store import factory
from tests.store.conftest import MakeDatabase
from tests.store.driver import Begin, Driver, call, rows
from tests.store.factory import HELDOUT, make_recipe

EVERY = {"train": ["inlier", "boundary", "outlier"], "tau_low": 0.25, "tau_high": 0.75}
SOURCE_JOBS = "jobs JOIN rounds ON rounds.id = round_id WHERE rounds.kind = 'source' AND state = 'queued'"
PAIRS = """
    SELECT labels.level, chosen_in.kind, rejected_in.kind
    FROM preference_pairs AS pairs
    JOIN difficulty_labels AS labels USING (round_id, problem_id)
    JOIN samples AS chosen ON chosen.id = chosen_sample_id
    JOIN rounds AS chosen_in ON chosen_in.id = chosen.round_id
    JOIN samples AS rejected ON rejected.id = rejected_sample_id
    JOIN rounds AS rejected_in ON rejected_in.id = rejected.round_id
"""


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a policy with other weights than that of the run."""
    folder = tmp_path_factory.mktemp("teacher")
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(range(64)))
    return folder


def taught_by(folder: Path) -> type[DeterministicSampler]:
    """A sampler that knows every second answer, surely, with the weights of this folder."""
    weights = fingerprint(folder)

    def solve(statement: str, seed: int) -> tuple[object, float]:
        found = re.search(r"\d+", statement)
        assert found is not None
        return int(found[0]) + seed % 2, 0.95

    class Taught(DeterministicSampler):
        drawn_by: list[tuple[str, float, int]] = []  # noqa: RUF012

        def __init__(self, model: str | Path, pause: float = 0.0, script: Script | None = None) -> None:
            super().__init__(model, pause, solve if fingerprint(model) == weights else script)

        def draw(self, requests: Sequence[Any], parameters: Any) -> Any:
            of = parameters[0] if isinstance(parameters, list) else parameters
            self.drawn_by.append((self._weights, of.temperature, of.max_new_tokens))
            return super().draw(requests, parameters)

    return Taught


def recipe_of(*given: dict[str, Any], **sections: Any) -> Recipe:
    """Six problems, four samples of each, all levels learnt from."""
    usual: dict[str, Any] = {
        "problems": {"dataset": "train", "per_iteration": 6},
        "sampling": {"n": 4, "n_p": 2},
        "difficulty": EVERY,
    }
    return make_recipe(**usual | sections, sources=list(given))


def source(folder: Path, **keys: Any) -> dict[str, Any]:
    return {"name": "teacher", "model": str(folder), "samples": 4} | keys


def of_policy(tables: dict[str, Any]) -> dict[str, Any]:
    return {name: [row for row in table if row[0] != "source"] for name, table in tables.items()}


@pytest.mark.slow
def test_what_a_source_draws_counts_in_nothing_of_the_policy(
    make_database: MakeDatabase, template: str, begin_in: Begin, teacher: Path
) -> None:
    figures = ["drawn", "drawn_pre", "drawn_re", "inlier", "boundary", "outlier", "pairs", "budget"]
    figures += ["correct", "verified", "tokens", "heldout_accuracy_after"]
    found = []
    for given in ([], [source(teacher, use="record")]):
        with make_database(template) as database:
            recipe = recipe_of(*given, evaluation={"dataset": HELDOUT})
            driver = begin_in(database, recipe, iterations=2, sampler=taught_by(teacher))
            driver.work()
            assert driver.states() == ["done"] * 2
            statistics = [
                [getattr(driver.statistics(number), name) for name in figures] for number in range(2)
            ]
            per_problem = rows(database, "SELECT drawn, correct, accuracy, pairs FROM problem_statistics")
            found.append((of_policy(driver.made()), statistics, per_problem))
    assert found[0] == found[1]
    assert sum(len(row) for row in found[0][0]["samples"]) > 0


def test_a_source_draws_by_its_own_weights_seeds_and_decoding(begin: Begin, teacher: Path) -> None:
    sampler = taught_by(teacher)
    given = source(teacher, temperature=0.25, max_new_tokens=99)
    driver = begin(recipe_of(given), sampler=sampler)
    driver.work()
    weights = fingerprint(teacher)
    decoding = {of[1:] for of in sampler.drawn_by if of[0] == weights}  # type: ignore[attr-defined]
    assert decoding == {(0.25, 99)}
    found = driver.rows("""
        SELECT key, slot, source_samples.seed, response, model, source, use, iteration
        FROM source_samples JOIN problems ON problems.id = problem_id
        JOIN sample_responses USING (sample_id)
    """)
    assert len(found) == 6 * 4
    for row in found:
        assert row.seed == source_seed(driver.run.recipe.seed, "teacher", 0, row.key, row.slot)
        assert f"by {weights[:6]}" in row.response
        assert tuple(row[4:]) == (str(teacher), "teacher", "chosen", 0)
    assert driver.count("source_samples WHERE verdict IS NULL OR min_reward IS NULL") == 0


@pytest.mark.slow
@pytest.mark.parametrize("use", ["chosen", "both", "record"])
def test_pairs_take_of_a_source_what_the_recipe_says(begin: Begin, teacher: Path, use: str) -> None:
    driver = begin(recipe_of(source(teacher, use=use)), sampler=taught_by(teacher))
    driver.work()
    pairs = [tuple(row) for row in driver.rows(PAIRS)]
    sides = {(chosen, rejected) for _, chosen, rejected in pairs}
    hard = [row[1:] for row in pairs if row[0] == "outlier"]
    if use == "record":
        assert sides == {("iteration", "iteration")} and not hard
        return
    # the policy solves no outlier, so what is learnt there is the source's
    assert hard and {chosen for chosen, _ in hard} == {"source"}
    rejected = {of for _, of in sides}
    assert rejected == ({"iteration", "source"} if use == "both" else {"iteration"})
    with driver.database.begin() as connection:
        iteration = rounds.list_iterations(connection, driver.run.id)[0].round
        loaded = training.load_pairs(connection, iteration.id)
        exported = [*exports.export_pairs(connection, driver.run)]
    mark = f"by {fingerprint(teacher)[:6]}"
    assert sum(mark in pair.chosen for pair in loaded) == sum(chosen == "source" for _, chosen, _ in pairs)
    assert {row["chosen_source"] for row in exported if mark in row["chosen"]} == {"teacher"}
    assert {row["chosen_source"] for row in exported if mark not in row["chosen"]} <= {None}


def test_a_source_of_levels_waits_for_these_and_draws_for_no_other(begin: Begin, teacher: Path) -> None:
    driver = begin(recipe_of(source(teacher, levels=["outlier"])), sampler=taught_by(teacher))
    driver.conductor.sweep()
    assert driver.count("source_rounds") == 0
    driver.work()
    assert driver.states() == ["done"]
    hard = driver.count("difficulty_labels WHERE level = 'outlier'")
    assert hard > 0
    assert driver.count("source_samples WHERE difficulty = 'outlier'") == 4 * hard
    assert driver.count("source_samples") == 4 * hard


def test_a_source_of_levels_that_nothing_has_is_done_at_once(begin: Begin, teacher: Path) -> None:
    easy = source(teacher, levels=["inlier"])
    driver = begin(recipe_of(easy), script=lambda statement, seed: ("wrong", 0.5), sampler=taught_by(teacher))
    driver.work()
    assert driver.states() == ["done"]
    assert (driver.count("source_rounds WHERE finished_at IS NOT NULL"), driver.count("source_samples")) == (
        1,
        0,
    )


def policy_jobs(driver: Driver) -> list[int]:
    query = """
        SELECT jobs.id FROM jobs JOIN rounds ON rounds.id = round_id
        WHERE state = 'queued' AND rounds.kind <> 'source' ORDER BY jobs.id
    """
    return [row.id for row in driver.rows(query)]


@pytest.mark.parametrize(("use", "state"), [("chosen", "re_sampling"), ("record", "done")])
def test_an_iteration_waits_for_the_sources_that_it_learns_from(
    begin: Begin, teacher: Path, use: str, state: str
) -> None:
    driver = begin(recipe_of(source(teacher, use=use)), sampler=taught_by(teacher))
    driver.conductor.sweep()
    while job_ids := policy_jobs(driver):
        for job_id in job_ids:
            driver.do(job_id)
    assert driver.states() == [state]
    assert driver.count(SOURCE_JOBS) > 0
    assert run_progress(driver.database, driver.run).state == "running"
    driver.work()
    assert driver.states() == ["done"]
    assert run_progress(driver.database, driver.run).state == "done"


@pytest.mark.slow
def test_dying_conductors_come_to_the_same(
    make_database: MakeDatabase,
    template: str,
    begin_in: Begin,
    teacher: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []
    given = (source(teacher, use="both"), source(teacher, name="late", levels=["outlier", "boundary"]))
    for dies in (False, True):
        with make_database(template) as database:
            driver = begin_in(database, recipe_of(*given), sampler=taught_by(teacher), job_samples=5)
            if dies:
                driver.work_among_dying_conductors(monkeypatch)
            else:
                driver.work()
            assert driver.states() == ["done"]
            made.append(driver.made())
    assert made[0] == made[1]


def test_a_run_continues_without_what_its_source_cannot_draw(begin: Begin, teacher: Path) -> None:
    driver = begin(recipe_of(source(teacher)), sampler=taught_by(teacher), job_samples=8)
    driver.conductor.sweep()
    first = driver.rows(f"SELECT jobs.id FROM {SOURCE_JOBS} ORDER BY jobs.id")[0].id
    driver.fail(first)
    driver.work()
    assert driver.states() == ["re_sampling"]
    (missing,) = {row.round for row in call(driver.database, list_missing, driver)}
    assert missing == "source 0"
    assert accept_missing(driver.database, driver.run) == 1
    driver.work()
    assert driver.states() == ["done"]
    excluded = driver.rows("""
        SELECT kind, count(exclusion) AS left_out FROM round_problems JOIN rounds ON rounds.id = round_id
        GROUP BY kind ORDER BY kind
    """)
    assert [tuple(row) for row in excluded] == [("iteration", 0), ("source", 2)]


def list_missing(connection: Any, driver: Driver) -> Any:
    from hsstar.store.database import execute_file

    return execute_file(connection, "missing", {"run_id": driver.run.id}).all()


def test_status_shows_a_source_apart(begin: Begin, teacher: Path) -> None:
    driver = begin(recipe_of(source(teacher)), sampler=taught_by(teacher))
    driver.work()
    found = call(driver.database, progress.round_progress, driver.run.id)
    assert [(row.kind, row.drawn, row.allotted) for row in found] == [
        ("iteration", 24, 24),
        ("source", 24, 24),
    ]
    line = round_lines(found)[-1]
    right = driver.count("source_samples WHERE verdict = 'correct'")
    assert line.startswith("iteration 0 source teacher  done")
    assert f"{teacher}: samples 24/24, verified 24, correct {right / 24:.0%}, " in line


def test_samples_of_sources_are_exported_apart(begin: Begin, teacher: Path) -> None:
    driver = begin(recipe_of(source(teacher)), sampler=taught_by(teacher))
    driver.work()
    with driver.database.begin() as connection:
        found = [*exports.export_samples(connection, driver.run, "source")]
        own = [*exports.export_samples(connection, driver.run)]
    assert (len(found), len(own)) == (24, 24)
    assert {row["source"] for row in found} == {"teacher"}
    assert {row["model"] for row in found} == {str(teacher)}
    assert all("source" not in row for row in own)
    assert {row["rewards"]["reward"] for row in found} == {0.95}


def test_a_pair_is_refused_whose_sample_is_of_another_iterations_source(begin: Begin, teacher: Path) -> None:
    driver = begin(recipe_of(source(teacher, use="record")), iterations=2, sampler=taught_by(teacher))
    driver.work()
    with pytest.raises(IntegrityError, match="has not in its round"), driver.database.engine.begin() as one:
        factory.execute(
            one,
            """
            INSERT INTO preference_pairs (round_id, problem_id, chosen_sample_id, rejected_sample_id)
            SELECT iteration.id, own.problem_id, taught.id, own.id
            FROM samples AS own
            JOIN rounds AS iteration ON iteration.id = own.round_id AND iteration.kind = 'iteration'
            JOIN rounds AS source ON source.kind = 'source' AND source.number <> iteration.number
            JOIN samples AS taught ON taught.round_id = source.id
            WHERE own.id NOT IN (SELECT rejected_sample_id FROM preference_pairs)
            LIMIT 1
            """,
        )


def test_a_policy_that_another_run_has_as_a_source_is_kept(begin: Begin, teacher: Path) -> None:
    driver = begin(recipe_of(), iterations=1)
    driver.work()
    other = begin(recipe_of(), iterations=0)
    driver.execute(
        "INSERT INTO run_sources (run_id, name, model_id, use, max_new_tokens) "
        f"SELECT {other.run.id}, 'teacher', id, 'chosen', 9 FROM models WHERE name = '{driver.run.name}-M1'"
    )
    needs = {need.name: need.needed_by for need in call(driver.database, models.policy_needs)}
    reason = f"run {other.run.name} has it as the source teacher"
    assert reason in str(needs[f"{driver.run.name}-M1"])
    alone = call(driver.database, models.needed_by_run_alone, driver.run.id)
    assert [model.name for model in alone] == []


DEMO = "builtin:demo-policy"


@pytest.fixture
def imported(database: Database) -> Database:
    with database.begin() as connection:
        factory.add_problems(connection, 8)
    return database


def created(database: Database, *given: dict[str, Any]) -> Any:
    sections: dict[str, Any] = {
        "policy": {"model": DEMO},
        "reward": {"model": "builtin:demo-prm"},
        "difficulty": EVERY,
        "sources": list(given),
    }
    return create_run(database, make_recipe(**sections), "r")


def test_a_run_is_created_with_what_its_source_draws_by(imported: Database, tmp_path: Path) -> None:
    shutil.copytree(resolve(DEMO), tmp_path / "T")
    with (tmp_path / "T" / "model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\x00\x00\x00\x3f")
    run = created(imported, source(tmp_path / "T", use="record"))
    (row,) = rows(imported, "SELECT name, use, max_new_tokens FROM run_sources")
    assert tuple(row) == ("teacher", "record", run.recipe.sampling.max_new_tokens)
    assert run.recipe.sources[0].model == str(tmp_path / "T")


def test_a_source_that_cannot_draw_is_refused_before_the_run(imported: Database, tmp_path: Path) -> None:
    missing = source(tmp_path / "none")
    with pytest.raises(CheckpointError, match=r"^source 'teacher': .*none"):
        created(imported, missing)
    shutil.copytree(resolve(DEMO), tmp_path / "copy")
    with pytest.raises(BadInputError, match=r"^source 'teacher': .*/copy holds the weights of the run's own"):
        created(imported, source(tmp_path / "copy"))
    (tmp_path / "copy" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"^source 'teacher': "):
        created(imported, source(tmp_path / "copy"))
    chat = source(tmp_path / "copy", prompt="chat")
    with pytest.raises(BadInputError, match=r"^source 'teacher': "):
        created(imported, chat)
    assert rows(imported, "SELECT FROM runs") == []


def test_sources_of_an_unknown_round_are_none(begin: Begin) -> None:
    driver = begin(recipe_of())
    driver.work()
    with driver.database.begin() as connection:
        iteration = rounds.list_iterations(connection, driver.run.id)[0].round
        assert sources.list_taught(connection, iteration.id) == []
        assert sources.find_section(connection, driver.run, iteration) is None
