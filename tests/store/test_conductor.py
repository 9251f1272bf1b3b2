"""An iteration is moved by its rows alone: any number of looks, from anywhere, lead to the same end."""

import itertools
import math
import threading
import uuid
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest
from sqlalchemy import Connection

from hsstar.domain import difficulty, preference
from hsstar.domain.allocation import budget
from hsstar.domain.difficulty import Difficulty
from hsstar.domain.lifecycle import IterationState, JobKind
from hsstar.domain.problems import Problem
from hsstar.domain.prompts import render_prompt
from hsstar.domain.seeds import derived_seed, evaluation_seed, shuffle_key, slot_seed
from hsstar.domain.verdict import VERDICT_OF_CAUSE, Cause
from hsstar.engines.sampling.contract import SamplingParameters
from hsstar.engines.training.contract import TrainingPair, training_settings
from hsstar.recipe.recipe import Recipe, load_recipe
from hsstar.store import contamination, datasets, rounds
from hsstar.store.database import Database, lock_run
from hsstar.store.queue import jobs
from tests.deterministic import DeterministicSampler, mark, statement
from tests.store.conftest import MakeDatabase
from tests.store.driver import ATTEMPTS, SAMPLE_KINDS, Begin, Driver
from tests.store.factory import HELDOUT, TRAIN, add_problems, claim, make_recipe
from tests.waiting import wait_for

PROBLEMS = 12
N, N_P = 6, 2
SAMPLING = {"n": N, "n_p": N_P}
BUDGET = N * PROBLEMS
END_JOBS = "UPDATE jobs SET state = 'done', finished_at = now() WHERE state = 'queued'"
ENDLESS = r"\sum_{n=1}^{10^9} n^n"
"""An answer that no deadline is long enough for."""


def recipe_of(**sections: Any) -> Recipe:
    common: dict[str, Any] = {"problems": {"dataset": TRAIN, "per_iteration": PROBLEMS}, "sampling": SAMPLING}
    return make_recipe(**common | sections)


PLAIN = recipe_of()
MEASURED = recipe_of(evaluation={"dataset": HELDOUT})
OWN_VALUES = load_recipe(Path(__file__).with_name("own_values.toml"))
RECIPES = {
    "measured": MEASURED,
    "own values": OWN_VALUES,
    "uniform": recipe_of(sampling=SAMPLING | {"strategy": "uniform"}),
    "without rewards": recipe_of(
        reward={"model": "none"},
        difficulty={"signal": "accuracy"},
        pairs={"rule": "random"},
        evaluation={"dataset": HELDOUT, "samples": N_P, "temperature": 1.0},
    ),
}


# --- an iteration from its start to its end -------------------------------------------------------


@pytest.mark.parametrize("order", [1, -1], ids=["the new policy first", "the old policy first"])
def test_an_iteration_goes_through_its_states_in_order(begin: Begin, order: int) -> None:
    driver = begin(MEASURED)
    assert driver.states() == [IterationState.WAITING]
    driver.advance()
    seen = [*driver.states()]
    while queued := driver.queued():
        # the held-out problems last, so that the iteration is seen waiting for each of its policies
        driver.do(max(queued, key=lambda job_id: (of_iteration(driver, job_id), order * job_id)))
        if driver.states() != seen[-1:]:
            seen += driver.states()
        unfinished = driver.count("evaluations WHERE finished_at IS NULL")
        assert (seen[-1] is IterationState.DONE) == (unfinished == 0)
    assert seen == list(IterationState)[1:]


def of_iteration(driver: Driver, job_id: int) -> bool:
    query = "SELECT rounds.kind FROM jobs JOIN rounds ON rounds.id = round_id WHERE jobs.id = :id"
    return bool(driver.rows(query, id=job_id)[0].kind == "iteration")


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_every_row_is_what_the_pure_rules_make_of_the_recipe(begin: Begin, recipe: Recipe) -> None:
    driver = begin(recipe, iterations=2, job_samples=7)
    driver.work()
    assert driver.states() == [IterationState.DONE] * 2
    tables = driver.tables()
    for number in (0, 1):
        check_iteration(recipe, number, tables)
    drawn = 2 * recipe.sampling.n * PROBLEMS
    assert driver.rows("SELECT sum(budget) FROM iterations")[0][0] == drawn
    # samples of evaluations are verified, and neither scored nor labelled
    assert len(tables["rewards"]) == (drawn if recipe.reward.used else 0)
    assert driver.count("difficulty_labels") == 2 * PROBLEMS
    jobs_of_evaluations = {kind for of, _, kind, *_ in tables["jobs"] if of == "evaluation"}
    assert jobs_of_evaluations == ({"sample", "verify"} if recipe.evaluation.used else set())


