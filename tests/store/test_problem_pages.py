"""Samples and problems of a run as pages, one problem with all its samples, two rounds side by side."""

import json
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from sqlalchemy import Connection, text

from hsstar.domain.addresses import RoundAddress, SampleAddress
from hsstar.domain.errors import BadInputError, NotFoundError
from hsstar.domain.selections import CHANGES, SORTS
from hsstar.domain.verdict import Cause, Judgement
from hsstar.insights import paired, problems, samples
from hsstar.store import evaluations, method, models, rounds, stored_outcomes, verdicts
from hsstar.store.database import Database
from hsstar.store.read.problems import ProblemFilter
from hsstar.store.read.samples import Sample, SampleFilter
from hsstar.store.runs import Run
from tests.store import factory
from tests.store.conftest import MakeDatabase
from tests.store.factory import Drawn, add_evaluation, add_iteration, add_samples

RIGHT, WRONG = Drawn(Cause.CORRECT, 1.0, "good 100%\n\n\\boxed{1}"), Drawn(Cause.INCORRECT, 0.0)
OVERRATED, UNDERRATED = Drawn(Cause.INCORRECT, 0.75), Drawn(Cause.CORRECT, 0.25, tokens=30)
LATE = Drawn(Cause.TIMED_OUT, 0.25, finish_reason="length")


class Example(NamedTuple):
    database: Database
    run: Run
    ids: list[int]


@pytest.fixture(scope="module")
def example(make_database: MakeDatabase, template: str) -> Iterator[Example]:
    """An iteration over five problems, and three held-out ones measured of M_0, M_1 and M_2."""
    with make_database(template) as database:
        with database.begin() as connection:
            recipe = factory.make_recipe(sampling={"n": 4, "n_p": 2})
            run = factory.add_run(connection, recipe, "example")
            ids = factory.add_problems(connection, 8)
            easy, boundary, hard, slow, left_out, learnt, forgotten, never = ids
            iteration = add_iteration(connection, run, [easy, boundary, hard, slow, left_out])
            drawn = {
                easy: {0: RIGHT, 1: RIGHT},
                boundary: {0: RIGHT, 1: OVERRATED, 2: OVERRATED},
                hard: {0: WRONG, 1: WRONG, 2: OVERRATED},
                slow: {0: LATE, 1: UNDERRATED},
            }
            add_samples(connection, iteration.id, drawn)
            rounds.exclude(connection, iteration.id, {left_out: "too long"})
            method.label_problems(connection, run, iteration)
            factory.allot_budget(connection, run, iteration)
            method.build_pairs(connection, run, iteration)
            trained = models.register_model(connection, "M1", "/models/m1", "weights", run.model_id)
            measured = (
                (run.model_id, {learnt: {0: WRONG}, forgotten: {0: RIGHT}, never: {0: WRONG}}),
                (trained.id, {learnt: {0: RIGHT}, forgotten: {0: WRONG}, never: {0: LATE}}),
                (trained.id, {learnt: {0: RIGHT}, forgotten: {0: WRONG}, never: {0: WRONG}}),
            )
            for number, (model_id, samples_of) in enumerate(measured):
                round_id = add_evaluation(connection, run, evaluations.HELD_OUT, number, model_id, 0.5)
                rounds.assign_problems(connection, round_id, list(samples_of), 1)
                add_samples(connection, round_id, samples_of)
        yield Example(database, run, ids)


def test_a_page_of_samples_says_all_that_is_known(example: Example) -> None:
    page = samples.list_samples(example.database, "example", SampleFilter(measure="iteration"))
    assert page.next is None
    boundary = [sample for sample in page.samples if sample.problem_id == example.ids[1]]
    assert [(sample.slot, sample.phase, sample.pair, sample.partner_slot) for sample in boundary] == [
        (0, "pre", "chosen", 1),
        (1, "pre", "rejected", 0),
        (2, "re", None, None),
    ]
    first = boundary[0]
    assert (first.statement, first.reference, first.level) == ("train problem 1", "1", "boundary")
    assert (first.response, first.verdict, first.min_reward) == (RIGHT.response, "correct", 1.0)
    assert [step.text for step in samples.steps_of(first)] == ["good 100%", "\\boxed{1}"]
    assert str(samples.address_of(first)) == f"example/0/{example.ids[1]}/0"


