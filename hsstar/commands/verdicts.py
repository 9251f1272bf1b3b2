"""`hsstar verdicts set`: a person corrects the verdict of one sample."""

from dataclasses import dataclass
from functools import partial

from hsstar.conductor import Conductor
from hsstar.domain.errors import BadInputError
from hsstar.domain.verdict import Cause, Judgement, Verdict
from hsstar.settings import Settings
from hsstar.store import verdicts
from hsstar.store.database import Database
from hsstar.store.verdicts import Author


@dataclass(frozen=True, slots=True)
class Correction:
    """A verdict that a person gave."""

    run: str
    round: str
    problem_id: int
    slot: int
    before: str  # cause of the verdict in force before
    in_force: bool  # whether it replaces that one


def set_verdict(
    database: Database,
    sample_id: int,
    verdict: Verdict,
    reason: str,
    author: str,
    settings: Settings,
    *,
    change_evaluations: bool,
) -> Correction:
    """Record a person's verdict on a sample, with the reason; no verifier changes it from now on.

    Raise NotFoundError without the sample, ConflictError if it has no verdict yet, BadInputError without a
    reason.
    """
    if not reason.strip():
        raise BadInputError("say why: --why is empty")
    with database.begin() as connection:
        named, sample = verdicts.find_sample(connection, sample_id)
    in_force = database.run(
        partial(
            verdicts.append,
            round_id=named.round_id,
            judgements={sample_id: Judgement(Cause(verdict), sample.answer)},
            problem_ids=[sample.problem_id],
            author=Author(author, reason=reason),
            change_evaluations=change_evaluations,
        )
    )
    if change_evaluations:
        Conductor(database, settings).advance(named.run_id)
    return Correction(named.run, named.name, sample.problem_id, sample.slot, sample.cause or "", in_force)
