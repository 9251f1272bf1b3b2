"""An iteration is moved by its rows alone: any number of looks, from anywhere, lead to the same end."""

import contextlib
import itertools
import random
import threading
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from sqlalchemy import Connection

from hsstar.conductor import Conductor
from hsstar.domain import difficulty, preference
from hsstar.domain.allocation import budget, sharing
from hsstar.domain.allocation.belief import Beliefs, empirical_prior
from hsstar.domain.allocation.policy import State, find_policy, make_table
from hsstar.domain.difficulty import Difficulty
from hsstar.domain.lifecycle import IterationState, JobKind
from hsstar.domain.problems import Problem
from hsstar.domain.prompts import render_prompt
from hsstar.domain.seeds import derived_seed, evaluation_seed, shuffle_key, slot_seed
from hsstar.domain.verdict import VERDICT_OF_CAUSE, Cause, Verdict
from hsstar.engines.sampling.contract import SamplingParameters
from hsstar.engines.training.contract import TrainingPair, training_settings
from hsstar.recipe.recipe import Recipe, load_recipe
from hsstar.store import contamination, counts, datasets, rounds
from hsstar.store.database import lock_run
from hsstar.store.queue import jobs
from tests.deterministic import DeterministicSampler, Script, mark, statement
from tests.store.conftest import MakeDatabase
from tests.store.driver import ATTEMPTS, SAMPLE_KINDS, Begin, Driver, call
from tests.store.factory import HELDOUT, TRAIN, add_problems, claim, make_recipe

PROBLEMS = 12
N, N_P = 6, 2
SAMPLING = {"n": N, "n_p": N_P}
BUDGET = N * PROBLEMS
END_JOBS = "UPDATE jobs SET state = 'done', finished_at = now() WHERE state = 'queued'"


def recipe_of(**sections: Any) -> Recipe:
    common: dict[str, Any] = {"problems": {"dataset": TRAIN, "per_iteration": PROBLEMS}, "sampling": SAMPLING}
    return make_recipe(**common | sections)


PLAIN = recipe_of()
MEASURED = recipe_of(evaluation={"dataset": HELDOUT})
WAVES = recipe_of(
    sampling=SAMPLING | {"n": 8},
    allocation={"policy": "pairs", "waves": 3, "worth": "fading", "ratio": 0.5},
    pairs={"at_most_per_problem": 2, "distinct": True},
)
OWN_VALUES = load_recipe(Path(__file__).with_name("own_values.toml"))
RECIPES = {
    "measured": MEASURED,
    "own values": OWN_VALUES,
    "waves": WAVES,
    "uniform": recipe_of(sampling=SAMPLING | {"strategy": "uniform"}),
    "without rewards": recipe_of(
        reward={"model": "none"},
        difficulty={"signal": "accuracy"},
        pairs={"rule": "random"},
        evaluation={"dataset": HELDOUT, "samples": N_P, "temperature": 1.0},
    ),
}


@pytest.mark.parametrize("order", [1, -1], ids=["the new policy first", "the old policy first"])
def test_an_iteration_goes_through_its_states_in_order(begin: Begin, order: int) -> None:
    driver = begin(MEASURED)
    seen = driver.states()
    driver.advance()
    while queued := driver.queued():
        seen += driver.states()
        # the held-out problems last, so that the iteration is seen waiting for each of its policies
        driver.do(max(queued, key=lambda job_id: (of_iteration(driver, job_id), order * job_id)))
        unfinished = driver.count("evaluations WHERE finished_at IS NULL")
        assert (driver.states() == [IterationState.DONE]) == (unfinished == 0)
    assert list(dict.fromkeys(seen + driver.states())) == list(IterationState)


