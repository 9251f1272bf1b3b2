"""`hsstar train` and `hsstar data`: what they pass to a trainer, and what they say of its work."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from hsstar.checkpoints.resolve import resolve
from hsstar.domain.seeds import derived_seed
from hsstar.engines import registry
from hsstar.engines.loading import load_tokenizer
from hsstar.engines.training import contract
from hsstar.engines.training.resume import WRITING, publish
from tests.cli.conftest import Called, CommandLine

DEMO = "builtin:demo-policy"
CASES = Path(__file__).parents[1] / "unit" / "field_files"
PAIRS: list[dict[str, Any]] = [{"prompt": f"p{n}", "chosen": f"c{n}", "rejected": f"r{n}"} for n in range(3)]
SOLUTIONS = [
    {"problem": "1+1=?", "solution": "One and one.\n\nSo \\boxed{2}", "answer": "2"},
    {"problem": "1+2=?", "solution": "\\boxed{3}", "answer": "3"},
    {"problem": "2+2=?", "solution": "", "answer": "4"},
]
METRICS = {"loss": 0.25, "learning_rate": 1e-3, "tokens_per_second": 1234.0}


class CopyingTrainer:
    """Copies the policy, in three steps, and remembers its tasks and how it was launched."""

    layout = "one process"
    launches: ClassVar[list[tuple[object, ...]]] = []
    tasks: ClassVar[list[contract.TrainingTask]] = []
    resumed_at: ClassVar[int] = 0
    before_end: ClassVar[Callable[[], None]] = lambda: None

    def __init__(self, *processes: int, device: str, **launch_config: Path) -> None:
        self.launches.append((*processes, device, launch_config))

    def train(
        self, task: contract.TrainingTask, progress: contract.ProgressCallback | None = None
    ) -> contract.TrainingReport:
        self.tasks.append(task)
        assert progress
        progress(contract.TrainingStart(3, self.resumed_at, len(task.rows), 1, {"empty response": 2}, {}))
        for step in (1, 2, 3):
            progress(contract.TrainingStep(step, 3, METRICS))
        type(self).before_end()
        shutil.copytree(task.policy, task.output)
        metrics = METRICS | {"left_out": 2.0, "last/loss": 0.125}
        return contract.TrainingReport(task.output, len(task.rows), 1, 3, metrics)


@pytest.fixture(autouse=True)
def trainer(monkeypatch: pytest.MonkeyPatch) -> type[CopyingTrainer]:
    for name in ("trl", "trl-launched"):
        monkeypatch.setitem(registry.TRAINERS, name, f"{__name__}:CopyingTrainer")
    for memory in ("launches", "tasks"):
        monkeypatch.setattr(CopyingTrainer, memory, [])
    return CopyingTrainer


def train(
    cli: CommandLine, kind: str, data: str, output: str, *options: str, terminal: bool = False
) -> Called:
    """Trains a policy into a folder of the test's."""
    command = ("train", kind, "--data", data, "--output", str(cli.folder / output), *options)
    return cli(*command, terminal=terminal)


