"""An iteration is moved by its rows alone: any number of looks, from anywhere, lead to the same end."""

import threading
import uuid
from collections import defaultdict
from typing import Any

from sqlalchemy import Connection, text

from hsstar.domain import difficulty
from hsstar.domain.allocation import budget
from hsstar.domain.difficulty import Difficulty
from hsstar.domain.lifecycle import IterationState, JobKind
from hsstar.domain.seeds import slot_seed
from hsstar.domain.verdict import Cause
from hsstar.recipe.recipe import Recipe
from hsstar.store import rounds
from hsstar.store.database import Database, lock_run
from hsstar.store.queue import jobs
from hsstar.store.runs import Run
from tests.store.conftest import MakeDatabase
from tests.store.factory import HELDOUT, add_problems, add_run, claim, make_recipe
from tests.store.hand import ATTEMPTS, Hand, Script, all_easy, three_levels

PROBLEMS = 12
SAMPLING = {"n": 6, "n_p": 2}
BUDGET = SAMPLING["n"] * PROBLEMS


def recipe_of(**sections: Any) -> Recipe:
    given: dict[str, Any] = {
        "problems": {"dataset": "train", "per_iteration": PROBLEMS},
        "sampling": SAMPLING,
    }
    return make_recipe(**given | sections)


def start(database: Database, recipe: Recipe | None = None, iterations: int = 1) -> Run:
    """A run with waiting iterations and enough problems for them."""
    with database.begin() as connection:
        add_problems(connection, iterations * PROBLEMS)
        add_problems(connection, 5, HELDOUT)
        run = add_run(connection, recipe or recipe_of())
        rounds.add_iterations(connection, run, range(iterations))
    return run


def states(database: Database, run: Run) -> list[IterationState]:
    with database.begin() as connection:
        return [iteration.state for iteration in rounds.list_iterations(connection, run.id)]


def numbers(database: Database, run: Run, iteration: int = 0) -> dict[str, Any]:
    """The row of `iteration_statistics`."""
    with database.begin() as connection:
        row = connection.execute(
            text("SELECT * FROM iteration_statistics WHERE run = :run AND iteration = :iteration"),
            {"run": run.name, "iteration": iteration},
        )
        return dict(row.mappings().one())


def count(database: Database, condition: str) -> int:
    with database.begin() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {condition}")).scalar_one())


# --- the way of an iteration ----------------------------------------------------------------------


def test_an_iteration_goes_through_its_states_in_order(database: Database) -> None:
    run = start(database, recipe_of(evaluation={"dataset": HELDOUT}))
    hand = Hand(database)
    assert states(database, run) == [IterationState.WAITING]
    hand.conductor.advance(run.id)
    seen = [*states(database, run)]
    while found := hand.queued():
        # the held-out problems last, so that the iteration is seen waiting for them
        hand.do(max(found, key=lambda job_id: (of_iteration(database, job_id), -job_id)))
        if states(database, run) != seen[-1:]:
            seen += states(database, run)
    assert seen == list(IterationState)[1:]


def of_iteration(database: Database, job_id: int) -> bool:
    with database.begin() as connection:
        found = connection.scalar(
            text("SELECT rounds.kind FROM jobs JOIN rounds ON rounds.id = round_id WHERE jobs.id = :id"),
            {"id": job_id},
        )
    return bool(found == "iteration")


def test_every_iteration_draws_its_budget_exactly_and_keeps_the_rules(database: Database) -> None:
    run = start(database, recipe_of(evaluation={"dataset": HELDOUT}), iterations=2)
    Hand(database, job_samples=7).work()
    assert states(database, run) == [IterationState.DONE] * 2
    with database.begin() as connection:
        for iteration in rounds.list_iterations(connection, run.id):
            check_iteration(connection, run, iteration.round)
        slices = connection.execute(
            text("SELECT problem_id FROM round_problems JOIN iterations USING (round_id)")
        )
        assert len(set(slices.scalars())) == 2 * PROBLEMS  # fresh problems in each iteration
    first, second = (numbers(database, run, number) for number in (0, 1))
    assert (first["model"], first["output_model"]) == ("M0", f"{run.name}-M1")
    assert (second["model"], second["output_model"]) == (f"{run.name}-M1", f"{run.name}-M2")
    assert count(database, "evaluations WHERE accuracy IS NOT NULL") == 3