def of_iteration(driver: Driver, job_id: int) -> int:
    iterations = "jobs JOIN rounds ON rounds.id = round_id WHERE rounds.kind = 'iteration'"
    return driver.count(f"{iterations} AND jobs.id = {job_id}")


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
        own = (row for row in tables[table] if row[:2] == ["iteration", iteration])
        return [[Problem(row[2], "").key, *row[3:]] for row in own]

    rewards = {(key, slot): reward for key, slot, reward in rows_of("rewards")}
    cut = rows_of("cut")
    samples: defaultdict[str, list[preference.Candidate]] = defaultdict(list)
    for key, slot, _, response, cause in rows_of("samples"):
        verdict = VERDICT_OF_CAUSE[Cause(cause)]
        reward, is_cut = rewards.get((key, slot)), [key, slot] in cut
        samples[key].append(preference.Candidate(slot, verdict, reward, response, cut=is_cut))
    levels: dict[str, Difficulty | None] = {}
    for key, own in samples.items():
        pre = own[: recipe.sampling.budget.pre_samples]
        scores = [sample.minimum_reward or 0.0 for sample in pre] if recipe.reward.used else None
        estimate = difficulty.estimate_difficulty([sample.verdict == "correct" for sample in pre], scores)
        levels[key] = difficulty.classify(estimate, recipe.difficulty.signal, recipe.difficulty.thresholds)
    address: dict[str, Any] = {"seed": recipe.seed, "iteration": iteration}
    if recipe.allocation.policy == "levels":
        allotments = budget.allot(recipe.sampling.budget, levels, recipe.difficulty.resample, **address)
    else:
        verdicts = {key: [sample.verdict for sample in own] for key, own in samples.items()}
        allotments = allotted_in_waves(recipe, verdicts, levels, address)
    expected = {key: (allotments[key], level) for key, level in levels.items()}
    assert {key: (allotment, level) for key, allotment, level in rows_of("slices")} == expected
    slots = {key: list(range(allotment)) for key, allotment in allotments.items()}
    assert {key: [sample.slot for sample in own] for key, own in samples.items()} == slots
    assert sum(allotments.values()) == recipe.sampling.n * PROBLEMS
    rule, at_most = recipe.pairs.rule, recipe.pairs.at_most_per_problem
    pairs = [
        [key, *pair]
        for key, own in samples.items()
        if levels[key] in recipe.trained_levels
        for pair in preference.select_pairs(
            own, rule, problem_key=key, at_most=at_most, distinct=recipe.pairs.distinct, **address
        )
    ]
    assert sorted(rows_of("pairs")) == sorted(pairs) != []


def allotted_in_waves(
    recipe: Recipe,
    verdicts: dict[str, list[Verdict | None]],
    levels: dict[str, Difficulty | None],
    address: dict[str, int],
) -> dict[str, int]:
    """The samples of each problem: wave after wave by the pure rules, from the verdicts by slot."""
    waves, n_p = recipe.allocation.waves, recipe.sampling.n_p
    allotments = dict.fromkeys(verdicts, n_p)
    for wave in range(waves):
        states = {}
        for key, allotment in allotments.items():
            known = Counter(verdicts[key][:allotment])
            states[key] = State(known[Verdict.CORRECT], known[Verdict.INCORRECT], allotment, levels[key])
        numbers = Counter(states.values())
        prior = empirical_prior(Counter((state.correct, state.incorrect) for state in states.values()))
        beliefs = Beliefs(prior, recipe.allocation.limit * recipe.sampling.n)
        share = (recipe.sampling.n * len(verdicts) - sum(allotments.values())) // (waves - wave)
        policy = find_policy(recipe.allocation.policy)
        table = make_table(policy, numbers, share, beliefs, recipe.allocation_settings)
        for key, more in sharing.allot(states, table, share, **address).items():
            allotments[key] += more
    return allotments


class RecordingSampler(DeterministicSampler):
    """Remembers what it was asked for."""

    asked: ClassVar[Counter[tuple[object, ...]]] = Counter()

    def draw(self, requests: Any, parameters: SamplingParameters) -> Any:
        self.asked.update((self._weights, parameters, request.prompt, request.seed) for request in requests)
        return super().draw(requests, parameters)


@pytest.fixture(scope="module")
def finished(make_database: MakeDatabase, template: str, begin_in: Begin) -> Iterator[Driver]:
    """A run of own values after its two iterations."""
    RecordingSampler.asked.clear()
    with make_database(template) as database:
        driver = begin_in(database, OWN_VALUES, iterations=2, sampler=RecordingSampler)
        driver.work()
        yield driver


