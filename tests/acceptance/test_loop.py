"""The main job through the real CLI: problems in, a trained policy out, twice over."""

import json
from collections.abc import Iterator

import pytest

import hsstar
from hsstar.checkpoints.resolve import fingerprint
from tests.acceptance.conftest import Home, temporary_home
from tests.acceptance.invariants import check_finished_run

LONGEST = """
    SELECT DISTINCT ON (round_id, slot < 2)
        concat_ws(
            '/', 'loop', concat(CASE kind WHEN 'evaluation' THEN 'heldout@' END, number), problem_id, slot
        ) AS address
    FROM samples JOIN rounds ON rounds.id = round_id JOIN runs ON runs.id = run_id
    WHERE runs.name = 'loop' AND kind IN ('iteration', 'evaluation')
    ORDER BY round_id, slot < 2, tokens DESC
"""


@pytest.fixture(scope="module")
def finished() -> Iterator[Home]:
    """The run `loop`: two iterations of 24 problems, watched to their end."""
    with temporary_home() as home:
        home.ok("up")
        home.import_demo_problems(60)
        home.ok("runs", "create", "--recipe", str(home.write_recipe("loop")))
        watched = home.ok("iterate", "loop", "--iterations", "2", "--watch")
        assert "iteration 1  done" in watched, watched
        yield home


def test_the_rows_keep_every_promise(finished: Home) -> None:
    check_finished_run(finished, "loop", json.loads(finished.ok("runs", "show", "loop")))


def test_each_iteration_trains_the_next_policy_on_fresh_problems(finished: Home) -> None:
    rows = finished.query("select * from iteration_statistics where run = 'loop' order by iteration")
    assert [row["model"] for row in rows] == ["builtin:demo-policy", "loop-M1"]
    assert [row["output_model"] for row in rows] == ["loop-M1", "loop-M2"]
    assert all(row["pairs"] > 0 and row["seconds_training"] > 0 for row in rows)
    assert rows[0]["heldout_accuracy_after"] == rows[1]["heldout_accuracy_before"]
    assert all(0 < row["heldout_accuracy_after"] <= 1 for row in rows)
    taken = finished.query("select problem_id from problem_statistics where run = 'loop'")
    assert len(taken) == len({row["problem_id"] for row in taken}) == 2 * 24


def test_stored_samples_are_drawn_again_bit_by_bit(finished: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest samples of each policy and phase, alone in their batch: no one has drawn them so before."""
    addresses = [row["address"] for row in finished.query(LONGEST)]
    assert {address.rsplit("/", 2)[0] for address in addresses} == {
        "loop/0", "loop/1", "loop/heldout@0", "loop/heldout@1", "loop/heldout@2"
    }  # fmt: skip
    for name, value in finished.environment.items():
        monkeypatch.setenv(name, value)
    with hsstar.connect() as db:
        for address in addresses:
            drawn = db.redraw(address)
            assert (drawn.same_text, drawn.engine) == (True, drawn.sample.engine), drawn
            assert {name for name, *_ in drawn.differences()} <= {"log-probability"}
            assert drawn.completion.cumulative_logprob == pytest.approx(
                drawn.sample.cumulative_logprob, abs=1e-3
            )
            text = drawn.drawn_text
    said = json.loads(finished.ok("samples", "redraw", addresses[-1], "--json"))
    assert (said["same_text"], said["drawn_text"]) == (True, text)


@pytest.mark.heavy
def test_kto_trains_the_next_policy_from_samples_without_pairs(finished: Home) -> None:
    """The second policy of `loop` is forked, so that nothing is drawn anew for the first iteration."""
    changes = ("--set", "training.objective=kto", "--set", "training.batch_size=16")
    finished.ok("runs", "fork", "loop", "--from", "1", "--name", "kto", *changes)
    finished.ok("iterate", "kto", "--watch")
    (row,) = finished.query("select * from iteration_statistics where run = 'kto' and iteration = 1")
    assert row["output_model"] == "kto-M2"
    curve = finished.query("select * from training_curves where run = 'kto' order by step")
    assert {step["objective"] for step in curve} == {"kto"}
    assert [step["step"] for step in curve] == list(range(1, curve[0]["steps"] + 1))
    assert all(step["kl"] >= 0 and step["grad_norm"] > 0 for step in curve)
    models = {entry["model"] for entry in json.loads(finished.ok("models", "list", "--json"))}
    assert "kto-M2" in models


@pytest.mark.heavy
def test_published_pairs_leave_and_come_back(finished: Home) -> None:
    pairs, output = finished.folder / "pairs.jsonl", finished.folder / "from-pairs"
    finished.ok("export", "pairs", "loop", "--output", str(pairs))
    said = finished.ok(
        "train", "dpo", "--data", str(pairs), "--model", "builtin:demo-policy", "--output", str(output),
        "--recipe", str(finished.folder / "loop.toml"), "--set", "batch_size=8",
    )  # fmt: skip
    assert f"{len(pairs.read_text().splitlines())} rows" in said
    assert fingerprint(output) != fingerprint("builtin:demo-policy")


@pytest.mark.heavy
def test_judged_samples_leave_and_teach_without_pairs(finished: Home) -> None:
    judged, output = finished.folder / "judged.jsonl", finished.folder / "from-judged"
    finished.ok("export", "samples", "loop", "--layout", "trl", "--output", str(judged))
    said = finished.ok(
        "train", "kto", "--data", str(judged), "--model", "builtin:demo-policy", "--output", str(output),
        "--recipe", str(finished.folder / "loop.toml"), "--set", "batch_size=16", "--set", "epochs=0.25",
    )  # fmt: skip
    assert f"{len(judged.read_text().splitlines())} rows" in said
    assert fingerprint(output) != fingerprint("builtin:demo-policy")


@pytest.mark.heavy
def test_a_teacher_draws_by_the_same_workers_and_is_learnt_from(finished: Home) -> None:
    """The second policy of `loop` teaches the first one."""
    teacher = '{name = "teacher", model = "loop-M2", prompt = "bare", samples = 2}'
    change = ("--set", f"sources=[{teacher}]")
    finished.ok("runs", "fork", "loop", "--from", "1", "--name", "taught", *change)
    watched = finished.ok("iterate", "taught", "--watch")
    assert "iteration 1 source teacher  done" in watched, watched
    check_finished_run(finished, "taught", json.loads(finished.ok("runs", "show", "taught")))
    (row,) = finished.query("select * from iteration_statistics where run = 'taught' and iteration = 1")
    assert (row["drawn"], row["budget"], row["output_model"]) == (24 * 8, 24 * 8, "taught-M2")
    drawn = finished.query("select * from source_samples where run = 'taught'")
    assert {(of["model"], of["iteration"], of["slot"]) for of in drawn} == {
        ("loop-M2", 1, 0),
        ("loop-M2", 1, 1),
    }
    assert len(drawn) == 2 * 24 and all(of["verdict"] and of["min_reward"] is not None for of in drawn)
    assert any(of["pair"] == "chosen" for of in drawn)
    assert all(of["pair"] != "rejected" for of in drawn)
