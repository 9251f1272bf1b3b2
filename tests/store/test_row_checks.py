"""References that triggers check once a statement, instead of foreign keys."""

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from hsstar.domain.verdict import Cause
from tests.store import factory
from tests.store.factory import Drawn, add_job, execute, select

RIGHT, WRONG = Drawn(Cause.CORRECT, 1.0), Drawn(Cause.INCORRECT, 0.0)
LABEL = "INSERT INTO difficulty_labels (round_id, problem_id, level, accuracy) VALUES ({}, {}, 'boundary', 0)"
ITEM = "INSERT INTO job_items (job_id, problem_id, slots) VALUES ({}, {}, '{{0}}')"
PAIR = """
    INSERT INTO preference_pairs (round_id, problem_id, chosen_sample_id, rejected_sample_id)
    VALUES ({}, {}, {}, {})
"""


@pytest.fixture
def rows(connection: Connection) -> dict[str, int]:
    """Two rounds of a problem, each with a label, a job, a right and a wrong sample, and their pair."""
    run = factory.add_run(connection)
    found: dict[str, int] = {}
    for number, (name, problem) in enumerate(
        zip(("first", "second"), factory.add_problems(connection, 2), strict=True)
    ):
        round_id = factory.add_iteration(connection, run, [problem], number).id
        factory.add_samples(connection, round_id, {problem: {0: RIGHT, 1: WRONG}})
        samples = select(connection, "SELECT id FROM samples WHERE round_id = :id ORDER BY slot", id=round_id)
        job = add_job(connection, round_id, items={problem: [0]})
        found |= {name: round_id, f"{name} problem": problem, f"{name} job": job}
        found |= {f"{name} right": samples[0][0], f"{name} wrong": samples[1][0]}
        execute(connection, LABEL.format(round_id, problem))
        execute(connection, PAIR.format(round_id, problem, samples[0][0], samples[1][0]))
    return found


REFUSED: dict[str, tuple[str, *tuple[str | int, ...]]] = {
    "a label of another round's problem": (LABEL, "first", "second problem"),
    "a label of no round": (LABEL, 0, "first problem"),
    "an item of no job": (ITEM, 0, "first problem"),
    "an item of another round's problem": (ITEM, "first job", "second problem"),
    "a pair of no sample": (PAIR, "first", "first problem", 0, -1),
    "a pair of another problem's samples": (PAIR, "first", "first problem", "second right", "second wrong"),
    "a pair of another round's problem": (PAIR, "first", "second problem", "first right", "first wrong"),
    "a label that is changed": ("UPDATE difficulty_labels SET round_id = {}", 0),
    "an item that is changed": ("UPDATE job_items SET job_id = {} WHERE job_id = {}", 0, "first job"),
    "a pair that is changed": (
        "UPDATE preference_pairs SET rejected_sample_id = {} WHERE round_id = {}",
        -1,
        "first",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_refers_to_nothing_is_refused(connection: Connection, rows: dict[str, int], case: str) -> None:
    statement, *values = REFUSED[case]
    if case.startswith("a pair of"):
        execute(connection, "DELETE FROM preference_pairs")
    with pytest.raises(IntegrityError, match="is of"):
        execute(
            connection,
            statement.format(*(rows[value] if isinstance(value, str) else value for value in values)),
        )


@pytest.mark.parametrize(
    ("statement", "of", "left"),
    [
        ("DELETE FROM rounds WHERE id = :id", "first", (1, 1, 1)),
        ("DELETE FROM round_problems WHERE problem_id = :id", "first problem", (1, 1, 1)),
        ("DELETE FROM samples WHERE id = :id", "first right", (2, 2, 1)),
        ("DELETE FROM samples WHERE id = :id", "first wrong", (2, 2, 1)),
        ("DELETE FROM jobs WHERE id = :id", "first job", (2, 1, 2)),
    ],
)
def test_what_refers_to_a_deleted_row_goes_with_it(
    connection: Connection, rows: dict[str, int], statement: str, of: str, left: tuple[int, int, int]
) -> None:
    execute(connection, statement, id=rows[of])
    count = "SELECT (SELECT count(*) FROM difficulty_labels), (SELECT count(*) FROM job_items), count(*) FROM"
    assert select(connection, f"{count} preference_pairs") == [left]
