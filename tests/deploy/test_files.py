"""The files of deploy/ are what their readers take, and say what hsstar has."""

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import click
import psycopg
import pytest
import yaml

from hsstar.cli.main import hsstar
from hsstar.domain.lifecycle import JobKind
from hsstar.engines.registry import build_trainer
from hsstar.engines.training.contract import training_settings
from hsstar.engines.training.launch import LaunchedTrainer
from hsstar.local.postgres import SUPERUSER
from hsstar.recipe.training import TrainingSection
from hsstar.settings import Settings
from hsstar.store import migrate
from hsstar.store.database import Database
from tests.deploy.manifests import DEPLOY, ROLES, ROOT, command_lines, compose, passes, scaled_objects, tool
from tests.local.conftest import Place, place
from tests.store.factory import run_query

__all__ = ["place"]  # a fixture

CONTAINERFILE = (DEPLOY / "Containerfile").read_text()
SLURM = DEPLOY / "slurm" / "workers.sbatch"
VARIABLES = ("HSSTAR_DATABASE_URL_FILE", "HSSTAR_BROKER_URL_FILE", "HSSTAR_MODELS_DIR")


LINTERS = """hadolint Containerfile
check-jsonschema --builtin-schema vendor.compose-spec compose.yaml
shellcheck hsstar-worker
shellcheck slurm/workers.sbatch
shellcheck slurm/training.sbatch"""


@pytest.mark.parametrize("line", LINTERS.splitlines())
def test_files_are_clean(line: str) -> None:
    program, *options, file = line.split()
    passes(tool(program), *options, DEPLOY / file)


def parse(command: click.Command, arguments: list[str]) -> click.Context:
    """Parses a command line as `hsstar` does, and runs nothing."""
    context = command.make_context(command.name, arguments)
    if not isinstance(command, click.Group):
        return context
    _, chosen, rest = command.resolve_command(context, [*context._protected_args, *context.args])
    assert chosen is not None
    return parse(chosen, rest)


def test_every_command_line_is_one_that_hsstar_knows() -> None:
    lines = [[part.replace("$role", "sample") for part in line] for line in command_lines()]
    called = [(context.command_path.split()[-1], context) for context in (parse(hsstar, x) for x in lines)]
    assert {name for name, _ in called} >= {"worker", "upgrade", "sql", "status"}
    roles = {context.params["role"] for name, context in called if name == "worker"}
    assert roles == set(ROLES) == set(JobKind)


def instructions(stage: str) -> list[str]:
    """What a stage of the container file does."""
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", CONTAINERFILE, flags=re.M))
    found: list[str] = re.findall(rf"^FROM \S+ AS {stage}\n((?:(?!FROM).*\n?)*)", text, flags=re.M)
    return found[0].splitlines()


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_both_images_run_as_a_user_without_rights_on_the_tested_versions(target: str) -> None:
    lines = instructions(target)
    (install,) = [line for line in lines if "pip install" in line]
    assert lines.index(install) < lines.index("USER 10001:10001")
    assert "--constraint /tmp/constraints.txt" in install
    assert ("vllm" in install) == (target == "gpu")
    extras = set(re.findall(r"whl\)\[(.*)\]", install)[0].split(","))
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert extras <= set(pyproject["project"]["optional-dependencies"])


def test_the_wheel_in_the_image_is_made_of_all_that_it_consists_of() -> None:
    copied = [line for line in instructions("wheel") if line.startswith("COPY")]
    sources = {source for line in copied for source in line.split()[1:-1]}
    assert sources >= {"pyproject.toml", "README.md", "LICENSE", "hsstar", "workers", "cli", "migrations"}
    needed = sources | {"constraints.txt", "deploy/hsstar-worker"}
    ignored = (DEPLOY / "Containerfile.dockerignore").read_text()
    assert set(re.findall(r"^!(.*)", ignored, flags=re.M)) == needed
    assert [source for source in needed if not (ROOT / source).exists()] == []


def test_no_image_names_a_registry() -> None:
    images = re.findall(r"^FROM (\S+)", CONTAINERFILE, flags=re.M)
    for file in DEPLOY.rglob("*.yaml"):
        images += re.findall(r"(?:image|newName): (\S+)", file.read_text())
    assert {"redis:7", "postgres:18"} <= set(images)
    assert [image for image in images if re.match(r"[^/]*[.:][^/]*/", image)] == []


