"""Samples as cards show them: cut to a size, with their steps, their origin and what contradicts what."""

from collections.abc import Sequence
from dataclasses import dataclass

from hsstar.domain.addresses import SampleAddress
from hsstar.domain.selections import RIGHT_REWARD
from hsstar.insights.samples import Step, address_of, steps_of
from hsstar.store.read.samples import Sample


@dataclass(frozen=True, slots=True)
class Shown:
    """A sample with what its card says of it.

    Attributes:
        address, partner: of the sample, and of the other one of its pair, in the run that drew them.
        anchor: by which a link reaches the card.
        steps: of the part that is shown.
        rest: how many characters are left out.
        disagreement: what the reward says against the verdict: `right`, `wrong` or nothing.
        origin: names and values of how it was drawn; only those that are known.
    """

    sample: Sample
    address: str
    partner: str | None
    anchor: str
    steps: list[Step]
    rest: int
    disagreement: str
    origin: list[tuple[str, str]]


def shown(sample: Sample) -> Shown:
    """Return a sample for its card."""
    address = address_of(sample)
    partner = None
    if sample.partner_slot is not None:
        partner = str(SampleAddress(address.round, address.problem_id, sample.partner_slot))
    return Shown(
        sample,
        str(address),
        partner,
        f"{sample.measure}-{sample.iteration}-{sample.slot}",
        steps_of(sample),
        max(0, (sample.characters or 0) - len(sample.response or "")),
        _disagreement(sample),
        [*_origin(sample)],
    )


def _disagreement(sample: Sample) -> str:
    if sample.min_reward is None or sample.verdict is None:
        return ""
    says_right = sample.min_reward >= RIGHT_REWARD
    if says_right == (sample.verdict == "correct"):
        return ""
    return "right" if says_right else "wrong"


def _origin(sample: Sample) -> list[tuple[str, str]]:
    cut = ", cut at its limit" if sample.finish_reason == "length" else ""
    known = {
        "tokens": None if sample.tokens is None else f"{sample.tokens:,}{cut}",
        "log-probability": None if sample.cumulative_logprob is None else f"{sample.cumulative_logprob:.2f}",
        "seed": sample.seed,
        "policy": sample.model or "imported",
        "engine": sample.engine,
        "worker": sample.worker,
        "time": None if sample.milliseconds is None else f"{sample.milliseconds / 1000:.2f} s",
        "verifier": sample.verifier,
    }
    return [(name, str(value)) for name, value in known.items() if value is not None]


@dataclass(frozen=True, slots=True)
class Group:
    """The samples of one round, by slot."""

    title: str
    model: str | None
    round_: str  # its address
    entries: list[Shown]

    @property
    def correct(self) -> int:
        """How many of them are correct."""
        return sum(entry.sample.verdict == "correct" for entry in self.entries)


def by_round(samples: Sequence[Sample]) -> list[Group]:
    """Return samples in order as groups, one per round."""
    groups: dict[int, Group] = {}
    for sample in samples:
        entry = shown(sample)
        if sample.round_id not in groups:
            is_iteration = sample.measure == "iteration"
            title = (
                f"Iteration {sample.iteration}"
                if is_iteration
                else f"{sample.measure} of M_{sample.iteration}"
            )
            round_ = str(address_of(sample).round)
            groups[sample.round_id] = Group(title, sample.model, round_, [])
        groups[sample.round_id].entries.append(entry)
    return [*groups.values()]
