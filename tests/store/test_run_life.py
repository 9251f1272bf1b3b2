"""Whatever a run does: a pause loses nothing, a cancellation stops it in a batch, a deletion is whole."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hsstar.commands.delete_run import delete_run
from hsstar.commands.jobs import retry_jobs
from hsstar.commands.run_life import archive_run, cancel_run, pause_run, rename_run, resume_run
from hsstar.commands.runs import start_iterations
from hsstar.domain.errors import ConflictError, HeldError, NotFoundError, RecipeError
from hsstar.domain.lifecycle import IterationState, JobKind
from hsstar.engines.sampling.contract import Completion, SampleRequest, SamplingParameters
from hsstar.stages import sample
from hsstar.store import models, rounds, runs
from hsstar.store.queue.jobs import LeaseLostError
from tests.deterministic import DeterministicSampler
from tests.store.conftest import MakeDatabase
from tests.store.driver import Begin, Driver, call
from tests.store.factory import HELDOUT, TRAIN, add_problems, claim, make_recipe
from tests.waiting import wait_for

WITHOUT_REWARD: dict[str, Any] = {
    "reward": {"model": "none"}, "difficulty": {"signal": "accuracy"}, "pairs": {"rule": "random"}
}  # fmt: skip
RECIPE = make_recipe(
    problems={"dataset": TRAIN, "per_iteration": 4},
    sampling={"n": 4, "n_p": 2},
    evaluation={"dataset": HELDOUT},
)
ROWS = """
    SELECT (SELECT count(*) FROM samples), (SELECT count(*) FROM jobs), (SELECT count(*) FROM job_items),
        (SELECT count(*) FROM rounds), (SELECT count(*) FROM preference_pairs), (SELECT count(*) FROM runs)
