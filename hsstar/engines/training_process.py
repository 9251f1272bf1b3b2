"""One rank of a launched training: `accelerate launch -m hsstar.engines.training_process FOLDER`.

The folder holds `job.json`; the first rank prints a JSON line `[done, all]` per optimiser step and leaves
`report.json`.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import PartialState

from hsstar.engines.contracts import TrainingExample, TrainingPair, TrainingReport, TrainingSettings
from hsstar.engines.trl_trainer import TrlTrainer


def train(job: dict[str, Any]) -> TrainingReport:
    """Runs a job as `launched_trainer` writes it; every rank calls this."""
    is_first = PartialState(cpu=job["device"] == "cpu").is_main_process
    trainer = TrlTrainer(job["device"])
    settings = TrainingSettings(**job["settings"])
    policy, output = Path(job["policy"]), Path(job["output"])
    progress = _print_progress if is_first else None
    if job["objective"] == "dpo":
        pairs = [TrainingPair(**row) for row in job["rows"]]
        return trainer.dpo(policy, pairs, settings, output, progress)
    examples = [TrainingExample(**row) for row in job["rows"]]
    return trainer.sft(policy, examples, settings, output, progress)


def _print_progress(done: int, total: int) -> None:
    print(json.dumps([done, total]), flush=True)


def main(folder: Path) -> None:
    """Runs the job in the folder."""
    report = train(json.loads((folder / "job.json").read_text()))
    state = PartialState()
    if state.is_main_process:
        (folder / "report.json").write_text(json.dumps(asdict(report), default=str))
    state.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
