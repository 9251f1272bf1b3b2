"""Problems, runs and policies: checked before anything runs, and brought in or out whole or not at all."""

import json
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
from sqlalchemy import text

from hsstar.checkpoints.resolve import fingerprint
from hsstar.commands import problems as commands
from hsstar.commands.export_model import export_model
from hsstar.commands.problems import import_problems, usable_problems
from hsstar.commands.prompts import check_room
from hsstar.commands.references import NamedReference
from hsstar.commands.runs import create_run, start_iterations
from hsstar.data.files import ProblemFiles
from hsstar.domain.errors import BadInputError, CheckpointError, ConflictError, NotFoundError
from hsstar.domain.lifecycle import IterationState, JobState
from hsstar.domain.prompts import render_prompt
from hsstar.engines.prompts import count_tokens, prompt_renderer
from hsstar.recipe.recipe import Recipe, parse_recipe
from hsstar.store import datasets, models, rounds, runs
from hsstar.store.database import Database
from hsstar.study import run as running
from hsstar.study.document import Study, load_study
from hsstar.verifier import MathVerifier, ReferenceKind
from tests.engines import tiny
from tests.store.factory import TRAIN, add_job, add_problems, add_run, make_recipe, select, set_state

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


def test_a_chat_template_that_fails_on_some_problems_is_found(filled: Database, tmp_path: Path) -> None:
    policy, tokenizer = tiny.tiny_policy(tmp_path), tiny.qwen_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('an 11') if '11' in messages[0].content else 'fine' }}"
    tokenizer.save_pretrained(policy)
    with pytest.raises(CheckpointError, match="its chat template cannot render a question: an 11"):
        create_run(filled, recipe_of(model=str(policy), prompt="chat"), "chatty")


def test_examples_are_drawn_once_and_stored_with_the_run(filled: Database) -> None:
    few = {"template": "{% for e in examples %}{{ e.problem }} {{ e.solution }}; {% endfor %}{{ problem }}"}
    recipe = recipe_of(prompt=few | {"examples": {"dataset": TRAIN, "count": 3, "seed": 5}})
    with pytest.raises(BadInputError, match=f"4 problems with a solution .* dataset '{TRAIN}' has 0"):
        create_run(filled, recipe, "few")
    with filled.begin() as connection:
        connection.execute(text("UPDATE problems SET solution = 'solved ' || statement"))
    stored = create_run(filled, recipe, "few").recipe.policy.prompt.resolved
    assert create_run(filled, recipe, "again").recipe.policy.prompt.resolved == stored
    other = recipe_of(prompt=few | {"examples": {"dataset": TRAIN, "count": 3, "seed": 6}})
    assert create_run(filled, other, "other").recipe.policy.prompt.resolved.examples != stored.examples
    assert len(set(stored.examples)) == 4
    render = prompt_renderer(stored, "no/such folder")
    for number in range(12):
        *shown, problem = render(f"{TRAIN} problem {number}").split("; ")
        assert problem == f"{TRAIN} problem {number}"
        assert len(shown) == 3
        assert f"{problem} solved {problem}" not in shown
    absent = recipe_of(prompt=few | {"examples": {"dataset": "elsewhere"}})
    with pytest.raises(NotFoundError, match="there is no dataset 'elsewhere'"):
        create_run(filled, absent, "absent")


