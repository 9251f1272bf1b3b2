"""One rank of a launched training: `accelerate launch -m hsstar.engines.training.rank FOLDER`.

The folder holds `job.json`; the first rank prints a JSON line per event and leaves `report.json`. A rank
ends when its standard input does: then the process that has launched it is dead.
"""

import json
import os
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hsstar.engines.training.contract import (
    Intermediate,
    TrainingEvent,
    TrainingExample,
    TrainingPair,
    TrainingReport,
    TrainingSaved,
    TrainingSettings,
    TrainingStart,
    TrainingStep,
)

_EVENTS: dict[str, type[TrainingEvent]] = {
    kind.__name__: kind for kind in (TrainingStart, TrainingStep, TrainingSaved)
}


def read_event(line: str) -> TrainingEvent | None:
    """The event in a line of the first rank's output; None where it holds something else."""
    name, _, content = line.partition(" ")
    return _EVENTS[name](**json.loads(content)) if name in _EVENTS else None


def train(job: dict[str, Any]) -> TrainingReport:
    """Runs a job as `launched_trainer` writes it; every rank calls this."""
    from accelerate import PartialState

    from hsstar.engines.training.trl import TrlTrainer

    is_first = PartialState(cpu=job["device"] == "cpu").is_main_process
    trainer = TrlTrainer(job["device"])
    settings = TrainingSettings(**job["settings"])
    policy, output = Path(job["policy"]), Path(job["output"])
    progress = _print_event if is_first else None
    intermediate = _intermediate(job["intermediate"])
    if job["objective"] == "dpo":
        pairs = [TrainingPair(**row) for row in job["rows"]]
        return trainer.dpo(policy, pairs, settings, output, progress, intermediate)
    examples = [TrainingExample(**row) for row in job["rows"]]
    return trainer.sft(policy, examples, settings, output, progress, intermediate)


def _intermediate(given: dict[str, Any] | None) -> Intermediate | None:
    if given is None:
        return None
    resume_from = given["resume_from"]
    return Intermediate(Path(given["folder"]), given["identity"], resume_from and Path(resume_from))


def _print_event(event: TrainingEvent) -> None:
    print(type(event).__name__, json.dumps(asdict(event)), flush=True)


def _end_with_the_launcher() -> None:
    """Ends this process when its standard input does."""

    def watch() -> None:
        while os.read(0, 1 << 16):
            pass
        os._exit(1)

    threading.Thread(target=watch, name="launcher", daemon=True).start()


def main(folder: Path) -> None:
    """Runs the job in the folder."""
    from accelerate import PartialState

    _end_with_the_launcher()
    report = train(json.loads((folder / "job.json").read_text()))
    state = PartialState()
    if state.is_main_process:
        (folder / "report.json").write_text(json.dumps(asdict(report), default=str))
    state.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
