"""A finished run as plain values that two runs can be compared by, and what has to hold for its rows."""

from collections import Counter
from typing import Any

import psycopg

from tests.chaos.stack import HELD_OUT, ITERATIONS, PROBLEMS

Snapshot = dict[str, list[tuple[Any, ...]]]

_PROBLEMS = """
    FROM rounds JOIN round_problems ON round_problems.round_id = rounds.id
    JOIN problems ON problems.id = round_problems.problem_id
"""
_QUERIES = {
    "samples": f"""
        SELECT kind, number, key, slot, response, samples.seed, tokens, verdict, cause, samples.answer,
            min_reward, step_rewards, fingerprint
        {_PROBLEMS} JOIN samples USING (round_id, problem_id)
        JOIN sample_responses ON sample_responses.sample_id = samples.id
        LEFT JOIN rewards ON rewards.sample_id = samples.id
        LEFT JOIN models ON models.id = samples.model_id
    """,
    "problems": f"""
        SELECT kind, number, key, position, allotment, exclusion, labels.level, accuracy, process_quality
        {_PROBLEMS} LEFT JOIN difficulty_labels AS labels USING (round_id, problem_id)
    """,
    "pairs": f"""
        SELECT kind, number, key, chosen.slot, rejected.slot
        {_PROBLEMS} JOIN preference_pairs AS pairs USING (round_id, problem_id)
        JOIN samples AS chosen ON chosen.id = chosen_sample_id
        JOIN samples AS rejected ON rejected.id = rejected_sample_id
    """,
    "policies": "SELECT number, models.fingerprint, made.fingerprint FROM rounds JOIN iterations ON"
    " round_id = rounds.id JOIN models ON models.id = model_id"
    " JOIN models AS made ON made.id = output_model_id",
    "evaluations": "SELECT number, accuracy, standard_error FROM rounds JOIN evaluations"
    " ON round_id = rounds.id",
    "trainings": "SELECT number, finished_at IS NOT NULL FROM rounds JOIN training_runs"
    " ON round_id = rounds.id",
}

_JOBS = """
    SELECT jobs.state, rounds.kind, number, jobs.kind, problem_id, held.slot
    FROM jobs JOIN rounds ON rounds.id = round_id
    LEFT JOIN job_items ON job_id = jobs.id LEFT JOIN LATERAL unnest(slots) AS held (slot) ON true
"""


def snapshot(connection: psycopg.Connection, run: str) -> Snapshot:
    """Everything of a run that must not depend on what happened on the way."""

    def rows(query: str) -> list[tuple[Any, ...]]:
        of_run = f"{query} WHERE run_id = (SELECT id FROM runs WHERE name = %s)"
        return sorted(connection.execute(of_run.encode(), (run,)), key=repr)

    found = {name: rows(query) for name, query in _QUERIES.items()}
    _check_budget(found)
    _check_jobs(rows(_JOBS))
    return found


def _check_budget(found: Snapshot) -> None:
    """Exactly the budget, each slot below its allotment once, each with verdict and reward."""
    slots = Counter(sample[:3] for sample in found["samples"])
    assert slots == Counter({problem[:3]: problem[4] for problem in found["problems"]})
    assert Counter(sample[:2] for sample in found["samples"]) == Counter(
        {("iteration", number): 6 * PROBLEMS for number in range(ITERATIONS)}
        | {("evaluation", number): HELD_OUT for number in range(ITERATIONS + 1)}
    )
    assert all(cause is not None for *_, cause, _, _, _, _ in found["samples"])
    assert len([sample for sample in found["samples"] if sample[-2]]) == 6 * PROBLEMS * ITERATIONS
    assert len([problem for problem in found["problems"] if problem[6]]) == PROBLEMS * ITERATIONS
    assert found["pairs"]
    assert found["trainings"] == [(number, True) for number in range(ITERATIONS)]


def _check_jobs(rows: list[tuple[Any, ...]]) -> None:
    """Every job has ended well, and no address stands in two jobs of a kind."""
    assert {state for state, *_ in rows} == {"done"}
    addresses = Counter(row[1:] for row in rows)
    assert max(addresses.values()) == 1, addresses.most_common(3)
