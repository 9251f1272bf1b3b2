"""Trainer over several processes, one per GPU, started by `accelerate launch` on each of its machines."""

import hashlib
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from hsstar.domain.errors import BadInputError, EngineError, MissingDependencyError
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
_DEEPSPEED = ("--use_deepspeed", "--deepspeed_multinode_launcher=standard")
_SHARDING_ARGUMENTS = {
    "fsdp2": (
        "--use_fsdp",
        "--fsdp_version=2",
        "--fsdp_reshard_after_forward=true",
        "--fsdp_auto_wrap_policy=TRANSFORMER_BASED_WRAP",
        "--fsdp_state_dict_type=FULL_STATE_DICT",
        "--fsdp_cpu_ram_efficient_loading=false",
    ),
    "zero2": (*_DEEPSPEED, "--zero_stage=2"),
    "zero3": (*_DEEPSPEED, "--zero_stage=3", "--zero3_save_16bit_model=true"),
}
"""Arguments of `accelerate launch` for each way of sharing a model among processes."""


class LaunchedTrainer:
    """Runs `TrlTrainer` in ranks that share the model by `sharding`; a `launch_config` takes precedence.

    `processes` are those of one of the `nodes` (machines). Of several, `node_launcher` starts a program on
    each, and all see the folder of the checkpoint.
    """

    def __init__(
        self,
        processes: int,
        *,
        nodes: int = 1,
        node_launcher: str | None = None,
        device: str = "auto",
        launch_config: Path | None = None,
    ) -> None:
        if nodes > 1 and not node_launcher:
            raise BadInputError(
                f"HSSTAR_TRAIN_NODES={nodes} needs HSSTAR_TRAIN_LAUNCHER, a command that starts a program "
                f"once on each machine: srun --nodes={nodes} --ntasks-per-node=1"
            )
        self._processes = processes * nodes
        self._nodes = nodes
        self._node_launcher = shlex.split(node_launcher or "") if nodes > 1 else []
        self._device = device
        self._launch_config = launch_config
        self.layout = f"{self._processes} processes"
        if launch_config:
            self.layout += f", {hashlib.sha256(launch_config.read_bytes()).hexdigest()}"

    def train(self, task: TrainingTask, progress: ProgressCallback | None = None) -> TrainingReport:
        """Train a policy, as `contract.Trainer.train` says."""
        job = {"device": self._device, "task": asdict(task)}
        command = self.command(task.settings)
        shared = task.output.parent if self._nodes > 1 else None
        if shared:
            shared.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="hsstar-training-", dir=shared) as name:
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
        command = [*self._node_launcher, sys.executable, "-m", "accelerate.commands.launch"]
        if self._launch_config:
            command += ["--config_file", str(self._launch_config)]
        else:
            command += ["--mixed_precision", "no", "--dynamo_backend", "no", *self._sharing(settings)]
        command += ["--num_processes", str(self._processes), *self._meeting_place()]
        return [*command, "-m", "hsstar.engines.training.rank"]

    def _meeting_place(self) -> list[str]:
        """Return where the machines meet; there they get their numbers, whatever `--machine_rank` says."""
        if self._nodes == 1:
            return ["--num_machines", "1", "--main_process_port", "0"]
        with socket.socket() as free:
            free.bind(("", 0))
            port = str(free.getsockname()[1])
        place = ["--main_process_ip", socket.gethostname(), "--main_process_port", port]
        return ["--num_machines", str(self._nodes), "--machine_rank", "1", "--rdzv_backend", "c10d", *place]

    def _sharing(self, settings: TrainingSettings) -> list[str]:
        on_cpu = pick_device(self._device).type == "cpu"
        if settings.sharding == "none":
            return ["--multi_gpu"] if self._processes > 1 else []  # with --cpu it would start one process
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
