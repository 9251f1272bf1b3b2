"""The report of what works on GPUs: it says what was tried, what was skipped and why, and what failed."""

import sys
from pathlib import Path

import pytest

from hsstar.recipe.training import TrainingSection
from tools import gpu_check
from tools.gpu_check import STEPS, Step, main, run

ROOT = Path(__file__).parents[2]


def test_a_machine_without_gpus_skips_what_needs_them_and_passes_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_check, "find_gpus", lambda environ: ())
    output = tmp_path / "report.md"
    assert main(["driver", "launchers", "tensor-parallel", "--output", str(output)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{output}: 0 of 3 steps failed"
    report = output.read_text()
    assert "1 ok, 0 FAIL, 2 skipped." in report
    assert "| driver | skipped | 0 | GPUs: 1 needed, 0 here |" in report
    assert "$ bash -n deploy/slurm/training.sbatch" in report


@pytest.mark.parametrize(
    ("program", "prints", "result", "end"),
    [
        ("print('64 completions')", "completions", "ok", "64 completions\n"),
        ("print('63')", "64", "FAIL", "63\n'64' does not stand in it"),
        ("raise SystemExit(3)", "", "FAIL", "exit code 3"),
    ],
)
def test_a_step_fails_by_its_exit_code_or_by_what_it_does_not_print(
    tmp_path: Path, program: str, prints: str, result: str, end: str
) -> None:
    outcome = run(Step("it", ((sys.executable, "-c", program),), prints), tmp_path, 0)
    assert (outcome.result, outcome.said) == (result, end)


def test_a_step_without_its_package_is_skipped(tmp_path: Path) -> None:
    outcome = run(Step("it", (("false",),), package="no_such_package"), tmp_path, 8)
    assert (outcome.result, outcome.said) == ("skipped", "no_such_package is not installed")


def test_a_failure_is_the_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "STEPS", (Step("it", (("false",),)),))
    assert main(["--output", str(tmp_path / "report.md")]) == 1
    assert "## it: FAIL\n\n```\n$ false\nexit code 1\n```" in (tmp_path / "report.md").read_text()


def test_trainings_change_keys_that_exist() -> None:
    commands = [command for step in STEPS for command in step.commands if "dpo" in command]
    changes = [part.partition("=") for command in commands for part in command if "=" in part]
    assert len(commands) == 6
    values = {key: value for key, _, value in changes}
    assert values.keys() <= TrainingSection.model_fields.keys()


@pytest.mark.heavy
def test_a_training_of_the_report_runs(tmp_path: Path) -> None:
    assert main(["training", "--output", str(tmp_path / "report.md")]) == 0


def test_the_page_says_what_each_step_prints() -> None:
    page = (ROOT / "docs" / "gpu.md").read_text()
    assert [step.name for step in STEPS if f"| `{step.name}` |" not in page] == []
