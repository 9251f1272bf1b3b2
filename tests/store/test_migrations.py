"""The schema: up and down, with the code's values, safe when many start at once, checked by its users."""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import IntegrityError

from hsstar.domain.contamination import OverlapKind
from hsstar.domain.difficulty import Difficulty
from hsstar.domain.errors import BadInputError, DatabaseError, SchemaError
from hsstar.domain.lifecycle import IterationState, JobKind, JobState
from hsstar.domain.verdict import LASTING_CAUSES, Cause, Verdict
from hsstar.store import datasets, evaluations, migrate
from hsstar.store.database import SCHEMA_REVISION, Database
from hsstar.store.evaluations import EvaluationSpec
from tests.store.factory import (
    TRAIN,
    Drawn,
    add_iteration,
    add_job,
    add_problems,
    add_run,
    add_samples,
    select,
)
from tests.store.threads import at_once

FOLDER = Path(__file__).parent
VIEWS = set(json.loads((FOLDER / "view_columns.json").read_text()))
REFUSED_ROWS = list(map(json.loads, (FOLDER / "refused_rows.jsonl").read_text().splitlines()))
"""Changes of rows that contradict themselves, and the constraint that each one violates."""

KNOWN_VALUES: dict[str, Iterable[str]] = {
    "ck_difficulty_labels_level_known": Difficulty,
    "ck_iterations_state_known": IterationState,
    "ck_jobs_kind_known": JobKind,
    "ck_jobs_state_known": JobState,
    "ck_known_verdicts_cause_known": LASTING_CAUSES,
    "ck_problem_overlaps_kind_known": OverlapKind,
    "ck_rounds_kind_known": ("iteration", "evaluation"),
    "ck_samples_cause_known": Cause,
    "ck_samples_verdict_known": Verdict,
    "ck_workers_state_known": ("idle", "busy", "stopped"),
}


def test_up_down_up(empty_database: Database) -> None:
    assert migrate.current(empty_database) is None
    for _ in range(2):
        migrate.upgrade(empty_database)
        assert migrate.current(empty_database) == migrate.head()
        assert set(inspect(empty_database.engine).get_view_names()) >= VIEWS
        migrate.upgrade(empty_database)  # again: nothing to do
        migrate.downgrade(empty_database, "base")
        assert migrate.current(empty_database) is None
        assert inspect(empty_database.engine).get_table_names() == ["alembic_version"]
        assert inspect(empty_database.engine).get_view_names() == []


def test_the_code_knows_the_newest_revision() -> None:
    assert migrate.head() == SCHEMA_REVISION
    assert not SCHEMA_REVISION.isdecimal()  # else it would look like one of before the first release


def test_the_tables_accept_exactly_the_values_of_the_code(connection: Connection) -> None:
    """Every CHECK named `<column>_known`, by its name."""
    query = """
        SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace AND conname LIKE '%\\_known'
    """
    accepted = {
        name: set(re.findall(r"'([^']*)'", definition)) for name, definition in select(connection, query)
    }
    assert accepted == {name: set(values) for name, values in KNOWN_VALUES.items()}


def test_the_tables_refuse_rows_that_contradict_themselves(connection: Connection) -> None:
    run = add_run(connection)
    ids = add_problems(connection, 1)
    round_id = add_iteration(connection, run, ids).id
    add_samples(connection, round_id, {ids[0]: {0: Drawn()}})
    add_job(connection, round_id, items={ids[0]: [0]})
    spec = EvaluationSpec("key", datasets.find_dataset(connection, TRAIN).id, 1, None)
    evaluations.add_evaluation(connection, run.id, 0, run.model_id, spec)
    for change, constraint in REFUSED_ROWS:
        with pytest.raises(IntegrityError, match=f'"{constraint}"'), connection.begin_nested():
            connection.execute(text(change))


def test_ten_processes_may_migrate_at_once(empty_database: Database) -> None:
    """Each over connections of its own: what counts is the lock in the database."""

    def start() -> None:
        database = Database(empty_database.url)
        try:
            migrate.upgrade(database)
            database.check_schema()
        finally:
            database.close()

    assert at_once(*[start] * 10) == []


def test_an_unknown_revision_is_one_line(database: Database) -> None:
    with pytest.raises(SchemaError, match="cannot migrate to 'nonsense'"):
        migrate.upgrade(database, "nonsense")
    database.check_schema()


def test_an_empty_database_is_refused(empty_database: Database) -> None:
    with pytest.raises(SchemaError, match="has no hsstar tables yet; run: hsstar db upgrade"):
        empty_database.check_schema()


@pytest.mark.parametrize(
    ("revision", "message"),
    [
        (
            "0000_older",
            f"at revision 0000_older, this hsstar needs {SCHEMA_REVISION}; run: hsstar db upgrade",
        ),
        (
            "9999_newer",
            rf"at revision 9999_newer, newer than this hsstar knows \({SCHEMA_REVISION}\); upgrade hsstar",
        ),
    ],
)
def test_an_older_or_newer_schema_is_refused(database: Database, revision: str, message: str) -> None:
    _set_revision(database, revision)
    with pytest.raises(SchemaError, match=message):
        database.check_schema()


def _set_revision(database: Database, revision: str) -> None:
    with database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :found"), {"found": revision})


@pytest.mark.parametrize("revision", ["0001", "0008"])
def test_a_schema_of_before_the_first_release_is_refused_and_left_alone(
    database: Database, revision: str
) -> None:
    _set_revision(database, revision)
    actions: list[Callable[[], object]] = [
        database.check_schema,
        lambda: migrate.current(database),
        lambda: migrate.upgrade(database),
        lambda: migrate.downgrade(database, "base"),
    ]
    for action in actions:
        with pytest.raises(SchemaError, match=r"cannot be migrated; export .* a new database") as failure:
            action()
        assert "\n" not in str(failure.value)
    assert "samples" in inspect(database.engine).get_table_names()


def test_a_newer_schema_is_not_migrated(database: Database) -> None:
    _set_revision(database, "9999_newer")
    with pytest.raises(SchemaError, match=r"cannot migrate to 'head'.*9999_newer"):
        migrate.upgrade(database)


def test_a_statement_that_misses_a_table_says_upgrade(empty_database: Database) -> None:
    with (
        pytest.raises(SchemaError, match=r"does not fit this hsstar.*run: hsstar db upgrade"),
        empty_database.begin() as connection,
    ):
        connection.execute(text("SELECT * FROM samples"))


def test_a_database_that_is_not_there_is_named_without_its_password() -> None:
    database = Database("postgresql://someone:secret@/nowhere?host=/tmp/no-such-folder")
    with pytest.raises(DatabaseError, match="cannot reach the database") as failure, database.begin():
        pass
    assert "secret" not in str(failure.value)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("not a url", "is not a database URL"),
        ("sqlite:///file", "hsstar needs Postgres, and the database URL names 'sqlite'"),
    ],
)
def test_another_kind_of_url_is_refused(url: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        Database(url)
