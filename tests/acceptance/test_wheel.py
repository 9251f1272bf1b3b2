"""The built wheel in a clean environment: everything is aboard, from any directory."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _run(*command: str | Path, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=240
    )
    assert not check or done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a fresh environment that holds the wheel and what it depends on, no extras."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    _run("git", "clone", "--quiet", ROOT, source, cwd=folder)
    _run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        folder,
        source,
        cwd=folder,
    )
    (wheel,) = folder.glob("hsstar-*.whl")
    venv.create(folder / "clean", with_pip=True)
    programs = folder / "clean" / "bin"
    _run(
        programs / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "-c",
        ROOT / "constraints.txt",
        wheel,
        cwd=folder,
    )
    return programs


@pytest.mark.heavy
def test_help_works_from_any_directory(installed: Path, tmp_path: Path) -> None:
    text = _run(installed / "hsstar", "--help", cwd=tmp_path).stdout
    assert "iterate" in text
    for command in ("demo", "up", "iterate", "problems", "sql"):
        assert "Example:" in _run(installed / "hsstar", command, "--help", cwd=tmp_path).stdout


@pytest.mark.heavy
def test_everything_is_aboard(installed: Path, tmp_path: Path) -> None:
    aboard = (
        "import hsstar.store.migrate as m, hsstar.demo as d, hsstar.recipe as r\n"
        "from hsstar.store.database import SCHEMA_REVISION\n"
        "from hsstar.engines.checkpoints import check_policy, check_reward_model\n"
        "assert m.head() == SCHEMA_REVISION\n"
        "r.load_recipe(d.RECIPE)\n"
        "check_policy('builtin:demo-policy'); check_reward_model('builtin:demo-prm')\n"
        "import workers, cli, migrations\n"
    )
    _run(installed / "python", "-c", aboard, cwd=tmp_path)


@pytest.mark.heavy
def test_without_the_local_extra_up_names_it(installed: Path, tmp_path: Path) -> None:
    done = _run(
        "env", f"HSSTAR_HOME={tmp_path / 'home'}", installed / "hsstar", "up", cwd=tmp_path, check=False
    )
    assert done.returncode == 1
    assert "hsstar[local]" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
