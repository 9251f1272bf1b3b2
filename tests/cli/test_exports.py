"""What leaves hsstar: files in the layouts of others that come back as they were, and data sets of a hub."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hsstar.data.files import read_rows
from hsstar.store.database import Database
from tests.cli.conftest import CommandLine, enqueue
from tests.cli.hub_host import TOKEN, Hub, running

PLAIN: dict[str, Any] = {"training": {"objective": "none"}, "pairs": {"rule": "random"}}


@pytest.fixture
def finished(alone: CommandLine, shared: Database) -> CommandLine:
    """A run `r` with one iteration that is done, and an evaluation."""
    alone.use(shared)
    if not alone.rows("SELECT FROM runs"):
        enqueue(alone, training={"objective": "none"}, evaluation={"dataset": "train", "samples": 1})
        alone.worker().work()
    return alone


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_rows(path)]


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet", "jsonl.gz"])
def test_the_ending_of_a_file_says_its_format(finished: CommandLine, ending: str) -> None:
    file = finished.folder / f"rows.{ending}"
    finished.ok("export", "pairs", "r", "--output", str(file))
    rows = rows_of(file)
    lines = finished.ok("export", "pairs", "r").splitlines()
    assert [row["chosen"] for row in rows] == [json.loads(line)["chosen"] for line in lines] != []


def test_a_file_is_left_alone_without_force(finished: CommandLine) -> None:
    file = finished.folder / "rows.jsonl"
    file.write_text("precious")
    for kind, name in (("pairs", "r"), ("problems", "train"), ("difficulty", "r"), ("evaluations", "r")):
        message = finished.refused("export", kind, name, "--output", str(file))
        assert message == f"{file} is there already; give another file, or --force"
    finished.ok("export", "difficulty", "r", "--output", str(file), "--force")
    assert len(rows_of(file)) == 6
    assert "its ending says no format" in finished.refused("export", "pairs", "r", "--output", "rows.txt")


def test_the_difficulty_file_says_what_the_rows_say(finished: CommandLine) -> None:
    file = finished.folder / "difficulty.parquet"
    finished.ok("export", "difficulty", "r", "--output", str(file))
    expected = finished.rows("""
        SELECT statement, reference_answer, avg(CAST(verdict = 'correct' AS int)), count(verdict),
            labels.accuracy, process_quality, labels.level
        FROM round_problems JOIN rounds ON rounds.id = round_id JOIN problems ON problems.id = problem_id
        JOIN samples USING (round_id, problem_id)
        LEFT JOIN difficulty_labels AS labels USING (round_id, problem_id)
        WHERE rounds.kind = 'iteration'
        GROUP BY 1, 2, 5, 6, 7, position ORDER BY position
    """)
    names = ("problem", "answer", "pass_rate", "samples", "phi_acc", "phi_r", "level")
    found = [tuple(row[name] for name in names) for row in rows_of(file)]
    assert [row[:2] + row[3:] for row in found] == [row[:2] + row[3:] for row in expected]
    assert [row[2] for row in found] == pytest.approx([float(row[2]) for row in expected])
    assert finished.ok("export", "difficulty", "r", "--iteration", "1") == ""


def test_samples_of_evaluations_are_exported_apart(finished: CommandLine) -> None:
    def exported(*options: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in finished.ok("export", "samples", "r", *options).splitlines()]

    counts = dict(
        finished.rows("SELECT kind, count(*) FROM samples JOIN rounds ON rounds.id = round_id GROUP BY 1")
    )
    drawn, measured = exported(), exported("--evaluations")
    assert (len(drawn), len(measured)) == (counts["iteration"], counts["evaluation"])
    assert "evaluation" not in drawn[0]
    assert {row["evaluation"] for row in measured} == {
        key for (key,) in finished.rows("SELECT evaluation_key FROM rounds WHERE kind = 'evaluation'")
    }
    right = exported("--correct")
    assert right == [row for row in drawn if row["correct"]]
    assert 0 < len(right) < len(drawn)


def test_evaluations_are_exported_as_the_view_has_them(finished: CommandLine) -> None:
    file = finished.folder / "evaluations.csv"
    finished.ok("export", "evaluations", "--output", str(file))
    (row,) = rows_of(file)
    accuracy = finished.rows("SELECT accuracy FROM evaluation_results")[0][0]
    assert (row["run"], row["benchmark"]) == ("r", "train")
    assert float(row["accuracy"]) == pytest.approx(accuracy)
    assert finished.ok("export", "evaluations", "r") == finished.ok("export", "evaluations")
    assert "there is no run 'x'" in finished.refused("export", "evaluations", "x")


def test_each_reward_is_exported_under_its_name(cli: CommandLine) -> None:
    named = [
        {"name": "least", "model": "prm"},
        {"name": "mean", "model": "prm", "aggregate": "mean", "use": "record"},
    ]
    enqueue(cli, reward={"model": "none"}, rewards=named, training={"objective": "none"})
    cli.worker().work()
    known: dict[tuple[int, int, str], float] = {
        (problem, slot, name): value
        for problem, slot, name, value in cli.rows(
            "SELECT problem_id, slot, reward, value FROM sample_rewards"
        )
    }
    keys = dict(cli.rows("SELECT key, id FROM problems"))

    def of(row: dict[str, Any], slot: str) -> dict[str, float]:
        return {name: known[keys[row["problem"]], row[slot], name] for name in ("least", "mean")}

    for command in (("samples", "r"), ("groups", "r", "--by", "reward")):
        rows = [json.loads(line) for line in cli.ok("export", *command).splitlines()]
        assert len(rows) == 24
        for row in rows:
            assert list(row["rewards"]) == ["least", "mean"] and row["rewards"] == of(row, "slot")
    file = cli.folder / "pairs.parquet"
    cli.ok("export", "pairs", "r", "--output", str(file))
    pairs = rows_of(file)
    assert pairs
    for row in pairs:
        assert row["chosen_rewards"] == of(row, "chosen_slot")
        assert row["rejected_rewards"] == of(row, "rejected_slot")
    for line in cli.ok("export", "rewards", "r").splitlines():
        assert list(json.loads(line)["step_rewards"]) == ["least", "mean"]


def test_samples_are_of_one_kind_of_round(finished: CommandLine) -> None:
    assert finished.ok("export", "samples", "r", "--sources") == ""
    called = finished("export", "samples", "r", "--sources", "--evaluations")
    assert "--evaluations and --sources exclude each other" in called.err


@pytest.mark.parametrize("layout", ["hsstar", "hs-star", "trl", "verl"])
def test_problems_come_back_as_they_went(cli: CommandLine, layout: str) -> None:
    rows = [{"problem": f"{n}+1=?", "answer": str(n + 1), "level": "3", "id": f"p{n}"} for n in range(3)]
    cli.ok("problems", "import", cli.file("given.jsonl", *rows), "--dataset", "first")
    file = str(cli.folder / "train.parquet")
    cli.ok("export", "problems", "first", "--layout", layout, "--output", file)
    cli.ok("problems", "import", file, "--dataset", "second")
    query = "SELECT statement, reference_answer FROM problems JOIN datasets ON datasets.id = dataset_id"
    first, second = (cli.rows(f"{query} WHERE name = '{name}' ORDER BY key") for name in ("first", "second"))
    assert first == second != []
    assert "there is no dataset 'none'" in cli.refused("export", "problems", "none")


def test_samples_come_back_into_another_run(cli: CommandLine) -> None:
    enqueue(cli, "first", **PLAIN)
    cli.worker().work()
    file = str(cli.folder / "samples.jsonl")
    cli.ok("export", "samples", "first", "--output", file)
    enqueue(cli, "second", **PLAIN)
    cli.worker().work()
    cli.ok("samples", "import", file, "--run", "second")
    query = """
        SELECT problems.key, slot, response, finish_reason FROM samples
        JOIN sample_responses ON sample_id = samples.id JOIN problems ON problems.id = problem_id
        JOIN rounds ON rounds.id = round_id JOIN runs ON runs.id = run_id
    """
    first = cli.rows(f"{query} WHERE runs.name = 'first' AND slot < 2 ORDER BY 1, 2")
    assert cli.rows(f"{query} WHERE worker LIKE 'import:%' ORDER BY 1, 2") == first != []


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running() as host:
        yield host


def on_hub(
    cli: CommandLine, hub: Hub, *arguments: str, token: str = TOKEN
) -> subprocess.CompletedProcess[str]:
    """Call hsstar in a process of its own, whose hub is this one."""
    environment = os.environ | {
        "HF_ENDPOINT": hub.url, "HF_TOKEN": token, "HF_HUB_OFFLINE": "0", "HF_HOME": str(cli.folder / "hf"),
        "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1",  # this hub speaks Git LFS
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "hsstar.cli", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow
def test_pairs_go_to_a_hub_with_a_card_and_come_back(finished: CommandLine, hub: Hub) -> None:
    done = on_hub(finished, hub, "export", "pairs", "r", "--layout", "trl", "--to", "hub:me/pairs")
    count = len(finished.ok("export", "pairs", "r").splitlines())
    assert (done.returncode, done.stdout) == (0, ""), done
    assert done.stderr.splitlines()[-1] == f"{count} pairs written to {hub.url}/datasets/me/pairs"
    files = hub.datasets["me/pairs"]
    assert hub.private == {"me/pairs": True}
    assert sorted(files) == ["README.md", "pairs.jsonl"]
    assert [*json.loads(files["pairs.jsonl"].splitlines()[0])][:3] == ["prompt", "chosen", "rejected"]
    _, front, text = files["README.md"].decode().split("---\n", 2)
    assert yaml.safe_load(front) == {
        "tags": ["hsstar", "math"],
        "configs": [{"config_name": "pairs", "data_files": "pairs.jsonl"}],
    }
    assert f"{count} pairs of the run r, in the layout `trl`" in text
    again = on_hub(finished, hub, "export", "pairs", "r", "--to", "hub:me/pairs")
    assert again.returncode == 1
    assert "hub:me/pairs has pairs.jsonl already; give another data set, or --force" in again.stderr
    forced = on_hub(finished, hub, "export", "pairs", "r", "--to", "hub:me/pairs", "--force")
    assert forced.returncode == 0, forced
    assert b"chosen_slot" in files["pairs.jsonl"]
    options = ("--public", "--format", "parquet")
    assert (
        on_hub(finished, hub, "export", "problems", "train", "--to", "hub:me/sums", *options).returncode == 0
    )
    assert hub.private["me/sums"] is False
    parquet = hub.datasets["me/sums"]["problems.parquet"]
    assert (parquet[:4], [*hub.large.values()]) == (b"PAR1", [parquet])  # it came by Git LFS
    back = on_hub(finished, hub, "problems", "import", "hub:me/sums", "--dataset", "back")
    assert (back.returncode, back.stdout[:27]) == (0, "back: 12 problems imported,"), back
    more = on_hub(finished, hub, "export", "difficulty", "r", "--to", "hub:me/pairs")
    assert more.returncode == 0, more
    front = files["README.md"].decode().split("---\n", 2)[1]
    assert [entry["config_name"] for entry in yaml.safe_load(front)["configs"]] == ["difficulty", "pairs"]


def test_a_hub_that_refuses_is_told_in_one_line(finished: CommandLine, hub: Hub) -> None:
    done = on_hub(finished, hub, "export", "pairs", "r", "--to", "hub:me/pairs", token="hf_wrong")
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert line.startswith("hsstar: hub:me/pairs cannot be written (") and "log in by `hf auth login`" in line
    assert "--to pairs: expected hub:OWNER/NAME" in finished.refused("export", "pairs", "r", "--to", "pairs")
    both = finished("export", "pairs", "r", "--to", "hub:me/pairs", "--output", "rows.jsonl")
    assert (both.code, "--to and --output exclude each other" in both.err) == (2, True)
    assert "--public goes with --to" in finished("export", "pairs", "r", "--public").err