def test_pairs_and_options_reach_the_trainer(cli: CommandLine, trainer: type[CopyingTrainer]) -> None:
    data, output = cli.file("pairs.jsonl", *PAIRS), cli.folder / "M1"
    changes = ("--set", "batch_size=8", "--set", "scheduler = linear", "--set", "loss_type='ipo'")
    called = train(cli, "dpo", data, "M1", "--recipe", cli.recipe(), *changes, "--seed", "5")
    step = "loss 0.2500  learning rate 1.00e-03  1,234 tokens/s"
    beginning = "beginning: 3 steps, 3 rows, 1 cut, 2 left out (2 × empty response)"
    end = f"{output}: 3 rows, 1 of them cut, 2 left out, 3 steps, loss 0.25 (last 0.125)\n"
    assert called == Called(0, end, f"{beginning}\nstep 1/3  {step}\nstep 3/3  {step}\n")
    (task,) = trainer.tasks
    assert (task.objective, task.policy) == ("dpo", resolve(DEMO))
    assert task.rows == [contract.TrainingPair(**row) for row in PAIRS]
    settings = task.settings
    assert (settings.batch_size, settings.scheduler, settings.loss_type) == (8, "linear", "ipo")
    assert (settings.learning_rate, settings.beta, settings.maximum_tokens) == (1e-4, 1.0, 256)  # recipe's
    assert settings.seed == derived_seed(5, "train") % 2**31
    readme = (output / "README.md").read_text()
    assert f"| M1 | {DEMO} | by DPO on 3 rows of {data} in 3 optimiser steps | – |" in readme
    assert json.dumps(dataclasses.asdict(settings), indent=2) in readme
    assert Path(cli.recipe()).read_text().strip() in readme
    assert sorted(path.name for path in cli.folder.iterdir()) == ["M1", "pairs.jsonl", "recipe.toml"]
    assert "is not empty; give another folder" in train(cli, "dpo", data, "M1", "--model", DEMO).err
    live = train(cli, "dpo", data, "M2", "--model", DEMO, "--seed", "6", terminal=True).err
    assert live.count("\r\x1b[Kstep ") == 3 and live.endswith(" tokens/s\n")
    assert trainer.launches == [("auto", {})] * 2
    settings = trainer.tasks[-1].settings
    assert (settings.seed, settings.learning_rate) == (derived_seed(6, "train") % 2**31, 5e-7)


JUDGED: list[dict[str, Any]] = [
    {"prompt": f"p{n}", "response": f"r{n}", "label": n % 2 == 0} for n in range(3)
]


def test_judged_responses_and_options_reach_the_trainer(
    cli: CommandLine, trainer: type[CopyingTrainer]
) -> None:
    data = cli.file("judged.jsonl", *JUDGED)
    changes = ("--set", "desirable_weight=1.5", "--set", "batch_size=8")
    called = train(cli, "kto", data, "M1", "--recipe", cli.recipe(), *changes)
    assert called.code == 0, called
    (task,) = trainer.tasks
    assert task.objective == "kto"
    assert task.rows == [
        contract.TrainingVerdict(row["prompt"], row["response"], row["label"]) for row in JUDGED
    ]
    assert (task.settings.desirable_weight, task.settings.batch_size, task.settings.beta) == (1.5, 8, 1.0)
    readme = (cli.folder / "M1" / "README.md").read_text()
    assert f"| M1 | {DEMO} | by KTO on 3 rows of {data} in 3 optimiser steps | – |" in readme


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (JUDGED[:1], (), "all 1 labels are true; KTO needs responses that are false too"),
        (JUDGED[1:2], (), "all 1 labels are false; KTO needs responses that are true too"),
        ([*JUDGED, JUDGED[0] | {"label": "so"}], (), "judged.jsonl:4: expected true or false under label"),
        (PAIRS, (), "judged.jsonl:1: expected rows with prompt, response and label"),
        (
            JUDGED,
            ("--set", "loss_type='ipo'"),
            "objective = 'kto' has a loss of its own; leave loss_type out",
        ),
        (JUDGED, ("--set", "batch_size=1"), "objective = 'kto' needs batch_size and micro_batch_size of 2"),
    ],
)
def test_what_kto_cannot_learn_from_is_refused(
    cli: CommandLine, trainer: type[CopyingTrainer], rows: list[Any], options: tuple[str, ...], message: str
) -> None:
    called = train(cli, "kto", cli.file("judged.jsonl", *rows), "M1", "--model", DEMO, *options)
    assert called.code == 1
    assert message in called.err
    assert not trainer.tasks and not (cli.folder / "M1").exists()


