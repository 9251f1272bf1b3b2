"""What the command line does, called from Python: the same functions, and what they return."""

import json
from pathlib import Path
from typing import Any

import pytest

import hsstar
from hsstar.commands import redraw
from hsstar.domain.lifecycle import JobKind
from hsstar.engines import registry
from hsstar.monitoring import track
from hsstar.study import conduct
from tests.cli.conftest import BROKEN, CommandLine, enqueue, hold_up, working
from tests.cli.test_study import STUDY, DemoSampler
from tests.cli.test_train_prm import KnowingRewardModel, RewardModelCopier
from tests.deterministic import DeterministicSampler
from tests.store.factory import add_problems

GSM8K = {"question": "1+1=?", "answer": "One and one.\nThat is two.\n#### 2"}


@pytest.fixture
def done(cli: CommandLine) -> CommandLine:
    """The run `r`, whose one iteration is done."""
    enqueue(cli)
    cli.worker().work()
    return cli


def test_samples_and_problems_come_in_pages_and_alone(done: CommandLine, db: hsstar.Client) -> None:
    run = db.run("r")
    first = run.sample_page(limit=20)
    rest = run.sample_page(after=first.next)
    addresses = [(row.problem_id, row.slot) for row in (*first.samples, *rest.samples)]
    assert (len(first.samples), len(rest.samples), rest.next) == (20, 4, None)
    assert addresses == sorted(addresses)
    wrong = run.sample_page(hsstar.SampleFilter(verdict="incorrect"), limit=50).samples
    assert len(wrong) == run.samples(verdict="incorrect").to_arrow().num_rows > 0
    page = run.problem_page(sort="reward", descending=True)
    assert len(page.problems) == 6
    assert page.measure == "iteration"
    boundary = run.problem_page("boundary").problems
    assert {row.problem_id for row in boundary} == {
        row["problem_id"] for row in run.problems(difficulty="boundary")
    }
    assert run.problem_page("boundary", hsstar.ProblemFilter(level="inlier")).problems != boundary
    one = run.problem(page.problems[0].problem_id)
    assert len(one.samples) == len(run.samples(problem_id=one.problem.problem_id).rows()) > 0
    assert db.sample(f"r/0/{one.problem.problem_id}/0").sample_id == one.samples[0].sample_id
    assert db.explain_verdict(f"r/0/{one.problem.problem_id}/0")["cause"] == one.samples[0].cause
    with pytest.raises(hsstar.NotFoundError, match=r"no preset 'bondary'.*'boundary'"):
        run.problem_page("bondary")


def test_a_sample_is_drawn_again(
    done: CommandLine, db: hsstar.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redraw, "build_sampler", lambda folder, **_: DeterministicSampler(folder))
    row = db.run("r").samples().limit(1).rows()[0]
    again = db.redraw(f"r/0/{row['problem_id']}/{row['slot']}")
    assert again.same
    assert again.drawn_text == again.stored_text


def test_jobs_are_listed_and_retried(cli: CommandLine, db: hsstar.Client) -> None:
    enqueue(cli)
    failed = hold_up(cli, JobKind.VERIFY)
    assert {entry.job for entry in db.jobs(state="failed")} == set(failed)
    assert all(BROKEN in (entry.error or "") for entry in db.run("r").jobs(state="failed", limit=1))
    assert len(db.run("r").jobs(limit=1)) == 1
    assert sorted(db.retry()) == sorted(failed)
    assert db.jobs(state="failed") == []
    (state,) = db.status()
    assert (state.run, state.jobs_failed) == ("r", 0)
    with pytest.raises(hsstar.BadInputError, match="state='broken' is not legal: it must be one of queued"):
        db.jobs(state="broken")


