"""Samples of a run: pages of them, one by its address, and its steps with their rewards."""

from dataclasses import dataclass
from itertools import zip_longest

from hsstar.domain.addresses import RoundAddress, SampleAddress
from hsstar.domain.answers.thinking import reply_of
from hsstar.domain.errors import BadInputError, NotFoundError
from hsstar.domain.steps import StepRule, shown_steps
from hsstar.store import runs
from hsstar.store.database import Database
from hsstar.store.read import samples
from hsstar.store.read.samples import GivenVerdict, Sample, SampleFilter, SampleKey

MOST_CHARACTERS = 20_000
"""Of a response in a list; one alone is shown whole."""


@dataclass(frozen=True, slots=True)
class SamplePage:
    """Some samples in order, and the key of the next page; None on the last one."""

    samples: list[Sample]
    next: str | None


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a response; None where the reward model has not seen it (yet)."""

    text: str
    reward: float | None


def list_samples(
    database: Database,
    run: str,
    wanted: SampleFilter | None = None,
    *,
    after: str | None = None,
    at_most: int = 50,
    characters: int | None = MOST_CHARACTERS,
) -> SamplePage:
    """Return a page of the samples of a run, by round, problem and slot; `after` is the key before it.

    Responses are cut to so many `characters` (None: not). Raise NotFoundError without the run, BadInputError
    if `after` is no key of a page.
    """
    key = None if after is None else _read_key(after)
    with database.begin() as connection:
        run_id = runs.find_run(connection, run).id
        rows = samples.sample_page(
            connection,
            run_id,
            wanted or SampleFilter(),
            after=key,
            at_most=at_most + 1,
            characters=characters,
        )
    page = rows[:at_most]
    more = len(rows) > at_most
    return SamplePage(page, _written_key(page[-1]) if more else None)


def find_sample(database: Database, address: SampleAddress) -> Sample:
    """Return the sample at an address, whole; raise NotFoundError without the run or the sample."""
    wanted = SampleFilter(
        measure=address.round.measure,
        iteration=address.round.number,
        problem_id=address.problem_id,
        slot=address.slot,
    )
    page = list_samples(database, address.round.run, wanted, at_most=1, characters=None)
    if not page.samples:
        raise NotFoundError(
            f"there is no sample {address}; see hsstar samples show {address.round.run} "
            f"--problem {address.problem_id}"
        )
    return page.samples[0]


def address_of(sample: Sample, run: str | None = None) -> SampleAddress:
    """Return the address of a sample, by default in the run that drew it."""
    round_ = RoundAddress(run or sample.run, sample.measure, sample.iteration)
    return SampleAddress(round_, sample.problem_id, sample.slot)


def steps_of(sample: Sample) -> list[Step]:
    """Return the steps of a response, without its thinking, with their rewards."""
    reply = reply_of(sample.response or "", sample.thinking)
    texts = [*filter(None, shown_steps(reply, StepRule(sample.step_rule), sample.step_spans))]
    rewards = (sample.step_rewards or ())[: len(texts)]
    return [Step(text or "", reward) for text, reward in zip_longest(texts, rewards)]


def _written_key(sample: Sample) -> str:
    return f"{sample.round_id}.{sample.problem_id}.{sample.slot}"


def _read_key(text: str) -> SampleKey:
    parts = text.split(".")
    if len(parts) != len(SampleKey._fields) or not all(part.isascii() and part.isdigit() for part in parts):
        raise BadInputError(
            f"{text!r} is no key of a page of samples; take the one that the page before gives"
        )
    return SampleKey(*map(int, parts))


def list_verdicts(database: Database, sample: Sample) -> list[GivenVerdict]:
    """Return the verdicts on a sample that was judged more than once, oldest first."""
    with database.begin() as connection:
        return samples.given_verdicts(connection, sample.sample_id)
