"""The files of deploy/ are what their readers take, and say what hsstar has."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from hsstar.cli.main import hsstar
from hsstar.local.placement import parse_roles
from hsstar.settings import Settings
from tests.deploy.manifests import (
    DEPLOY,
    ROLES,
    ROOT,
    Document,
    command_lines,
    compose,
    passes,
    scaled_objects,
    tool,
)

# --- commands -------------------------------------------------------------------------------------


def parse(command: click.Command, arguments: list[str]) -> click.Context:
    """Parses a command line as `hsstar` does, and runs nothing."""
    context = command.make_context(command.name, list(arguments))
    if not isinstance(command, click.Group):
        return context
    _, chosen, rest = command.resolve_command(context, [*context._protected_args, *context.args])
    assert chosen is not None
    return parse(chosen, rest)


def test_every_command_line_is_one_that_hsstar_knows() -> None:
    lines = [[part.replace("$role", "sample") for part in line] for line in command_lines()]
    called = [parse(hsstar, line) for line in lines]
    names = [context.command_path for context in called]
    assert {name.split()[-1] for name in names} >= {"worker", "upgrade", "sql", "status"}
    roles = [context.params["role"] for context in called if context.command_path.endswith("worker")]
    assert set(roles) == set(ROLES)
    for role in roles:
        parse_roles(role)


# --- container file -------------------------------------------------------------------------------


def containerfile() -> str:
    return (DEPLOY / "Containerfile").read_text()


def stages() -> dict[str, list[str]]:
    """The instructions of each stage."""
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", containerfile(), flags=re.M))
    found: dict[str, list[str]] = {}
    for line in filter(None, text.splitlines()):
        if line.startswith("FROM"):
            name = line.split(" AS ")[1]
            found[name] = []
        elif found:
            found[name].append(line)
    return found


def test_the_container_file_is_clean() -> None:
    passes(tool("hadolint"), DEPLOY / "Containerfile")


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_both_images_run_as_a_user_without_rights_on_the_tested_versions(target: str) -> None:
    lines = stages()[target]
    assert "USER 10001:10001" in lines
    (install,) = [line for line in lines if "pip install" in line]
    assert lines.index(install) < lines.index("USER 10001:10001")
    assert "--constraint /tmp/constraints.txt" in install
    assert ("vllm" in install) == (target == "gpu")
    extras = set(re.findall(r"whl\)\[(.*)\]", install)[0].split(","))
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert extras <= set(pyproject["project"]["optional-dependencies"])


def test_the_wheel_in_the_image_is_made_of_all_that_it_consists_of() -> None:
    copied = [line.split()[1:-1] for line in stages()["wheel"] if line.startswith("COPY")]
    sources = {source for line in copied for source in line}
    assert sources >= {"pyproject.toml", "README.md", "LICENSE", "hsstar", "workers", "cli", "migrations"}
    let_in = {
        line[1:]
        for line in (DEPLOY / "Containerfile.dockerignore").read_text().splitlines()
        if line[0] == "!"
    }
    needed = sources | {"constraints.txt", "deploy/hsstar-worker"}
    assert let_in == needed
    for source in needed:
        assert (ROOT / source).exists()


def test_no_image_names_a_registry() -> None:
    images = re.findall(r"^FROM (\S+)", containerfile(), flags=re.M)
    for file in DEPLOY.rglob("*.yaml"):
        images += re.findall(r"(?:image|newName): (\S+)", file.read_text())
    assert {"redis:7", "postgres:18"} <= set(images)
    for image in images:
        assert not re.match(r"[^/]*[.:][^/]*/", image), image


# --- compose --------------------------------------------------------------------------------------


def test_the_compose_file_satisfies_its_specification() -> None:
    passes(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")


def test_compose_starts_what_hsstar_needs_in_order() -> None:
    services = compose()["services"]
    assert services["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    for role in ROLES:
        wanted = services[role]["depends_on"]
        assert wanted["migrate"]["condition"] == "service_completed_successfully"
        assert wanted["redis"]["condition"] == "service_healthy"
        assert services[role]["command"] == ["--role", role]
        gpus = services[role].get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices")
        assert (gpus is None) == (role == "verify")
    for name, service in services.items():
        assert "ports" not in service, name
        for secret in service.get("secrets", []):
            assert compose()["secrets"][secret]["file"].startswith("secrets/")
    ignored = subprocess.run(
        ["git", "check-ignore", "deploy/secrets/database_url"], cwd=ROOT, capture_output=True
    )
    assert ignored.returncode == 0


def test_the_environment_of_every_service_is_one_that_hsstar_reads(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("redis://:secret@redis:6379/0\n")
    secret.chmod(0o600)
    for name in ("migrate", *ROLES):
        given = compose()["services"][name]["environment"]
        assert given["HSSTAR_DATABASE_URL_FILE"] == "/run/secrets/database_url"
        assert given["HSSTAR_BROKER_URL_FILE"] == "/run/secrets/broker_url"
        here = {
            "HSSTAR_DATABASE_URL_FILE": "",
            "HSSTAR_BROKER_URL_FILE": str(secret),
            "HSSTAR_LOG_LEVEL": "info",
        }
        settings = Settings.from_environment({key: str(value) for key, value in (given | here).items()})
        assert settings.broker_url == "redis://:secret@redis:6379/0"
        assert settings.models_dir == Path("/models")


# --- Kubernetes -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Document]]:
    """What `kubectl apply --kustomize` would send."""
    built = tmp_path_factory.mktemp("kubernetes") / "all.yaml"
    built.write_text(passes(tool("kubectl"), "kustomize", DEPLOY / "kubernetes"))
    return built, list(yaml.safe_load_all(built.read_text()))


def named(found: list[Document], kind: str) -> dict[str, Any]:
    return {document["metadata"]["name"]: document for document in found if document["kind"] == kind}


def test_the_manifests_satisfy_the_schemas_of_kubernetes(manifests: tuple[Path, list[Document]]) -> None:
    validate = pytest.importorskip("kubernetes_validate").validate
    own = [document for document in manifests[1] if not document["apiVersion"].startswith("keda.sh/")]
    assert len(own) == 10
    for document in own:
        validate(document, "1.37", strict=True)


def test_every_role_is_a_deployment_that_ends_in_time_without_rights(
    manifests: tuple[Path, list[Document]],
) -> None:
    deployments = named(manifests[1], "Deployment")
    assert set(deployments) == {*ROLES, "broker"}
    secrets = set(named(manifests[1], "Secret")["hsstar"]["stringData"])
    for role in ROLES:
        pod = deployments[role]["spec"]["template"]["spec"]
        (worker,) = pod["containers"]
        assert worker["args"] == ["--role", role]
        assert worker["image"] == "hsstar:gpu"
        environment = {entry["name"]: entry for entry in worker["env"]}
        for variable in ("HSSTAR_DATABASE_URL", "HSSTAR_BROKER_URL"):
            assert environment[variable]["valueFrom"]["secretKeyRef"]["key"] in secrets
        assert pod["terminationGracePeriodSeconds"] >= int(environment["HSSTAR_STOP_SECONDS"]["value"]) + 60
        assert pod["securityContext"]["runAsUser"] == 10001  # the image's
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert worker["securityContext"]["capabilities"]["drop"] == ["ALL"]
        assert ("nvidia.com/gpu" in worker["resources"]["limits"]) == (role != "verify")
        assert {"startupProbe", "readinessProbe"} <= set(worker)
        claim = next(volume for volume in pod["volumes"] if volume["name"] == "models")[
            "persistentVolumeClaim"
        ]
        assert claim["claimName"] in named(manifests[1], "PersistentVolumeClaim")
    labels = [tuple(each["spec"]["selector"]["matchLabels"].items()) for each in deployments.values()]
    assert len(set(labels)) == len(labels)


def test_keda_scales_every_role_and_leaves_one_worker(manifests: tuple[Path, list[Document]]) -> None:
    scaled = named(manifests[1], "ScaledObject")
    assert set(scaled) == set(ROLES)
    deployments = named(manifests[1], "Deployment")
    (login,) = named(manifests[1], "TriggerAuthentication").values()
    (target,) = login["spec"]["secretTargetRef"]
    assert target["key"] in named(manifests[1], "Secret")[target["name"]]["stringData"]
    for role, document in scaled.items():
        specification = document["spec"]
        assert specification["scaleTargetRef"]["name"] in deployments
        assert "replicas" not in deployments[role]["spec"]  # else every apply would undo the scaling
        (trigger,) = specification["triggers"]
        assert trigger["type"] == "postgresql"
        assert trigger["authenticationRef"]["name"] == login["metadata"]["name"]
        assert all(isinstance(value, str) for value in trigger["metadata"].values())
        assert 0 <= specification["minReplicaCount"] < specification["maxReplicaCount"]
    assert scaled["verify"]["spec"]["minReplicaCount"] >= 1
    assert scaled["sample"]["spec"]["triggers"][0]["metadata"]["targetQueryValue"] == str(
        Settings.jobs_in_flight
    )
    assert len(scaled_objects()) == len(ROLES)


# --- scripts --------------------------------------------------------------------------------------

SCRIPTS = [DEPLOY / "hsstar-worker", DEPLOY / "slurm" / "workers.sbatch"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_are_clean(script: Path) -> None:
    passes("bash", "-n", script)
    assert script.stat().st_mode & 0o111
    passes(tool("shellcheck"), script)


def test_slurm_tells_the_script_before_it_ends_it() -> None:
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)", SCRIPTS[1].read_text(), flags=re.M))
    stop = int(re.findall(r"HSSTAR_STOP_SECONDS:-(\d+)", SCRIPTS[1].read_text())[0])
    assert options["signal"] == "B:TERM@600"  # to the script, which is the worker's parent
    assert stop + 60 <= 600
    assert options["ntasks"] == options["nodes"] == options["gpus-per-task"] == "1"


@pytest.mark.parametrize(
    "missing", ["role", "HSSTAR_DATABASE_URL_FILE", "HSSTAR_BROKER_URL_FILE", "HSSTAR_MODELS_DIR"]
)
def test_the_slurm_script_says_what_it_lacks(missing: str, tmp_path: Path) -> None:
    given = {
        name: str(tmp_path)
        for name in ("HSSTAR_DATABASE_URL_FILE", "HSSTAR_BROKER_URL_FILE", "HSSTAR_MODELS_DIR")
    }
    given.pop(missing, None)
    done = subprocess.run(
        ["bash", SCRIPTS[1], *([] if missing == "role" else ["sample"])],
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", **given},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert ("say a role" if missing == "role" else missing) in done.stderr.splitlines()[-1]
