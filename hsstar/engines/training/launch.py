"""Trainer over several processes of one machine, one per GPU, started by `accelerate launch`."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from hsstar.domain.errors import EngineError, MissingDependencyError
from hsstar.domain.rounding import WeightUpdate
from hsstar.engines.loading import pick_device
from hsstar.engines.training.contract import (
    ProgressCallback,
    TrainingReport,
    TrainingSettings,
    TrainingTask,
)
from hsstar.engines.training.rank import read_event
from hsstar.settings import without_settings

_ERROR_LINES = 5
_SHARDING_ARGUMENTS = {
    "fsdp2": (
        "--use_fsdp",
        "--fsdp_version=2",
        "--fsdp_reshard_after_forward=true",
        "--fsdp_auto_wrap_policy=TRANSFORMER_BASED_WRAP",
        "--fsdp_state_dict_type=FULL_STATE_DICT",
        "--fsdp_cpu_ram_efficient_loading=false",
    ),
    "zero2": ("--use_deepspeed", "--zero_stage=2"),
    "zero3": ("--use_deepspeed", "--zero_stage=3", "--zero3_save_16bit_model=true"),
}
"""Arguments of `accelerate launch` for each way of sharing a model among processes."""


class LaunchedTrainer:
    """Runs `TrlTrainer` in ranks that share the model by `sharding`; a `launch_config` takes precedence."""

    def __init__(self, processes: int, *, device: str = "auto", launch_config: Path | None = None) -> None:
        self._processes = processes
        self._device = device
        self._launch_config = launch_config
        self.layout = f"{processes} processes"
        if launch_config:
            self.layout += f", {hashlib.sha256(launch_config.read_bytes()).hexdigest()}"

    def train(self, task: TrainingTask, progress: ProgressCallback | None = None) -> TrainingReport:
        """Train a policy, as `contract.Trainer.train` says."""
        job = {"device": self._device, "task": asdict(task)}
        command = self.command(task.settings)
        with tempfile.TemporaryDirectory(prefix="hsstar-training-") as name:
            folder = Path(name)
            (folder / "job.json").write_text(json.dumps(job, default=str))
            self._launch([*command, str(folder)], folder / "errors.log", progress)
            report = json.loads((folder / "report.json").read_text())
        updates = tuple(WeightUpdate(**row) for row in report["updates"])
        return TrainingReport(**(report | {"checkpoint": task.output, "updates": updates}))

    def command(self, settings: TrainingSettings) -> list[str]:
        """Return the command that starts the ranks; it lacks the folder of the job.

        Raise EngineError if this machine cannot share the model as the settings say, MissingDependencyError
        if DeepSpeed is not installed.
        """
        command = [sys.executable, "-m", "accelerate.commands.launch"]
        if self._launch_config:
            command += ["--config_file", str(self._launch_config)]
        else:
            command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
            command += self._sharing(settings)
        command += ["--num_processes", str(self._processes), "--main_process_port", "0"]
        return [*command, "-m", "hsstar.engines.training.rank"]

    def _sharing(self, settings: TrainingSettings) -> list[str]:
        on_cpu = pick_device(self._device).type == "cpu"
        if settings.sharding == "none":
            return ["--cpu"] if on_cpu else ["--multi_gpu"]
        if settings.sharding.startswith("zero") and find_spec("deepspeed") is None:
            raise MissingDependencyError(
                f"training.sharding = {settings.sharding!r} needs deepspeed, which is not installed: "
                "pip install deepspeed, or set sharding to 'fsdp2'"
            )
        if on_cpu:
            raise EngineError(
                f"training.sharding = {settings.sharding!r} needs GPUs: accelerate shares models among GPUs "
                "only; set it to 'none'"
            )
        return list(_SHARDING_ARGUMENTS[settings.sharding])

    def _launch(self, command: list[str], log: Path, progress: ProgressCallback | None) -> None:
        """Run the ranks to their end; their events arrive on standard output. Raise EngineError if they fail.

        Their standard input closes when this process, its only holder, dies; then the ranks end.
        """
        with (
            log.open("w") as errors,
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=without_settings(os.environ),
            ) as ranks,
        ):
            try:
                for line in ranks.stdout or ():
                    if progress and (event := read_event(line)) is not None:
                        progress(event)
            except BaseException:
                ranks.terminate()  # the launcher ends its ranks
                raise
        if ranks.returncode != 0:
            lines = [line for line in log.read_text().splitlines() if "Error" in line]
            reason = " | ".join(lines[-_ERROR_LINES:])
            raise EngineError(f"training over {self._processes} processes failed: {reason}")