def check_iteration(recipe: Recipe, iteration: int, tables: dict[str, list[list[Any]]]) -> None:
    """Compare levels, allotments and pairs with what the pure rules make of the samples."""

    def rows_of(table: str) -> list[list[Any]]:
        return [
            [Problem(row[2], "").key, *row[3:]]
            for row in tables[table]
            if row[:2] == ["iteration", iteration]
        ]

    rewards = {(key, slot): reward for key, slot, reward in rows_of("rewards")}
    samples: defaultdict[str, list[preference.Candidate]] = defaultdict(list)
    for key, slot, _, _, cause in rows_of("samples"):
        verdict = VERDICT_OF_CAUSE[Cause(cause)]
        samples[key].append(preference.Candidate(slot, verdict, rewards.get((key, slot))))
    levels: dict[str, Difficulty | None] = {}
    for key, own in samples.items():
        pre = own[: recipe.sampling.budget.pre_samples]
        scores = [sample.minimum_reward or 0.0 for sample in pre] if recipe.reward.used else None
        estimate = difficulty.estimate_difficulty([sample.verdict == "correct" for sample in pre], scores)
        levels[key] = difficulty.classify(estimate, recipe.difficulty.signal, recipe.difficulty.thresholds)
    address = {"seed": recipe.seed, "iteration": iteration}
    allotments = budget.allot(recipe.sampling.budget, levels, recipe.difficulty.resample, **address)
    assert {key: (allotment, level) for key, allotment, level in rows_of("slices")} == {
        key: (allotments[key], level) for key, level in levels.items()
    }
    assert {key: [sample.slot for sample in own] for key, own in samples.items()} == {
        key: list(range(allotment)) for key, allotment in allotments.items()
    }
    assert sum(allotments.values()) == recipe.sampling.n * PROBLEMS
    rule, at_most = recipe.pairs.rule, recipe.pairs.at_most_per_problem
    pairs = [
        [key, *pair]
        for key, own in samples.items()
        if levels[key] in recipe.difficulty.train
        for pair in preference.select_pairs(own, rule, problem_key=key, at_most=at_most, **address)
    ]
    assert sorted(rows_of("pairs")) == sorted(pairs)
    assert pairs


class RecordingSampler(DeterministicSampler):
    """Remembers what it was asked for."""

    asked: ClassVar[list[tuple[object, ...]]]

    def draw(self, requests: Any, parameters: SamplingParameters) -> Any:
        RecordingSampler.asked += [
            (self._weights, parameters, request.prompt, request.seed) for request in requests
        ]
        return super().draw(requests, parameters)


def test_each_sample_is_asked_for_once_with_its_policy_its_decoding_and_its_seed(begin: Begin) -> None:
    RecordingSampler.asked = []
    driver = begin(OWN_VALUES, iterations=2, sampler=RecordingSampler)
    driver.work()
    recipe, evaluation = OWN_VALUES, OWN_VALUES.evaluation
    (benchmark,) = evaluation.benchmarks
    sections: dict[str, Any] = {"": recipe.sampling, HELDOUT: evaluation, benchmark.evaluation_key: benchmark}
    decodings = {
        key: SamplingParameters(section.temperature, section.top_p, section.max_new_tokens, ("never said",))
        for key, section in sections.items()
    }
    expected = Counter(
        (
            row.fingerprint,
            decodings[row.evaluation_key],
            render_prompt(recipe.policy.prompt, row.statement),
            (evaluation_seed if row.evaluation_key else slot_seed)(7, row.number, row.key, slot),
        )
        for row in driver.rows(
            "SELECT fingerprint, evaluation_key, number, key, statement, allotment FROM round_problems "
            "JOIN rounds ON rounds.id = round_id JOIN problems ON problems.id = problem_id "
            "JOIN models ON models.id = model_id"
        )
        for slot in range(row.allotment)
    )
    assert Counter(RecordingSampler.asked) == expected
    assert set(expected.values()) == {1}
    assert len({seed for *_, seed in expected}) == sum(expected.values())