def test_bad_labels_are_left_out_where_asked(cli: CommandLine, trainer: type[CopyingTrainer]) -> None:
    data = cli.file("judged.jsonl", *JUDGED, JUDGED[0] | {"label": "so"})
    called = train(cli, "kto", data, "M1", "--model", DEMO, "--skip-bad")
    assert called.code == 0, called
    assert "1 rows left out:" in called.err and "judged.jsonl:4: " in called.err
    assert len(trainer.tasks[0].rows) == 3


def test_solutions_and_options_reach_the_trainer(cli: CommandLine, trainer: type[CopyingTrainer]) -> None:
    data = cli.file("steps.jsonl", *SOLUTIONS)
    called = train(cli, "init", data, "M0", "--model", DEMO, "--prompt", "bare")
    assert called.code == 0, called
    assert "1 problems without a solution were left out" in called.err
    assert "1 solutions have one step only; see: hsstar data steps" in called.err
    (task,) = trainer.tasks
    assert (task.objective, task.policy) == ("sft", resolve(DEMO))
    assert task.rows == [
        contract.TrainingExample(f"{row['problem']}\n", row["solution"]) for row in SOLUTIONS[:2]
    ]
    settings = task.settings
    assert settings.seed == derived_seed(0, "initialise") % 2**31
    assert (settings.learning_rate, settings.maximum_tokens) == (1e-6, 4096)
    made = f"by supervised fine-tuning on 2 rows of {data} in 3 optimiser steps"
    assert f"| M0 | {DEMO} | {made}" in (cli.folder / "M0" / "README.md").read_text()
    recipe = Path(cli.recipe())
    section = f'\n[initialisation]\nmodel = "{DEMO}"\ndata = "{data}"\nbatch_size = 3\n'
    recipe.write_text(recipe.read_text() + section)
    cli.ok("train", "init", "--recipe", str(recipe), "--output", "again")
    assert trainer.tasks[-1].settings.batch_size == 3
    assert trainer.tasks[-1].rows == trainer.tasks[0].rows  # by the recipe's prompt
    assert train(cli, "init", data, "third", "--model", DEMO).code == 0
    row = trainer.tasks[-1].rows[0]
    assert isinstance(row, contract.TrainingExample) and row.prompt.startswith("Please reason step by step")