def test_responses_without_room_in_the_context_are_foreseen(filled: Database, tmp_path: Path) -> None:
    policy = str(tiny.tiny_policy(tmp_path))  # a context of 256
    longest = max((f"{TRAIN} problem {number}" for number in range(12)), key=len)
    [tokens] = count_tokens(policy, [render_prompt("bare", longest)])

    def found(
        limit: int, sections: dict[str, Any] | None = None, database: Database | None = filled
    ) -> list[tuple[str, str]]:
        plain = recipe_of(model=policy, prompt="bare").document()
        recipe = parse_recipe(plain | {"sampling": {"max_new_tokens": limit}} | (sections or {}))
        return [(finding.level.value, finding.text) for finding in check_room(database, recipe, policy)]

    assert found(256 - tokens) == [("ok", "prompts and max_new_tokens fit into 256 tokens")]
    cut = f"exceed the context of 256: responses are cut after {256 - tokens} tokens or fewer"
    ((level, said),) = found(257 - tokens)
    assert level == "warn"
    assert said.startswith(f"the longest prompt of {TRAIN} ({tokens} tokens) and sampling.max_new_tokens = ")
    assert cut in said
    assert found(256, database=None) == [
        ("ok", "prompts and max_new_tokens fit into 256 tokens")
    ]  # none is known
    assert found(257, database=None)[0][1].startswith(
        "a prompt and sampling.max_new_tokens = 257 exceed the context"
    )
    evaluated = {"evaluation": {"dataset": TRAIN, "benchmarks": ["amc23"], "max_new_tokens": 8}}
    ((_, said),) = found(8, evaluated)  # the benchmark is not imported, and its protocol asks for more
    assert "max_new_tokens of amc23" in said
    shorter = {"model": policy, "engine": "vllm", "vllm": {"max_model_len": tokens}, "prompt": "bare"}
    ((level, said),) = found(8, {"policy": shorter})
    assert (level, said) == (
        "warn",
        f"the longest prompt of {TRAIN} ({tokens} tokens) alone fills the context of {tokens}; "
        "such problems are left out",
    )


def test_a_run_that_trains_needs_an_end_of_text_token(filled: Database, tmp_path: Path) -> None:
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


def files_in(*paths: Path) -> ProblemFiles:
    return ProblemFiles(paths)


@pytest.mark.parametrize("in_memory", [64_000_000, 100])
def test_a_file_is_verified_before_its_transaction_begins(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: int
) -> None:
    check = MathVerifier.examine_references
    open_transactions, one_at_a_time = [], Lock()

    def watched(self: MathVerifier, references: Sequence[str], *arguments: Any) -> list[ReferenceKind]:
        query = """
            SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
        """
        with one_at_a_time, database.begin() as connection:
            open_transactions.append(select(connection, query)[0][0])
        return check(self, references, *arguments)

    monkeypatch.setattr(MathVerifier, "examine_references", watched)
    monkeypatch.setattr(commands, "_BATCH", 4)
    monkeypatch.setattr(commands, "_BYTES_IN_MEMORY", in_memory)
    file, told = problem_file(tmp_path), list[int]()
    report = import_problems(database, files_in(file), "d", progress=told.append)
    assert (report.read, report.imported) == (10, 10)
    assert report.references.unusable == [NamedReference(2, "")]
    assert (open_transactions, told) == ([0, 0, 0], [4, 8, 10])
    assert usable_problems(database) == {"d": 9}
    assert import_problems(database, files_in(file), "d").duplicates == 10


