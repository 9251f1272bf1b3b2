"""Known verdicts: kept by version and pair, lasting causes only, by any number of workers at once."""

import threading
from functools import partial

from sqlalchemy import Connection, text

from hsstar.domain.verdict import LASTING_CAUSES, Cause
from hsstar.store.database import Database
from hsstar.store.samples import load_known_verdicts, remember_verdicts
from tests.store.threads import at_once


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_every_version_has_its_own_verdicts_and_what_is_known_stays(connection: Connection) -> None:
    remember_verdicts(connection, "1", {key(1): Cause.CORRECT})
    remember_verdicts(connection, "1", {key(1): Cause.INCORRECT, key(2): Cause.INCORRECT})
    remember_verdicts(connection, "2", {key(1): Cause.UNPARSABLE})
    assert load_known_verdicts(connection, "1", [key(1), key(2), key(3)]) == {
        key(1): Cause.CORRECT,
        key(2): Cause.INCORRECT,
    }
    assert load_known_verdicts(connection, "2", [key(1), key(2)]) == {key(1): Cause.UNPARSABLE}
    assert load_known_verdicts(connection, "3", [key(1)]) == {}


def test_only_lasting_causes_are_remembered(connection: Connection) -> None:
    given = {key(number): cause for number, cause in enumerate(Cause)}
    remember_verdicts(connection, "1", given)
    known = load_known_verdicts(connection, "1", list(given))
    assert known == {each: cause for each, cause in given.items() if cause in LASTING_CAUSES}
    assert not {Cause.TIMED_OUT, Cause.CRASHED} & set(known.values())


def test_one_call_takes_no_pair_or_ten_thousand(connection: Connection) -> None:
    given = {key(number): Cause.CORRECT if number % 3 else Cause.INCORRECT for number in range(10_000)}
    for verdicts in (given, {}):
        remember_verdicts(connection, "1", verdicts)
        assert load_known_verdicts(connection, "1", list(verdicts)) == verdicts


def test_workers_that_find_the_same_pairs_in_another_order_do_not_block_each_other(
    database: Database,
) -> None:
    numbers = range(2_000)
    barrier = threading.Barrier(4)

    def remember(order: int) -> None:
        for _ in range(3):
            barrier.wait(60)
            with database.begin() as connection:
                remember_verdicts(
                    connection, "1", {key(number): Cause.CORRECT for number in numbers[::order]}
                )
            barrier.wait(60)
            with database.begin() as connection:
                connection.execute(text("DELETE FROM known_verdicts"))

    assert at_once(*(partial(remember, order) for order in (1, -1, 1, -1))) == []
