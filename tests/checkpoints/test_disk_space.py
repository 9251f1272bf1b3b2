"""A training does not begin where its files will not fit."""

from dataclasses import replace
from pathlib import Path

import pytest

from hsstar.checkpoints.disk_space import bytes_text, check_space, disk_space, training_bytes
from hsstar.domain.errors import EngineError
from hsstar.engines.training.arguments import pace_of_saves
from tests.engines.trainings import SETTINGS


def test_whole_weights_need_their_optimiser_state_twice_and_adapters_little_besides_the_result() -> None:
    result, between = training_bytes(7_600_000_000, 7_600_000_000, 2, saves=True)
    assert result == pytest.approx(15.2e9, rel=0.01)
    assert between == 2 * 12 * 7_600_000_000
    assert training_bytes(7_600_000_000, 7_600_000_000, 2, saves=False) == (result, 0)
    result, between = training_bytes(7_600_000_000, 40_000_000, 2, saves=True)
    assert result == pytest.approx(15.4e9, rel=0.01)
    assert between < 1e9


def test_a_full_disk_is_one_line_with_what_is_needed(tmp_path: Path) -> None:
    check_space(tmp_path, 1, 1)
    with pytest.raises(EngineError, match=r"no room to train: .* takes 0\.001 kB, its inter") as refused:
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
    texts = [bytes_text(count) for count in (3.2e12, 999.8e9, 126e9, 16.4e6, 900)]
    assert texts == ["3.2 TB", "1,000 GB", "126 GB", "16.4 MB", "0.9 kB"]


def test_a_training_is_saved_ten_times_unless_the_settings_say_otherwise() -> None:
    assert [pace_of_saves(SETTINGS, steps) for steps in (95, 3)] == [(10, 30.0), (1, 30.0)]
    paces = [pace_of_saves(replace(SETTINGS, save_every_steps=every), 95) for every in (7, 0)]
    assert paces == [(7, 0.0), (0, 0.0)]
