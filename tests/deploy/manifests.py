"""What deploy/ says, read."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
ROLES = ("sample", "score", "verify", "train")
Document = dict[str, Any]


def tool(name: str) -> str:
    """A program of this environment or of the machine; the test is skipped where there is none."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def passes(*command: str | Path) -> str:
    """The output of a program that has to succeed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@cache
def compose() -> Document:
    document: Document = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return document


def documents(path: Path) -> list[Document]:
    return list(yaml.safe_load_all(path.read_text()))


def scaled_objects() -> list[Document]:
    found = documents(DEPLOY / "kubernetes" / "autoscaling.yaml")
    return [document for document in found if document["kind"] == "ScaledObject"]


def probe_commands() -> Iterator[str]:
    """The shell commands that ask whether a worker reports."""
    for role in ROLES:
        yield compose()["services"][role]["healthcheck"]["test"][1].replace("$$", "$")
    (deployment,) = documents(DEPLOY / "kubernetes" / "worker" / "deployment.yaml")
    for probe in ("startupProbe", "readinessProbe"):
        yield deployment["spec"]["template"]["spec"]["containers"][0][probe]["exec"]["command"][2]


def command_lines() -> Iterator[list[str]]:
    """The arguments of every call of `hsstar` in deploy/."""
    programs = {"hsstar-worker": ["worker"], "hsstar": []}
    for service in compose()["services"].values():
        if "hsstar" in service["image"]:
            entry = service.get("entrypoint", ["hsstar"])[0]
            yield [*programs[entry], *service["command"]]
    for probe in probe_commands():
        yield shlex.split(probe)[1:]
    (migration,) = documents(DEPLOY / "kubernetes" / "migrate.yaml")
    yield migration["spec"]["template"]["spec"]["containers"][0]["args"]
    for role in ROLES:
        patched = (DEPLOY / "kubernetes" / "roles" / role / "kustomization.yaml").read_text()
        (line,) = [line for line in patched.splitlines() if '"--role"' in line]
        yield ["worker", *yaml.safe_load(line.split("value:")[1])]
    script = (DEPLOY / "slurm" / "workers.sbatch").read_text().replace("\\\n", " ")
    (line,) = [line for line in script.splitlines() if line.startswith("exec ")]
    assert "hsstar-worker" in line
    yield ["worker", *shlex.split(line)[2:]]
