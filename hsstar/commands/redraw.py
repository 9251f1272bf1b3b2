"""`hsstar samples redraw`: draw a stored sample again, with its seed and parameters, and compare the two."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hsstar.domain.addresses import SampleAddress
from hsstar.domain.errors import BadInputError, ConflictError
from hsstar.domain.text import storable
from hsstar.engines.prompts import request_renderer
from hsstar.engines.registry import build_sampler
from hsstar.engines.sampling.contract import Completion, Sampler, SampleRequest
from hsstar.recipe.recipe import Recipe
from hsstar.stages.context import JobContext, context_of
from hsstar.store import rounds, samples
from hsstar.store.database import Database
from hsstar.store.models import checkpoint_of
from hsstar.store.read.samples import Sample

BuildSampler = Callable[[str, Recipe], Sampler]
"""Builds the sampler of a checkpoint's folder as a recipe says."""


@dataclass(frozen=True, slots=True)
class Redrawn:
    """A stored sample, and what the sampler draws at its address now.

    Attributes:
        stored_text, drawn_text: whole responses as they are stored; the stored one is None if it was pruned.
        same_text: bit by bit; of a pruned text its hash is compared.
        differs_at: the first character that differs; None where none does, or the stored text is gone.
        engine: name and version of the sampler that has drawn it now.
    """

    address: str
    sample: Sample
    stored_text: str | None
    drawn_text: str
    completion: Completion
    same_text: bool
    differs_at: int | None
    engine: str

    @property
    def same(self) -> bool:
        """Whether text, tokens, end and log-probability are the same, bit by bit."""
        return self.same_text and not any(True for _ in self.differences())

    def differences(self) -> Iterator[tuple[str, object, object]]:
        """Yield name, stored and drawn value of all but the text that differs."""
        sample, drawn = self.sample, self.completion
        for name, before, now in (
            ("tokens", sample.tokens, drawn.tokens),
            ("finish reason", sample.finish_reason, drawn.finish_reason),
            ("log-probability", sample.cumulative_logprob, drawn.cumulative_logprob),
        ):
            if before != now:
                yield name, before, now

    def reasons(self) -> Iterator[str]:
        """Yield why the two may differ, if they do."""
        if self.same:
            return
        if self.engine != self.sample.engine:
            yield (
                f"it was drawn by {self.sample.engine}, and now by {self.engine}: other engines and versions "
                "round otherwise"
            )
        if self.same_text:
            yield "the figures differ by the forward pass, whose rounding depends on batch and device"
        elif self.engine == self.sample.engine:
            yield (
                "engine and version are the same, so the forward pass rounded otherwise: that depends on the "
                "batch, the device and the threads, and decides a choice that is nearly a tie"
            )


def redraw(
    database: Database, address: SampleAddress, sample: Sample, build: BuildSampler | None = None
) -> Redrawn:
    """Draw a sample, which stands whole at this address, again: alone in its batch, to be compared.

    Raise BadInputError if it was imported or the sampler refuses its prompt, CheckpointError if the policy is
    gone, ConflictError if its seed does not follow from its address.
    """
    context, slot = _load(database, sample)
    seed = context.seed_of(slot)
    if sample.seed is None:
        raise BadInputError(f"{address} was imported: nobody knows how it was drawn")
    if sample.seed != seed:
        raise ConflictError(
            f"{address} was drawn with the seed {sample.seed}, and its address gives {seed}: its problem or "
            "the run's recipe was changed by hand"
        )
    folder = str(checkpoint_of(context.policy))
    policy = context.recipe.policy
    render = request_renderer(policy.prompt.resolved, context.policy.location, messages=policy.sends_messages)
    sampler = (build or _build)(folder, context.recipe)
    try:
        request = SampleRequest(render(slot.statement) + slot.prefix, seed)
        ((_, completion),) = sampler.draw([request], context.parameters_of(slot))
        engine = sampler.name
    finally:
        sampler.close()
    if isinstance(completion, str):
        raise BadInputError(f"the sampler refuses {address}: {completion}")
    drawn = storable(slot.prefix + completion.text)
    same = _same_text(database, sample, drawn)
    where = None if same or sample.response is None else _first_difference(sample.response, drawn)
    return Redrawn(str(address), sample, sample.response, drawn, completion, same, where, engine)


def _first_difference(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def _load(database: Database, sample: Sample) -> tuple[JobContext, samples.Slot]:
    with database.begin() as connection:
        context = context_of(connection, rounds.get_round(connection, sample.round_id))
        slot = samples.find_slot(connection, sample.round_id, sample.problem_id, sample.slot)
        return context, slot


def _build(folder: str, recipe: Recipe) -> Sampler:
    policy = recipe.policy
    return build_sampler(folder, engine=policy.engine, dtype=policy.dtype, **policy.engine_options)


def _same_text(database: Database, sample: Sample, drawn: str) -> bool:
    if sample.response is not None:
        return sample.response == drawn
    with database.begin() as connection:
        return samples.has_text(connection, sample.sample_id, drawn)
