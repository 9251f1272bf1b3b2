"""Samples with all that is known of them, in pages."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from sqlalchemy import Connection, text

from hsstar.domain.selections import RIGHT_REWARD, Disagreement, PairSide
from hsstar.store.database import execute_file, rows_of


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample of an iteration, an evaluation or a continuation; None where something is not known (yet).

    Attributes:
        run: the run that it was drawn in; a fork shows samples of the run it shares with.
        measure: `iteration`, `heldout`, a source, or the key of a benchmark or of step labels.
        iteration: its number, or t of the policy M_t that an evaluation measures.
        phase: `pre` or `re`; None outside of iterations.
        response: at most as long as was asked for; None where it was pruned.
        characters: length of the whole response.
        rewards: those of the run by their names, each of the whole response.
        rewards_truncated: the reward model saw the beginning of the response only.
        model: the policy that drew it; None for an imported one.
        partner_slot: of the other sample of its preference pair.
        thinking: the marks of thinking of what drew it.
        step_rule: by which the response is split into steps.
        step_spans: where its steps begin and end, in turns, if a function has split it.
        judged_again: whether it has had another verdict; the view verdict_history has them all.
    """

    run: str
    measure: str
    iteration: int
    round_id: int
    problem_id: int
    slot: int
    sample_id: int
    phase: Literal["pre", "re"] | None
    level: str | None
    statement: str
    reference: str
    source_id: str | None
    response: str | None
    characters: int | None
    answer: str | None
    verdict: str | None
    cause: str | None
    cause_detail: str | None
    verifier: str | None
    min_reward: float | None
    step_rule: str
    step_rewards: tuple[float, ...] | None
    step_spans: Sequence[int] | None
    rewards_truncated: bool
    rewards: Mapping[str, float]
    tokens: int | None
    finish_reason: str | None
    cumulative_logprob: float | None
    seed: int | None
    model: str | None
    engine: str | None
    worker: str | None
    milliseconds: float | None
    created_at: datetime
    pair: PairSide | None
    partner_slot: int | None
    judged_again: bool
    thinking: str


@dataclass(frozen=True, slots=True)
class GivenVerdict:
    """A verdict on a sample, by a version of the verifier or a person."""

    verdict: str | None
    cause: str
    verifier: str | None
    author: str | None
    reason: str | None
    in_force: bool
    judged_at: datetime


@dataclass(frozen=True, slots=True)
class SampleFilter:
    """Which samples of a run; None lets all pass. Without `measure`: iterations and evaluations."""

    measure: str | None = None
    iteration: int | None = None
    problem_id: int | None = None
    slot: int | None = None
    model: str | None = None
    verdict: Literal["correct", "incorrect", "none"] | None = None
    cause: str | None = None
    level: str | None = None
    phase: Literal["pre", "re"] | None = None
    reward_from: float | None = None
    reward_to: float | None = None
    disagreement: Disagreement | None = None
    pair: PairSide | Literal["any"] | None = None
    text: str | None = None  # in the response or the statement, in any case


class SampleKey(NamedTuple):
    """Where a page of samples ended."""

    round_id: int
    problem_id: int
    slot: int


def sample_page(
    connection: Connection,
    run_id: int,
    wanted: SampleFilter,
    *,
    after: SampleKey | None = None,
    at_most: int = 50,
    characters: int | None = None,
) -> list[Sample]:
    """Return the next samples of a run, with those that a fork shares, by round, problem and slot.

    Responses are cut to so many `characters`.
    """
    key = (None, None, None) if after is None else after
    values = asdict(wanted) | {
        "run_id": run_id,
        "text": None if wanted.text is None else containing(wanted.text),
        "right_reward": RIGHT_REWARD,
        "at_most": at_most,
        "characters": characters,
        **dict(zip(("after_round", "after_problem", "after_slot"), key, strict=True)),
    }
    rows = execute_file(connection, "sample_page", values).mappings()
    return [Sample(**{**row, "step_rewards": _rewards(row["step_rewards"])}) for row in rows]


def newest_sample(connection: Connection, run_id: int, *, characters: int) -> Sample | None:
    """Return the newest sample of a run's open rounds that has a verdict; None without one."""
    row = connection.execute(
        text("""
            SELECT number, coalesce(nullif(evaluation_key, ''), 'iteration') AS measure, problem_id, slot
            FROM samples
            JOIN rounds ON rounds.id = samples.round_id
            JOIN round_states ON round_states.round_id = rounds.id
            WHERE run_id = :run_id AND state <> 'done' AND cause IS NOT NULL
            ORDER BY samples.id DESC LIMIT 1
        """),
        {"run_id": run_id},
    ).first()
    if row is None:
        return None
    wanted = SampleFilter(measure=row.measure, iteration=row.number, problem_id=row.problem_id, slot=row.slot)
    (sample,) = sample_page(connection, run_id, wanted, at_most=1, characters=characters)
    return sample


def containing(part: str) -> str:
    """Return the pattern of ILIKE for texts that contain this one."""
    escaped = part.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _rewards(values: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(values)


def given_verdicts(connection: Connection, sample_id: int) -> list[GivenVerdict]:
    """Return the verdicts of a sample that has had more than one, oldest first."""
    query = text("""
        SELECT verdict, cause, verifier, author, reason, in_force, judged_at
        FROM verdict_history WHERE sample_id = :id ORDER BY judged_at
    """)
    return rows_of(connection.execute(query, {"id": sample_id}), GivenVerdict)