def test_every_policy_is_sampled_evaluated_and_voted_on_in_its_turn(begin: Begin) -> None:
    driver = begin(OWN_VALUES, iterations=2)
    driver.work()
    (benchmark,) = OWN_VALUES.evaluation.benchmarks
    policies = driver.rows("SELECT id, name, parent_id FROM models ORDER BY id")
    first, second, third = [policy.id for policy in policies]
    assert [(policy.name, policy.parent_id) for policy in policies] == [
        ("M0", None),
        (f"{driver.run.name}-M1", first),
        (f"{driver.run.name}-M2", second),
    ]
    iterations = driver.rows(
        "SELECT number, model_id, output_model_id FROM rounds JOIN iterations ON round_id = id ORDER BY 1"
    )
    assert [tuple(row) for row in iterations] == [(0, first, second), (1, second, third)]
    evaluated = driver.rows(
        "SELECT number, evaluation_key, model_id, allotment, count(*) AS problems "
        "FROM rounds JOIN round_problems ON round_id = rounds.id "
        "WHERE kind = 'evaluation' GROUP BY rounds.id, allotment ORDER BY number, length(evaluation_key)"
    )
    assert [tuple(row) for row in evaluated] == [
        (number, *evaluation)
        for number, policy in enumerate((first, second, third))
        for evaluation in (("heldout", policy, 2, 3), (benchmark.evaluation_key, policy, 3, 2))
    ]
    others = "samples JOIN rounds ON rounds.id = round_id WHERE samples.model_id <> rounds.model_id"
    assert driver.count(others) == 0
    votes = driver.rows("SELECT verdicts, count(*) FROM majority_votes GROUP BY 1 ORDER BY 1")
    assert [tuple(row) for row in votes] == [(2, 3 * 3), (3, 3 * 2)]


def test_each_policy_is_trained_from_the_one_before_on_all_pairs(begin: Begin) -> None:
    driver = begin(OWN_VALUES, iterations=2)
    driver.work()
    policies = driver.rows("SELECT location FROM models ORDER BY id")
    for number, (before, after) in enumerate(itertools.pairwise(policies)):
        pairs = driver.rows(
            "SELECT statement, chosen.response AS chosen, rejected.response AS rejected "
            "FROM preference_pairs AS pairs JOIN problems ON problems.id = problem_id "
            "JOIN rounds ON rounds.id = round_id JOIN round_problems USING (round_id, problem_id) "
            "JOIN sample_responses AS chosen ON chosen.sample_id = chosen_sample_id "
            "JOIN sample_responses AS rejected ON rejected.sample_id = rejected_sample_id "
            "WHERE number = :number ORDER BY position",
            number=number,
        )
        prompt = OWN_VALUES.policy.prompt
        trained_on = [
            TrainingPair(render_prompt(prompt, pair.statement), pair.chosen, pair.rejected) for pair in pairs
        ]
        seed = derived_seed(7, "train", number) % 2**31
        settings = training_settings(OWN_VALUES.training, seed)
        weights = Path(after.location, "model.safetensors").read_bytes()
        assert weights.endswith(mark(Path(before.location), settings, trained_on))


def test_slices_are_fresh_readable_and_without_overlaps(begin: Begin) -> None:
    """Each takes the next problems of its dataset, in the run's seeded order."""
    recipe = recipe_of(
        seed=3,
        problems={"dataset": TRAIN, "per_iteration": PROBLEMS, "overlaps": "exclude"},
        sampling={"n": 1, "n_p": 1},
        training={"objective": "none"},
        evaluation={"dataset": HELDOUT},
    )
    driver = begin(recipe, iterations=2)
    usable = [Problem(f"{TRAIN} problem {number}", str(number)) for number in range(2 * PROBLEMS + 3)]
    shared = [usable[place] for place in (2, 9, 17)]
    with driver.database.begin() as connection:
        add_problems(connection, len(usable))
        dataset, held_out = (datasets.ensure_dataset(connection, name) for name in (TRAIN, HELDOUT))
        unreadable = [Problem(statement(number), "1+*2") for number in range(5)]
        datasets.add_problems(connection, dataset, unreadable, [False] * 5)
        datasets.add_problems(connection, held_out, shared, [True] * 3)
        contamination.find_overlaps(connection, [dataset], [held_out])
    driver.work()
    assert driver.states() == [IterationState.DONE] * 2
    slices = [row[2] for row in driver.tables()["slices"] if row[0] == "iteration"]
    left = set(usable) - set(shared)
    in_order = sorted(left, key=lambda problem: shuffle_key(3, "slice", problem.key))
    assert slices == [problem.statement for problem in in_order]


