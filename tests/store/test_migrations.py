"""The schema: up and down, equal to the models, safe when many start at once, and checked by its users."""

import threading
from collections.abc import Callable

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from hsstar.domain.errors import BadInputError, DatabaseError, SchemaError
from hsstar.store import migrate
from hsstar.store.database import SCHEMA_REVISION, Database
from hsstar.store.schema import metadata

VIEWS = {
    "sample_facts",
    "problem_statistics",
    "iteration_statistics",
    "remaining_budget",
    "worker_activity",
    "evaluation_results",
    "training_curves",
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


def test_migrations_make_what_the_models_say(database: Database) -> None:
    with database.begin() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []


def test_migrations_make_the_constraints_that_the_models_say(
    database: Database, empty_database: Database
) -> None:
    """CHECKs, fill factors and partial indexes, which Alembic does not compare."""
    metadata.create_all(empty_database.engine)
    assert _definitions(database) == _definitions(empty_database)


def _definitions(database: Database) -> set[tuple[str, str]]:
    with database.begin() as connection:
        rows = connection.execute(
            text("""
                SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
                WHERE connamespace = 'public'::regnamespace AND conrelid <> 0
                  AND conrelid IS DISTINCT FROM to_regclass('alembic_version')
                UNION ALL
                SELECT indexname, indexdef FROM pg_indexes
                WHERE schemaname = 'public' AND tablename <> 'alembic_version'
                UNION ALL
                SELECT relname, array_to_string(reloptions, ',') FROM pg_class
                WHERE relnamespace = 'public'::regnamespace AND reloptions IS NOT NULL
            """)
        )
        return {(row[0], row[1]) for row in rows}


def test_ten_processes_may_migrate_at_once(empty_database: Database) -> None:
    """Each over connections of its own: what counts is the lock in the database."""
    failures: list[Exception] = []

    def start() -> None:
        database = Database(empty_database.url)
        try:
            migrate.upgrade(database)
            database.check_schema()
        except Exception as error:
            failures.append(error)
        finally:
            database.close()

    threads = [threading.Thread(target=start) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_an_unknown_revision_is_one_line(database: Database) -> None:
    with pytest.raises(SchemaError, match="cannot migrate to 'nonsense'"):
        migrate.upgrade(database, "nonsense")
    database.check_schema()


def test_the_right_schema_is_accepted(database: Database) -> None:
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