FILTERS = [
    ({"verdict": "correct", "measure": "iteration"}, 4),
    ({"verdict": "none"}, 2),
    ({"cause": "timed_out", "measure": "iteration"}, 1),
    ({"level": "boundary"}, None),
    ({"phase": "re"}, 2),
    ({"reward_from": 0.75, "measure": "iteration"}, 6),
    ({"reward_to": 0.25, "measure": "iteration"}, 4),
    ({"disagreement": "overrated"}, 3),
    ({"disagreement": "underrated"}, 1),
    ({"disagreement": "any"}, 4),
    ({"pair": "chosen"}, None),
    ({"text": "100%", "measure": "iteration"}, 3),
    ({"text": "GOOD", "iteration": 0}, 4),
    ({"text": "1_0%"}, 0),
    ({"measure": "heldout"}, 9),
    ({"measure": "heldout", "iteration": 1}, 3),
    ({}, 19),
]


def passes(row: Sample, wanted: SampleFilter) -> bool:
    """The same rule, in Python."""
    reward = row.min_reward
    overrated = row.verdict == "incorrect" and reward is not None and reward >= 0.5
    underrated = row.verdict == "correct" and reward is not None and reward < 0.5
    kinds = {"overrated": overrated, "underrated": underrated, "any": overrated or underrated, None: True}
    texts = f"{row.response} {row.statement}".lower()
    return all(
        (
            wanted.measure in (None, row.measure),
            wanted.iteration in (None, row.iteration),
            wanted.verdict in (None, row.verdict or "none"),
            wanted.cause in (None, row.cause),
            wanted.level in (None, row.level),
            wanted.phase in (None, row.phase),
            wanted.reward_from is None or (reward is not None and reward >= wanted.reward_from),
            wanted.reward_to is None or (reward is not None and reward <= wanted.reward_to),
            kinds[wanted.disagreement],
            wanted.pair in (None, row.pair),
            wanted.text is None or wanted.text.lower() in texts,
        )
    )


@pytest.mark.parametrize(("fields", "expected"), FILTERS, ids=lambda value: json.dumps(value))
def test_filters_and_pages_of_samples(
    example: Example, fields: dict[str, object], expected: int | None
) -> None:
    wanted = SampleFilter(**fields)  # type: ignore[arg-type]
    every = samples.list_samples(example.database, "example").samples
    found, key = [], None
    while True:
        page = samples.list_samples(example.database, "example", wanted, after=key, at_most=2)
        found += page.samples
        key = page.next
        if key is None:
            break
        assert len(page.samples) == 2
    assert found == [row for row in every if passes(row, wanted)]
    assert expected in (None, len(found))


def test_one_sample_by_its_address(example: Example) -> None:
    address = SampleAddress.parse(f"example/heldout@1/{example.ids[7]}/0")
    sample = samples.find_sample(example.database, address)
    assert (sample.cause, samples.address_of(sample)) == ("timed_out", address)
    assert (sample.response, sample.characters) == (LATE.response, len(LATE.response))
    (short,) = samples.list_samples(
        example.database, "example", SampleFilter(cause="timed_out", iteration=1), characters=3
    ).samples
    assert (short.response, short.characters) == (LATE.response[:3], len(LATE.response))
    with pytest.raises(NotFoundError, match="there is no sample example/0/1/99"):
        samples.find_sample(example.database, SampleAddress.parse("example/0/1/99"))
    with pytest.raises(BadInputError, match="no key"):
        samples.list_samples(example.database, "example", after="1.2")


def test_without_a_limit_statements_are_whole(example: Example) -> None:
    (first, *_) = problems.list_problems(example.database, "example", characters=None).problems
    assert first.statement == "train problem 0"
    (first, *_) = problems.list_problems(example.database, "example", characters=5).problems
    assert first.statement == "train"


def page_of(example: Example, preset: str, measure: str | None = None, **options: object) -> list[int]:
    of = problems.PRESETS[preset]
    page = problems.list_problems(
        example.database,
        "example",
        measure,
        of.filter,
        sort=of.sort,
        descending=of.descending,
        **options,  # type: ignore[arg-type]
    )
    return [example.ids.index(row.problem_id) for row in page.problems]