def test_a_file_with_a_broken_line_leaves_nothing(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_BATCH", 4)
    with pytest.raises(BadInputError, match=r"p\.jsonl:11: expected one JSON object"):
        import_problems(database, files_in(problem_file(tmp_path, last="{")), "d")
    assert usable_problems(database) == {}


def test_a_policy_is_exported_whole_or_not(database: Database, tmp_path: Path) -> None:
    source, target = tiny.tiny_policy(tmp_path / "source"), tmp_path / "deep" / "taken"
    with database.begin() as connection:
        models.register_model(connection, "M0", str(source), fingerprint(source))
    assert export_model(database, "M0", target) == target
    assert {*target.iterdir()} == {target / file.name for file in source.iterdir()} | {target / "README.md"}
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


# --- studies: runs follow each other, nothing twice; no worker is up --------------------------------

STUDY = (Path(__file__).parent / "study.toml").read_text()


def study(folder: Path, old: str = "", new: str = "") -> Study:
    (folder / "s.toml").write_text(STUDY.replace(old, new) if old else STUDY)
    return load_study(folder / "s.toml")


@pytest.fixture
def found(database: Database, tmp_path: Path) -> Study:
    """The study, with its problems."""
    found = study(tmp_path)
    running.prepare_problems(database, found)
    return found


def run_names(database: Database) -> list[str]:
    with database.begin() as connection:
        return [run.name for run in runs.list_runs(connection)]


def finish(database: Database, run: str, *, all_but: int = 0) -> None:
    """Says that the iterations of a run are done, whatever was drawn."""
    with database.begin() as connection:
        iterations = rounds.list_iterations(connection, runs.find_run(connection, run).id)
        for iteration in iterations[: len(iterations) - all_but]:
            set_state(connection, iteration.round.id, IterationState.DONE)


def test_problems_are_made_once_and_never_grow(database: Database, tmp_path: Path) -> None:
    for _ in range(2):
        running.prepare_problems(database, study(tmp_path))
        with database.begin() as connection:
            sizes = {found.name: found.problems for found in datasets.list_datasets(connection)}
        assert sizes == {"s-train": 8, "s-heldout": 8}
    with pytest.raises(ConflictError, match="'s-heldout' holds 8 problems, the study asks for 9"):
        running.prepare_problems(database, study(tmp_path, "problems = 8", "problems = 9"))


def test_runs_follow_each_other_seed_by_seed(database: Database, found: Study) -> None:
    for _ in range(2):
        states = running.advance(database, found, at_once=1)
        assert run_names(database) == ["s-HS-STaR-0"]
        assert (states["s-HS-STaR-0"].iterations, states["s-HS-STaR-0"].done) == (2, 0)
    finish(database, "s-HS-STaR-0", all_but=1)
    running.advance(database, found, at_once=1)
    assert run_names(database) == ["s-HS-STaR-0"]
    finish(database, "s-HS-STaR-0")
    running.advance(database, found, at_once=2)
    assert run_names(database) == ["s-HS-STaR-0", "s-uniform-0", "s-HS-STaR-1"]


def test_seeds_count_when_all_their_strategies_are_done(database: Database, found: Study) -> None:
    running.advance(database, found, at_once=4)
    for run in ("s-HS-STaR-1", "s-uniform-1", "s-HS-STaR-0"):
        finish(database, run)
    states = running.advance(database, found, at_once=4)
    assert running.complete_seeds(found, states) == [1]
    assert not running.finished(found, states)
    finish(database, "s-uniform-0")
    assert running.finished(found, running.advance(database, found, at_once=4))


def test_a_run_that_is_stuck_makes_room_and_is_named_in_the_end(database: Database, found: Study) -> None:
    running.advance(database, found, at_once=1)
    with database.begin() as connection:
        first, _ = rounds.list_iterations(connection, runs.find_run(connection, "s-HS-STaR-0").id)
        add_job(connection, first.round.id, state=JobState.FAILED)
    states = running.advance(database, found, at_once=1)
    assert run_names(database) == ["s-HS-STaR-0", "s-uniform-0"]
    assert running.stuck_runs(found, states) == []
    for run in ("s-uniform-0", "s-HS-STaR-1", "s-uniform-1"):
        finish(database, run)
        states = running.advance(database, found, at_once=1)
    assert running.stuck_runs(found, states) == ["s-HS-STaR-0"]


def test_a_study_may_grow_but_its_recipes_stay(database: Database, tmp_path: Path, found: Study) -> None:
    running.advance(database, found, at_once=1)
    more = study(tmp_path, "seeds = [0, 1]", "seeds = [0, 1, 2]")
    running.check_runs(database, more, tmp_path)
    other = study(tmp_path, 'sampling.strategy = "uniform"', 'pairs.rule = "random"')
    running.check_runs(database, other, tmp_path)  # the run that differs is not made yet
    finish(database, "s-HS-STaR-0")
    fewer = study(tmp_path, "iterations = 2", "iterations = 1")
    assert running.run_finished(fewer, fewer.runs[0], running.advance(database, fewer, at_once=1))
    changed = study(tmp_path, "[strategies.HS-STaR]", "[strategies.HS-STaR]\npairs.rule = 'random'")
    with pytest.raises(ConflictError, match="'s-HS-STaR-0' is there with another recipe"):
        running.check_runs(database, changed, tmp_path)