def test_the_next_iteration_samples_while_the_former_is_evaluated(begin: Begin) -> None:
    driver = begin(MEASURED, iterations=2)
    driver.advance()
    while driver.states()[1] is IterationState.WAITING:
        driver.do(next(job_id for job_id in driver.queued() if of_iteration(driver, job_id)))
    assert driver.states() == [IterationState.EVALUATING, IterationState.PRE_SAMPLING]


def test_looking_again_changes_nothing_wherever_the_run_stands(begin: Begin) -> None:
    driver = begin(MEASURED, job_samples=40)
    driver.advance()
    looks = (driver.conductor.sweep, driver.conductor.sweep, driver.advance)
    with ThreadPoolExecutor(len(looks)) as threads:
        while queued := driver.queued():
            before = everything(driver)
            for look in [threads.submit(look) for look in looks]:
                look.result()
            assert everything(driver) == before
            driver.do(queued[0])
    assert driver.states() == [IterationState.DONE]


def everything(driver: Driver) -> dict[str, list[Any]]:
    """All rows that a look could change."""
    tables = ["jobs", "job_items", "iterations", "round_problems", "difficulty_labels", "preference_pairs"]
    return {
        table: [row[0] for row in driver.rows(f"SELECT {table}::text FROM {table} ORDER BY 1")]
        for table in [*tables, "rounds", "evaluations"]
    }


def test_a_sweep_looks_at_a_run_only_where_it_may_lack_work(begin: Begin) -> None:
    driver = begin(PLAIN, iterations=2)

    def without_work() -> list[int]:
        with driver.database.begin() as connection:
            return rounds.runs_without_work(connection)

    assert without_work() == [driver.run.id]  # no iteration has begun
    driver.conductor.sweep()
    assert without_work() == []  # the second iteration waits, and that is no reason to look
    driver.execute(END_JOBS)
    assert without_work() == [driver.run.id]  # its worker has died before it looked itself
    driver.conductor.sweep()
    assert without_work() == []
    driver.work()
    assert driver.states() == [IterationState.DONE] * 2
    assert without_work() == []


def test_the_end_of_a_job_moves_nothing_while_others_of_its_round_are_live(begin: Begin) -> None:
    driver = begin(PLAIN, job_samples=5)
    driver.advance()
    first, *others = driver.queued()
    assert others
    assert driver.do(first) is True  # it has added verification and scoring
    before = everything(driver)
    round_id = driver.rows("SELECT round_id FROM iterations")[0].round_id
    with driver.database.begin() as connection:
        lock_run(connection, driver.run.id)  # so whoever advances the run would wait
        job = jobs.Job(first, round_id, JobKind.VERIFY, 1, uuid.uuid4(), "driver")
        assert driver.conductor.after_job(job, []) is False
    assert everything(driver) == before
    driver.execute(END_JOBS)
    before = everything(driver)
    assert driver.conductor.after_job(job, [], job) is False  # whoever holds another one of them will look
    assert everything(driver) == before
    assert driver.conductor.after_job(job, []) is True


def test_a_problem_is_labelled_when_its_pre_samples_are_judged(begin: Begin) -> None:
    driver = begin(PLAIN, job_samples=6)
    driver.work([JobKind.SAMPLE])
    verifications, scorings = (driver.queued([JobKind.VERIFY]), driver.queued([JobKind.SCORE]))
    for judging in (verifications, scorings):
        assert driver.count("difficulty_labels") == 0
        driver.do(judging[0])
    assert driver.count("difficulty_labels") == 3  # of two samples each, while others wait
    driver.work(SAMPLE_KINDS)
    assert driver.states() == [IterationState.TRAINING]


