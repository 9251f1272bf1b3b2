"""A training does not begin where its files will not fit."""

from dataclasses import replace
from pathlib import Path

import pytest

from hsstar.checkpoints.disk_space import bytes_text, check_space, disk_space, training_bytes
from hsstar.domain.errors import EngineError
from hsstar.engines.training.arguments import pace_of_saves
from tests.engines.trainings import SETTINGS

PARAMETERS = 7_600_000_000


def test_whole_weights_need_their_optimiser_state_twice() -> None:
    result, between = training_bytes(PARAMETERS, PARAMETERS, 2, saves=True)
    assert result == pytest.approx(15.2e9, rel=0.01)
    assert between == pytest.approx(2 * 12 * 7.6e9)
    assert training_bytes(PARAMETERS, PARAMETERS, 2, saves=False) == (result, 0)


def test_adapters_need_little_besides_the_result() -> None:
    result, between = training_bytes(PARAMETERS, 40_000_000, 2, saves=True)
    assert result == pytest.approx(15.4e9, rel=0.01)
    assert between < 1e9


def test_a_full_disk_is_one_line_with_what_is_needed(tmp_path: Path) -> None:
    check_space(tmp_path, 1, 1)
    with pytest.raises(
        EngineError, match=r"no room to train: .* takes 0\.001 kB, its intermediate"
    ) as refused:
        check_space(tmp_path, 1, 10**18)
    assert "save_every_steps = 0" in str(refused.value)
    with pytest.raises(EngineError, match=r"takes 1,000,000 TB") as refused:
        check_space(tmp_path, 10**18, 1)
    assert "save_every_steps" not in str(refused.value)


def test_a_folder_that_does_not_exist_yet_has_the_space_of_its_parent(tmp_path: Path) -> None:
    space = disk_space(tmp_path / "not" / "made" / "yet")
    assert space.folder == tmp_path
    assert 0 < space.free <= space.total


def test_bytes_are_shown_in_a_fitting_unit() -> None:
    assert [bytes_text(count) for count in (3.2e12, 999.8e9, 126e9, 16.4e6, 900)] == [
        "3.2 TB", "1,000 GB", "126 GB", "16.4 MB", "0.9 kB",
    ]  # fmt: skip


def test_a_training_is_saved_ten_times_unless_the_settings_say_otherwise() -> None:
    assert pace_of_saves(SETTINGS, 95) == (10, 30.0)
    assert pace_of_saves(SETTINGS, 3) == (1, 30.0)
    assert pace_of_saves(replace(SETTINGS, save_every_steps=7), 95) == (7, 0.0)
    assert pace_of_saves(replace(SETTINGS, save_every_steps=0), 95) == (0, 0.0)