def test_compose_starts_what_hsstar_needs_in_order() -> None:
    services = compose()["services"]
    assert services["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    for role in ROLES:
        conditions = {name: needed["condition"] for name, needed in services[role]["depends_on"].items()}
        assert conditions == {"migrate": "service_completed_successfully", "redis": "service_healthy"}
        assert services[role]["command"] == ["--role", role]
        gpus = services[role].get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices")
        assert (gpus is None) == (role == "verify")
    for name, service in services.items():
        assert "ports" not in service, name
        for secret in service.get("secrets", []):
            assert compose()["secrets"][secret]["file"].startswith("secrets/")
    passes("git", "check-ignore", "deploy/secrets/database_url")


def test_the_environment_of_every_service_is_one_that_hsstar_reads(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("redis://:secret@redis:6379/0\n")
    secret.chmod(0o600)
    here = {"HSSTAR_DATABASE_URL_FILE": "", "HSSTAR_BROKER_URL_FILE": secret, "HSSTAR_LOG_LEVEL": "info"}
    for name in ("migrate", *ROLES):
        given = compose()["services"][name]["environment"]
        for url in ("database_url", "broker_url"):
            assert given[f"HSSTAR_{url.upper()}_FILE"] == f"/run/secrets/{url}"
        settings = Settings.from_environment({key: str(value) for key, value in (given | here).items()})
        assert (settings.broker_url, settings.models_dir) == (secret.read_text().strip(), Path("/models"))


Manifests = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def manifests() -> Manifests:
    """What `kubectl apply --kustomize` would send, by kind and name."""
    found: Manifests = {}
    for document in yaml.safe_load_all(passes(tool("kubectl"), "kustomize", DEPLOY / "kubernetes")):
        found.setdefault(document["kind"], {})[document["metadata"]["name"]] = document
    return found


def test_the_manifests_satisfy_the_schemas_of_kubernetes(manifests: Manifests) -> None:
    validate = pytest.importorskip("kubernetes_validate").validate
    everything = [document for of_kind in manifests.values() for document in of_kind.values()]
    own = [document for document in everything if not document["apiVersion"].startswith("keda.sh/")]
    assert len(own) == 10
    for document in own:
        validate(document, "1.37", strict=True)


def test_every_role_is_a_deployment_that_ends_in_time_without_rights(manifests: Manifests) -> None:
    deployments = manifests["Deployment"]
    assert set(deployments) == {*ROLES, "broker"}
    for role in ROLES:
        pod = deployments[role]["spec"]["template"]["spec"]
        (worker,) = pod["containers"]
        assert (worker["args"], worker["image"]) == (["--role", role], "hsstar:gpu")
        environment = {entry["name"]: entry for entry in worker["env"]}
        for variable in ("HSSTAR_DATABASE_URL", "HSSTAR_BROKER_URL"):
            key = environment[variable]["valueFrom"]["secretKeyRef"]["key"]
            assert key in manifests["Secret"]["hsstar"]["stringData"]
        assert pod["terminationGracePeriodSeconds"] >= int(environment["HSSTAR_STOP_SECONDS"]["value"]) + 60
        assert pod["securityContext"].items() >= {"runAsUser": 10001, "runAsNonRoot": True}.items()
        assert worker["securityContext"]["capabilities"]["drop"] == ["ALL"]
        assert ("nvidia.com/gpu" in worker["resources"]["limits"]) == (role != "verify")
        assert {"startupProbe", "readinessProbe"} <= set(worker)
        (models,) = (volume for volume in pod["volumes"] if volume["name"] == "models")
        assert models["persistentVolumeClaim"]["claimName"] in manifests["PersistentVolumeClaim"]
    labels = {str(each["spec"]["selector"]["matchLabels"]) for each in deployments.values()}
    assert len(labels) == len(deployments)


def test_keda_scales_every_role_and_leaves_one_worker(manifests: Manifests) -> None:
    scaled, deployments = manifests["ScaledObject"], manifests["Deployment"]
    assert set(scaled) == set(ROLES)
    assert len(scaled_objects()) == len(ROLES)
    ((login, authentication),) = manifests["TriggerAuthentication"].items()
    (target,) = authentication["spec"]["secretTargetRef"]
    assert target["key"] in manifests["Secret"][target["name"]]["stringData"]
    for role, document in scaled.items():
        specification = document["spec"]
        assert specification["scaleTargetRef"]["name"] in deployments
        assert "replicas" not in deployments[role]["spec"]  # else every apply would undo the scaling
        (trigger,) = specification["triggers"]
        assert (trigger["type"], trigger["authenticationRef"]["name"]) == ("postgresql", login)
        assert all(isinstance(value, str) for value in trigger["metadata"].values())
        assert 0 <= specification["minReplicaCount"] < specification["maxReplicaCount"]
    assert scaled["verify"]["spec"]["minReplicaCount"] >= 1
    wanted = scaled["sample"]["spec"]["triggers"][0]["metadata"]["targetQueryValue"]
    assert wanted == str(Settings.jobs_in_flight)


def test_slurm_tells_the_script_before_it_ends_it() -> None:
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)", SLURM.read_text(), flags=re.M))
    (stop,) = re.findall(r"HSSTAR_STOP_SECONDS:-(\d+)", SLURM.read_text())
    assert options["signal"] == "B:TERM@600"  # to the script, which is the worker's parent
    assert int(stop) + 60 <= 600
    assert SLURM.stat().st_mode & 0o111
    assert options["ntasks"] == options["nodes"] == options["gpus-per-task"] == "1"


def test_a_training_over_several_machines_has_a_launcher_that_reaches_each(tmp_path: Path) -> None:
    """In the place of `hsstar-worker` a script prints the settings that it would get."""
    worker = tmp_path / "hsstar-worker"
    worker.write_text('#!/bin/sh\necho "$@"\nenv\n')
    worker.chmod(0o755)
    allocated = {"SLURM_JOB_NUM_NODES": "3", "SLURM_GPUS_ON_NODE": "8", "SLURM_JOB_ID": "7"}
    environment = {name: str(tmp_path) for name in VARIABLES} | {"HSSTAR_DEPLOY": str(tmp_path)} | allocated
    script = ["bash", str(DEPLOY / "slurm" / "training.sbatch")]
    environment["PATH"] = os.environ["PATH"]
    said = subprocess.run(script, env=environment, capture_output=True, text=True, check=True).stdout
    arguments, *lines = said.splitlines()
    assert arguments == "--role train --name train@slurm-7"
    given = dict(line.split("=", 1) for line in lines if line.startswith("HSSTAR_TRAIN"))
    trainer = build_trainer(device="cuda", **Settings.from_environment(given).trainer_options)
    assert isinstance(trainer, LaunchedTrainer)
    command = trainer.command(training_settings(TrainingSection(), 0))
    assert command[:4] == ["srun", "--nodes=3", "--ntasks=3", "--ntasks-per-node=1"]
    assert command[command.index("--num_processes") + 1] == "24"
    assert command[command.index("--num_machines") + 1] == "3"


@pytest.mark.parametrize("missing", ["role", *VARIABLES])
def test_the_slurm_script_says_what_it_lacks(missing: str, tmp_path: Path) -> None:
    given = {name: str(tmp_path) for name in VARIABLES if name != missing} | {"PATH": os.environ["PATH"]}
    command = ["bash", str(SLURM), *([] if missing == "role" else ["sample"])]
    done = subprocess.run(command, env=given, capture_output=True, text=True)
    assert done.returncode != 0
    assert ("say a role" if missing == "role" else missing) in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_the_scripts_role_owns_its_database_and_is_no_superuser(place: Place, tmp_path: Path) -> None:
    tool("psql")  # as the script's image has it
    password = tmp_path / "hsstar_password"
    password.write_text('it\'s "quoted" $(here)\n')
    server = place.postgres()
    server.start()
    host = str(server.socket_directory)
    with psycopg.connect(host=host, user=SUPERUSER, dbname="postgres", autocommit=True) as connection:
        connection.execute("DROP DATABASE hsstar")
        connection.execute("DROP OWNED BY hsstar")
        connection.execute("DROP ROLE hsstar")
    settings = {"PGHOST": host, "POSTGRES_USER": SUPERUSER, "HSSTAR_PASSWORD_FILE": str(password)}
    subprocess.run(["sh", DEPLOY / "postgres" / "role.sh"], env=os.environ | settings, check=True)
    database = Database(server.url)
    migrate.upgrade(database)
    _, rows = run_query(database, "SELECT rolsuper FROM pg_roles WHERE rolname = 'hsstar'", 10)
    assert rows == [(False,)]
    database.close()