def test_each_sample_is_asked_for_once_with_its_policy_its_decoding_and_its_seed(finished: Driver) -> None:
    evaluation = OWN_VALUES.evaluation
    (quick,) = evaluation.benchmarks
    sections: dict[str, Any] = {"": OWN_VALUES.sampling, HELDOUT: evaluation, quick.evaluation_key: quick}
    decodings = {
        key: SamplingParameters(section.temperature, section.top_p, section.max_new_tokens, ("never said",))
        for key, section in sections.items()
    }
    expected = Counter(
        (
            row.fingerprint,
            decodings[row.evaluation_key],
            render_prompt(OWN_VALUES.policy.prompt.template, row.statement),
            (evaluation_seed if row.evaluation_key else slot_seed)(7, row.number, row.key, slot),
        )
        for row in finished.rows(
            "SELECT fingerprint, evaluation_key, number, key, statement, allotment FROM round_problems "
            "JOIN rounds ON rounds.id = round_id JOIN problems ON problems.id = problem_id "
            "JOIN models ON models.id = model_id"
        )
        for slot in range(row.allotment)
    )
    assert RecordingSampler.asked == expected
    assert set(expected.values()) == {1}
    assert len({seed for *_, seed in expected}) == len(expected)


def test_each_policy_is_trained_from_the_one_before_on_all_pairs(finished: Driver) -> None:
    locations = [Path(row.location) for row in finished.rows("SELECT location FROM models ORDER BY id")]
    for number, (before, after) in enumerate(itertools.pairwise(locations)):
        pairs = finished.rows(
            "SELECT statement, chosen.response AS chosen, rejected.response AS rejected "
            "FROM preference_pairs AS pairs JOIN problems ON problems.id = problem_id "
            "JOIN rounds ON rounds.id = round_id JOIN round_problems USING (round_id, problem_id) "
            "JOIN sample_responses AS chosen ON chosen.sample_id = chosen_sample_id "
            "JOIN sample_responses AS rejected ON rejected.sample_id = rejected_sample_id "
            "WHERE number = :number ORDER BY position",
            number=number,
        )
        prompt = OWN_VALUES.policy.prompt.template
        trained_on = [
            TrainingPair(render_prompt(prompt, pair.statement), pair.chosen, pair.rejected) for pair in pairs
        ]
        settings = training_settings(OWN_VALUES.training, derived_seed(7, "train", number) % 2**31)
        assert (after / "model.safetensors").read_bytes().endswith(mark(before, settings, trained_on))


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
    tables = "jobs job_items iterations round_problems difficulty_labels preference_pairs evaluations "
    tables += "allocation_waves allocations"
    return {"rounds": [*driver.rows("SELECT id, model_id FROM rounds ORDER BY 1")]} | {
        name: [*driver.rows(f"SELECT {name}::text FROM {name} ORDER BY 1")] for name in tables.split()
    }


def test_a_sweep_looks_at_a_run_only_where_it_may_lack_work(begin: Begin) -> None:
    driver = begin(PLAIN, iterations=2)
    without_work = partial(driver.database.run, rounds.runs_without_work)
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
    for judging in (driver.queued([JobKind.VERIFY]), driver.queued([JobKind.SCORE])):
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
        assert any(threads.map(driver.do, (one, other), ("one worker", "another")))
    assert driver.states() == [IterationState.RE_SAMPLING]
    assert driver.count("remaining_budget WHERE remaining > 0") == 0
    assert driver.count("job_items JOIN jobs ON jobs.id = job_id WHERE state = 'queued'") > 0
    driver.work()
    assert (driver.states(), driver.statistics().drawn) == ([IterationState.DONE], BUDGET)
    assert driver.count("jobs WHERE attempts > 1") == 0


def all_right(statement: str, seed: int) -> tuple[object, float]:
    return statement.split()[-1], 1.0


