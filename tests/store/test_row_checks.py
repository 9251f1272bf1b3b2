"""References that triggers check once a statement, instead of foreign keys."""

from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from hsstar.domain.errors import RefusedRowError
from hsstar.domain.verdict import Cause
from hsstar.store.database import Database
from tests.store import factory
from tests.store.conftest import MakeDatabase
from tests.store.driver import rows
from tests.store.factory import Drawn, add_job, execute, select
from tests.store.threads import beside
from tests.waiting import wait_for

RIGHT, WRONG = Drawn(Cause.CORRECT, 1.0), Drawn(Cause.INCORRECT, 0.0)
LABEL = "INSERT INTO difficulty_labels (round_id, problem_id, level, accuracy) VALUES ({}, {}, 'boundary', 0)"
ITEM = "INSERT INTO job_items (job_id, problem_id, slots) VALUES ({}, {}, '{{0}}')"
PAIR = """
    INSERT INTO preference_pairs (round_id, problem_id, chosen_sample_id, rejected_sample_id)
    VALUES ({}, {}, {}, {})
"""


DELETIONS = {
    "rounds": ("DELETE FROM rounds WHERE id = :id", "first"),
    "round_problems": ("DELETE FROM round_problems WHERE problem_id = :id", "first problem"),
    "right samples": ("DELETE FROM samples WHERE id = :id", "first right"),
    "wrong samples": ("DELETE FROM samples WHERE id = :id", "first wrong"),
    "jobs": ("DELETE FROM jobs WHERE id = :id", "first job"),
}
DANGLING = """
    SELECT 'label' FROM difficulty_labels
    WHERE NOT EXISTS (SELECT FROM round_problems AS named
        WHERE (named.round_id, named.problem_id) = (difficulty_labels.round_id, difficulty_labels.problem_id))
    UNION ALL
    SELECT 'item' FROM job_items
    WHERE NOT EXISTS (SELECT FROM jobs JOIN round_problems USING (round_id)
        WHERE (jobs.id, round_problems.problem_id) = (job_items.job_id, job_items.problem_id))
    UNION ALL
    SELECT 'pair' FROM preference_pairs
    WHERE NOT EXISTS (SELECT FROM samples AS chosen
        JOIN samples AS rejected USING (round_id, problem_id)
        JOIN round_problems USING (round_id, problem_id)
        WHERE (chosen.id, rejected.id) = (chosen_sample_id, rejected_sample_id))
"""


@pytest.fixture(name="rows")
def rows_of_two_rounds(connection: Connection) -> dict[str, int]:
    return add_rows(connection)


def add_rows(connection: Connection) -> dict[str, int]:
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
    ("table", "left"),
    [
        ("rounds", (1, 1, 1)),
        ("round_problems", (1, 1, 1)),
        ("right samples", (2, 2, 1)),
        ("wrong samples", (2, 2, 1)),
        ("jobs", (2, 1, 2)),
    ],
)
def test_what_refers_to_a_deleted_row_goes_with_it(
    connection: Connection, rows: dict[str, int], table: str, left: tuple[int, int, int]
) -> None:
    statement, of = DELETIONS[table]
    execute(connection, statement, id=rows[of])
    count = "SELECT (SELECT count(*) FROM difficulty_labels), (SELECT count(*) FROM job_items), count(*) FROM"
    assert select(connection, f"{count} preference_pairs") == [left]


@pytest.fixture(scope="module")
def shared(make_database: MakeDatabase, template: str) -> Iterator[Database]:
    """A migrated database for all cases, each with rows of its own."""
    with make_database(template) as database:
        yield database


@pytest.mark.parametrize("deletion_first", [False, True])
@pytest.mark.parametrize("table", DELETIONS)
@pytest.mark.parametrize("added", [LABEL, ITEM, PAIR], ids=["label", "item", "pair"])
def test_nothing_refers_to_what_another_session_deletes_meanwhile(
    shared: Database, table: str, added: str, deletion_first: bool
) -> None:
    with shared.begin() as connection:
        known = add_rows(connection)
        for emptied in ("difficulty_labels", "job_items", "preference_pairs"):
            execute(connection, f"DELETE FROM {emptied}")
    deletion, of = DELETIONS[table]
    owner = "first job" if added is ITEM else "first"
    insertion = added.format(
        *(known[name] for name in (owner, "first problem", "first right", "first wrong"))
    )
    actions = [(insertion, {}), (deletion, {"id": known[of]})]
    (first, values), later = reversed(actions) if deletion_first else actions
    ended = []

    def act_meanwhile() -> None:
        # the insertion may be refused, which is one of the two right ends
        with suppress(RefusedRowError), shared.begin() as connection:
            execute(connection, later[0], **later[1])
        ended.append(True)

    waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with ExitStack() as threads, shared.begin() as connection:
        execute(connection, first, **values)
        errors = threads.enter_context(beside(act_meanwhile))
        wait_for(lambda: ended or rows(shared, waiting))  # a transaction a look: within one it stays the same
    assert not errors
    with shared.begin() as connection:
        assert select(connection, DANGLING) == []