"""


@pytest.fixture(scope="module")
def undisturbed(make_database: MakeDatabase, template: str, begin_in: Begin) -> dict[str, Any]:
    """What the run makes that nobody stops."""
    with make_database(template) as database:
        driver = begin_in(database, RECIPE, iterations=2)
        driver.work()
        return driver.made()


def jobs_of(driver: Driver) -> dict[str, int]:
    query = "SELECT state, count(*) FROM jobs WHERE state IN ('queued', 'running') GROUP BY state"
    return {row[0]: row[1] for row in driver.rows(query)}


@pytest.mark.slow
@pytest.mark.parametrize("stop", [pause_run, cancel_run])
def test_a_run_that_is_stopped_at_any_moment_makes_the_same_once_it_is_resumed(
    begin: Begin, undisturbed: dict[str, Any], stop: Callable[..., int]
) -> None:
    """It is stopped before each fifth job, while another worker holds the job before."""
    driver = begin(RECIPE, iterations=2, job_samples=8)
    driver.advance()
    done, kinds = 0, set[JobKind]()
    while queued := driver.queued():
        if done % 5 == 4:
            held = call(driver.database, claim, queued[0], "another")
            kinds.add(held.kind)
            assert stop(driver.database, driver.run.name, "a test") == 1
            driver.conductor.sweep()
            assert jobs_of(driver) == ({"running": 1} if stop is pause_run else {})
            with pytest.raises(ConflictError, match=r"is held \(.*\): .* by a test; let it continue"):
                start_iterations(driver.database, driver.run, 1)
            assert resume_run(driver.database, driver.run.name).endswith("by a test")
            driver.conductor.sweep()
            if stop is pause_run:
                driver.execute(
                    "UPDATE jobs SET lease_expires_at = now() - interval '1 s' WHERE state = 'running'"
                )
                driver.conductor.sweep()
        done += 1
        driver.do(driver.queued()[0])
        if not driver.queued():
            driver.conductor.sweep()
    assert {JobKind.SAMPLE, JobKind.VERIFY} <= kinds
    assert driver.states() == [IterationState.DONE] * 2
    assert driver.made() == undisturbed


@pytest.mark.parametrize("stop", [pause_run, cancel_run])
def test_a_training_that_was_withdrawn_is_enqueued_again(begin: Begin, stop: Callable[..., int]) -> None:
    driver = begin(RECIPE)
    driver.work(set(JobKind) - {JobKind.TRAIN})
    assert driver.states() == [IterationState.TRAINING]
    stop(driver.database, driver.run.name, "a test")
    assert driver.queued() == []
    resume_run(driver.database, driver.run.name)
    driver.conductor.sweep()
    assert len(driver.queued({JobKind.TRAIN})) == 1
    driver.work()
    assert driver.states() == [IterationState.DONE]


def stopping_sampler(act: Callable[[], object]) -> type[DeterministicSampler]:
    """A sampler in whose tenth sample somebody does something."""

    class Stopping(DeterministicSampler):
        def draw(
            self, requests: Sequence[SampleRequest], parameters: SamplingParameters
        ) -> Iterator[tuple[int, Completion | str]]:
            for drawn in super().draw(requests, parameters):
                if drawn[0] == 10:
                    act()
                yield drawn

    return Stopping


@pytest.mark.parametrize("act", [cancel_run, delete_run])
def test_a_job_of_a_stopped_run_ends_within_its_batch(
    begin: Begin, act: Callable[..., object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sample, "BATCH_SAMPLES", 4)
    later = list[Callable[[], object]]()
    driver = begin(
        make_recipe(problems={"dataset": TRAIN, "per_iteration": 20}),
        job_samples=60,
        sampler=stopping_sampler(lambda: later[0]()),
    )
    options = {} if act is cancel_run else {"models_folder": tmp_path}
    act_now = partial(act, driver.database, driver.run.name, "a test", **options)
    later.append(lambda: (wait_for(lambda: driver.count("samples") >= 4, what="a batch"), act_now()))
    driver.advance()
    (job_id,) = driver.queued()
    with pytest.raises(LeaseLostError):
        driver.compute(job_id)
    written = driver.count("samples")
    assert (written == 0) if act is delete_run else (4 <= written <= 12)
    assert driver.count("jobs") == 0
    # who held the job asks for the next work of a run that may be gone
    driver.conductor.sweep()
    assert driver.count("jobs") == 0


def test_a_worker_that_ends_a_job_of_a_deleted_run_finds_nothing_to_do(begin: Begin, tmp_path: Path) -> None:
    driver = begin(RECIPE)
    driver.advance()
    job, problem_ids = driver.compute(driver.queued()[0])
    held = call(driver.database, claim, driver.queued({JobKind.VERIFY})[0])
    delete_run(driver.database, driver.run.name, "a test", tmp_path)
    assert driver.conductor.after_job(job, problem_ids)
    assert not driver.conductor.after_job(held, problem_ids)
    driver.conductor.advance(driver.run.id)
    with pytest.raises(LeaseLostError):
        sample.run(driver._context, held)
    assert driver.rows(ROWS) == [(0, 0, 0, 0, 0, 0)]


def test_a_deletion_takes_what_only_the_run_has_and_leaves_the_rest(begin: Begin, tmp_path: Path) -> None:
    other = begin(RECIPE, name="other")
    other.work()
    before = other.rows(ROWS)
    driver = begin(RECIPE, name="doomed", folder=tmp_path, iterations=2)
    driver.work()
    scratch = tmp_path / "doomed" / f".M3-{call(driver.database, models.database_id)[:8]}-training"
    (scratch / "attempt").mkdir(parents=True)
    deletion = delete_run(driver.database, "doomed", "a test", tmp_path)
    assert (deletion.policies, deletion.kept_policies) == (["doomed-M1", "doomed-M2"], [])
    assert (deletion.contents.iterations, deletion.contents.samples) == (2, 2 * 16 + 3 * 5)
    assert deletion.checkpoint_bytes > 0
    assert other.rows(ROWS) == before
    assert not (tmp_path / "doomed").exists()
    assert [model.name for model in call(driver.database, models.list_models)] == ["M0", "other-M1"]
    with pytest.raises(NotFoundError):
        delete_run(driver.database, "doomed", "a test", tmp_path)


def test_a_deletion_leaves_the_policies_that_others_need_and_their_ancestors(
    begin: Begin, tmp_path: Path
) -> None:
    driver = begin(RECIPE, name="doomed", folder=tmp_path, iterations=3)
    driver.work()
    second = call(driver.database, models.find_model, "doomed-M2")
    call(driver.database, runs.create_run, "user", make_recipe(**WITHOUT_REWARD), second.id)
    deletion = delete_run(driver.database, "doomed", "a test", tmp_path)
    assert (deletion.policies, deletion.kept_policies) == (["doomed-M3"], ["doomed-M1", "doomed-M2"])
    assert sorted(path.name for path in (tmp_path / "doomed").iterdir()) == ["M1", "M2"]


def test_a_name_is_given_to_one_run(begin: Begin, tmp_path: Path) -> None:
    driver = begin(RECIPE, name="first", folder=tmp_path)
    call(driver.database, runs.create_run, "second", make_recipe(**WITHOUT_REWARD), driver.run.model_id)
    call(driver.database, add_problems, 8)
    driver.work(set(JobKind) - {JobKind.TRAIN})
    with pytest.raises(ConflictError, match="trains a policy of that name"):
        rename_run(driver.database, "first", "third", tmp_path)
    driver.work()
    with pytest.raises(ConflictError, match="there is already a run 'second'"):
        rename_run(driver.database, "first", "second", tmp_path)
    with pytest.raises(RecipeError, match="name"):
        rename_run(driver.database, "first", "no name", tmp_path)
    rename_run(driver.database, "first", "third", tmp_path)
    run = call(driver.database, runs.find_run, "third")
    assert (run.id, run.recipe.name) == (driver.run.id, "third")
    start_iterations(driver.database, run, 1)
    driver.work()
    names = [name for _, name in call(driver.database, rounds.list_policies, run.id)]
    assert names == ["M0", "first-M1", "third-M2"]
    # a new run would give its first policy the name that one has
    with pytest.raises(ConflictError, match="there is already a policy 'first-M1'"):
        rename_run(driver.database, "third", "first", tmp_path)


def test_a_run_under_way_is_not_archived(begin: Begin) -> None:
    driver = begin(RECIPE)
    name = driver.run.name
    with pytest.raises(ConflictError, match="is under way; first: hsstar runs pause"):
        archive_run(driver.database, name, "a test")
    pause_run(driver.database, name, "a test")
    with pytest.raises(ConflictError, match="paused by a test"):
        pause_run(driver.database, name, "a test")
    archive_run(driver.database, name, "a test")
    for act in (archive_run, cancel_run, pause_run):
        with pytest.raises(ConflictError, match="archived by a test"):
            act(driver.database, name, "a test")
    resume_run(driver.database, name)
    with pytest.raises(ConflictError, match="is not held"):
        resume_run(driver.database, name)
    driver.work()
    assert driver.states() == [IterationState.DONE]
    archive_run(driver.database, name, "a test")


def test_failed_jobs_of_a_held_run_are_not_tried_again(begin: Begin) -> None:
    driver = begin(RECIPE, job_samples=8)
    driver.advance()
    failed = driver.queued()[0]
    driver.fail(failed)
    cancel_run(driver.database, driver.run.name, "a test")
    with pytest.raises(HeldError):
        retry_jobs(driver.database, driver.run.name, [])
    with pytest.raises(NotFoundError, match="no failed job has the id"):
        retry_jobs(driver.database, None, [failed])
    assert retry_jobs(driver.database, None, []) == []
    resume_run(driver.database, driver.run.name)
    assert retry_jobs(driver.database, driver.run.name, []) == [failed]