INLIERS = {"train": ["inlier"], "resample": ["inlier"]}
FINE_TUNED = recipe_of(training={"objective": "sft"}, difficulty=INLIERS, evaluation={"dataset": HELDOUT})
UNTRAINED = recipe_of(training={"objective": "none"}, evaluation={"dataset": HELDOUT})
TRAINED = {
    "nothing without a boundary problem": (MEASURED, all_right, N_P * PROBLEMS, False, []),
    "right samples without a pair": (FINE_TUNED, all_right, BUDGET, False, ["sft"]),
    "nothing by choice": (UNTRAINED, None, BUDGET, True, []),
    "pairs": (MEASURED, None, BUDGET, True, ["dpo"]),
}


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "script", "drawn", "paired", "trained"), TRAINED.values(), ids=TRAINED)
def test_a_policy_is_trained_where_there_is_something_to_train_on(
    begin: Begin, recipe: Recipe, script: Script | None, drawn: int, paired: bool, trained: list[str]
) -> None:
    driver = begin(recipe, script)
    driver.work()
    assert driver.states() == [IterationState.DONE]
    row = driver.statistics()
    assert (row.budget, row.drawn, row.pairs > 0) == (BUDGET, drawn, paired)
    assert row.output_model == (f"{driver.run.name}-M1" if trained else "M0")
    records = driver.rows("SELECT objective FROM training_runs WHERE pairs > 0")
    assert [record.objective for record in records] == trained
    assert driver.count("jobs WHERE kind = 'train'") == len(trained)
    assert driver.count("evaluations") == 1 + len(trained)  # one of each policy


def test_a_reference_that_proves_unreadable_leaves_its_problem_out(begin: Begin) -> None:
    driver = begin(PLAIN)
    driver.execute("UPDATE problems SET reference_answer = '1+*2' WHERE statement = 'train problem 1'")
    driver.work()
    assert driver.statistics().drawn == BUDGET  # its share goes to the boundary problems
    (row,) = driver.rows(
        "SELECT exclusion, drawn, problem_statistics.allotment, difficulty, pairs FROM problem_statistics "
        "JOIN problems ON problems.id = problem_id JOIN round_problems USING (problem_id) "
        "WHERE reference_answer = '1+*2'"
    )
    assert tuple(row) == ("the reference answer cannot be read", N_P, N_P, None, 0)


def test_lost_rows_are_drawn_verified_and_scored_again(begin: Begin) -> None:
    driver = begin(PLAIN)
    driver.work([JobKind.SAMPLE])
    driver.execute(END_JOBS)  # all jobs are done, and yet rows are missing
    driver.execute("DELETE FROM samples WHERE id = (SELECT max(id) FROM samples)")
    (drifted,) = call(driver.database, counts.drifted)
    call(driver.database, counts.recount, [drifted])
    driver.conductor.sweep()
    assert [len(driver.queued([kind])) for kind in SAMPLE_KINDS] == [1, 2, 2]
    driver.work()
    assert (driver.states(), driver.statistics().drawn) == ([IterationState.DONE], BUDGET)


def test_sweeps_move_a_run_whose_workers_die_before_they_look(begin: Begin) -> None:
    driver = begin(PLAIN, job_samples=36)
    driver.conductor.sweep()
    while queued := driver.queued():
        for job_id in queued:
            driver.compute(job_id)
        driver.conductor.sweep()
    assert driver.states() == [IterationState.DONE]
    check_iteration(PLAIN, 0, driver.tables())


