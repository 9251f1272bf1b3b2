"""One rank of a launched training: `accelerate launch -m hsstar.engines.training.rank FOLDER`.

The folder holds `job.json`. The first rank prints a line per event and writes `report.json`. A rank ends
when its standard input closes: the process that launched it is dead.
"""

import json
import os
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hsstar.engines.training.contract import (
    ROWS,
    ResumePoint,
    TrainingEvent,
    TrainingReport,
    TrainingSaved,
    TrainingSettings,
    TrainingStart,
    TrainingStep,
    TrainingTask,
)

_EVENTS: dict[str, type[TrainingEvent]] = {
    kind.__name__: kind for kind in (TrainingStart, TrainingStep, TrainingSaved)
}


def read_event(line: str) -> TrainingEvent | None:
    """Return the event in a line of the first rank's output; None for any other line."""
    name, _, content = line.partition(" ")
    return _EVENTS[name](**json.loads(content)) if name in _EVENTS else None


def train(job: dict[str, Any]) -> TrainingReport:
    """Run a job as `launch.LaunchedTrainer` writes it; every rank calls this."""
    from accelerate import PartialState

    from hsstar.engines.training.trl import TrlTrainer

    is_first = PartialState(cpu=job["device"] == "cpu").is_main_process
    return TrlTrainer(job["device"]).train(_read_task(job["task"]), _print_event if is_first else None)


def _read_task(fields: dict[str, Any]) -> TrainingTask:
    row = ROWS[fields["objective"]]
    resume_point = fields["resume_point"]
    return TrainingTask(
        fields["objective"],
        Path(fields["policy"]),
        [row(**columns) for columns in fields["rows"]],
        TrainingSettings(**fields["settings"]),
        Path(fields["output"]),
        resume_point and _read_resume_point(**resume_point),
        fields["location"],
    )


def _read_resume_point(folder: str, identity: str, checkpoint: str | None) -> ResumePoint:
    return ResumePoint(Path(folder), identity, Path(checkpoint) if checkpoint else None)


def _print_event(event: TrainingEvent) -> None:
    print(type(event).__name__, json.dumps(asdict(event)), flush=True)


def _end_with_the_launcher() -> None:
    def watch() -> None:
        while os.read(0, 1 << 16):
            pass
        os._exit(1)

    threading.Thread(target=watch, name="launcher", daemon=True).start()


def main(folder: Path) -> None:
    """Run the job in the folder."""
    from accelerate import PartialState

    _end_with_the_launcher()
    report = train(json.loads((folder / "job.json").read_text()))
    state = PartialState()
    if state.is_main_process:
        (folder / "report.json").write_text(json.dumps(asdict(report), default=str))
    state.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