@pytest.fixture(params=["counted", "stored"])
def either(example: Example, request: pytest.FixtureRequest) -> Iterator[Example]:
    """The rounds as they are while samples come, and once they are complete."""
    with example.database.begin() as connection:
        ids = connection.execute(text("SELECT id FROM rounds")).scalars().all()
        for round_id in ids:
            stored_outcomes.write(connection, round_id)
            stored_outcomes.use(connection, round_id, stored=request.param == "stored")
        if request.param == "counted":
            connection.execute(text("DELETE FROM stored_outcomes"))
    yield example


def test_presets_of_the_table_of_problems(either: Example) -> None:
    assert page_of(either, "all") == [0, 1, 2, 3, 4]
    assert page_of(either, "boundary") == [1, 3]
    assert page_of(either, "overrated") == [1, 2]
    assert page_of(either, "underrated") == [3]
    assert page_of(either, "timed-out") == [3]
    assert page_of(either, "never-right") == [2]
    held_out = {name: page_of(either, name, "heldout") for name in ("learnt", "forgotten", "flipped")}
    assert held_out == {"learnt": [5], "forgotten": [6], "flipped": [5, 6]}
    assert page_of(either, "never-right", "heldout") == [7]
    assert page_of(either, "timed-out", "heldout", iteration=1) == [7]
    assert page_of(either, "timed-out", "heldout", iteration=2) == []


def test_a_row_of_the_table_of_problems(either: Example) -> None:
    page = problems.list_problems(either.database, "example", characters=5)
    row = page.problems[1]
    assert (row.statement, row.reference, row.level) == ("train", "1", "boundary")
    assert (row.accuracy, row.process_quality, row.pass_rate) == (0.5, 0.875, 1 / 3)
    assert (row.drawn, row.correct, row.undecided, row.overrated, row.underrated) == (3, 1, 0, 2, 0)
    assert (row.pairs, row.causes, row.mean_tokens, row.flips) == (1, ("correct", "incorrect"), 10.0, 0)
    assert page.problems[4].exclusion == "too long"
    assert page.problems[4].policies == ()
    learnt = problems.list_problems(either.database, "example", "heldout").problems[0]
    assert (learnt.policies, learnt.pass_rates, learnt.flips) == ((0, 1, 2), (0.0, 1.0, 1.0), 1)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", SORTS)
def test_pages_in_every_order_are_the_whole_table(example: Example, sort: str, descending: bool) -> None:
    def walk(at_most: int) -> list[tuple[float, int]]:
        found: list[tuple[float, int]] = []
        key = None
        while True:
            page = problems.list_problems(
                example.database,
                "example",
                sort=sort,  # type: ignore[arg-type]
                descending=descending,
                after=key,
                at_most=at_most,
            )
            found += [(row.sort_key, row.problem_id) for row in page.problems]
            if (key := page.next) is None:
                return found

    assert walk(2) == walk(100)
    assert walk(2) == sorted(walk(2))
    assert len(walk(2)) == 5


@pytest.mark.parametrize("change", CHANGES)
def test_changes_are_of_the_first_and_last_policy(example: Example, change: str) -> None:
    wanted = ProblemFilter(change=change)  # type: ignore[arg-type]
    found = problems.list_problems(example.database, "example", "heldout", wanted).problems
    first_and_last = {(row.pass_rates[0], row.pass_rates[-1]) for row in found}
    expected = {
        "learnt": {(0.0, 1.0)},
        "forgotten": {(1.0, 0.0)},
        "flipped": {(0.0, 1.0), (1.0, 0.0)},
        "never": {(0.0, 0.0)},
        "always": set(),
    }
    assert first_and_last == expected[change]


def test_what_does_not_exist_is_named(example: Example) -> None:
    for options, message in (
        ({"measure": "heldut"}, "did you mean 'heldout'"),
        ({"iteration": 7}, "it has: 0"),
    ):
        with pytest.raises(NotFoundError, match=message):
            problems.list_problems(example.database, "example", **options)
    with pytest.raises(BadInputError, match="no key"):
        problems.list_problems(example.database, "example", after="x:1")
    with pytest.raises(NotFoundError, match="there is no run 'exampel'"):
        problems.list_problems(example.database, "exampel")
    with pytest.raises(NotFoundError, match="has no problem 99"):
        problems.show_problem(example.database, "example", 99)