def test_the_jobs_that_end_a_round_together_move_it_on_once(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = begin(PLAIN, job_samples=5)
    driver.work([JobKind.SAMPLE, JobKind.VERIFY])
    *others, one, other = driver.queued()  # scorings, of different samples
    for job_id in others:
        driver.do(job_id)
    barrier = threading.Barrier(2, timeout=30)
    complete = jobs.complete

    def together(connection: Connection, job: jobs.Job) -> None:
        complete(connection, job)
        barrier.wait()  # both have ended their jobs, neither has committed

    with ThreadPoolExecutor(2) as threads, monkeypatch.context() as patch:
        patch.setattr(jobs, "complete", together)
        assert any(threads.map(driver.do, (one, other)))
    assert driver.states() == [IterationState.RE_SAMPLING]
    assert driver.count("remaining_budget WHERE remaining > 0") == 0
    assert driver.count("job_items JOIN jobs ON jobs.id = job_id WHERE state = 'queued'") > 0
    driver.work()
    assert driver.states() == [IterationState.DONE]
    assert driver.statistics().drawn == BUDGET
    assert driver.count("jobs WHERE attempts > 1") == 0


# --- recipes --------------------------------------------------------------------------------------


def all_right(statement: str, seed: int) -> tuple[object, float]:
    return statement.split()[-1], 1.0


def test_without_a_boundary_problem_the_rest_of_the_budget_stays_unspent(begin: Begin) -> None:
    driver = begin(PLAIN, all_right)
    driver.work()
    assert driver.states() == [IterationState.DONE]
    row = driver.statistics()
    assert (row.budget, row.drawn, row.boundary, row.pairs) == (BUDGET, N_P * PROBLEMS, 0, 0)
    assert row.output_model == row.model == "M0"
    assert driver.count("jobs WHERE kind = 'train'") == 0


def test_fine_tuning_needs_no_pair(begin: Begin) -> None:
    """Where every sample is right there is nothing to prefer, and yet something to learn."""
    trained = {"train": ["inlier"], "resample": ["inlier"]}
    driver = begin(recipe_of(training={"objective": "sft"}, difficulty=trained), all_right)
    driver.work()
    row = driver.statistics()
    assert (row.pairs, row.output_model) == (0, f"{driver.run.name}-M1")
    assert driver.count("training_runs WHERE objective = 'sft' AND pairs > 0") == 1


def test_the_objective_none_ends_with_the_pairs(begin: Begin) -> None:
    driver = begin(recipe_of(training={"objective": "none"}), iterations=2)
    driver.work()
    assert driver.states() == [IterationState.DONE] * 2
    assert driver.statistics().pairs > 0
    assert driver.statistics(1).model == "M0"
    assert driver.count("jobs WHERE kind = 'train'") == 0


# --- what goes wrong ------------------------------------------------------------------------------


def test_a_reference_that_proves_unreadable_leaves_its_problem_out(begin: Begin) -> None:
    driver = begin(PLAIN)
    driver.execute("UPDATE problems SET reference_answer = '1+*2' WHERE statement = 'train problem 1'")
    driver.work()
    assert driver.statistics().drawn == BUDGET  # its share goes to the boundary problems
    (row,) = driver.rows(
        """
        SELECT exclusion, problem_statistics.* FROM problem_statistics
        JOIN problems ON problems.id = problem_id
        JOIN round_problems USING (problem_id) WHERE reference_answer = '1+*2'
        """
    )
    assert row.exclusion == "the reference answer cannot be read"
    assert (row.drawn, row.allotment, row.difficulty, row.pairs) == (N_P, N_P, None, 0)


def test_checking_that_failed_gives_no_verdict_and_no_pair(begin: Begin) -> None:
    endless = slot_seed(0, 0, Problem(f"{TRAIN} problem 1", "").key, 0)
    driver = begin(PLAIN, lambda _, seed: (ENDLESS, 0.5) if seed == endless else None)
    driver.work()
    assert driver.states() == [IterationState.DONE]
    (sample,) = driver.rows("SELECT id, problem_id, verdict FROM samples WHERE cause = 'timed_out'")
    assert sample.verdict is None
    paired = driver.rows(
        "SELECT chosen_sample_id, rejected_sample_id FROM preference_pairs WHERE problem_id = :problem",
        problem=sample.problem_id,
    )
    assert paired
    assert sample.id not in {side for pair in paired for side in pair}


def test_a_refused_problem_does_not_hold_up_the_others(begin: Begin) -> None:
    class Refusing(DeterministicSampler):
        def _complete(self, prompt: str, seed: int) -> Any:
            return "the prompt is too long" if "problem 1\n" in prompt else super()._complete(prompt, seed)

    driver = begin(PLAIN, sampler=Refusing)
    driver.work()
    assert driver.states() == [IterationState.DONE]
    assert driver.statistics().drawn == BUDGET - N_P
    assert driver.count("round_problems WHERE exclusion = 'the prompt is too long'") == 1


def test_lost_rows_are_drawn_verified_and_scored_again(begin: Begin) -> None:
    driver = begin(PLAIN)
    driver.work([JobKind.SAMPLE])
    driver.execute(END_JOBS)  # all jobs are done, and yet rows are missing
    driver.execute("DELETE FROM samples WHERE id = (SELECT max(id) FROM samples)")
    driver.conductor.sweep()
    assert [len(driver.queued([kind])) for kind in SAMPLE_KINDS] == [1, 2, 2]
    driver.work()
    assert driver.states() == [IterationState.DONE]
    assert driver.statistics().drawn == BUDGET


def test_sweeps_move_a_run_whose_workers_die_before_they_look(begin: Begin) -> None:
    driver = begin(PLAIN, job_samples=36)
    driver.conductor.sweep()
    while queued := driver.queued():
        for job_id in queued:
            driver.compute(job_id)
        driver.conductor.sweep()
    assert driver.states() == [IterationState.DONE]
    check_iteration(PLAIN, 0, driver.tables())


def test_whoever_advances_a_run_waits_for_its_lock(begin: Begin) -> None:
    driver = begin(PLAIN)
    with ThreadPoolExecutor(1) as threads:
        with driver.database.begin() as connection:
            lock_run(connection, driver.run.id)
            looking = threads.submit(driver.advance)
            wait_for(lambda: driver.count("pg_locks WHERE locktype = 'advisory' AND NOT granted"), 10)
            assert driver.states() == [IterationState.WAITING]
        looking.result()
    assert driver.states() == [IterationState.PRE_SAMPLING]


def test_a_dead_worker_costs_an_attempt_and_nothing_else(begin: Begin) -> None:
    driver = begin(PLAIN, job_samples=6)
    driver.advance()
    with driver.database.begin() as connection:
        for job_id in driver.queued()[:3]:
            claim(connection, job_id, "dead", lease_seconds=-1)
    assert driver.conductor.sweep() == math.inf
    with driver.database.begin() as connection:
        job = claim(connection, driver.queued()[-1], "alive", lease_seconds=50)
    assert 40 < driver.conductor.sweep() <= 50
    with driver.database.begin() as connection:
        jobs.release(connection, job)
    driver.work()
    assert driver.states() == [IterationState.DONE]
    assert driver.statistics().drawn == BUDGET
    assert driver.count("jobs WHERE attempts = 2") == 3


def test_attempts_are_bounded_in_the_sweep_too(begin: Begin) -> None:
    driver = begin(PLAIN, job_samples=1)
    driver.advance()
    job_id = driver.queued()[0]
    for _ in range(ATTEMPTS):
        with driver.database.begin() as connection:
            claim(connection, job_id, "dead", lease_seconds=-1)
        driver.conductor.sweep()
    assert driver.count("jobs WHERE state = 'failed'") == 1


# --- evaluations and repeatability ----------------------------------------------------------------


def test_held_out_accuracy_is_the_mean_over_problems(begin: Begin) -> None:
    recipe = recipe_of(evaluation={"dataset": HELDOUT, "problems": 4, "samples": 2})
    places: dict[str, int] = {}

    def script(statement: str, seed: int) -> tuple[object, float]:
        """Of the held-out problems: two right twice, one right once, one never."""
        if not statement.startswith(HELDOUT):
            return all_right(statement, seed)
        place = places.setdefault(statement, len(places))
        first = seed == evaluation_seed(recipe.seed, 0, Problem(statement, "").key, 0)
        return (statement.split()[-1] if place < 2 or (place == 2 and first) else "wrong"), 1.0

    driver = begin(recipe, script)
    driver.work()
    row = driver.statistics()
    assert row.heldout_accuracy_before == row.heldout_accuracy_after == 0.625  # (1 + 1 + ½ + 0) / 4
    assert round(row.heldout_error_before, 6) == 0.239357  # √((2·0.375² + 0.125² + 0.625²) / 3 / 4)
    assert driver.count("evaluations") == 1  # one policy, one evaluation


def test_the_same_recipe_in_another_database_gives_the_same_data(
    begin: Begin, database: Database, make_database: MakeDatabase, template: str
) -> None:
    """Whatever the ids, the order of import and the size of jobs."""
    recipe = recipe_of(seed=5)
    with make_database(template) as other:
        with other.begin() as connection:
            add_problems(connection, 9, "another dataset first")
        outcomes = []
        for place, job_samples in ((database, 64), (other, 5)):
            driver = begin(recipe, iterations=2, job_samples=job_samples, database=place)
            driver.work()
            outcomes.append({name: rows for name, rows in driver.tables().items() if name != "jobs"})
    assert outcomes[0] == outcomes[1]
    assert all(outcomes[0].values())
