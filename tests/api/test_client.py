"""What Python says of a database is what its rows and the command line say."""

import json
import math
import sys
from datetime import UTC, datetime
from pathlib import Path

import pandas
import polars
import pytest

import hsstar
from hsstar.domain.lifecycle import JobKind
from tests.cli.conftest import BROKEN, CommandLine, enqueue, hold_up, working
from tests.deterministic import TRAINING_STEPS
from tests.store.factory import add_problems

SAMPLED = "SELECT count(*) FROM sample_facts WHERE run = 'r'"


def count(cli: CommandLine, condition: str) -> int:
    return int(cli.rows(f"{SAMPLED} AND {condition}")[0][0])


def test_without_a_database_the_error_names_the_command(
    alone: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(hsstar.DatabaseError, match=r"hsstar is not up in .*/home; run: hsstar up$"):
        hsstar.connect()
    monkeypatch.setenv("HSSTAR_DATABASE_URL", "postgresql://127.0.0.1:9/x")
    with pytest.raises(hsstar.DatabaseError, match=r"hsstar is not up in .*/other; run: hsstar up$"):
        hsstar.connect(home=tmp_path / "other")
    with pytest.raises(hsstar.DatabaseError, match=r"cannot reach the database postgresql.*127.0.0.1:9/x"):
        hsstar.connect()


def test_a_url_goes_before_the_environment(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HSSTAR_DATABASE_URL", "postgresql://127.0.0.1:9/x")
    url = cli.database.engine.url.render_as_string(hide_password=False)
    with hsstar.connect(url) as db:
        assert db.runs() == []
        with pytest.raises(hsstar.NotFoundError, match="there is no run 'demo'"):
            db.run("demo")


def test_a_whole_run_from_python(cli: CommandLine, db: hsstar.Client) -> None:
    with cli.database.begin() as connection:
        add_problems(connection, 8, "demo-train")
        add_problems(connection, 3, "demo-heldout")
    sizes = {"sampling": {"n": 4, "n_p": 2}, "training": {"beta": 0.2}}
    run = db.create(cli.recipe(), name="r", seed=3, **sizes)
    assert (run.recipe["seed"], run.recipe["training"]["beta"]) == (3, 0.2)
    assert [entry.run for entry in db.runs()] == ["r"]
    assert run.iterate(2) == [0, 1]
    with working(cli):
        assert run.wait(120).state == "done"
    assert run.samples().to_arrow().num_rows == count(cli, "true") > 0
    correct = run.samples(iteration=1, verdict="correct")
    assert correct.to_arrow().num_rows == count(cli, "iteration = 1 AND verdict = 'correct'") > 0
    assert correct.to_polars().shape == correct.to_pandas().shape
    assert {row["verdict"] for row in correct} == {"correct"}
    texts = run.samples(iteration=0, texts=True).ordered().rows()
    assert [(row["problem_id"], row["slot"]) for row in texts] == sorted(
        (row["problem_id"], row["slot"]) for row in texts
    )
    exported = [json.loads(line) for line in cli.ok("export", "samples", "r").splitlines()]
    assert {(row["query"], row["resp"], row["ans"]) for row in exported} == {
        (row["statement"], row["response"], row["answer"]) for row in run.samples(texts=True)
    }
    pairs = run.pairs().rows()
    assert len(pairs) == cli.rows("SELECT count(*) FROM preference_pairs")[0][0] > 0
    problems = run.problems(iteration=0, texts=True).to_pandas()
    assert set(problems["statement"]) == {row["statement"] for row in texts}
    first, second = run.iterations().ordered().rows()
    assert (first["optimiser_steps"], second["state"]) == (TRAINING_STEPS, "done")
    assert [row["iteration"] for row in run.evaluations(benchmark="demo-heldout").ordered()] == [0, 1, 2]
    assert run.training(iteration=0).to_arrow().num_rows == TRAINING_STEPS
    assert [policy.name for policy in run.allocate(["uniform"])] == ["uniform"]
    assert run.table().columns == ("demo-heldout",)


def test_every_selection_has_the_columns_of_its_view(cli: CommandLine, db: hsstar.Client) -> None:
    enqueue(cli)
    run = db.run("r")
    for selection in (
        run.samples(), run.samples(texts=True), run.problems(), run.problems(texts=True), run.pairs(),
        run.iterations(), run.evaluations(), run.ledger(), run.lifelines(), run.lengths(), run.training(),
        run.weight_updates(), run.verdicts(),
    ):  # fmt: skip
        table = selection.ordered().limit(5).to_arrow()
        assert table.column_names == selection.columns
        if not selection.relation.endswith("_texts"):
            assert selection.columns == db.sql(f"TABLE {selection.relation}").columns
        assert "extension" not in str(table.schema)
    assert run.samples().select("slot", "verdict").to_arrow().column_names == ["slot", "verdict"]
    with pytest.raises(hsstar.BadInputError, match="there is no column 'verdicts'; did you mean 'verdict'"):
        run.samples().select("verdicts")
    with pytest.raises(hsstar.BadInputError, match="the limit -1 is below 0"):
        run.samples().limit(-1)


def test_null_and_nan_stay_apart_in_every_form(db: hsstar.Client) -> None:
    rows = db.sql("SELECT CAST(x AS float8) AS x, n FROM (VALUES ('nan', 1), (NULL, NULL)) AS v (x, n)")
    assert rows.to_polars()["x"].is_nan().to_list() == [True, None]
    assert rows.to_polars().schema == {"x": polars.Float64, "n": polars.Int32}
    frame = rows.to_pandas()
    assert frame["x"].isna().tolist() == [False, True]
    assert math.isnan(frame["x"][0])
    assert (frame["n"][0], frame["n"][1] is pandas.NA) == (1, True)
    assert [row["n"] for row in rows] == [1, None]


@pytest.mark.slow
def test_queries_are_those_of_hsstar_sql(db: hsstar.Client) -> None:
    for read in (hsstar.Rows.rows, hsstar.Rows.to_arrow):
        with pytest.raises(hsstar.BadInputError, match="hsstar sql is read-only"):
            read(db.sql("DELETE FROM problems RETURNING id"))
        with pytest.raises(hsstar.BadInputError, match=r"longer than 1 s; .*timeout_seconds"):
            read(db.sql("SELECT 1 AS x WHERE pg_sleep(9) IS NOT NULL", timeout_seconds=1))


def test_the_life_of_a_run(cli: CommandLine, db: hsstar.Client) -> None:
    enqueue(cli)
    run = db.run("r")
    with pytest.raises(TimeoutError, match="run 'r' is not done after 0 s"):
        run.wait(0)
    assert run.pause() == 0
    with pytest.raises(hsstar.HeldError, match="r is held"):
        run.wait(5)
    assert "is held" in run.notes[-1]
    assert run.resume().startswith("paused by ")
    run.cancel()
    run.archive()
    assert (db.runs(), [entry.run for entry in db.runs(archived=True)]) == ([], ["r"])
    run.resume()
    run.rename("other")
    assert db.run("other").name == run.name == "other"
    samples = run.samples()
    assert run.plan_deletion().run == run.delete().run == "other"
    assert samples.rows() == []
    with pytest.raises(hsstar.NotFoundError):
        run.samples()


def test_a_run_that_failed_jobs_hold_up_is_retried_or_goes_without(
    cli: CommandLine, db: hsstar.Client
) -> None:
    enqueue(cli)
    failed = hold_up(cli, JobKind.VERIFY)
    run = db.run("r")
    with pytest.raises(hsstar.ConflictError, match="run 'r' is incomplete and cannot continue"):
        run.wait(5)
    assert any(BROKEN in note for note in run.notes)
    assert {entry.lacks for entry in run.missing()} >= {"verdict"}
    assert sorted(run.retry()) == sorted(failed)
    hold_up(cli, JobKind.VERIFY)
    assert run.accept_missing() > 0


def test_an_evaluation_from_python(cli: CommandLine, db: hsstar.Client) -> None:
    with cli.database.begin() as connection:
        add_problems(connection, 4)
    started = db.evaluate("builtin:demo-policy", ["train"], samples=2, temperature=1.0, prompt="bare")
    assert not started.done
    with pytest.raises(hsstar.ConflictError, match=r"call wait\(\) first"):
        started.results()
    with working(cli):
        started.wait(120)
    ((policy, [result]),) = started.results().items()
    (entry,) = db.evaluations()
    assert (entry.model, entry.accuracy) == (policy, result.figures.accuracy.mean)
    assert started.comparison() is None
    assert db.evaluate("builtin:demo-policy", ["train"], samples=2, temperature=1.0, prompt="bare").done


def test_a_missing_package_is_named_with_its_extra(
    db: hsstar.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(hsstar.MissingDependencyError, match=r'polars .*pip install "hsstar\[notebook\]"$'):
        db.sql("SELECT 1").to_polars()


def test_what_a_recipe_takes_is_planned_and_what_nothing_needs_goes(
    cli: CommandLine, db: hsstar.Client, tmp_path: Path
) -> None:
    with cli.database.begin() as connection:
        add_problems(connection, 8, "demo-train")
        add_problems(connection, 3, "demo-heldout")
        add_problems(connection, 2, "unused")
    plan = db.plan(cli.recipe(), 2, gpu_memory=80, sampling={"n": 4, "n_p": 2})
    assert plan.forecast.samples.iterations == 2
    assert {finding.name for finding in plan.findings} >= {"context"}
    assert (db.delete_dataset("unused", dry_run=True), db.delete_dataset("unused")) == (2, 2)
    run = db.create(cli.recipe(), name="r")
    run.iterate(1)
    with working(cli):
        run.wait(120)
    folder = db.export_model(cli.rows("SELECT name FROM models ORDER BY id DESC")[0][0], tmp_path / "M1")
    assert (folder / "README.md").is_file()
    assert db.prune_models(dry_run=True) == db.prune_models() == []  # the run needs its policy
    lost = db.prune_samples(datetime.now(UTC), keep=["pairs"], dry_run=True)
    assert {round_.run for round_ in lost} == {"r"}
    assert db.prune_samples(datetime.now(UTC), keep=["pairs"]) == lost
    with pytest.raises(hsstar.ConflictError, match="no extension pg_trgm"):
        db.index_text()
    with pytest.raises(hsstar.NotFoundError):
        db.stop_workers("nobody")


def test_a_training_from_python_is_that_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HSSTAR_HOME", str(tmp_path / "home"))
    with pytest.raises(hsstar.BadInputError):
        hsstar.train("dpo", tmp_path / "none.jsonl", "builtin:demo-policy", tmp_path / "M1", beta=0.2)
    with pytest.raises(hsstar.BadInputError, match="betta"):
        hsstar.train("dpo", tmp_path / "none.jsonl", "builtin:demo-policy", tmp_path / "M1", betta=0.2)
