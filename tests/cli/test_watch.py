"""`--watch` ends as the run does: 0 where all is done, 1 where failed jobs hold it up."""

import pytest

from hsstar.domain.lifecycle import JobKind
from tests.cli.conftest import BROKEN, CommandLine, enqueue, hold_up, working
from tests.store.factory import add_problems, add_run, make_recipe

pytestmark = pytest.mark.timeout(60)


def states(cli: CommandLine) -> set[str]:
    return {state for (state,) in cli.rows("SELECT state FROM jobs")}


def test_a_finished_run_is_watched_to_its_end(cli: CommandLine) -> None:
    enqueue(cli)
    cli.worker().work()
    called = cli("status", "r", "--watch")
    assert (called.code, called.err) == (0, "")
    assert called.out.startswith("iteration 0  done")


def test_the_iterations_asked_for_are_enqueued_and_watched_to_their_end(cli: CommandLine) -> None:
    enqueue(cli)
    cli.worker().work()
    with cli.database.begin() as connection:
        add_problems(connection, 18)
    with working(cli):
        called = cli("iterate", "r", "--iterations", "2", "--watch")
    assert called.code == 0, called
    assert called.out.startswith("r: iteration 1, 2 enqueued\n")
    assert "iteration 2  done" in called.out
    assert cli.rows("SELECT state FROM iterations") == [("done",)] * 3


@pytest.mark.parametrize("kind", [JobKind.SAMPLE, JobKind.VERIFY, JobKind.SCORE, JobKind.TRAIN])
@pytest.mark.parametrize("terminal", [False, True], ids=["lines", "live"])
def test_failed_jobs_that_hold_a_run_up_end_the_watch_with_1(
    cli: CommandLine, kind: JobKind, terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue(cli)
    failed = hold_up(cli, kind)
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    called = cli("status", "r", "--watch")
    assert called.code == 1
    assert called.err.startswith("hsstar: run 'r' is incomplete and cannot continue: see hsstar status r")
    assert "hsstar jobs retry r, or hsstar iterate r --accept-missing" in called.err
    assert f"{len(failed)} {kind} jobs failed: it broke [now]" in called.out
    assert ("Ctrl-C ends this view only" in called.out) == terminal


def test_a_failed_job_holds_nothing_up_while_others_move(cli: CommandLine) -> None:
    enqueue(cli)
    worker = cli.worker(job_samples=1)
    worker.conductor.sweep()
    worker.fail(worker.queued()[0], BROKEN)
    with working(cli):
        called = cli("status", "r", "--watch")
    assert called.code == 1
    assert cli.rows("SELECT count(*) FROM jobs WHERE state <> 'done'") == [(1,)]


def test_jobs_are_retried_of_one_run_or_one_by_one(cli: CommandLine) -> None:
    enqueue(cli)
    enqueue(cli, "other")
    failed = hold_up(cli)
    assert len(failed) == 4
    wrong = cli.refused("jobs", "retry", "--job", str(failed[0]), "--job", "77777")
    assert wrong == "no failed job has the id 77777; see: hsstar jobs list --state failed"
    chosen = failed[1:3]
    assert cli.ok("jobs", "retry", *(f"--job={job}" for job in chosen)) == "2 jobs are queued again\n"
    assert cli.rows("SELECT id, attempts FROM jobs WHERE state = 'queued' ORDER BY id") == [
        (job, 0) for job in chosen
    ]
    of_r = [job["job"] for job in cli.json("jobs", "list", "r", "--state", "failed")]
    assert cli.ok("jobs", "retry", "r") == f"{len(of_r)} jobs are queued again\n"
    assert {job["run"] for job in cli.json("jobs", "list", "--state", "failed")} == {"other"}
    cli.worker().work()
    assert cli("status", "r", "--watch").code == 0
    assert cli("status", "other", "--watch").code == 1
    assert cli.ok("jobs", "retry").endswith(" jobs are queued again\n")
    cli.worker().work()
    assert cli("status", "other", "--watch").code == 0
    assert cli.ok("jobs", "retry") == "0 jobs are queued again\n"


def test_a_run_continues_without_what_is_missing_once_that_is_accepted(cli: CommandLine) -> None:
    enqueue(cli)
    assert cli.refused("iterate", "r", "--accept-missing").startswith("no job of run 'r' has failed")
    failed = hold_up(cli)
    with working(cli):
        called = cli("iterate", "r", "--accept-missing", "--watch")
    assert called.code == 0, called
    said = f"r: {len(failed)} failed jobs discarded; what is missing: hsstar status r --missing\n"
    assert called.out.startswith(said)
    assert cli.rows("SELECT number FROM rounds WHERE kind = 'iteration'") == [(0,)]  # enqueues nothing
    assert states(cli) == {"done", "discarded"}
    assert "6 problems left out: discarded: it broke [now]" in cli.ok("status", "r")


def test_a_server_of_one_policy_cannot_sample_from_a_trained_one(cli: CommandLine) -> None:
    openai = {"base_url": "http://localhost/v1", "model": "m"}
    with cli.database.begin() as connection:
        add_problems(connection, 12)
        add_run(connection, make_recipe(policy={"model": "M0", "engine": "openai", "openai": openai}), "r")
    message = cli.refused("iterate", "r", "--iterations", "2")
    assert message.startswith("iteration 1 of run 'r' samples from a policy that is trained before")
    cli.ok("iterate", "r")


def test_ctrl_c_ends_the_view_alone(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    enqueue(cli)

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hsstar.cli.views.progress.time.sleep", interrupt)
    called = cli("status", "r", "--watch")
    assert called.code == 130
    assert called.err == "\nr continues; look again: hsstar status r --watch\n"
    assert called.out.startswith("iteration 0  waiting")
    called = cli("evaluate", "builtin:demo-policy", "--benchmarks", "train", "--prompt", "bare")
    assert called.code == 130
    assert "\nthe workers go on; the same command shows the rest, or: hsstar status evaluate-" in called.err
