"""The environment's settings, and what is refused."""

import subprocess
import sys
from pathlib import Path

import pytest

from hsstar.domain.errors import BadInputError
from hsstar.settings import Settings


def test_defaults_come_without_any_variable() -> None:
    settings = Settings.from_environment({})
    assert settings.home == Path.home() / ".hsstar"
    assert settings.models_directory == settings.home / "models"
    assert (settings.database_url, settings.broker_url, settings.server_directory) == (None, None, None)
    assert (settings.lease_seconds, settings.max_attempts, settings.job_samples) == (60.0, 3, 256)


def test_an_empty_variable_counts_as_unset() -> None:
    assert (
        Settings.from_environment({"HSSTAR_DATABASE_URL": " ", "HSSTAR_MAX_ATTEMPTS": ""}).max_attempts == 3
    )


def test_a_relative_home_becomes_absolute() -> None:
    settings = Settings.from_environment({"HSSTAR_HOME": "here"})
    assert settings.home == Path.cwd() / "here"
    assert settings.models_directory == Path.cwd() / "here" / "models"


def test_settings_survive_the_way_to_another_process() -> None:
    settings = Settings.from_environment(
        {
            "HSSTAR_HOME": "here",
            "HSSTAR_MODELS_DIR": "models",
            "HSSTAR_DATABASE_URL": "postgresql://me@there/hsstar",
            "HSSTAR_BROKER_URL": "redis://there:6379/0",
            "HSSTAR_LEASE_SECONDS": "2.5",
            "HSSTAR_LOG_LEVEL": "DEBUG",
            "HSSTAR_JOBS_IN_FLIGHT": "3",
        }
    )
    assert settings.jobs_in_flight == 3
    assert Settings.from_environment(settings.as_environment()) == settings


@pytest.mark.parametrize(
    ("variable", "value", "legal"),
    [
        ("HSSTAR_LEASE_SECONDS", "soon", "a number greater than 0"),
        ("HSSTAR_LEASE_SECONDS", "nan", "a number greater than 0"),
        ("HSSTAR_LEASE_SECONDS", "-1", "a number greater than 0"),
        ("HSSTAR_MAX_ATTEMPTS", "0", "a whole number of at least 1"),
        ("HSSTAR_MAX_ATTEMPTS", "2.5", "a whole number of at least 1"),
        ("HSSTAR_JOB_SAMPLES", "many", "a whole number of at least 1"),
        ("HSSTAR_JOBS_IN_FLIGHT", "0", "a whole number of at least 1"),
        ("HSSTAR_LOG_LEVEL", "loud", "one of debug, info, warning, error, critical"),
        ("HSSTAR_HOME", "/etc/passwd", "a folder"),
        ("HSSTAR_HOME", "~nobody-of-this-name/x", "a folder of an existing user"),
    ],
)
def test_a_wrong_value_is_refused_by_name(variable: str, value: str, legal: str) -> None:
    with pytest.raises(BadInputError) as refusal:
        Settings.from_environment({variable: value})
    assert variable in str(refusal.value)
    assert repr(value) in str(refusal.value)
    assert legal in str(refusal.value)


def test_a_wrong_url_is_refused_without_showing_its_password() -> None:
    with pytest.raises(BadInputError, match=r"HSSTAR_DATABASE_URL='mysql://…'.*postgresql://") as refusal:
        Settings.from_environment({"HSSTAR_DATABASE_URL": "mysql://me:secret@there/hsstar"})
    assert "secret" not in str(refusal.value)


def test_settings_import_nothing_heavy() -> None:
    heavy = "{'psycopg', 'sqlalchemy', 'pydantic', 'psutil', 'celery', 'torch'}"
    code = f"import sys, hsstar.settings; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
