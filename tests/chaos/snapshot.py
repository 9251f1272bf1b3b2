"""A finished run as plain values that two runs can be compared by, and what has to hold for its rows."""

from collections import Counter
from typing import Any

import psycopg

from tests.chaos.stack import HELD_OUT, ITERATIONS, PROBLEMS

Snapshot = dict[str, list[tuple[Any, ...]]]

_QUERIES = {
    "samples": """
        SELECT rounds.kind, rounds.number, problems.key, slot, response, seed, tokens, verdict, cause, answer,
            min_reward, models.fingerprint
        FROM samples JOIN sample_responses ON sample_id = samples.id
        JOIN rounds ON rounds.id = round_id JOIN problems ON problems.id = problem_id
        LEFT JOIN models ON models.id = samples.model_id WHERE run_id = %(run)s ORDER BY 1, 2, 3, 4
    """,
    "rewards": """
        SELECT rounds.number, problems.key, slot, step_rewards
        FROM rewards JOIN samples ON samples.id = sample_id JOIN rounds ON rounds.id = round_id
        JOIN problems ON problems.id = problem_id WHERE run_id = %(run)s ORDER BY 1, 2, 3
    """,
    "labels": """
        SELECT rounds.number, problems.key, difficulty_labels.level, accuracy, process_quality
        FROM difficulty_labels JOIN rounds ON rounds.id = round_id JOIN problems ON problems.id = problem_id
        WHERE run_id = %(run)s ORDER BY 1, 2
    """,
    "allotments": """
        SELECT rounds.kind, rounds.number, problems.key, position, allotment, exclusion
        FROM round_problems JOIN rounds ON rounds.id = round_id JOIN problems ON problems.id = problem_id
        WHERE run_id = %(run)s ORDER BY 1, 2, 3
    """,
    "pairs": """
        SELECT rounds.number, problems.key, chosen.slot, rejected.slot
        FROM preference_pairs AS pairs JOIN rounds ON rounds.id = pairs.round_id
        JOIN problems ON problems.id = pairs.problem_id
        JOIN samples AS chosen ON chosen.id = chosen_sample_id
        JOIN samples AS rejected ON rejected.id = rejected_sample_id
        WHERE run_id = %(run)s ORDER BY 1, 2, 3
    """,
    "policies": """
        SELECT rounds.number, models.fingerprint, made.fingerprint
        FROM iterations JOIN rounds ON rounds.id = round_id JOIN models ON models.id = model_id
        JOIN models AS made ON made.id = output_model_id WHERE run_id = %(run)s ORDER BY 1
    """,
    "evaluations": """
        SELECT number, accuracy, standard_error FROM evaluations JOIN rounds ON rounds.id = round_id
        WHERE run_id = %(run)s ORDER BY 1
    """,
}

_JOBS = """
    SELECT jobs.id, rounds.kind, rounds.number, jobs.kind, jobs.state, problem_id, held.slot
    FROM jobs JOIN rounds ON rounds.id = round_id
    LEFT JOIN job_items ON job_id = jobs.id LEFT JOIN LATERAL unnest(slots) AS held (slot) ON true
    WHERE run_id = %(run)s
"""


def snapshot(connection: psycopg.Connection, run: str) -> Snapshot:
    """Everything of a run that must not depend on what happened on the way."""
    row = connection.execute("SELECT id FROM runs WHERE name = %s", (run,)).fetchone()
    assert row is not None
    found = {name: connection.execute(query, {"run": row[0]}).fetchall() for name, query in _QUERIES.items()}
    _check_budget(found)
    _check_jobs(connection.execute(_JOBS, {"run": row[0]}).fetchall())
    _check_trainings(connection, row[0])
    return found


def _check_budget(found: Snapshot) -> None:
    """Exactly the budget, each slot below its allotment once, each with verdict and reward."""
    slots = Counter((kind, number, key) for kind, number, key, *_ in found["samples"])
    allotted = {(kind, number, key): allotment for kind, number, key, _, allotment, _ in found["allotments"]}
    assert slots == Counter(allotted)
    drawn = Counter((kind, number) for kind, number, *_ in found["samples"])
    assert drawn == Counter(
        {("iteration", number): 6 * PROBLEMS for number in range(ITERATIONS)}
        | {("evaluation", number): HELD_OUT for number in range(ITERATIONS + 1)}
    )
    assert all(cause is not None for *_, cause, _, _, _ in found["samples"])
    assert len(found["rewards"]) == 6 * PROBLEMS * ITERATIONS
    assert len(found["labels"]) == PROBLEMS * ITERATIONS
    assert found["pairs"]


def _check_jobs(rows: list[tuple[Any, ...]]) -> None:
    """Every job has ended well, and no address stands in two jobs of a kind."""
    assert {row[4] for row in rows} == {"done"}
    addresses = Counter(row[1:4] + row[5:7] for row in rows)
    assert max(addresses.values()) == 1, addresses.most_common(3)


def _check_trainings(connection: psycopg.Connection, run_id: int) -> None:
    """One finished training per iteration, and no trace of an abandoned one."""
    rows = connection.execute(
        "SELECT number, count(*), count(finished_at) FROM training_runs JOIN rounds ON rounds.id = round_id"
        " WHERE run_id = %s GROUP BY 1 ORDER BY 1",
        (run_id,),
    ).fetchall()
    assert rows == [(number, 1, 1) for number in range(ITERATIONS)]
