"""Trainer over several processes of one machine, one per GPU, started by `accelerate launch`."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from hsstar.domain.errors import EngineError
from hsstar.engines.contracts import (
    ProgressCallback,
    TrainingExample,
    TrainingPair,
    TrainingReport,
    TrainingSettings,
)

_ERROR_LINES = 5


class LaunchedTrainer:
    """Runs `TrlTrainer` in `processes` ranks and waits for them.

    With `launch_config`, a file of `accelerate config`, the user decides how the ranks share the
    model (FSDP, DeepSpeed); without it every rank holds all of it.
    """

    def __init__(self, processes: int, *, device: str = "auto", launch_config: Path | None = None) -> None:
        self._processes = processes
        self._device = device
        self._launch_config = launch_config

    def dpo(
        self,
        policy: Path,
        pairs: Sequence[TrainingPair],
        settings: TrainingSettings,
        output: Path,
        progress: ProgressCallback | None = None,
    ) -> TrainingReport:
        """Direct preference optimisation from `policy`, which is also the frozen reference."""
        return self._run("dpo", policy, pairs, settings, output, progress)

    def sft(
        self,
        policy: Path,
        examples: Sequence[TrainingExample],
        settings: TrainingSettings,
        output: Path,
        progress: ProgressCallback | None = None,
    ) -> TrainingReport:
        """Supervised fine-tuning on responses, prompt tokens masked."""
        return self._run("sft", policy, examples, settings, output, progress)

    def _run(
        self,
        objective: str,
        policy: Path,
        rows: Sequence[TrainingPair | TrainingExample],
        settings: TrainingSettings,
        output: Path,
        progress: ProgressCallback | None,
    ) -> TrainingReport:
        job = {
            "objective": objective,
            "policy": str(policy),
            "rows": [asdict(row) for row in rows],
            "settings": asdict(settings),
            "output": str(output.absolute()),
            "device": self._device,
        }
        with tempfile.TemporaryDirectory(prefix="hsstar-training-") as name:
            folder = Path(name)
            (folder / "job.json").write_text(json.dumps(job))
            self._launch(folder, progress)
            report = json.loads((folder / "report.json").read_text())
        return TrainingReport(**(report | {"checkpoint": output}))

    def _launch(self, folder: Path, progress: ProgressCallback | None) -> None:
        """Runs the ranks to their end; their progress arrives on standard output.

        Raises:
            EngineError: they failed.
        """
        log = folder / "errors.log"
        with log.open("w") as errors, self._started(folder, errors.fileno()) as ranks:
            try:
                for line in ranks.stdout or ():
                    if progress and line.startswith("["):
                        progress(*json.loads(line))
            except BaseException:
                ranks.terminate()  # the launcher ends its ranks
                raise
        if ranks.returncode != 0:
            lines = [line for line in log.read_text().splitlines() if "Error" in line]
            reason = " | ".join(lines[-_ERROR_LINES:])
            raise EngineError(f"training over {self._processes} processes failed: {reason}")

    def _started(self, folder: Path, errors: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "accelerate.commands.launch"]
        if self._launch_config:
            command += ["--config_file", str(self._launch_config)]
        else:
            command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
            command += ["--cpu"] if self._device == "cpu" else ["--multi_gpu"]
        command += ["--num_processes", str(self._processes), "--main_process_port", "0"]
        command += ["-m", "hsstar.engines.training_process", str(folder)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
