"""What a new user gets wrong: one line that says what to do, a non-zero exit, and nothing lost."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import Home

NOWHERE = {"HSSTAR_DATABASE_URL": "postgresql://somebody:secret@127.0.0.1:9/nothing",
           "HSSTAR_BROKER_URL": "redis://127.0.0.1:9/0"}  # fmt: skip


def test_without_a_database(home: Home) -> None:
    assert "run: hsstar up" in home.refused("status")
    message = home.refused("runs", "list", **NOWHERE)
    assert "cannot reach the database" in message
    assert "secret" not in message
    assert "hsstar is not up" in home.refused("down")
    assert "HSSTAR_LEASE_SECONDS='soon'" in home.refused("up", HSSTAR_LEASE_SECONDS="soon")
    assert "HSSTAR_DATABASE_URL" in home.refused("status", HSSTAR_DATABASE_URL="mysql://localhost/x")


def test_a_wrong_password_and_a_missing_database(stack: Home) -> None:
    url = stack.ok("db", "url").strip()
    message = stack.refused("runs", "list", HSSTAR_DATABASE_URL=url.replace("/hsstar?", "/no_such_thing?"),
                            HSSTAR_BROKER_URL=NOWHERE["HSSTAR_BROKER_URL"])  # fmt: skip
    assert "no_such_thing" in message
    message = stack.refused("runs", "list", HSSTAR_DATABASE_URL=url.replace("//hsstar@", "//stranger:pw@"),
                            HSSTAR_BROKER_URL=NOWHERE["HSSTAR_BROKER_URL"])  # fmt: skip
    assert "refuses the login" in message
    assert "pw@" not in message


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("missing.jsonl", None, "missing.jsonl"),
        ("empty.jsonl", "", "empty"),
        ("broken.jsonl", '{"question": "1+1=?", "answer": "#### 2"}\n{"question": \n', "2"),
        ("keys.jsonl", '{"foo": 1}\n', "foo"),
        ("list.jsonl", "[1, 2]\n", "1"),
        ("gsm8k.jsonl", '{"question": "1+1=?", "answer": "two"}\n', "####"),
    ],
)
def test_problem_files(stack: Home, name: str, content: str | None, expected: str) -> None:
    file = stack.folder / name
    if content is not None:
        file.write_text(content)
    message = stack.refused("problems", "import", str(file), "--dataset", "wrong", "--format", "gsm8k")
    assert name in message
    assert expected in message
    assert "wrong" not in stack.ok("problems", "list")


def test_the_demos_problems_are_imported_from_their_file(stack: Home) -> None:
    file = stack.folder / "demo-problems.jsonl"
    stack.ok("problems", "demo", "--output", str(file), "--count", "40")
    assert "40 problems imported" in stack.ok("problems", "import", str(file), "--dataset", "from-a-file")
    assert "ask for fewer" in stack.refused("problems", "demo", "--output", str(file), "--count", "100000")
    assert len(file.read_text().splitlines()) == 40
    assert "no-folder" in stack.refused("problems", "demo", "--output", str(stack.folder / "no-folder" / "f"))


def test_duplicate_problems_are_counted_and_imported_once(stack: Home) -> None:
    file = stack.folder / "twice.jsonl"
    file.write_text('{"question": "1+1=?", "answer": "#### 2"}\n' * 3)
    assert "1 problems imported, 2 duplicates" in stack.ok(
        "problems", "import", str(file), "--dataset", "twice"
    )


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("tau_low = 0.2", "tau_low = 0.9", "tau_low = 0.9"),
        ("n_p = 3", "n_p = 9", "n_p = 9"),
        ("temperature = 0.7", "temprature = 0.7", "temprature"),
        ('model = "builtin:demo-policy"', 'model = "/no/such/folder"', "/no/such/folder"),
        ('model = "builtin:demo-prm"', 'model = "builtin:demo-policy"', "no reward head"),
        ('prompt = "bare"', 'prompt = "bear"', "qwen25-step-cot"),
        ('dataset = "demo-train"', 'dataset = "demo-trian"', "demo-trian"),
        ("per_iteration = 24", "per_iteration = 100000", "400 usable problems"),
        ("n = 8", "n = ", "not TOML"),
    ],
)
def test_recipes(stack: Home, old: str, new: str, expected: str) -> None:
    path = stack.write_recipe("wrong")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert expected in stack.refused("runs", "create", "--recipe", str(path))
    assert "wrong" not in stack.ok("runs", "list")


def test_a_broken_checkpoint_is_refused_before_anything_is_enqueued(stack: Home) -> None:
    folder = stack.folder / "broken-model"
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["Qwen2ForCausalLM"]}')
    assert "broken-model" in stack.refused("models", "add", "broken", str(folder))


def test_names_that_do_not_exist(stack: Home) -> None:
    assert "no run 'nobody'" in stack.refused("status", "nobody")
    assert "no run 'nobody'" in stack.refused("iterate", "nobody")
    assert "no run 'nobody'" in stack.refused("export", "pairs", "nobody")
    assert "no failed job" in stack.refused("jobs", "retry", "--job", "123456789")


def test_twice_the_same_command(stack: Home) -> None:
    assert "already up" in stack.refused("up")
    stack.ok("runs", "create", "--recipe", str(stack.write_recipe("twice", problems=8)))
    stack.ok("iterate", "twice", "--iterations", "1")
    assert "still has iterations under way (0)" in stack.refused("iterate", "twice")
    stack.wait_until_done("twice")
    assert "ask for fewer iterations" in stack.refused("iterate", "twice", "--iterations", "100")


def test_an_older_schema_is_named(stack: Home) -> None:
    url = stack.ok("db", "url").strip()
    bare = stack.query("select 1 as one")
    assert bare == [{"one": 1}]
    other = {"HSSTAR_DATABASE_URL": url.replace("/hsstar?", "/template1?"),
             "HSSTAR_BROKER_URL": NOWHERE["HSSTAR_BROKER_URL"]}  # fmt: skip
    assert "hsstar db upgrade" in stack.refused("status", **other)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_at_export(stack: Home) -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        done = subprocess.run(
            [sys.executable, "-m", "hsstar.cli", "export", "samples", "twice"],
            env=os.environ | stack.environment, stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


def test_a_home_that_cannot_be_made(home: Home) -> None:
    blocked = home.folder / "a-file"
    blocked.write_text("")
    assert "a-file" in home.refused("up", HSSTAR_HOME=str(blocked))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        message = home.refused("status", HSSTAR_DATABASE_URL=f"postgresql://x@127.0.0.1:{port}/y",
                               HSSTAR_BROKER_URL=NOWHERE["HSSTAR_BROKER_URL"])  # fmt: skip
        assert "cannot reach the database" in message
