"""The schema: up and down, with the code's values, safe when many start at once, checked by its users."""

import json
import re
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import get_args

import pytest
from sqlalchemy import Connection, inspect
from sqlalchemy.exc import IntegrityError

from hsstar.commands.actions import ActionName
from hsstar.domain.contamination import OverlapKind
from hsstar.domain.difficulty import Difficulty
from hsstar.domain.errors import BadInputError, SchemaError
from hsstar.domain.lifecycle import Event, IterationState, JobKind, JobState
from hsstar.domain.preference import SourceUse
from hsstar.domain.rewards import Aggregation, RewardUse
from hsstar.domain.verdict import LASTING_CAUSES, Cause, Verdict
from hsstar.store import migrate, rounds, runs
from hsstar.store.database import SCHEMA_REVISION, Database
from tests.store import factory
from tests.store.factory import execute, select
from tests.store.threads import at_once

FOLDER = Path(__file__).parent
VIEWS = set(json.loads((FOLDER / "view_columns.json").read_text()))
REFUSED_ROWS = list(map(json.loads, (FOLDER / "refused_rows.jsonl").read_text().splitlines()))
"""Changes of rows that contradict themselves, and the constraint that each one violates."""

KNOWN_VALUES: dict[str, Iterable[str]] = {
    "ck_actions_action_known": get_args(ActionName),
    "ck_difficulty_labels_level_known": Difficulty,
    "ck_iterations_state_known": IterationState,
    "ck_jobs_kind_known": JobKind,
    "ck_jobs_state_known": JobState,
    "ck_known_verdicts_cause_known": LASTING_CAUSES,
    "ck_notifications_event_known": get_args(Event),
    "ck_problem_overlaps_kind_known": OverlapKind,
    "ck_rounds_kind_known": get_args(rounds.RoundKind),
    "ck_run_rewards_aggregation_known": Aggregation,
    "ck_run_rewards_use_known": RewardUse,
    "ck_run_sources_use_known": SourceUse,
    "ck_runs_held_known": get_args(runs.HoldKind),
    "ck_samples_cause_known": Cause,
    "ck_samples_verdict_known": Verdict,
    "ck_verdicts_cause_known": Cause,
    "ck_verdicts_verdict_known": Verdict,
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
    accepted = {name: set(re.findall(r"'([^']*)'", check)) for name, check in select(connection, query)}
    assert accepted == {name: set(values) for name, values in KNOWN_VALUES.items()}


def test_the_tables_refuse_rows_that_contradict_themselves(connection: Connection) -> None:
    round_id, (problem,) = factory.add_round(connection, 1)
    factory.add_samples(connection, round_id, {problem: {0: factory.Drawn()}})
    factory.add_job(connection, round_id, items={problem: [0]})
    run = runs.get_run(connection, rounds.get_round(connection, round_id).run_id)
    factory.add_evaluation(connection, run)
    for change, constraint in REFUSED_ROWS:
        with pytest.raises(IntegrityError, match=f'"{constraint}"'), connection.begin_nested():
            execute(connection, change)


def test_ten_processes_may_migrate_at_once(empty_database: Database) -> None:
    """Each over connections of its own: what counts is the lock in the database."""

    def start() -> None:
        with closing(Database(empty_database.url)) as database:
            migrate.upgrade(database)
            database.check_schema()

    assert at_once(*[start] * 10) == []


def test_an_unknown_revision_is_one_line(database: Database) -> None:
    with pytest.raises(SchemaError, match="cannot migrate to 'nonsense'"):
        migrate.upgrade(database, "nonsense")
    database.check_schema()


def test_an_empty_database_is_refused(empty_database: Database) -> None:
    with pytest.raises(SchemaError, match="has no hsstar tables yet; run: hsstar db upgrade"):
        empty_database.check_schema()
    misfit = pytest.raises(SchemaError, match=r"does not fit this hsstar.*run: hsstar db upgrade")
    with misfit, empty_database.begin() as connection:
        execute(connection, "SELECT * FROM samples")


def _set_revision(database: Database, revision: str) -> None:
    with database.begin() as connection:
        execute(connection, "UPDATE alembic_version SET version_num = :found", found=revision)


def test_an_older_or_newer_schema_is_refused(database: Database) -> None:
    _set_revision(database, "0000_older")
    message = f"at revision 0000_older, this hsstar needs {SCHEMA_REVISION}; run: hsstar db upgrade"
    with pytest.raises(SchemaError, match=message):
        database.check_schema()
    _set_revision(database, "9999_newer")
    message = rf"at revision 9999_newer, newer than this hsstar knows \({SCHEMA_REVISION}\); upgrade hsstar"
    with pytest.raises(SchemaError, match=message):
        database.check_schema()
    with pytest.raises(SchemaError, match=r"cannot migrate to 'head'.*9999_newer"):
        migrate.upgrade(database)


@pytest.mark.parametrize("revision", ["0001", "0008"])
def test_a_schema_of_before_the_first_release_is_left_alone(database: Database, revision: str) -> None:
    _set_revision(database, revision)
    actions: list[Callable[[Database], object]] = [
        Database.check_schema,
        migrate.current,
        migrate.upgrade,
        lambda database: migrate.downgrade(database, "base"),
    ]
    for action in actions:
        with pytest.raises(SchemaError, match=r"cannot be migrated; export .* a new database") as failure:
            action(database)
        assert "\n" not in str(failure.value)
    assert "samples" in inspect(database.engine).get_table_names()


def test_another_kind_of_url_is_refused() -> None:
    with pytest.raises(BadInputError, match="is not a database URL"):
        Database("not a url")
    with pytest.raises(BadInputError, match="hsstar needs Postgres, and the database URL names 'sqlite'"):
        Database("sqlite:///file")
