"""Continuations: every prefix once, every slot continues its own, and its verdict counts for that one."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection

from hsstar.commands.runs import accept_missing
from hsstar.domain.lifecycle import JobKind
from hsstar.domain.seeds import continuation_seed
from hsstar.domain.step_labels import first_with_prefix
from hsstar.domain.steps import step_prefixes
from hsstar.domain.verdict import VERDICT_OF_CAUSE, Cause, Verdict
from hsstar.insights.progress import finished_share, run_progress
from hsstar.store import rounds, samples, steps
from hsstar.store.queue import jobs
from hsstar.store.read import overview
from hsstar.store.rounds import Round
from tests.generated import examples
from tests.store import factory
from tests.store.conftest import Scratch
from tests.store.driver import Begin, Driver, call
from tests.store.factory import Drawn, add_samples

EACH = 3
"""Continuations of a prefix."""

texts = st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map("\n\n".join)
"""Few letters, so that responses share their beginnings."""
drawn = st.builds(Drawn, st.sampled_from([None, *Cause]), st.none(), texts)
problems = st.lists(st.lists(drawn, max_size=5), min_size=1, max_size=4)


def ensure_step_round(connection: Connection, iteration: Round, responses: int) -> Round:
    """The round that continues these responses, added if it is missing."""
    judged = steps.load_judged(connection, iteration.id, responses)
    prefixes = steps.different_prefixes(judged, [step_prefixes(of.response) for of in judged])
    return steps.ensure_step_round(connection, iteration, responses, EACH, prefixes)


def plain_prefixes(problem: list[Drawn], responses: int) -> list[str]:
    """The different prefixes of the first responses with a verdict."""
    judged = [of for of in problem[:responses] if of.cause and VERDICT_OF_CAUSE[of.cause]]
    return list(dict.fromkeys(prefix for of in judged for prefix in step_prefixes(of.response)))


@examples(30)
@given(made=problems, responses=st.integers(1, 5), causes=st.lists(st.sampled_from(Cause), min_size=1))
def test_prefixes_slots_and_counts_are_those_of_plain_loops(
    scratch: Scratch, made: list[list[Drawn]], responses: int, causes: list[Cause]
) -> None:
    with scratch() as connection:
        ids = factory.add_problems(connection, len(made))
        iteration = factory.add_iteration(connection, factory.add_run(connection), ids[::-1])
        by_id = dict(zip(ids, made, strict=True))
        add_samples(connection, iteration.id, {key: dict(enumerate(of)) for key, of in by_id.items()})
        added = ensure_step_round(connection, iteration, responses)
        assert ensure_step_round(connection, iteration, responses) == added
        prefixes = {key: plain_prefixes(of, responses) for key, of in by_id.items()}
        slots = missing_slots(connection, added)
        assert slots == {
            (key, slot): own[slot // EACH] for key, own in prefixes.items() for slot in range(EACH * len(own))
        }
        found: defaultdict[int, dict[int, Drawn]] = defaultdict(dict)
        verdicts: defaultdict[tuple[int, str], list[Verdict | None]] = defaultdict(list)
        for place, ((key, slot), prefix) in enumerate(slots.items()):
            cause = causes[place % len(causes)]
            found[key][slot] = Drawn(cause, None, f"{prefix}c")
            verdicts[key, prefix].append(VERDICT_OF_CAUSE[cause])
        add_samples(connection, added.id, found)
        counts = {
            (of.problem_id, response_of(connection, of.sample_id)[: of.characters]): (
                of.correct,
                of.incorrect,
            )
            for of in steps.load_prefix_counts(connection, added.id)
        }
        assert counts == {
            prefix: (own.count(Verdict.CORRECT), own.count(Verdict.INCORRECT))
            for prefix, own in verdicts.items()
        }


def missing_slots(connection: Connection, of: Round) -> dict[tuple[int, int], str]:
    """The slots that the allocator finds missing, with the prefixes that their jobs read."""
    found: dict[tuple[int, int], str] = {}
    for job_id in rounds.allocate(connection, of.id, JobKind.SAMPLE, 4):
        job = factory.claim(connection, job_id)
        missing = samples.load_missing_slots(connection, job)
        found |= {(slot.problem_id, slot.slot): slot.prefix for slot in missing}
        jobs.complete(connection, job)
    return found


def response_of(connection: Connection, sample_id: int) -> str:
    query = "SELECT response FROM sample_responses WHERE sample_id = :id"
    ((response,),) = factory.select(connection, query, id=sample_id)
    return str(response)


def iteration_of(driver: Driver) -> Round:
    (iteration,) = call(driver.database, rounds.list_iterations, driver.run.id)
    return iteration.round


def continue_responses(driver: Driver) -> Round:
    """Do the run's iteration; then add the round that continues two responses of each problem."""
    driver.work()
    added = call(driver.database, ensure_step_round, iteration_of(driver), 2)
    assert driver.queued() == []
    driver.conductor.sweep()
    return added


def test_a_round_of_continuations_is_drawn_verified_and_finished_by_its_rows(begin: Begin) -> None:
    driver = begin()
    added = continue_responses(driver)
    driver.do(driver.queued()[0])
    progress = run_progress(driver.database, driver.run)
    last = progress.rounds[-1]
    assert (progress.state, last.kind, last.state) == ("running", "steps", "running")
    assert 0 <= finished_share(progress.rounds) < 1
    assert [run.state for run in call(driver.database, overview.summarise_runs)] == ["labelling steps"]
    driver.work()
    assert call(driver.database, steps.is_finished, added.id)
    assert run_progress(driver.database, driver.run).state == "done"
    assert [run.state for run in call(driver.database, overview.summarise_runs)] == ["done"]
    kinds = driver.rows("SELECT DISTINCT kind FROM jobs WHERE round_id = :id ORDER BY 1", id=added.id)
    assert [kind for (kind,) in kinds] == ["sample", "verify"]  # continuations are not scored
    found = driver.rows(
        "SELECT problem_id, key, slot, seed, response, cause FROM samples "
        "JOIN problems ON problem_id = problems.id JOIN sample_responses ON sample_id = samples.id "
        "WHERE round_id = :id ORDER BY problem_id, slot",
        id=added.id,
    )
    judged = call(driver.database, steps.load_judged, iteration_of(driver).id, 2)
    prefixes = {
        problem: list(
            first_with_prefix([step_prefixes(of.response) for of in judged if of.problem_id == problem])
        )
        for problem in sorted({of.problem_id for of in judged})
    }
    addresses = [(key, slot) for key, own in prefixes.items() for slot in range(EACH * len(own))]
    assert [(row.problem_id, row.slot) for row in found] == addresses
    for row in found:
        prefix = prefixes[row.problem_id][row.slot // EACH]
        assert row.response.startswith(prefix) and row.response != prefix and row.cause
        assert row.seed == continuation_seed(driver.run.recipe.seed, 0, row.key, row.slot)


def test_a_failed_continuation_holds_the_round_up_until_it_is_discarded(begin: Begin) -> None:
    driver = begin()
    added = continue_responses(driver)
    driver.fail(driver.queued()[0])
    driver.work()
    assert not call(driver.database, steps.is_finished, added.id)
    assert run_progress(driver.database, driver.run).state == "stuck"
    accept_missing(driver.database, driver.run)
    driver.work()
    assert call(driver.database, steps.is_finished, added.id)
