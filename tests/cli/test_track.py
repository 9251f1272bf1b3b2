"""`hsstar track` sends each point of a run once, to real trackers with local stores, whatever is down."""

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hsstar.domain.errors import DatabaseError
from hsstar.monitoring import track
from hsstar.monitoring.trackers.contract import Axis, LastSteps, Point
from hsstar.store import runs
from tests.cli.conftest import CommandLine, enqueue

Series = Counter[tuple[str, int]]
"""How often a metric has a point at a step."""


@pytest.fixture
def tracked(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The run `r`, one iteration of which is done, on evaluations of its policies."""
    monkeypatch.setattr(track, "_PAUSE_SECONDS", 0.05)
    enqueue(cli, evaluation={"dataset": "train", "problems": 3, "samples": 2})
    cli.worker().work()
    return cli


def continue_run(cli: CommandLine) -> None:
    cli.ok("iterate", "r")
    cli.worker().work()


def points_of(cli: CommandLine, last: LastSteps | None = None) -> list[Point]:
    with cli.database.begin() as connection:
        run = runs.find_run(connection, "r")
    return track.new_points(cli.database, run, last or {})


def expected(cli: CommandLine) -> Series:
    """Each metric of a run once at each step, as its rows say."""
    return Counter((name, point.step) for point in points_of(cli) for name in point.metrics)


def test_points_are_what_is_done_on_three_axes(tracked: CommandLine) -> None:
    continue_run(tracked)
    points = points_of(tracked)
    steps = {axis: [point.step for point in points if point.axis is axis] for axis in Axis}
    ((trained,),) = tracked.rows("SELECT count(*) FROM training_steps")
    assert steps == {
        Axis.ITERATION: [0, 1], Axis.POLICY: [0, 1, 2], Axis.TRAINING: list(range(1, trained + 1))
    }  # fmt: skip
    by_place = {(point.axis, point.step): point.metrics for point in points}
    ((drawn, share),) = tracked.rows(
        "SELECT drawn, correct_share FROM iteration_statistics WHERE iteration = 1"
    )
    assert by_place[Axis.ITERATION, 1]["iteration/drawn"] == drawn
    assert by_place[Axis.ITERATION, 1]["iteration/correct_share"] == share
    accuracies = tracked.rows("SELECT iteration, accuracy FROM evaluation_results ORDER BY iteration")
    assert [by_place[Axis.POLICY, t]["policy/heldout/accuracy"] for t in range(3)] == [
        a for _, a in accuracies
    ]
    losses = tracked.rows("SELECT loss FROM training_curves ORDER BY iteration, step")
    assert [by_place[Axis.TRAINING, step]["training/loss"] for step in steps[Axis.TRAINING]] == [
        loss for (loss,) in losses
    ]
    last = {Axis.ITERATION: 0, Axis.POLICY: 1, Axis.TRAINING: 1}
    later = {(point.axis, point.step) for point in points_of(tracked, last)}
    assert later == {place for place in by_place if place[1] > last[place[0]]}


class Flaky:
    """A tracker that fails at the calls whose numbers it is given; what it took outlives it."""

    def __init__(self, taken: list[Point], failing: list[int]) -> None:
        self.taken, self._failing = taken, failing
        self._attempt("open")

    def _attempt(self, what: str) -> None:
        if self._failing and self._failing.pop(0):
            raise ConnectionError(f"no {what}")

    def last_steps(self) -> LastSteps:
        return {point.axis: point.step for point in self.taken}

    def log(self, points: Sequence[Point]) -> None:
        self.taken += points[:2]
        self._attempt("answer")
        self.taken += points[2:]

    def close(self) -> None:
        self._attempt("end")


def test_a_tracker_that_fails_is_said_tried_again_and_gets_everything_once(tracked: CommandLine) -> None:
    with tracked.database.begin() as connection:
        run = runs.find_run(connection, "r")
    taken: list[Point] = []
    other: list[Point] = []
    failing = [1, 0, 1, 1]  # opening fails, then writing after half of the points, then closing
    lines: list[str] = []
    trackers: dict[str, Callable[[], Any]] = {
        "flaky": lambda: Flaky(taken, failing), "steady": lambda: Flaky(other, [])
    }  # fmt: skip
    sent = track.follow(tracked.database, run, trackers, lines.append, once=False)
    everything = points_of(tracked)
    assert (taken, other) == (everything, everything)
    assert sent["steady"] == len(everything)
    assert lines == [
        "flaky takes nothing (ConnectionError: no open); it is tried again in 0.05 s",
        "flaky could not be closed (ConnectionError: no end)",
        "flaky takes nothing (ConnectionError: no answer); it is tried again in 0.1 s",
        "flaky takes points again",
    ]


def test_a_database_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Point] = []
    lines: list[str] = []
    answers = [True, False]

    def read(last: LastSteps) -> list[Point]:
        if answers.pop(0):
            raise DatabaseError("the database is away")
        return []

    follower = track.Follower(
        "t", lambda: Flaky(taken, []), read, lambda: True, lines.append, threading.Event()
    )
    monkeypatch.setattr(follower.stopping, "wait", lambda pause: False)  # nobody waits
    follower.run()
    assert lines == ["the database is away; it is tried again in 5 s", "t takes points again"]


def test_a_tracker_that_is_not_installed_names_its_extra(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.delitem(sys.modules, "hsstar.monitoring.trackers.mlflow", raising=False)
    monkeypatch.setitem(sys.modules, "mlflow.entities", None)
    assert "pip install 'hsstar[mlflow]'" in cli.refused("track", "r", "--to", "mlflow")


def read_tensorboard(folder: Path) -> Series:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (run,) = (folder / "tracking" / "tensorboard").iterdir()
    read = EventAccumulator(str(run), size_guidance={"scalars": 0})
    read.Reload()
    return Counter((name, point.step) for name in read.Tags()["scalars"] for point in read.Scalars(name))


def read_mlflow(folder: Path) -> Series:
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    (experiment,) = client.search_experiments(filter_string="name = 'hsstar'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "r"
    assert run.data.params["sampling.n"] == "4"
    histories = (client.get_metric_history(run.info.run_id, name) for name in run.data.metrics)
    return Counter((point.key, point.step) for history in histories for point in history)


def read_trackio(folder: Path) -> Series:
    from trackio.sqlite_storage import SQLiteStorage

    (record,) = SQLiteStorage.get_run_records("hsstar")
    rows = SQLiteStorage.get_logs("hsstar", record["name"])
    return Counter((name, row["step"]) for row in rows for name in row if "/" in name)


READERS = {"tensorboard": read_tensorboard, "mlflow": read_mlflow, "trackio": read_trackio}


def send(cli: CommandLine, name: str) -> str:
    """Call `hsstar track` in a process of its own: the libraries keep threads and state."""
    command = [sys.executable, "-m", "hsstar.cli", "track", "r", "--to", name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.fixture
def local_stores(tracked: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    monkeypatch.setenv("HSSTAR_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    for variable in ("HF_HUB_OFFLINE", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.setenv(variable, "1")
    return tracked


@pytest.mark.heavy
@pytest.mark.parametrize("name", READERS)
def test_a_tracker_has_every_point_once_however_often_it_is_sent(
    local_stores: CommandLine, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(name, reason=f"{name} is not installed; make trackers installs it")
    if name == "trackio":
        from trackio import sqlite_storage

        monkeypatch.setattr(sqlite_storage, "TRACKIO_DIR", tmp_path / "trackio")
    first = len(points_of(local_stores))
    assert send(local_stores, name) == f"{name}: {first} points"
    assert READERS[name](tmp_path) == expected(local_stores)
    assert send(local_stores, name) == f"{name}: 0 points"
    continue_run(local_stores)
    assert send(local_stores, name) == f"{name}: {len(points_of(local_stores)) - first} points"
    assert READERS[name](tmp_path) == expected(local_stores)


@pytest.mark.heavy
def test_wandb_offline_has_every_point_once_in_files_of_one_run(
    local_stores: CommandLine, tmp_path: Path
) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed; make trackers installs it")
    first = len(points_of(local_stores))
    assert send(local_stores, "wandb") == f"wandb: {first} points"
    assert send(local_stores, "wandb") == "wandb: 0 points"
    continue_run(local_stores)
    total = len(points_of(local_stores))
    assert send(local_stores, "wandb") == f"wandb: {total - first} points"
    folders = sorted((tmp_path / "tracking" / "wandb").glob("offline-run-*"))
    assert len(folders) == 3
    assert len({folder.name.split("-", 3)[-1] for folder in folders}) == 1  # one id
    rows = [row for folder in folders for row in wandb_history(folder)]
    found = Counter(
        (name, row[f"{name.partition('/')[0]}/step"])
        for row in rows
        for name in row
        if "/" in name and not name.endswith("/step")
    )
    assert found == expected(local_stores)


def wandb_history(folder: Path) -> list[dict[str, Any]]:
    """The rows of an offline run: blocks of a LevelDB log, which hold protocol buffers."""
    from wandb.proto import wandb_internal_pb2 as proto

    (file,) = folder.glob("*.wandb")
    rows = []
    for record in leveldb_records(file.read_bytes()):
        parsed = proto.Record()
        parsed.ParseFromString(record)
        if parsed.WhichOneof("record_type") == "history":
            items = parsed.history.item
            rows.append(
                {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
            )
    return rows


def leveldb_records(data: bytes) -> list[bytes]:
    """The records of a log in blocks of 32 KiB; the file begins with 7 bytes of its own."""
    records, block, position, record = [], 32_768, 7, b""
    while position + 7 <= len(data):
        left = block - position % block
        if left < 7:  # no place for a header
            position += left
            continue
        length, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        record += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            records.append(record)
            record = b""
    return records