def test_one_problem_with_all_that_was_drawn(example: Example) -> None:
    easy, boundary, hard, *_, learnt, _, _ = example.ids
    detail = problems.show_problem(example.database, "example", boundary)
    assert (detail.problem.statement, detail.problem.dataset) == ("train problem 1", "train")
    assert [sample.slot for sample in detail.samples] == [0, 1, 2]
    assert [(chosen.slot, rejected.slot) for chosen, rejected in detail.pairs] == [(0, 1)]
    assert (detail.before, detail.after) == (easy, hard)
    pre, wave = detail.allocations
    assert (pre.wave, pre.first_slot, pre.samples) == (None, 0, 2)
    assert (wave.wave, wave.first_slot, wave.correct_before, wave.incorrect_before) == (0, 2, 1, 1)
    assert len(wave.gains) == wave.samples > 0
    life = problems.show_problem(example.database, "example", learnt, at_most=2)
    assert [(sample.measure, sample.iteration) for sample in life.samples] == [("heldout", 0), ("heldout", 1)]
    assert life.more_samples
    assert life.tables["heldout"].pass_rates == (0.0, 1.0, 1.0)
    assert life.allocations == []


def test_two_policies_on_the_same_problems_and_slots(example: Example) -> None:
    before, after = (RoundAddress.parse(f"example/heldout@{number}") for number in (0, 1))
    compared = paired.compare_rounds(example.database, before, after)
    assert compared.cells == {"both": 0, "only_first": 1, "only_second": 1, "neither": 1}
    assert compared.samples == compared.cells
    assert (compared.p_value, compared.first_model, compared.second_model) == (1.0, "M0", "M1")
    *discordant, same = (example.ids.index(row.problem_id) for row in compared.problems)
    assert (discordant, same) == ([5, 6], 7)
    only = paired.compare_rounds(example.database, before, after, "only_second").problems
    assert [(row.first, row.second) for row in only] == [(0.0, 1.0)]
    with pytest.raises(BadInputError, match="have no judged samples at a common problem and slot"):
        paired.compare_rounds(example.database, before, RoundAddress.parse("example/0"))
    with pytest.raises(NotFoundError, match="there are: example/0, example/heldout@0"):
        paired.compare_rounds(example.database, before, RoundAddress.parse("example/heldout@9"))


def test_an_evaluation_that_is_judged_again_is_counted_until_it_ends(connection: Connection) -> None:
    run = factory.add_run(connection, name="again")
    ids = factory.add_problems(connection, 2)
    evaluation = rounds.get_round(connection, add_evaluation(connection, run, evaluations.HELD_OUT))
    rounds.assign_problems(connection, evaluation.id, ids, 1)
    add_samples(connection, evaluation.id, {problem: {0: WRONG} for problem in ids})
    outcomes = "SELECT correct, outcomes_stored FROM problem_outcomes JOIN rounds ON rounds.id = round_id"
    query = f"{outcomes} WHERE run = 'again' ORDER BY problem_id"
    assert factory.select(connection, query) == [(0, False), (0, False)]
    evaluations.finish(connection, evaluation)
    assert factory.select(connection, query) == [(0, True), (0, True)]
    ((sample_id,),) = factory.select(connection, "SELECT id FROM samples WHERE problem_id = :id", id=ids[0])
    adopted = verdicts.append(
        connection,
        evaluation.id,
        {sample_id: Judgement(Cause.CORRECT, "1")},
        [ids[0]],
        verdicts.Author("me", reason="equal"),
        change_evaluations=True,
    )
    assert adopted
    assert factory.select(connection, query) == [(1, False), (0, False)]
    evaluations.finish(connection, evaluation)
    assert factory.select(connection, query) == [(1, True), (0, True)]


def test_the_view_of_responses_has_texts_of_iterations_and_evaluations(example: Example) -> None:
    query = """
        SELECT measure, iteration, statement, reference_answer, response, verdict, pair, difficulty
        FROM responses WHERE run = 'example' AND problem_id IN (:one, :other)
        ORDER BY measure, iteration, slot
    """
    with example.database.begin() as connection:
        values = {"one": example.ids[1], "other": example.ids[5]}
        found = [tuple(row) for row in connection.execute(text(query), values)]
    assert found[0] == ("heldout", 0, "train problem 5", "5", WRONG.response, "incorrect", None, None)
    assert found[3] == (
        "iteration", 0, "train problem 1", "1", RIGHT.response, "correct", "chosen", "boundary"
    )  # fmt: skip
    assert len(found) == 6