def test_an_interrupted_training_is_continued_and_not_mixed_with_another(
    cli: CommandLine, trainer: type[CopyingTrainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        assert "another process is training" in train(cli, "dpo", data, "M1", "--model", DEMO).err
        point = trainer.tasks[-1].resume_point
        assert point
        (point.folder / WRITING).mkdir()
        publish(point, point.folder / WRITING, 1)
        raise KeyboardInterrupt

    data, output = cli.file("pairs.jsonl", *PAIRS), cli.folder / "M1"
    monkeypatch.setattr(trainer, "before_end", staticmethod(interrupt))
    called = train(cli, "dpo", data, "M1", "--model", DEMO)
    assert called.code == 130
    assert "interrupted; the same command continues from the last intermediate checkpoint" in called.err
    assert not output.exists()
    monkeypatch.setattr(trainer, "before_end", staticmethod(lambda: None))
    refused = train(cli, "dpo", data, "M1", "--model", DEMO, "--set", "beta=0.2").err
    assert f"hsstar: an interrupted training of {output} with other data or settings exists" in refused
    monkeypatch.setattr(trainer, "resumed_at", 1)
    continued = train(cli, "dpo", data, "M1", "--model", DEMO)
    assert continued.err.startswith("continuing from step 1: 3 steps, 3 rows, ")
    point = trainer.tasks[-1].resume_point
    assert point and point.checkpoint == point.folder / "step-1"
    assert sorted(path.name for path in cli.folder.iterdir()) == ["M1", "pairs.jsonl"]


def test_several_processes_train_as_the_environment_says(
    cli: CommandLine, trainer: type[CopyingTrainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = cli.folder / "accelerate.yaml"
    config.touch()
    monkeypatch.setenv("HSSTAR_TRAIN_PROCESSES", "3")
    monkeypatch.setenv("HSSTAR_TRAIN_NODES", "2")
    monkeypatch.setenv("HSSTAR_TRAIN_LAUNCHER", "srun --nodes=2")
    monkeypatch.setenv("HSSTAR_ACCELERATE_CONFIG", str(config))
    assert train(cli, "dpo", cli.file("pairs.jsonl", *PAIRS), "M1", "--model", DEMO).code == 0
    options = {"nodes": 2, "node_launcher": "srun --nodes=2", "launch_config": config}
    assert trainer.launches == [(3, "auto", options)]


def test_solutions_are_brought_into_steps_or_named_with_the_reason(cli: CommandLine) -> None:
    single = [{"problem": f"{n}=?", "solution": f"\\boxed{{{n}}}", "answer": str(n)} for n in range(14)]
    data = cli.file("d.jsonl", *single, SOLUTIONS[0])
    output, refused = cli.folder / "steps.jsonl", cli.folder / "refused.jsonl"
    called = cli("data", "steps", data, "--format=math", f"--output={output}", f"--refused={refused}")
    assert (called.code, called.out) == (0, "")
    counts, reasons = called.err.splitlines()
    assert counts == "1 solutions in steps, 14 left out"
    assert reasons.startswith("  one step only: 14 (1, 2, 3, ")
    assert reasons.endswith("12 and 2 more (--refused FILE names all))")
    row = json.loads(output.read_text())
    assert (row["query"], row["resp"].split("\n\n")[0]) == ("1+1=?", "One and one.")
    assert [json.loads(line)["reason"] for line in refused.open()] == ["one step only"] * 14
    assert cli.ok("data", "steps", data) == output.read_text()
    broken = cli.file("e.jsonl", SOLUTIONS[0], {"problem": 5, "solution": "a"}, SOLUTIONS[0])
    assert "e.jsonl:2: expected text under problem" in cli.refused("data", "steps", broken)
    skipped = cli("data", "steps", broken, "--skip-bad=1")
    assert [json.loads(line)["resp"] for line in skipped.out.splitlines()] == [row["resp"]] * 2
    assert "e.jsonl:2: expected text under problem" in skipped.err
    mapped = cli.file("f.jsonl", {"q": "1+1=?", "s": {"text": SOLUTIONS[0]["solution"]}})
    paths = ("--map", "statement=q", "--map", "solution=s.text")
    assert json.loads(cli.ok("data", "steps", mapped, *paths))["resp"] == row["resp"]


@pytest.fixture
def chat_model(alone: CommandLine) -> str:
    """The demo's policy with a chat template."""
    folder = shutil.copytree(resolve(DEMO), alone.folder / "chat")
    template = "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}{% endfor %}<assistant>"
    (folder / "chat_template.jinja").write_text("{{ bos_token }}" + template)
    return str(folder)


@pytest.mark.parametrize("name", ["dpo_conv", "dpo_implicit"])
def test_conversations_are_rendered_by_the_models_own_template(
    cli: CommandLine, trainer: type[CopyingTrainer], chat_model: str, name: str
) -> None:
    file = CASES / f"{name}.jsonl"
    assert train(cli, "dpo", str(file), "M1", "--model", chat_model).code == 0
    (task,) = trainer.tasks
    begin = load_tokenizer(Path(chat_model)).bos_token
    assert len(task.rows) == len(file.read_text().splitlines())
    for row in task.rows:
        assert isinstance(row, contract.TrainingPair)
        assert row.prompt == f"{begin}<user>3*2*2=?\n<assistant>"
        assert (row.chosen[-11:], row.rejected[-11:]) == (" \\boxed{12}", " \\boxed{10}")
    refused = train(cli, "dpo", str(file), "M2", "--model", DEMO).err
    assert (
        "the model has no chat template, which conversations need (or --prompt, for one question" in refused
    )
    assert train(cli, "dpo", str(file), "M2", "--model", DEMO, "--prompt", "bare").code == 0
    row = trainer.tasks[-1].rows[0]
    assert isinstance(row, contract.TrainingPair) and row.prompt == "3*2*2=?\n\n"


def test_every_answer_of_a_conversation_is_learnt(
    cli: CommandLine, trainer: type[CopyingTrainer], chat_model: str
) -> None:
    roles = ("user", "assistant") * 2
    turns = [{"role": role, "content": text} for role, text in zip(roles, "qapb", strict=True)]
    data = cli.file("chats.jsonl", *[{"messages": turns}] * 2)
    assert train(cli, "sft", data, "M1", "--model", chat_model, "--set", "batch_size=2").code == 0
    (task,) = trainer.tasks
    begin = load_tokenizer(Path(chat_model)).bos_token
    first = contract.TrainingExample(f"{begin}<user>q<assistant>", "a")
    second = contract.TrainingExample(f"{begin}<user>q<assistant>a<user>p<assistant>", "b")
    assert (task.objective, list(task.rows)) == ("sft", [first, second] * 2)
    assert (task.settings.batch_size, task.settings.learning_rate) == (2, 5e-7)
    refused = train(cli, "sft", data, "M2", "--model", chat_model, "--prompt", "bare").err
    assert "--prompt bare renders one question, and a row is a conversation of several turns" in refused


def test_cut_responses_are_left_out_unless_the_recipe_keeps_them(
    cli: CommandLine, trainer: type[CopyingTrainer]
) -> None:
    cut = PAIRS[0] | {"chosen_finish_reason": "length", "rejected_finish_reason": "length"}
    data = cli.file("pairs.jsonl", cut, *PAIRS[1:])
    called = train(cli, "dpo", data, "M1", "--model", DEMO)
    assert "1 pairs whose chosen response was cut at its limit were left out" in called.err
    assert list(trainer.tasks[-1].rows) == [contract.TrainingPair(**row) for row in PAIRS[1:]]
    recipe = Path(cli.recipe())
    recipe.write_text(recipe.read_text() + '\n[pairs]\ncut = "keep"\n')
    assert train(cli, "dpo", data, "M2", "--recipe", str(recipe)).code == 0
    kept = contract.TrainingPair(**PAIRS[0], chosen_cut=True, rejected_cut=True)
    assert trainer.tasks[-1].rows[0] == kept
    rows = cli.file("rows.jsonl", PAIRS[0], {"prompt": "q", "chosen": 5, "rejected": "r"}, PAIRS[1])
    assert "rows.jsonl:2: expected text under chosen" in train(cli, "dpo", rows, "M4", "--model", DEMO).err
    skipped = train(cli, "dpo", rows, "M4", "--model", DEMO, "--skip-bad")
    assert "1 rows left out:\n  " in skipped.err
    assert list(trainer.tasks[-1].rows) == [contract.TrainingPair(**row) for row in PAIRS[:2]]
    only = cli.file("only.jsonl", cut)
    message = "holds nothing to learn from: 1 pairs whose chosen response was cut at its limit"
    assert message in train(cli, "dpo", only, "M3", "--model", DEMO).err


def test_thoughts_that_the_template_opens_are_not_opened_twice(
    cli: CommandLine, trainer: type[CopyingTrainer], chat_model: str
) -> None:
    with (Path(chat_model) / "chat_template.jinja").open("a") as template:
        template.write("<think>{{ '\\n' }}")
    said = ("<think>\nhm\n</think>\n\n2", "\n<think>hm</think>3", "4 <think>")
    asked = {"role": "user", "content": "q"}
    rows = [{"messages": [asked, {"role": "assistant", "content": text}]} for text in said]
    assert train(cli, "sft", cli.file("chats.jsonl", *rows), "M1", "--model", chat_model).code == 0
    learnt = [row for row in trainer.tasks[-1].rows if isinstance(row, contract.TrainingExample)]
    assert [row.response for row in learnt] == ["hm\n</think>\n\n2", "hm</think>3", "4 <think>"]
    assert all(row.prompt.endswith("<assistant><think>\n") for row in learnt)