def check_iteration(connection: Connection, run: Run, iteration: rounds.Round) -> None:
    """The invariants of METHOD, computed again from the rows by the pure rules."""
    recipe = run.recipe
    drawn = connection.execute(
        text("""
            SELECT key, slot, verdict, min_reward, seed FROM samples
            JOIN problems ON problems.id = problem_id WHERE round_id = :id ORDER BY key, slot
        """),
        {"id": iteration.id},
    ).all()
    assert len(drawn) == BUDGET
    assert [row.seed for row in drawn] == [
        slot_seed(recipe.seed, iteration.number, row.key, row.slot) for row in drawn
    ]
    assert len({row.seed for row in drawn}) == BUDGET

    by_key = defaultdict(list)
    for row in drawn:
        by_key[row.key].append(row)
    levels: dict[str, Difficulty | None] = {}
    for key, own in by_key.items():
        pre = own[: SAMPLING["n_p"]]
        found = difficulty.estimate_difficulty(
            [row.verdict == "correct" for row in pre], [row.min_reward for row in pre]
        )
        levels[key] = difficulty.classify(found, recipe.difficulty.signal, recipe.difficulty.thresholds)
    stored = connection.execute(
        text("""
            SELECT key, labels.level, allotment FROM difficulty_labels AS labels
            JOIN round_problems USING (round_id, problem_id)
            JOIN problems ON problems.id = problem_id WHERE round_id = :id
        """),
        {"id": iteration.id},
    ).all()
    assert {row.key: row.level for row in stored} == levels
    allotments = budget.allot(
        recipe.sampling.budget,
        levels,
        recipe.difficulty.resample,
        seed=recipe.seed,
        iteration=iteration.number,
    )
    assert {row.key: row.allotment for row in stored} == allotments
    assert {key: len(own) for key, own in by_key.items()} == allotments

    pairs = connection.execute(
        text("""
            SELECT key,
                chosen.problem_id = pairs.problem_id AND rejected.problem_id = pairs.problem_id AS own,
                chosen.verdict AS good, rejected.verdict AS bad
            FROM preference_pairs AS pairs
            JOIN problems ON problems.id = pairs.problem_id
            JOIN samples AS chosen ON chosen.id = chosen_sample_id
            JOIN samples AS rejected ON rejected.id = rejected_sample_id
            WHERE pairs.round_id = :id
        """),
        {"id": iteration.id},
    ).all()
    assert pairs
    for pair in pairs:
        assert (pair.own, pair.good, pair.bad) == (True, "correct", "incorrect")
        assert levels[pair.key] is Difficulty.BOUNDARY


def test_the_next_iteration_samples_while_the_former_is_evaluated(database: Database) -> None:
    run = start(database, recipe_of(evaluation={"dataset": HELDOUT}), iterations=2)
    hand = Hand(database)
    hand.conductor.advance(run.id)
    while states(database, run)[1] is IterationState.WAITING:
        hand.do(next(job_id for job_id in hand.queued() if of_iteration(database, job_id)))
    assert states(database, run) == [IterationState.EVALUATING, IterationState.PRE_SAMPLING]


