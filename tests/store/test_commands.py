"""Problems, runs and policies: checked before anything runs, and brought in or out whole or not at all."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hsstar.checkpoints.resolve import fingerprint
from hsstar.commands import problems as commands
from hsstar.commands.export_model import export_model
from hsstar.commands.problems import UnreadableReference, import_problems, usable_problems
from hsstar.commands.runs import create_run, start_iterations
from hsstar.domain.errors import BadInputError, CheckpointError, ConflictError, NotFoundError
from hsstar.domain.problems import ProblemFormat
from hsstar.recipe.recipe import Recipe, parse_recipe
from hsstar.store import models, runs
from hsstar.store.database import Database
from hsstar.verifier import MathVerifier
from tests.engines import tiny
from tests.store.factory import add_problems, add_run, make_recipe, select

SERVER = {"base_url": "http://localhost:8000/v1", "model": "policy"}


def recipe_of(**policy: Any) -> Recipe:
    return make_recipe(
        policy={"model": "builtin:demo-policy"} | policy,
        reward={"model": "none"},
        difficulty={"signal": "accuracy"},
        pairs={"rule": "random"},
    )


@pytest.fixture
def filled(database: Database) -> Database:
    with database.begin() as connection:
        add_problems(connection, 12)
    return database


def test_a_chat_prompt_needs_a_policy_with_a_chat_template(filled: Database, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no chat template"):
        create_run(filled, recipe_of(prompt="chat"), "chatty")
    with filled.begin() as connection:
        assert runs.list_runs(connection) == []
    policy, tokenizer = tiny.tiny_policy(tmp_path), tiny.qwen_tokenizer()
    tokenizer.chat_template = "{{ messages[0].content }}\n"
    tokenizer.save_pretrained(policy)
    assert create_run(filled, recipe_of(model=str(policy), prompt="chat"), "chatty").name == "chatty"


def test_a_tokenizer_without_end_of_text_token_is_refused_before_a_run_that_trains(
    filled: Database, tmp_path: Path
) -> None:
    recipe = recipe_of(model=str(tiny.tiny_policy_without_end(tmp_path)))
    with pytest.raises(CheckpointError, match="no end-of-text token"):
        create_run(filled, recipe, "endless")
    without_training = parse_recipe(recipe.document() | {"training": {"objective": "none"}})
    assert create_run(filled, without_training, "sampled").name == "sampled"


def test_a_server_that_cannot_load_weights_serves_one_iteration(filled: Database) -> None:
    with filled.begin() as connection:
        unable, able = (
            add_run(connection, recipe_of(engine="openai", openai=SERVER | {"reload": reload}))
            for reload in ("none", "vllm")
        )
    with pytest.raises(ConflictError, match=r"iteration 1 of run .* or ask for one iteration"):
        start_iterations(filled, unable, 2)
    assert start_iterations(filled, unable, 1) == [0]
    assert start_iterations(filled, able, 3) == [0, 1, 2]


def problem_file(folder: Path, last: str = "") -> Path:
    rows = [{"problem": f"What is {number}+1?", "answer": str(number + 1)} for number in range(10)]
    rows[1] |= {"answer": "?", "subject": "lone \ud800"}
    (folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + last)
    return folder / "p.jsonl"


@pytest.mark.parametrize("in_memory", [64_000_000, 100])
def test_a_file_is_verified_before_its_transaction_begins(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: int
) -> None:
    check = MathVerifier.check_references
    open_transactions = []

    def watched(self: MathVerifier, references: Sequence[str], *arguments: Any) -> list[bool]:
        query = """
            SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
        """
        with database.begin() as connection:
            open_transactions.append(select(connection, query)[0][0])
        return check(self, references, *arguments)

    monkeypatch.setattr(MathVerifier, "check_references", watched)
    monkeypatch.setattr(commands, "_BATCH", 4)
    monkeypatch.setattr(commands, "_BYTES_IN_MEMORY", in_memory)
    file, told = problem_file(tmp_path), list[int]()
    report = import_problems(database, file, ProblemFormat.MATH, "d", told.append)
    assert (report.read, report.imported, report.unreadable) == (10, 10, (UnreadableReference(2, "?"),))
    assert (open_transactions, told) == ([0, 0, 0], [4, 8, 10])
    assert usable_problems(database) == {"d": 9}
    assert import_problems(database, file, ProblemFormat.MATH, "d").duplicates == 10


def test_a_file_with_a_broken_line_leaves_nothing(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_BATCH", 4)
    with pytest.raises(BadInputError, match=r"p\.jsonl:11: expected one JSON object"):
        import_problems(database, problem_file(tmp_path, last="{"), ProblemFormat.MATH, "d")
    assert usable_problems(database) == {}


def test_a_policy_is_exported_whole_or_not(database: Database, tmp_path: Path) -> None:
    source, target = tiny.tiny_policy(tmp_path / "source"), tmp_path / "deep" / "taken"
    with database.begin() as connection:
        models.register_model(connection, "M0", str(source), fingerprint(source))
    assert export_model(database, "M0", target) == target
    assert fingerprint(target) == fingerprint(source)
    assert {*target.iterdir()} == {target / file.name for file in source.iterdir()} | {target / "README.md"}
    assert f"registered from {source}" in (target / "README.md").read_text()
    with pytest.raises(ConflictError, match="not an empty folder"):
        export_model(database, "M0", target)
    (tmp_path / "empty").mkdir()
    export_model(database, "M0", tmp_path / "empty")
    with pytest.raises(NotFoundError):
        export_model(database, "M7", tmp_path / "other")
    with pytest.raises(BadInputError, match="cannot write"):
        export_model(database, "M0", source / "config.json" / "below")
    tiny.tiny_policy(source, seed=5)
    with pytest.raises(CheckpointError, match="no longer holds the weights"):
        export_model(database, "M0", tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "empty", "source"]