def test_a_reward_model_is_trained_from_what_the_workers_draw(
    done: CommandLine, db: hsstar.Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(registry.TRAINERS, "trl", f"{RewardModelCopier.__module__}:RewardModelCopier")
    monkeypatch.setitem(
        registry.REWARD_MODELS, "skywork", f"{KnowingRewardModel.__module__}:KnowingRewardModel"
    )
    monkeypatch.setattr(RewardModelCopier, "tasks", [])
    run = db.run("r")
    wanted: dict[str, Any] = {"responses": 2, "continuations": 3, "held_out": 0.4, "batch_size": 4}
    with pytest.raises(TimeoutError, match="run 'r' is not done after 0 s"):
        run.train_prm(tmp_path / "prm", timeout_seconds=0, **wanted)
    with working(done):
        report = run.train_prm(tmp_path / "prm", **wanted)
    assert (report.training.examples, report.quality.problems, report.quality.auc) == (8, 2, 1.0)
    (task,) = RewardModelCopier.tasks
    assert (task.settings.batch_size, task.settings.epochs) == (4, 1)
    assert (tmp_path / "prm" / "README.md").is_file()
    with pytest.raises(hsstar.ConflictError, match="is not empty"):
        run.train_prm(tmp_path / "prm", **wanted)
    with pytest.raises(hsstar.BadInputError, match="batchsize"):
        run.train_prm(tmp_path / "other", batchsize=4)


@pytest.mark.slow
def test_a_study_is_run_to_its_end_and_reported(
    cli: CommandLine, db: hsstar.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conduct, "_POLL_SECONDS", 0.05)
    cli.sampler = DemoSampler
    file = cli.folder / "tiny.toml"
    file.write_text(
        STUDY.replace("[100, 101, 102]", "[100, 101]").replace("iterations = 2", "iterations = 1")
    )
    said: list[str] = []
    with working(cli):
        report = db.study(file, cli.folder / "report", at_once=4, tell=said.append)
    assert (report.study, report.seeds, report.asked) == ("tiny", (100, 101), 2)
    assert [strategy.strategy for strategy in report.strategies] == ["HS-STaR", "uniform"]
    assert all(path.is_file() for path in report.files)
    assert said[0] == "0 of 4 iterations are done"
    assert said[-1] == report.line
    again = db.study(file, cli.folder / "again", shared=[cli.folder / "report" / "tiny-runs.csv"])
    assert again.strategies == report.strategies  # nothing is left to run
    with pytest.raises(hsstar.HsstarError, match="seed 9 is none of the study's"):
        db.study(file, seeds=[9])


def test_samples_are_scored_and_judged_again(done: CommandLine, db: hsstar.Client) -> None:
    changes: list[Any] = []
    (judged,) = db.reverify(dataset="train", dry_run=True, on_change=changes.append)
    assert (judged.judged, judged.verdicts, changes) == (24, 0, [])
    with pytest.raises(hsstar.BadInputError, match="give one of dataset and evaluation"):
        db.reverify()
    with pytest.raises(hsstar.HsstarError, match="nowhere"):
        db.run("r").rescore("./nowhere")


@pytest.mark.slow
def test_figures_go_to_trackers_pages_and_prometheus(
    done: CommandLine, db: hsstar.Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(track, "_PAUSE_SECONDS", 0.05)
    run = db.run("r")
    assert 'hsstar_samples_total{round="iteration",run="r"} 24.0' in db.metrics()
    site = run.export_site(tmp_path / "site")
    assert site.pages == len(list((tmp_path / "site").rglob("*.html"))) > 6
    with pytest.raises(hsstar.ConflictError, match="is not an empty folder"):
        run.export_site(tmp_path / "site")
    with pytest.raises(hsstar.BadInputError, match=r"no tracker 'tensorbord'.*tensorboard"):
        run.track("tensorbord")  # type: ignore[arg-type]
    pytest.importorskip("tensorboard", reason="tensorboard is not installed; make trackers installs it")
    assert run.track("tensorboard", folder=tmp_path / "tracking", once=True)["tensorboard"] > 0
    assert any((tmp_path / "tracking").rglob("events.*"))


def test_problems_benchmarks_and_evaluations_come_in_and_go_out(
    done: CommandLine, db: hsstar.Client, tmp_path: Path
) -> None:
    rows = [{"question": f"{n}+1=?", "answer": f"#### {n + 1}"} for n in range(30)]
    (tmp_path / "aime24.jsonl").write_text(
        "".join(json.dumps({"problem": row["question"], "answer": row["answer"][5:]}) + "\n" for row in rows)
    )
    (imported,) = db.import_benchmarks(["aime24"], data=tmp_path)
    assert (imported.name, imported.problems) == ("aime24", 30)
    assert [entry.benchmark for entry in db.benchmarks() if entry.imported] == ["aime24"]
    done.file("bad.jsonl", GSM8K, {"question": "?"})
    with pytest.warns(UserWarning, match=r"1 rows are left out; the first: .*bad.jsonl:2"):
        report = db.import_problems(tmp_path / "bad.jsonl", "some", file_format="gsm8k", skip_bad=1)
    assert report.imported == 1
    written = db.export("problems", tmp_path / "out.jsonl", "some")
    assert written.written == len((tmp_path / "out.jsonl").read_text().splitlines()) == 1
    assert db.export("evaluations", tmp_path / "evaluations.csv").written == 0
    with pytest.raises(hsstar.BadInputError, match="problems are written with a dataset"):
        db.export("problems", tmp_path / "none.jsonl")
    with pytest.raises(hsstar.BadInputError, match="problems belong to a dataset"):
        db.run("r").export("problems", tmp_path / "none.jsonl")
    (summary,) = db.run("r").summaries()
    assert (summary.iteration, summary.drawn) == (0, 24)
    assert [entry.depth for entry in db.lineage()] == [0, 1]


def test_what_needs_no_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gsm8k.jsonl").write_text(json.dumps(GSM8K) + "\n" + json.dumps({"question": "?"}) + "\n")
    with pytest.warns(UserWarning, match="1 rows are left out"):
        report = hsstar.split_solutions(
            tmp_path / "gsm8k.jsonl", tmp_path / "steps.jsonl", file_format="gsm8k", skip_bad=1
        )
    assert report.written == len((tmp_path / "steps.jsonl").read_text().splitlines()) == 1
    hsstar.write_demo_problems(tmp_path / "demo.jsonl", 10, seed=3)
    assert len((tmp_path / "demo.jsonl").read_text().splitlines()) == 10
    checked = hsstar.check_recipe("builtin:demo", sampling={"n": 16})
    assert checked["sampling"]["n"] == 16
    assert hsstar.check_recipe(checked) == checked
    with pytest.raises(hsstar.HsstarError, match="sampling"):
        hsstar.check_recipe("builtin:demo", sampling={"m": 16})
    assert "sampling" in json.dumps(hsstar.recipe_schema())
    shown = hsstar.prompt("builtin:demo", "1+1=?")
    assert "1+1=?" in shown.text
    assert shown.tokens > 0
    assert shown.text == hsstar.prompt_templates()[checked["policy"]["prompt"]].replace("{problem}", "1+1=?")


def test_the_prompts_of_a_dataset_are_shown_with_their_lengths(cli: CommandLine, db: hsstar.Client) -> None:
    with cli.database.begin() as connection:
        add_problems(connection, 3, "demo-train")
    shown = db.prompt("builtin:demo")
    assert shown.lengths is not None
    assert (shown.lengths.dataset, shown.lengths.prompts) == ("demo-train", 3)


def test_an_empty_database_gets_its_schema(cli: CommandLine) -> None:
    cli.ok("db", "downgrade", "base", "--yes")
    with pytest.raises(hsstar.HsstarError):
        hsstar.connect()
    revision = hsstar.upgrade()
    assert revision == hsstar.upgrade()
    with hsstar.connect() as db:
        assert db.runs() == []


def test_an_installation_is_examined(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hsstar.doctor.installation._IMPORT_SECONDS", 0.2)  # engines are looked at elsewhere
    found = {finding.name: finding.level for finding in hsstar.examine_installation()}
    assert found["database"] == "ok"
    assert found["broker"] == "FAIL"