def test_looking_again_changes_nothing_wherever_the_run_stands(database: Database) -> None:
    run = start(database, recipe_of(evaluation={"dataset": HELDOUT}))
    hand = Hand(database, job_samples=40)
    hand.conductor.advance(run.id)
    while found := hand.queued():
        before = everything(database)
        looks = (hand.conductor.sweep, hand.conductor.sweep, lambda: hand.conductor.advance(run.id))
        threads = [threading.Thread(target=look) for look in looks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert everything(database) == before
        hand.do(found[0])
    assert states(database, run) == [IterationState.DONE]


def test_a_sweep_looks_at_a_run_only_where_it_may_lack_work(database: Database) -> None:
    run = start(database, iterations=2)
    hand = Hand(database)

    def without_work() -> list[int]:
        with database.begin() as connection:
            return rounds.runs_without_work(connection)

    assert without_work() == [run.id]  # no iteration has begun
    hand.conductor.sweep()
    assert without_work() == []  # the second iteration waits, and that is no reason to look
    with database.begin() as connection:
        connection.execute(text("UPDATE jobs SET state = 'done', finished_at = now()"))
    assert without_work() == [run.id]  # its worker has died before it looked itself
    hand.conductor.sweep()
    assert without_work() == []
    hand.work()
    assert states(database, run) == [IterationState.DONE] * 2
    assert without_work() == []


def test_the_end_of_a_job_moves_nothing_while_others_of_its_round_are_live(database: Database) -> None:
    run = start(database)
    hand = Hand(database, job_samples=5)
    hand.conductor.advance(run.id)
    first, *others = hand.queued()
    hand.do(first)
    before = everything(database)
    with database.begin() as connection:
        lock_run(connection, run.id)  # so whoever advances the run would wait
        job = jobs.Job(first, round_of(connection, first), JobKind.VERIFY, 1, uuid.uuid4(), "hand")
        assert hand.conductor.after_job(job, []) is False
    assert everything(database) == before
    assert others
    with database.begin() as connection:
        connection.execute(text("UPDATE jobs SET state = 'done', finished_at = now() WHERE state = 'queued'"))
    before = everything(database)
    assert hand.conductor.after_job(job, [], job) is False  # whoever holds another one of them will look
    assert everything(database) == before
    assert hand.conductor.after_job(job, []) is True


def test_the_jobs_that_end_a_round_together_move_it_on_once(database: Database) -> None:
    run = start(database)
    hand = Hand(database, job_samples=5)
    hand.work([JobKind.SAMPLE, JobKind.VERIFY])
    *others, one, other = hand.queued()  # scorings, of different samples
    for job_id in others:
        hand.do(job_id)
    barrier = threading.Barrier(2, timeout=30)
    report, results = hand.conductor.after_job, hand._results

    def together(connection: Connection, job: jobs.Job) -> list[int]:
        touched = results(connection, job)
        barrier.wait()  # both have ended their jobs, neither has committed
        return touched

    hand._results = together  # type: ignore[method-assign]
    moved: list[bool] = []

    def note(job: jobs.Job, ids: list[int], following: jobs.Job | None = None) -> bool:
        moved.append(report(job, ids))
        return False

    hand.conductor.after_job = note  # type: ignore[method-assign, assignment]
    threads = [threading.Thread(target=hand.do, args=(job_id,)) for job_id in (one, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert any(moved)
    assert states(database, run) == [IterationState.RE_SAMPLING]
    wanted = count(database, "remaining_budget WHERE remaining > 0")
    held = count(database, "job_items JOIN jobs ON jobs.id = job_id WHERE state = 'queued'")
    assert wanted == 0
    assert held > 0
    hand._results = results  # type: ignore[method-assign]
    hand.conductor.after_job = report  # type: ignore[method-assign]
    hand.work()
    assert states(database, run) == [IterationState.DONE]
    assert numbers(database, run)["drawn"] == BUDGET
    assert count(database, "jobs WHERE attempts > 1") == 0


def round_of(connection: Connection, job_id: int) -> int:
    return int(
        connection.execute(text("SELECT round_id FROM jobs WHERE id = :id"), {"id": job_id}).scalar_one()
    )


def everything(database: Database) -> dict[str, list[Any]]:
    """All rows that a look could change."""
    tables = ["jobs", "job_items", "iterations", "round_problems", "difficulty_labels", "preference_pairs"]
    with database.begin() as connection:
        return {
            table: list(connection.execute(text(f"SELECT {table}::text FROM {table} ORDER BY 1")).scalars())
            for table in [*tables, "rounds", "evaluations"]
        }


# --- recipes --------------------------------------------------------------------------------------


def test_without_a_boundary_problem_the_rest_of_the_budget_stays_unspent(database: Database) -> None:
    run = start(database)
    Hand(database, all_easy).work()
    assert states(database, run) == [IterationState.DONE]
    found = numbers(database, run)
    assert (found["budget"], found["drawn"], found["boundary"], found["pairs"]) == (BUDGET, 24, 0, 0)
    assert found["output_model"] == found["model"] == "M0"
    assert count(database, "jobs WHERE kind = 'train'") == 0


def test_the_objective_none_ends_with_the_pairs(database: Database) -> None:
    run = start(database, recipe_of(training={"objective": "none"}), iterations=2)
    Hand(database).work()
    assert states(database, run) == [IterationState.DONE] * 2
    assert numbers(database, run)["pairs"] > 0
    assert numbers(database, run, 1)["model"] == "M0"
    assert count(database, "jobs WHERE kind = 'train'") == 0


def test_uniform_sampling_draws_the_whole_budget_at_once(database: Database) -> None:
    run = start(database, recipe_of(sampling=SAMPLING | {"strategy": "uniform"}))
    Hand(database).work()
    found = numbers(database, run)
    assert (found["drawn"], found["drawn_pre"], found["drawn_re"]) == (BUDGET, BUDGET, 0)
    assert found["inlier"] + found["boundary"] + found["outlier"] == PROBLEMS
    assert found["pairs"] > 0
    assert count(database, f"round_problems WHERE allotment <> {SAMPLING['n']}") == 0


def test_a_run_without_a_reward_model_needs_no_scores(database: Database) -> None:
    recipe = recipe_of(reward={"model": "none"}, difficulty={"signal": "accuracy"}, pairs={"rule": "random"})
    run = start(database, recipe)
    Hand(database).work()
    assert numbers(database, run)["drawn"] == BUDGET
    assert count(database, "jobs WHERE kind = 'score'") == 0


def test_other_levels_can_be_sampled_and_trained_on(database: Database) -> None:
    run = start(database, recipe_of(difficulty={"resample": ["outlier", "boundary"], "train": ["outlier"]}))
    Hand(database).work()
    found = numbers(database, run)
    assert found["drawn"] == BUDGET
    assert found["pairs"] == 0  # the outliers of the script never come out right
    resampled = count(database, "problem_statistics WHERE allotment > 2")
    assert resampled == found["outlier"] + found["boundary"]


# --- what goes wrong ------------------------------------------------------------------------------


def spoiled(spoiled_key: str, cause: Cause) -> Script:
    """The usual script, but for one problem."""
    return lambda key, slot: (cause, 0.5) if key == spoiled_key else three_levels(key, slot)


def key_of_some_problem(database: Database) -> str:
    with database.begin() as connection:
        return str(
            connection.scalar(text("SELECT key FROM problems WHERE statement LIKE 'train%' ORDER BY 1"))
        )


def test_a_problem_with_an_unreadable_reference_is_left_out_and_reported(database: Database) -> None:
    run = start(database)
    key = key_of_some_problem(database)
    Hand(database, spoiled(key, Cause.BAD_REFERENCE)).work()
    assert numbers(database, run)["drawn"] == BUDGET  # its share goes to the boundary problems
    with database.begin() as connection:
        row = connection.execute(
            text("""
                SELECT exclusion, problem_statistics.* FROM problem_statistics
                JOIN problems ON problems.id = problem_id
                JOIN round_problems USING (problem_id) WHERE key = :key
            """),
            {"key": key},
        ).one()
    assert row.exclusion == "the reference answer cannot be read"
    assert (row.drawn, row.allotment, row.difficulty, row.pairs) == (2, 2, None, 0)


def test_checking_that_failed_gives_no_verdict_and_no_pair(database: Database) -> None:
    run = start(database)
    key = key_of_some_problem(database)
    Hand(database, spoiled(key, Cause.TIMED_OUT)).work()
    assert states(database, run) == [IterationState.DONE]
    assert (
        count(
            database, f"problem_statistics JOIN problems ON id = problem_id WHERE key = '{key}' AND pairs > 0"
        )
        == 0
    )
    assert count(database, "samples WHERE cause = 'timed_out' AND verdict IS NULL") > 0


def test_a_refused_problem_does_not_hold_up_the_others(database: Database) -> None:
    run = start(database)
    hand = Hand(database)
    hand.conductor.advance(run.id)
    with database.begin() as connection:
        round_id, problem_id = connection.execute(
            text("SELECT round_id, problem_id FROM round_problems WHERE position = 3")
        ).one()
        rounds.exclude(connection, round_id, {problem_id: "the prompt is too long"})
        connection.execute(text("DELETE FROM job_items WHERE problem_id = :id"), {"id": problem_id})
    hand.work()
    assert states(database, run) == [IterationState.DONE]
    assert numbers(database, run)["drawn"] == BUDGET - SAMPLING["n_p"]
    assert count(database, f"samples WHERE problem_id = {problem_id}") == 0


def test_lost_rows_are_drawn_verified_and_scored_again(database: Database) -> None:
    run = start(database)
    hand = Hand(database)
    hand.work([JobKind.SAMPLE])
    with database.begin() as connection:  # all jobs are done, and yet rows are missing
        connection.execute(text("UPDATE jobs SET state = 'done', finished_at = now() WHERE state = 'queued'"))
        connection.execute(text("DELETE FROM samples WHERE slot = 1"))
    hand.conductor.sweep()
    assert count(database, "jobs WHERE state = 'queued' AND kind = 'sample'") == 1
    assert count(database, "jobs WHERE state = 'queued' AND kind = 'verify'") == 1
    assert count(database, "jobs WHERE state = 'queued' AND kind = 'score'") == 1
    hand.work()
    assert states(database, run) == [IterationState.DONE]
    assert numbers(database, run)["drawn"] == BUDGET


def test_a_dead_worker_costs_an_attempt_and_nothing_else(database: Database) -> None:
    run = start(database)
    hand = Hand(database, job_samples=5)
    hand.conductor.advance(run.id)
    with database.begin() as connection:
        for job_id in hand.queued()[:3]:
            claim(connection, job_id, "dead", lease_seconds=-1)
    hand.work()
    assert states(database, run) == [IterationState.DONE]
    assert numbers(database, run)["drawn"] == BUDGET
    assert count(database, "jobs WHERE attempts = 2") == 3


def test_a_failed_job_holds_its_items_until_it_is_retried(database: Database) -> None:
    run = start(database)
    hand = Hand(database, job_samples=5)
    hand.conductor.advance(run.id)
    with database.begin() as connection:
        job = claim(connection, hand.queued()[0])
        jobs.record_failure(connection, job, "it broke", "", 1, divisible=False)
    hand.work()
    assert states(database, run) == [IterationState.PRE_SAMPLING]
    assert hand.queued() == []
    with database.begin() as connection:
        jobs.retry(connection, run.id, [])
    hand.work()
    assert states(database, run) == [IterationState.DONE]
    assert numbers(database, run)["drawn"] == BUDGET


def test_a_failed_training_waits_for_its_retry(database: Database) -> None:
    run = start(database)
    hand = Hand(database)
    hand.work([JobKind.SAMPLE, JobKind.VERIFY, JobKind.SCORE])
    with database.begin() as connection:
        (job_id,) = hand.queued([JobKind.TRAIN])
        jobs.record_failure(connection, claim(connection, job_id), "out of memory", "", 1, divisible=False)
    hand.work()
    assert states(database, run) == [IterationState.TRAINING]
    with database.begin() as connection:
        jobs.retry(connection, run.id, [])
    hand.work()
    assert states(database, run) == [IterationState.DONE]


# --- evaluations and repeatability ----------------------------------------------------------------


def test_held_out_accuracy_is_the_mean_over_problems(database: Database) -> None:
    recipe = recipe_of(evaluation={"dataset": HELDOUT, "problems": 4, "samples": 2})
    run = start(database, recipe)
    places: dict[str, int] = {}

    def script(key: str, slot: int) -> tuple[Cause, float]:
        """Of the held-out problems: two right twice, one right once, one never."""
        if key not in heldout:
            return all_easy(key, slot)
        place = places.setdefault(key, len(places))
        return (Cause.CORRECT if place < 2 or (place == 2 and slot == 0) else Cause.INCORRECT), 1.0

    with database.begin() as connection:
        heldout = set(
            connection.execute(text("SELECT key FROM problems WHERE statement LIKE 'heldout%'")).scalars()
        )
    Hand(database, script).work()
    found = numbers(database, run)
    assert found["heldout_accuracy_before"] == found["heldout_accuracy_after"] == 0.625  # (1 + 1 + ½ + 0) / 4
    assert round(found["heldout_error_before"], 6) == 0.239357  # √((2·0.375² + 0.125² + 0.625²) / 3 / 4)
    assert count(database, "evaluations") == 1  # one policy, one evaluation


def test_the_same_recipe_in_another_database_gives_the_same_data(
    database: Database, make_database: MakeDatabase, template: str
) -> None:
    """Whatever the ids, the order of import and the size of jobs."""
    recipe = recipe_of(seed=5)
    with make_database(template) as other:
        with other.begin() as connection:
            add_problems(connection, 9, "another dataset first")
        run, other_run = start(database, recipe, 2), start(other, recipe, 2)
        Hand(database, job_samples=64).work()
        Hand(other, job_samples=5).work()
        outcome = fingerprint(database, run)
        assert outcome == fingerprint(other, other_run)
    assert all(outcome)


def fingerprint(database: Database, run: Run) -> tuple[set[Any], ...]:
    """Slices with allotments, samples with seeds, and pairs, by what names them everywhere."""
    with database.begin() as connection:
        return tuple(
            {tuple(row) for row in connection.execute(text(query), {"run": run.id})}
            for query in (
                "SELECT number, key, position, allotment FROM round_problems "
                "JOIN rounds ON rounds.id = round_id JOIN problems ON problems.id = problem_id "
                "WHERE run_id = :run",
                "SELECT number, key, slot, seed FROM samples JOIN rounds ON rounds.id = round_id "
                "JOIN problems ON problems.id = problem_id WHERE run_id = :run",
                "SELECT number, chosen.response, rejected.response FROM preference_pairs "
                "JOIN rounds ON rounds.id = round_id "
                "JOIN sample_responses AS chosen ON chosen.sample_id = chosen_sample_id "
                "JOIN sample_responses AS rejected ON rejected.sample_id = rejected_sample_id "
                "WHERE run_id = :run",
            )
        )


def test_attempts_are_bounded_in_the_sweep_too(database: Database) -> None:
    run = start(database)
    hand = Hand(database, job_samples=1)
    hand.conductor.advance(run.id)
    job_id = hand.queued()[0]
    for _ in range(ATTEMPTS):
        with database.begin() as connection:
            claim(connection, job_id, "dead", lease_seconds=-1)
        hand.conductor.sweep()
    assert count(database, "jobs WHERE state = 'failed'") == 1


def test_fine_tuning_needs_no_pair(database: Database) -> None:
    """Where every sample is right there is nothing to prefer, and yet something to learn."""
    trained = {"train": ["inlier"], "resample": ["inlier"]}
    run = start(database, recipe_of(training={"objective": "sft"}, difficulty=trained))
    Hand(database, all_easy).work()
    assert numbers(database, run)["pairs"] == 0
    assert numbers(database, run)["output_model"] == f"{run.name}-M1"
    assert count(database, "training_runs WHERE objective = 'sft' AND pairs > 0") == 1
