"""Majority votes (maj@k): of each problem of an evaluation, whether its most frequent answer is correct.

A vote counts while its problem has just the verdicts and answers that it covers. A problem with fewer than
two verdicts needs none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, text

from hsstar.store.database import execute_file
from hsstar.store.queue.jobs import Job


@dataclass(frozen=True, slots=True)
class Ballot:
    """What a vote on a problem covers."""

    key: int  # hash of all verdicts and answers
    answers: list[tuple[str | None, bool]] = field(default_factory=list)  # by slot, and whether it is correct


def load_ballots(connection: Connection, job: Job) -> dict[int, Ballot]:
    """Load the ballots of those problems of a verification job that are complete and lack their vote.

    Problems that are left out vote by the samples they have. Empty for a job of an iteration.
    """
    rows = execute_file(connection, "ballots", {"round_id": job.round_id, "job_id": job.id})
    ballots: dict[int, Ballot] = {}
    for row in rows:
        ballot = ballots.setdefault(row.problem_id, Ballot(row.ballot))
        ballot.answers.append((row.answer, row.correct))
    return ballots


def write_votes(
    connection: Connection, round_id: int, ballots: Mapping[int, Ballot], votes: Mapping[int, bool]
) -> None:
    """Write the votes of these ballots, by problem id, over those of other ballots.

    A vote of a ballot that has changed meanwhile is one that its evaluation lacks.
    """
    connection.execute(
        text("""
            INSERT INTO majority_votes (round_id, problem_id, ballot, correct)
            SELECT :round_id, problem_id, ballot, correct
            FROM unnest(CAST(:problems AS bigint[]), CAST(:ballots AS bigint[]), CAST(:correct AS boolean[]))
                AS vote (problem_id, ballot, correct)
            ON CONFLICT (round_id, problem_id) DO UPDATE
            SET ballot = excluded.ballot, correct = excluded.correct
        """),
        {
            "round_id": round_id,
            "problems": sorted(ballots),  # one order of row locks
            "ballots": [ballots[problem].key for problem in sorted(ballots)],
            "correct": [votes[problem] for problem in sorted(ballots)],
        },
    )


def allocate_votes(connection: Connection, round_id: int, job_samples: int) -> int:
    """Enqueue the votes that a completely verified evaluation lacks; return how many it lacks.

    The caller holds the run's lock. Running it again enqueues nothing.
    """
    parameters = {"round_id": round_id, "job_samples": job_samples}
    missing: int = execute_file(connection, "allocate_votes", parameters).scalar_one()
    return missing
