"""The environment's settings, and what is refused."""

import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from hsstar.domain.errors import BadInputError
from hsstar.settings import Settings, read_secret

HOME = Path.home() / ".hsstar"
DEFAULTS = Settings(
    home=HOME,
    models_dir=HOME / "models",
    database_url=None,
    broker_url=None,
    broker_ca=None,
    server_dir=None,
    log_level="info",
    lease_seconds=60.0,
    max_attempts=3,
    job_samples=256,
    jobs_in_flight=2,
    resident_engines="auto",
    swap_seconds=60.0,
    train_processes=1,
    accelerate_config=None,
)


def test_defaults_come_without_any_variable() -> None:
    assert Settings.from_environment({}) == DEFAULTS


def test_an_empty_variable_counts_as_unset() -> None:
    empty = {f"HSSTAR_{field.name.upper()}": " " for field in fields(Settings)}
    assert Settings.from_environment(empty) == DEFAULTS


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("home", "here", Path.cwd() / "here"),
        ("models_dir", "~/models", Path.home() / "models"),
        ("database_url", " postgres://me@there/x ", "postgres://me@there/x"),
        ("database_url", "postgresql+psycopg://me@there/x", "postgresql+psycopg://me@there/x"),
        ("broker_url", "redis://there:6379/0", "redis://there:6379/0"),
        ("broker_ca", __file__, Path(__file__)),
        ("server_dir", "/srv/hsstar", Path("/srv/hsstar")),
        ("log_level", "DEBUG", "debug"),
        ("lease_seconds", "2.5", 2.5),
        ("max_attempts", "1", 1),
        ("job_samples", "17", 17),
        ("jobs_in_flight", "5", 5),
        ("resident_engines", "One", "one"),
        ("swap_seconds", "0.5", 0.5),
        ("train_processes", "8", 8),
        ("accelerate_config", __file__, Path(__file__)),
    ],
)
def test_each_variable_sets_its_own_setting_and_nothing_else(name: str, text: str, value: object) -> None:
    settings = Settings.from_environment({f"HSSTAR_{name.upper()}": text})
    changed = {name: value} | ({"models_dir": Path.cwd() / "here" / "models"} if name == "home" else {})
    assert settings == replace(DEFAULTS, **changed)  # type: ignore[arg-type]
    assert Settings.from_environment(settings.as_environment()) == settings  # in a process elsewhere


@pytest.mark.parametrize(
    ("variable", "value", "legal"),
    [
        ("HSSTAR_LEASE_SECONDS", "soon", "a number greater than 0"),
        ("HSSTAR_LEASE_SECONDS", "nan", "a number greater than 0"),
        ("HSSTAR_LEASE_SECONDS", "0", "a number greater than 0"),
        ("HSSTAR_SWAP_SECONDS", "inf", "a number greater than 0"),
        ("HSSTAR_MAX_ATTEMPTS", "0", "a whole number of at least 1"),
        ("HSSTAR_MAX_ATTEMPTS", "2.5", "a whole number of at least 1"),
        ("HSSTAR_JOB_SAMPLES", "many", "a whole number of at least 1"),
        ("HSSTAR_JOBS_IN_FLIGHT", "0", "a whole number of at least 1"),
        ("HSSTAR_TRAIN_PROCESSES", "-1", "a whole number of at least 1"),
        ("HSSTAR_RESIDENT_ENGINES", "two", "one of auto, one, all"),
        ("HSSTAR_BROKER_CA", "/no/such/file", "an existing file"),
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
