"""The files for contributors and their tools: each fits its schema, and they agree."""

import re
from pathlib import Path

import pytest
import yaml

from tests.deploy.manifests import passes, tool

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("schema", "file"),
    [
        ("citation-file-format", "CITATION.cff"),
        ("github-workflows", ".github/workflows/ci.yml"),
        ("github-issue-forms", ".github/ISSUE_TEMPLATE/bug.yml"),
        ("github-issue-forms", ".github/ISSUE_TEMPLATE/feature.yml"),
    ],
)
def test_a_file_fits_its_schema(schema: str, file: str) -> None:
    passes(tool("check-jsonschema"), "--builtin-schema", f"vendor.{schema}", file)


def test_the_hosted_workflow_runs_what_the_script_runs() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step["run"] for step in workflow["jobs"]["everything"]["steps"] if "run" in step]
    script = (ROOT / ".ci" / "run").read_text()
    assert steps == ["sudo .ci/servers", *re.findall(r"^make .*", script, re.MULTILINE)]
    assert f'export PYTEST="{workflow["env"]["PYTEST"]}"' in script


def test_the_scripts_are_sound() -> None:
    passes(tool("shellcheck"), ".ci/run", ".ci/servers")


def test_help_names_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)", makefile, re.MULTILINE)
    assert {*re.findall(r"^# make ([a-z-]+) ", makefile, re.MULTILINE)} == {*phony.split()} - {"help"}
    assert {*re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)} == {*phony.split()}
