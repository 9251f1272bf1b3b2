"""Majority votes (maj@k): of each problem of an evaluation, whether its most frequent answer is correct.

A vote counts while it covers all verdicts of its problem. A problem with fewer than two verdicts needs none.
"""

from collections.abc import Mapping

from sqlalchemy import Connection, text

from hsstar.store.database import execute_file
from hsstar.store.queue.jobs import Job

Ballot = list[tuple[str | None, bool]]
"""Of one problem: the answer of each verified sample by slot, and whether it is correct."""


def load_ballots(connection: Connection, job: Job) -> dict[int, Ballot]:
    """Load the ballots of those problems of a verification job that are complete and lack their vote.

    Problems that are left out vote by the samples they have. Empty for a job of an iteration.
    """
    rows = connection.execute(
        text("""
            WITH complete AS (
                SELECT samples.problem_id
                FROM evaluations
                JOIN round_problems USING (round_id)
                JOIN job_items ON job_items.problem_id = round_problems.problem_id
                JOIN samples
                    ON samples.round_id = evaluations.round_id
                    AND samples.problem_id = round_problems.problem_id
                    AND samples.cause IS NOT NULL
                LEFT JOIN majority_votes AS vote
                    ON vote.round_id = samples.round_id AND vote.problem_id = samples.problem_id
                WHERE evaluations.round_id = :round_id AND evaluations.samples > 1
                  AND job_items.job_id = :job_id
                GROUP BY samples.problem_id, allotment, exclusion, vote.verdicts
                HAVING count(*) > 1 AND vote.verdicts IS DISTINCT FROM count(*)
                   AND (count(*) >= allotment OR exclusion IS NOT NULL)
            )
            SELECT problem_id, answer, coalesce(verdict = 'correct', false) AS correct
            FROM samples JOIN complete USING (problem_id)
            WHERE round_id = :round_id AND cause IS NOT NULL
            ORDER BY problem_id, slot
        """),
        {"round_id": job.round_id, "job_id": job.id},
    )
    ballots: dict[int, Ballot] = {}
    for row in rows:
        ballots.setdefault(row.problem_id, []).append((row.answer, row.correct))
    return ballots


def write_votes(
    connection: Connection, round_id: int, ballots: Mapping[int, Ballot], votes: Mapping[int, bool]
) -> None:
    """Write the votes of these ballots, by problem id; a vote over fewer verdicts is replaced."""
    connection.execute(
        text("""
            INSERT INTO majority_votes (round_id, problem_id, verdicts, correct)
            SELECT :round_id, problem_id, verdicts, correct
            FROM unnest(CAST(:problems AS bigint[]), CAST(:verdicts AS int[]), CAST(:correct AS boolean[]))
                AS vote (problem_id, verdicts, correct)
            ON CONFLICT (round_id, problem_id) DO UPDATE
            SET verdicts = excluded.verdicts, correct = excluded.correct
            WHERE majority_votes.verdicts < excluded.verdicts
        """),
        {
            "round_id": round_id,
            "problems": sorted(ballots),  # one order of row locks
            "verdicts": [len(ballots[problem]) for problem in sorted(ballots)],
            "correct": [votes[problem] for problem in sorted(ballots)],
        },
    )


def allocate_votes(connection: Connection, round_id: int, job_samples: int) -> int:
    """Enqueue the votes that a completely verified evaluation lacks; return how many it lacks.

    The caller holds the run's lock. Running it again enqueues nothing.
    """
    parameters = {"round_id": round_id, "job_samples": job_samples}
    lacking: int = execute_file(connection, "allocate_votes", parameters).scalar_one()
    return lacking
