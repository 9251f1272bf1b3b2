"""Samples, verdicts, rewards and problems: written once, whatever text they hold."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import Connection

from hsstar.domain.errors import ConflictError, NotFoundError
from hsstar.domain.lifecycle import JobKind
from hsstar.domain.problems import Problem
from hsstar.domain.verdict import Cause, Judgement
from hsstar.store import counts, datasets, models, rewards, runs, samples
from hsstar.store.rewards import SampleReward
from hsstar.store.samples import DrawnSample
from tests.generated import examples
from tests.store import factory
from tests.store.conftest import Scratch
from tests.store.factory import Drawn, add_job, add_problems, add_round, add_samples, execute, select

RESPONSES = "SELECT response FROM sample_responses ORDER BY 1"


def sample_ids(connection: Connection) -> list[int]:
    return [sample for (sample,) in select(connection, "SELECT id FROM samples ORDER BY problem_id, slot")]


def test_a_slot_that_is_taken_keeps_what_it_has(connection: Connection) -> None:
    round_id, (problem,) = add_round(connection, 1)
    first = DrawnSample(problem, 0, "first", seed=2**63 - 1, tokens=3, finish_reason="stop")
    assert samples.write_samples(connection, round_id, None, "w", [first]) == 1
    again = [DrawnSample(problem, 0, "second"), DrawnSample(problem, 1, "new")]
    assert samples.write_samples(connection, round_id, None, "w", again) == 1
    assert samples.write_samples(connection, round_id, None, "w", []) == 0
    assert select(connection, RESPONSES) == [("first",), ("new",)]
    stored = select(connection, "SELECT seed, tokens FROM samples ORDER BY slot")
    assert stored == [(2**63 - 1, 3), (None, None)]


@examples(30)
@given(st.text(st.characters(exclude_categories=()), max_size=50), st.just(1))
@example("\x00\udc80φ{}\\", 300_000)
def test_any_text_can_be_stored_even_megabytes(scratch: Scratch, response: str, times: int) -> None:
    """NUL and lone surrogates too; each becomes a replacement character."""
    response *= times
    with scratch() as connection:
        round_id, (problem,) = add_round(connection, 1)
        samples.write_samples(connection, round_id, None, "w", [DrawnSample(problem, 0, response)])
        (sample,) = sample_ids(connection)
        samples.write_verdicts(connection, "w", "v", [sample], [Judgement(Cause.INCORRECT, response)])
        expected = re.sub("[\\x00\\ud800-\\udfff]", "\ufffd", response)
        assert select(connection, RESPONSES) == [(expected,)]
        assert select(connection, "SELECT answer FROM samples") == [(expected,)]


def test_a_job_loads_what_is_left_of_it(connection: Connection) -> None:
    round_id, (first, second) = add_round(connection, 2)
    add_samples(connection, round_id, {first: {0: Drawn(Cause.CORRECT), 1: Drawn(None, 0.5)}})
    items = {first: [0, 1, 2], second: [0]}
    sampling, verification, scoring = (
        factory.claim(connection, add_job(connection, round_id, kind, items))
        for kind in (JobKind.SAMPLE, JobKind.VERIFY, JobKind.SCORE)
    )
    left = samples.load_missing_slots(connection, sampling)
    slots = [(slot.problem_id, slot.slot, slot.statement) for slot in left]
    assert slots == [(first, 2, "train problem 0"), (second, 0, "train problem 1")]
    zero, one = sample_ids(connection)
    assert [sample.id for sample in samples.load_unverified(connection, verification)] == [one]
    assert [sample.id for sample in samples.load_unscored(connection, scoring)] == [zero]


def test_a_verdict_is_written_once_with_its_cause(connection: Connection) -> None:
    round_id, (problem,) = add_round(connection, 1)
    add_samples(connection, round_id, {problem: dict.fromkeys(range(len(Cause)), Drawn())})
    ids = sample_ids(connection)
    samples.write_verdicts(connection, "w", "v", ids, [Judgement(cause, "42") for cause in Cause])
    samples.write_verdicts(connection, "w", "v", ids, [Judgement(Cause.CORRECT, "43") for _ in Cause])
    assert select(connection, "SELECT cause, verdict, answer FROM samples ORDER BY slot") == [
        ("correct", "correct", "42"),
        ("incorrect", "incorrect", "42"),
        ("no_answer", "incorrect", "42"),
        ("unparsable", "incorrect", "42"),
        ("timed_out", None, "42"),
        ("crashed", None, "42"),
        ("bad_reference", None, "42"),
        ("check_failed", None, "42"),
    ]


def test_rewards_of_any_length_are_written_once_and_exactly(connection: Connection) -> None:
    run = factory.add_run(connection)
    (problem,) = add_problems(connection, 1)
    iteration = factory.add_iteration(connection, run, [problem])
    add_samples(connection, iteration.id, {problem: dict.fromkeys(range(3), Drawn())})
    none, one, many = sample_ids(connection)
    scored = [
        SampleReward(none, (), False),
        SampleReward(one, (0.1 + 0.2,), False),
        SampleReward(many, (1.0, 5e-324, 1 / 3), True),
    ]
    factory.write_rewards(connection, run, scored)
    factory.write_rewards(connection, run, [SampleReward(one, (1.0, 1.0), False)])
    columns = "id, step_rewards, truncated, min_reward"
    found = select(connection, f"SELECT {columns} FROM samples JOIN rewards ON sample_id = id ORDER BY slot")
    assert [SampleReward(sample, tuple(steps), cut) for sample, steps, cut, _ in found] == scored
    assert [least for *_, least in found] == [0.0, 0.1 + 0.2, 0.0]


def test_equal_statements_are_one_problem_and_the_first_one_stays(connection: Connection) -> None:
    assert datasets.newest_problem(connection) == 0
    unread, four = Problem("What", "?"), Problem("What is 2 + 2?", "four \x00")
    two = Problem("What is 1 + 1?", "2", "It is two.", "sums", "Level 1", "id 7")
    dataset = datasets.ensure_dataset(connection, "sums")
    assert datasets.ensure_dataset(connection, "sums") == dataset
    assert datasets.add_problems(connection, dataset, [unread, two, four], [False, True, True]) == 3
    two_again, six = Problem("What is  1 + 1?", "3"), Problem("What is 3 + 3?", "6")
    assert datasets.add_problems(connection, dataset, [two_again, six, six], [True] * 3) == 1
    found = datasets.find_dataset(connection, "sums")
    assert (found.problems, found.unreadable, found.usable) == (4, 1, 3)
    assert set(datasets.problem_ids(connection, dataset, [two.key, "unknown"])) == {two.key}
    columns = "key, statement, reference_answer, reference_readable, solution, subject, level, source_id"
    nothing = (None,) * 4
    assert select(connection, f"SELECT {columns} FROM problems ORDER BY id") == [
        (unread.key, "What", "?", False, *nothing),
        (two.key, "What is 1 + 1?", "2", True, "It is two.", "sums", "Level 1", "id 7"),
        (four.key, "What is 2 + 2?", "four \ufffd", True, *nothing),
        (six.key, "What is 3 + 3?", "6", True, *nothing),
    ]
    assert datasets.first_problem(connection, found) == "What is 1 + 1?"
    assert select(connection, "SELECT max(id) FROM problems") == [(datasets.newest_problem(connection),)]
    empty = datasets.ensure_dataset(connection, "empty")
    with pytest.raises(NotFoundError, match="dataset 'empty' holds no usable problem"):
        datasets.first_problem(connection, datasets.Dataset(empty, "empty", 0, 0))


def test_what_is_not_there_is_named_with_what_is(connection: Connection) -> None:
    with pytest.raises(NotFoundError, match=r"no dataset 'sums' \(datasets: none yet\); import one"):
        datasets.find_dataset(connection, "sums")
    add_problems(connection, 1)
    with pytest.raises(NotFoundError, match=r"\(datasets: train\)"):
        datasets.find_dataset(connection, "sums")
    with pytest.raises(NotFoundError, match=r"no run 'mine' \(runs: none yet\)"):
        runs.find_run(connection, "mine")


def test_a_name_stands_for_one_checkpoint(connection: Connection) -> None:
    made = models.register_model(connection, "M0", "/a", "weights")
    assert models.register_model(connection, "M0", "/a", "weights") == made
    for location, weights in (("/a", "other weights"), ("/b", "weights")):
        with pytest.raises(ConflictError, match=r"'M0' is already registered, .* \(/a\)"):
            models.register_model(connection, "M0", location, weights)
    first = models.register_reward_model(connection, "prm", "/c", "skywork", "weights")
    assert models.register_reward_model(connection, "prm", "/c", "skywork", "weights") == first
    second = models.register_reward_model(connection, "prm", "/c", "skywork", "new weights")
    assert second.name == "prm@new weig"
    assert models.register_reward_model(connection, "prm", "/c", "skywork", "new weights") == second


def test_a_run_keeps_its_whole_recipe_and_its_name(connection: Connection) -> None:
    recipe = factory.make_recipe(seed=2**31 - 1, training={"learning_rate": 1e-7})
    run = factory.add_run(connection, recipe, "mine")
    assert (runs.find_run(connection, "mine"), run.recipe) == (run, recipe)
    assert select(connection, "SELECT seed FROM runs") == [(2**31 - 1,)]
    with pytest.raises(ConflictError, match="there is already a run 'mine'; choose another"):
        factory.add_run(connection, recipe, "mine")


def test_the_samples_of_a_round_are_counted_by_whoever_writes_them(connection: Connection) -> None:
    round_id, (problem,) = add_round(connection, 1)
    job_id = add_job(connection, round_id, items={problem: [0, 1, 2, 3]})
    drawn = [DrawnSample(problem, slot, "text", tokens=10 + slot) for slot in range(4)]
    for part in (drawn[:3], drawn[1:]):
        samples.write_samples(connection, round_id, None, "a", part, job_id)
    ids = [id for (id,) in select(connection, "SELECT id FROM samples ORDER BY slot")]
    for judged in (ids[:2], ids[:3]):
        samples.write_verdicts(connection, "b", "v", judged, [Judgement(Cause.CORRECT, "1")] * len(judged))
    ((run_id, reward),) = select(connection, "SELECT run_id, reward_model_id FROM run_rewards")
    for _ in range(2):
        rewards.write(connection, reward, [SampleReward(ids[0], (0.5,), False)])
        rewards.combine(connection, run_id, "a", ids[:1])
    query = "SELECT worker, drawn, drawn_pre, tokens, verified, scored FROM sample_counts ORDER BY worker"
    counted = [("a", 4, 3, 46, 0, 1), ("b", 0, 0, 0, 3, 0)]
    assert select(connection, query) == counted
    assert select(connection, "SELECT drawn FROM jobs") == [(4,)]
    assert counts.drifted(connection) == []
    for column in ("drawn", "drawn_pre", "tokens", "verified", "scored"):
        execute(connection, f"UPDATE sample_counts SET {column} = {column} + 1 WHERE worker = 'a'")
        assert counts.drifted(connection) == [round_id]
        counts.recount(connection, [round_id])
        assert select(connection, query) == [("a", 4, 3, 46, 3, 1)]
        assert counts.drifted(connection) == []
    execute(connection, "DELETE FROM sample_counts")
    assert counts.drifted(connection) == [round_id]
