"""The built wheel in a clean environment: everything is aboard, and nothing beside `hsstar`."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.checkout import ROOT

pytestmark = pytest.mark.heavy

ABOARD = """
import hsstar.store.migrate as m, hsstar.demo as d, hsstar.recipe.recipe as r
from hsstar.store.database import SCHEMA_REVISION
from hsstar.checkpoints.resolve import check_policy, check_reward_model
assert m.head() == SCHEMA_REVISION
r.load_recipe(d.RECIPE)
check_policy('builtin:demo-policy'); check_reward_model('builtin:demo-prm')
import hsstar.workers, hsstar.cli, hsstar.migrations
from importlib.resources import files
web = files('hsstar.web')
assert all(web.joinpath(name).is_file() for name in ('static/style.css', 'templates/run.html'))
"""


def _run(*command: str | Path, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == code, f"{command}: {done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout's HEAD."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    _run("git", "clone", "--quiet", ROOT, source, cwd=folder)
    pip_wheel = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder)
    _run(sys.executable, *pip_wheel, source, cwd=folder)
    (built,) = folder.glob("hsstar-*.whl")
    return built


def _environment(folder: Path, requirement: str | Path) -> Path:
    """The programs of a fresh environment that holds a wheel and what it depends on."""
    venv.create(folder / "clean", with_pip=True)
    programs = folder / "clean" / "bin"
    pip_install = ("-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt")
    _run(programs / "python", *pip_install, requirement, cwd=folder)
    return programs


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """The programs of an environment without extras."""
    return _environment(tmp_path_factory.mktemp("bare"), wheel)


def test_a_wheel_installs_hsstar_and_nothing_beside_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        top_levels = {name.partition("/")[0] for name in archive.namelist()}
    assert {name for name in top_levels if not name.endswith(".dist-info")} == {"hsstar"}


def test_the_demo_runs_beside_folders_of_the_same_names(wheel: Path, tmp_path: Path) -> None:
    """A user's own `cli`, `workers` and `migrations` on the path are not taken for hsstar's."""
    programs = _environment(tmp_path, f"{wheel}[local,train]")
    project = tmp_path / "project"
    for name in ("cli", "workers", "migrations"):
        (project / name).mkdir(parents=True)
        (project / name / "__init__.py").write_text("raise ImportError('the user's own package')\n")
    environment = ("env", "PYTHONPATH=.", f"HSSTAR_HOME={tmp_path / 'home'}")
    said = _run(*environment, programs / "hsstar", "demo", "--iterations", "1", cwd=project).stdout
    assert "held-out accuracy after" in said


def test_everything_is_aboard_and_help_works_from_any_directory(installed: Path, tmp_path: Path) -> None:
    _run(installed / "python", "-c", ABOARD, cwd=tmp_path)
    assert "iterate" in _run(installed / "hsstar", "--help", cwd=tmp_path).stdout
    for command in ("demo", "up", "iterate", "problems", "sql"):
        assert "Example:" in _run(installed / "hsstar", command, "--help", cwd=tmp_path).stdout


def test_without_the_local_extra_up_names_it(installed: Path, tmp_path: Path) -> None:
    done = _run("env", f"HSSTAR_HOME={tmp_path / 'home'}", installed / "hsstar", "up", cwd=tmp_path, code=1)
    assert "hsstar[local]" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
