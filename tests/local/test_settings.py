"""The environment's settings, and what is refused."""

import subprocess
import sys
from pathlib import Path

import pytest

from hsstar.domain.errors import BadInputError
from hsstar.settings import Settings, read_secret


def test_defaults_come_without_any_variable() -> None:
    settings = Settings.from_environment({})
    assert settings.home == Path.home() / ".hsstar"
    assert settings.models_dir == settings.home / "models"
    assert (settings.database_url, settings.broker_url, settings.server_dir) == (None, None, None)
    assert (settings.lease_seconds, settings.max_attempts, settings.job_samples) == (60.0, 3, 256)


def test_an_empty_variable_counts_as_unset() -> None:
    assert (
        Settings.from_environment({"HSSTAR_DATABASE_URL": " ", "HSSTAR_MAX_ATTEMPTS": ""}).max_attempts == 3
    )


def test_a_relative_home_becomes_absolute() -> None:
    settings = Settings.from_environment({"HSSTAR_HOME": "here"})
    assert settings.home == Path.cwd() / "here"
    assert settings.models_dir == Path.cwd() / "here" / "models"


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


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file with a database URL that only its owner may read."""
    file = tmp_path / "secret"
    file.write_text("postgresql://me:pa55@there/hsstar\n")
    file.chmod(0o600)
    return file


def test_a_secret_may_come_from_a_file_of_its_owner(secret: Path) -> None:
    settings = Settings.from_environment({"HSSTAR_DATABASE_URL_FILE": str(secret)})
    assert settings.database_url == "postgresql://me:pa55@there/hsstar"
    inherited = {"HSSTAR_DATABASE_URL_FILE": str(secret)} | settings.as_environment()
    assert Settings.from_environment(inherited).database_url == settings.database_url
    secret.chmod(0o400)
    assert read_secret({"HSSTAR_OPENAI_API_KEY_FILE": str(secret)}, "HSSTAR_OPENAI_API_KEY")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o444])
def test_a_secret_that_others_may_read_is_refused(secret: Path, mode: int) -> None:
    secret.chmod(mode)
    with pytest.raises(BadInputError, match=rf"is open to others \(mode {mode:04o}\); run: chmod 600"):
        Settings.from_environment({"HSSTAR_DATABASE_URL_FILE": str(secret)})


def test_a_secret_has_one_place_and_one_line(secret: Path, tmp_path: Path) -> None:
    twice = {"HSSTAR_DATABASE_URL_FILE": str(secret), "HSSTAR_DATABASE_URL": "postgresql://h/x"}
    with pytest.raises(BadInputError, match="are both set; unset one of them"):
        Settings.from_environment(twice)
    with pytest.raises(BadInputError, match="an existing file"):
        Settings.from_environment({"HSSTAR_BROKER_URL_FILE": str(tmp_path / "nothing")})
    for content in ("", "postgresql://a/b\npostgresql://c/d\n"):
        secret.write_text(content)
        with pytest.raises(BadInputError, match="must hold one line, the secret"):
            Settings.from_environment({"HSSTAR_DATABASE_URL_FILE": str(secret)})
    secret.write_text("mysql://me:pa55@there/hsstar")
    with pytest.raises(BadInputError) as refusal:
        Settings.from_environment({"HSSTAR_DATABASE_URL_FILE": str(secret)})
    assert "pa55" not in str(refusal.value)


def test_settings_import_nothing_heavy() -> None:
    heavy = "{'psycopg', 'sqlalchemy', 'pydantic', 'psutil', 'celery', 'torch'}"
    code = f"import sys, hsstar.settings; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
