"""The environment's settings, and what is refused."""

import json
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from hsstar.domain.errors import BadInputError
from hsstar.remote.secrets import read_secret
from hsstar.settings import Settings

HERE = Path(__file__)
TABLES = json.loads(HERE.with_name("settings.json").read_text())


def typed(name: str, value: Any) -> Any:
    """A value of the tables as the setting of this name holds it."""
    is_path = name in ("home", "models_dir", "broker_ca", "server_dir", "accelerate_config")
    if not is_path or value is None:
        return value
    return Path(value.replace("CWD", str(Path.cwd())).replace("FILE", str(HERE))).expanduser()


DEFAULTS = Settings(**{name: typed(name, value) for name, value in TABLES["defaults"].items()})


def test_an_empty_variable_counts_as_unset() -> None:
    empty = {f"HSSTAR_{field.name.upper()}": " " for field in fields(Settings)}
    assert Settings.from_environment(empty) == Settings.from_environment({}) == DEFAULTS


@pytest.mark.parametrize(("name", "text", "value"), TABLES["legal"])
def test_each_variable_sets_its_own_setting_and_nothing_else(name: str, text: str, value: object) -> None:
    settings = Settings.from_environment({f"HSSTAR_{name.upper()}": text.replace("FILE", str(HERE))})
    changed = {"models_dir": Path.cwd() / "here" / "models"} if name == "home" else {}
    assert settings == replace(DEFAULTS, **changed | {name: typed(name, value)})
    assert Settings.from_environment(settings.as_environment()) == settings  # in a process elsewhere


@pytest.mark.parametrize(("variable", "value", "legal"), TABLES["refused"])
def test_a_wrong_value_is_refused_by_name(variable: str, value: str, legal: str) -> None:
    with pytest.raises(BadInputError) as refusal:
        Settings.from_environment({variable: value})
    assert [part for part in (variable, repr(value), legal) if part not in str(refusal.value)] == []


def test_a_wrong_url_is_refused_without_showing_its_password() -> None:
    with pytest.raises(BadInputError, match=r"HSSTAR_DATABASE_URL='mysql://…'.*postgresql://") as refusal:
        Settings.from_environment({"HSSTAR_DATABASE_URL": "mysql://me:secret@there/hsstar"})
    assert "secret" not in str(refusal.value)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file with a database URL that only its owner may read."""
    file = tmp_path / "secret"
    file.touch(0o600)
    file.write_text("postgresql://me:pa55@there/hsstar\n")
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
    here = {"HSSTAR_DATABASE_URL_FILE": str(secret)}
    with pytest.raises(BadInputError, match="are both set; unset one of them"):
        Settings.from_environment(here | {"HSSTAR_DATABASE_URL": "postgresql://h/x"})
    with pytest.raises(BadInputError, match="an existing file"):
        Settings.from_environment({"HSSTAR_BROKER_URL_FILE": str(tmp_path / "nothing")})
    for content in ("", "postgresql://a/b\npostgresql://c/d\n"):
        secret.write_text(content)
        with pytest.raises(BadInputError, match="must hold one line, the secret"):
            Settings.from_environment(here)
    secret.write_text("mysql://me:pa55@there/hsstar")
    with pytest.raises(BadInputError, match=r"\A((?!pa55).)*\Z"):
        Settings.from_environment(here)


def test_settings_import_nothing_heavy() -> None:
    heavy = "{'psycopg', 'sqlalchemy', 'pydantic', 'psutil', 'celery', 'torch'}"
    code = f"import sys, hsstar.settings; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
