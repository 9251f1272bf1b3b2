"""Trained checkpoints of two databases or of strangers at one place: none is lost, and the job says why."""

from pathlib import Path
from re import escape

import pytest

from hsstar.checkpoints.marker import read_marker
from hsstar.commands.models import move_models
from hsstar.commands.runs import create_run
from hsstar.domain.errors import ConflictError
from hsstar.domain.lifecycle import JobKind
from hsstar.store.database import Database
from hsstar.store.models import database_id
from tests.store.conftest import MakeDatabase
from tests.store.driver import SAMPLE_KINDS, Begin, Driver
from tests.store.factory import make_recipe

PLACE = "SELECT location FROM models ORDER BY id DESC LIMIT 1"


def trained(driver: Driver) -> Path:
    return Path(str(driver.rows(PLACE)[0].location))


def test_two_databases_with_one_folder_and_one_name_lose_nothing(
    begin: Begin,
    begin_in: Begin,
    database: Database,
    make_database: MakeDatabase,
    template: str,
    tmp_path: Path,
) -> None:
    first = begin()
    first.work()
    final = trained(first)
    marker, weights = read_marker(final), (final / "model.safetensors").read_bytes()
    with database.begin() as connection:
        assert marker is not None
        assert marker.is_of(database_id(connection), first.run.name, 0)
    with make_database(template) as other:
        with other.begin() as connection:
            connection.exec_driver_sql("UPDATE installation SET id = gen_random_uuid()")
        second = begin_in(other, make_recipe(seed=5), name=first.run.name, folder=final.parents[1])
        second.work(SAMPLE_KINDS)
        (job_id,) = second.queued({JobKind.TRAIN})
        with pytest.raises(
            ConflictError, match=f"{escape(str(final))} is of iteration 0 of run .*; it is not replaced"
        ):
            second.compute(job_id)
        assert read_marker(final) == marker
        assert (final / "model.safetensors").read_bytes() == weights
        recipe = make_recipe()
        with pytest.raises(
            ConflictError, match=f"{escape(str(final))} is of iteration 0 of run .* choose another name"
        ):
            create_run(other, recipe, first.run.name, final.parents[1])
        moved = final.rename(tmp_path / "moved")
        second.execute(
            "UPDATE jobs SET state = 'queued', lease_token = NULL, lease_expires_at = NULL "
            "WHERE state = 'running'"
        )
        second.work()
        assert trained(second) == final
        assert (
            (moved / "model.safetensors").read_bytes()
            == weights
            != (final / "model.safetensors").read_bytes()
        )


def test_checkpoints_of_a_home_that_moved_are_found(begin: Begin, tmp_path: Path) -> None:
    driver = begin()
    driver.work()
    before = trained(driver)
    home = before.parents[1]
    similar = home.with_name(home.name + "-2")
    driver.execute(f"INSERT INTO models (name, location, fingerprint) VALUES ('s', '{similar}/a', '')")
    assert move_models(driver.database, home, tmp_path / "new%_home") == 1
    places = {row.location for row in driver.rows("SELECT location FROM models")}
    assert str(tmp_path / "new%_home" / before.relative_to(home)) in places
    assert f"{similar}/a" in places
    assert str(before) not in places