def test_sweeps_move_a_run_whose_conductor_dies_after_every_look_that_moved_it(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round that others were waiting for has ended, and nobody is left who saw it."""
    driver = begin(MEASURED, iterations=2)
    driver.work_among_dying_conductors(monkeypatch)
    assert driver.states() == [IterationState.DONE] * 2


def test_whoever_finds_a_run_locked_passes_on_and_it_is_looked_at_again(begin: Begin) -> None:
    driver = begin(PLAIN)
    with driver.database.begin() as connection:
        lock_run(connection, driver.run.id)
        driver.advance()
        driver.conductor.sweep()
    assert driver.states() == [IterationState.WAITING]
    driver.conductor.sweep()
    assert driver.states() == [IterationState.PRE_SAMPLING]


def test_the_end_of_a_sampling_job_waits_for_no_lock_and_its_samples_are_judged_later(begin: Begin) -> None:
    driver = begin(PLAIN, job_samples=6)
    driver.advance()
    with driver.database.begin() as connection:
        lock_run(connection, driver.run.id)
        driver.compute(driver.queued()[0])
    assert driver.queued([JobKind.VERIFY]) == []
    driver.work()
    assert (driver.states(), driver.statistics().drawn) == ([IterationState.DONE], BUDGET)


def test_a_round_that_waits_for_a_person_is_not_looked_at(begin: Begin) -> None:
    driver = begin(PLAIN)
    without_work = partial(driver.database.run, rounds.runs_without_work)
    driver.advance()
    failed, *_ = driver.queued([JobKind.SAMPLE])
    driver.fail(failed)
    driver.work()
    assert (driver.states(), without_work()) == ([IterationState.PRE_SAMPLING], [])
    with driver.database.begin() as connection:
        jobs.retry(connection, None, [failed])
    assert without_work() == []
    driver.compute(failed)  # and its worker dies before it looks
    driver.execute("DELETE FROM jobs WHERE state = 'queued'")
    assert without_work() == [driver.run.id]
    driver.work()
    assert driver.states() == [IterationState.DONE]


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 24, 10_000])
def test_a_run_comes_to_the_same_in_any_number_of_transactions(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr("hsstar.conductor._BATCH_SAMPLES", size)
    driver = begin(WAVES)
    driver.work()
    check_iteration(WAVES, 0, driver.tables())


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [PLAIN, WAVES], ids=["levels", "waves"])
def test_a_crash_between_two_transactions_changes_nothing(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, recipe: Recipe
) -> None:
    crashes = 0

    def crashing(*arguments: Any) -> Any:
        nonlocal crashes
        if generator.random() < 0.2:
            crashes += 1
            raise InterruptedError
        return turn(*arguments)

    generator, turn = random.Random(0), Conductor._turn
    monkeypatch.setattr("hsstar.conductor._BATCH_SAMPLES", 24)
    monkeypatch.setattr(Conductor, "_turn", crashing)
    driver = begin(recipe)
    while driver.states() != [IterationState.DONE]:
        with contextlib.suppress(InterruptedError):
            driver.work()
    assert crashes > 5
    check_iteration(recipe, 0, driver.tables())


@pytest.mark.slow
@pytest.mark.parametrize("still_at", range(2, 40, 4))
def test_a_conductor_that_stands_still_while_others_end_the_run_changes_nothing(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, still_at: int
) -> None:
    """Between any two of its transactions, at the n-th of the run."""
    turn, turns = Conductor._turn, itertools.count()

    def standing_still(*arguments: Any) -> Any:
        if next(turns) == still_at:
            driver.work()
            assert driver.states() == [IterationState.DONE]
        return turn(*arguments)

    monkeypatch.setattr("hsstar.conductor._BATCH_SAMPLES", 24)
    monkeypatch.setattr(Conductor, "_turn", standing_still)
    driver = begin(WAVES)
    driver.work()
    assert next(turns) > still_at
    assert driver.states() == [IterationState.DONE]
    check_iteration(WAVES, 0, driver.tables())


def test_the_planner_knows_the_samples_of_a_round_before_their_pairs_are_looked_for(begin: Begin) -> None:
    driver = begin(PLAIN)
    driver.work([JobKind.SAMPLE, JobKind.VERIFY, JobKind.SCORE])
    known = (
        "SELECT reltuples FROM pg_class WHERE relname IN ('difficulty_labels', 'samples') ORDER BY relname"
    )
    assert [row.reltuples for row in driver.rows(known)] == [PROBLEMS, N_P * PROBLEMS]


def test_a_dead_worker_costs_an_attempt_and_nothing_else(begin: Begin) -> None:
    driver = begin(PLAIN, job_samples=6)
    driver.advance()
    for job_id in driver.queued()[:3]:
        call(driver.database, claim, job_id, "dead", -1)
    call(driver.database, jobs.reclaim_of, "dead", ATTEMPTS)
    driver.work()
    assert (driver.states(), driver.statistics().drawn) == ([IterationState.DONE], BUDGET)
    assert driver.count("jobs WHERE attempts = 2") == 3


def test_attempts_are_bounded_in_the_sweep_too(begin: Begin) -> None:
    driver = begin(PLAIN, job_samples=1)
    driver.advance()
    job_id = driver.queued()[0]
    for _ in range(ATTEMPTS + 5):  # the first five leases are no attempts
        call(driver.database, claim, job_id, "dead", -1)
        driver.conductor.sweep()
    assert driver.count("jobs WHERE state = 'failed'") == 1
