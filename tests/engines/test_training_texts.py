"""What a policy is trained on, token by token: one beginning of text, one end of text, two sides."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from hsstar.checkpoints.resolve import resolve
from hsstar.data.training_rows import read_pairs
from hsstar.domain.errors import BadInputError
from hsstar.domain.prompts import PromptFormat
from hsstar.engines.loading import encode_prompts, load_tokenizer
from hsstar.engines.prompts import prompt_renderer
from hsstar.engines.training.contract import TrainingExample, TrainingPair, TrainingRow
from hsstar.engines.training.data import TrainingData, tokenise
from tests.engines import tiny
from tests.engines.trainings import EXAMPLES, ONE_STEP, PAIRS, Train

TURN_END = "<|im_end|>"


def demo_tokenizer() -> Any:
    """The demo policy's own, which has a beginning-of-text token and adds none."""
    return load_tokenizer(resolve("builtin:demo-policy"))


def ending_tokenizer() -> PreTrainedTokenizerFast:
    """One that puts a token in front of every text and another behind it, as some of Llama's kind do."""
    tokenizer = tiny.beginning_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{tiny.BEGIN} $A {tiny.END}", special_tokens=[(tiny.END, 0), (tiny.BEGIN, 1)]
    )
    return tokenizer


def one_mark_tokenizer() -> PreTrainedTokenizerFast:
    """One whose beginning of text is its end of text, as GPT-2's."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tiny.qwen_tokenizer().backend_tokenizer, bos_token=tiny.END, eos_token=tiny.END
    )


TOKENIZERS = {
    "demo": demo_tokenizer,
    "qwen": tiny.qwen_tokenizer,
    "beginning": tiny.beginning_tokenizer,
    "ending": ending_tokenizer,
    "one mark": one_mark_tokenizer,
}


WITH_BEGINNING = [name for name in TOKENIZERS if name != "qwen"]


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return TOKENIZERS[request.param]()


def pair_of(
    tokenizer: Any, prompt: str, chosen: str, rejected: str, *, limit: int = 200, **cut: bool
) -> tuple[Any, Any, Any]:
    """The tokens of the only row that a pair becomes."""
    (row,) = tokenise("dpo", [TrainingPair(prompt, chosen, rejected, **cut)], tokenizer, limit).rows
    return row["prompt_ids"], row["chosen_ids"], row["rejected_ids"]


def plain(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def test_one_token_ends_a_response_however_many_the_text_brings(tokenizer: Any) -> None:
    end = tokenizer.eos_token
    expected = [*plain(tokenizer, "3*2=6"), tokenizer.eos_token_id]
    for text in ("3*2=6", f"3*2=6{end}", f"3*2=6{end}{end}", f"3*2=6{end}and more"):
        assert pair_of(tokenizer, "3*2=?\n", text, "no")[1] == expected
        assert pair_of(tokenizer, "3*2=?\n", "no", text)[2] == expected
        (row,) = tokenise("sft", [TrainingExample("3*2=?\n", text)], tokenizer, 200).rows
        assert [token for token in row["labels"] if token != -100] == expected


def test_a_response_that_was_cut_at_its_limit_has_no_end(tokenizer: Any) -> None:
    tokens = plain(tokenizer, "3*2=6")
    for text in ("3*2=6", f"3*2=6{tokenizer.eos_token}"):
        _, chosen, rejected = pair_of(tokenizer, "3*2=?\n", text, "no", chosen_cut=True)
        assert (chosen, rejected[-1]) == (tokens, tokenizer.eos_token_id)
        _, chosen, rejected = pair_of(tokenizer, "3*2=?\n", "no", text, rejected_cut=True)
        assert (chosen[-1], rejected) == (tokenizer.eos_token_id, tokens)
        (row,) = tokenise("sft", [TrainingExample("3*2=?\n", text, cut=True)], tokenizer, 200).rows
        assert row["input_ids"][-len(tokens) :] == tokens


def test_a_response_that_the_training_cuts_has_no_end_either(tokenizer: Any) -> None:
    prompt = encode_prompts(tokenizer, ["3*2=?\n"])[0]
    _, chosen, rejected = pair_of(tokenizer, "3*2=?\n", "666666", "no", limit=len(prompt) + 4)
    assert chosen == plain(tokenizer, "666666")[:4]
    assert rejected[-1] == tokenizer.eos_token_id


@pytest.mark.parametrize("kind", WITH_BEGINNING)
def test_a_prompt_begins_once_and_does_not_end(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]()
    begin = tokenizer.bos_token
    (bare,) = encode_prompts(tokenizer, ["3*2=?\n"])
    assert bare[-1] != tokenizer.eos_token_id
    for text in (f"{begin}3*2=?\n", f"{begin}{begin}{begin}3*2=?\n"):
        prompt, chosen, _ = pair_of(tokenizer, text, "yes", f"{begin}no")
        assert prompt[0] == tokenizer.bos_token_id
        assert prompt.count(tokenizer.bos_token_id) == 1
        assert prompt[-len(plain(tokenizer, "3*2=?\n")) :] == plain(tokenizer, "3*2=?\n")
        assert chosen == [*plain(tokenizer, "yes"), tokenizer.eos_token_id]
        assert encode_prompts(tokenizer, [text]) == [prompt]  # as it is sampled from


@pytest.mark.parametrize("kind", WITH_BEGINNING)
def test_a_response_does_not_begin_a_text(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]()
    begin = tokenizer.bos_token
    _, chosen, rejected = pair_of(tokenizer, "3*2=?\n", f"{begin}six", f"{begin}{begin}no")
    assert chosen == [*plain(tokenizer, "six"), tokenizer.eos_token_id]
    assert rejected == [*plain(tokenizer, "no"), tokenizer.eos_token_id]


@pytest.mark.parametrize("template", ["{{ bos_token }}", "{{ bos_token }}{{ bos_token }}", ""])
@pytest.mark.parametrize("kind", ["demo", "beginning", "ending"])
def test_a_template_that_brings_the_beginning_changes_nothing(
    tmp_path: Path, template: str, kind: str
) -> None:
    tokenizer = TOKENIZERS[kind]()
    tokenizer.chat_template = template + "Q: {{ messages[0].content }}\nA: "
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["Qwen2ForCausalLM"]}))
    prompt, _, _ = pair_of(
        load_tokenizer(tmp_path), prompt_renderer(PromptFormat("chat"), tmp_path)("1+1"), "a", "b"
    )
    begins = 1 if template or kind != "demo" else 0
    assert prompt.count(tokenizer.bos_token_id) == begins == (prompt[0] == tokenizer.bos_token_id)
    assert tokenizer.eos_token_id not in prompt


def test_marks_of_turns_inside_a_prompt_stay() -> None:
    """Where the beginning of text begins every turn and the end of text ends it, as SmolLM2's."""
    tokenizer = tiny.qwen_tokenizer(extra=("<|im_start|>", TURN_END))
    tokenizer.bos_token, tokenizer.eos_token = "<|im_start|>", TURN_END
    text = f"<|im_start|>user\n1+1{TURN_END}\n<|im_start|>assistant\n"
    prompt, chosen, _ = pair_of(tokenizer, text, f"2{TURN_END}\n", "3")
    assert (prompt.count(tokenizer.bos_token_id), prompt.count(tokenizer.eos_token_id)) == (2, 1)
    assert chosen == [*plain(tokenizer, "2"), tokenizer.eos_token_id]


def test_every_token_that_ends_a_sample_ends_a_response() -> None:
    """The ends of the generation config, of which the tokenizer's own is learnt."""
    tokenizer = tiny.qwen_tokenizer(extra=(TURN_END,))
    turn_end = tokenizer.convert_tokens_to_ids(TURN_END)
    rows = [TrainingExample("1+1", f"2{TURN_END}\n{tiny.END}")]
    (row,) = tokenise("sft", rows, tokenizer, 50, [turn_end]).rows
    assert row["input_ids"] == [*plain(tokenizer, "1+12"), tokenizer.eos_token_id]


def left_out(data: TrainingData) -> tuple[int, dict[str, int]]:
    return len(data.rows), data.left_out


def test_rows_that_teach_nothing_are_left_out_and_counted(tokenizer: Any) -> None:
    end = tokenizer.eos_token
    good = TrainingPair("1+1\n", "2", "3")
    pairs: dict[str, list[TrainingRow]] = {
        "equal responses": [
            TrainingPair("1+1\n", "2", "2"),
            TrainingPair("1+1\n", "2", f"2{end}"),
            TrainingPair("1+1\n", "2", "2", rejected_cut=True),
            TrainingPair("1+1\n", "2" * 100 + "3", "2" * 100 + "4"),  # equal as far as they are read
        ],
        "empty response": [
            TrainingPair("1+1\n", "", "3"),
            TrainingPair("1+1\n", "2", " \n\n"),
            TrainingPair("1+1\n", end, "3"),
            TrainingPair("1+1\n", f" {end}2", "3"),
        ],
        "empty prompt": [TrainingPair("", "2", "3"), TrainingPair(" \n", "2", "3")],
    }
    rows = [row for of_reason in pairs.values() for row in of_reason]
    limit = len(encode_prompts(tokenizer, ["1+1\n"])[0]) + 20
    counts = {reason: len(of_reason) for reason, of_reason in pairs.items()}
    assert left_out(tokenise("dpo", [good, *rows], tokenizer, limit)) == (1, counts)
    examples = [TrainingExample("1+1\n", text) for text in ("2", "", "\n", end)]
    assert left_out(tokenise("sft", examples, tokenizer, limit)) == (1, {"empty response": 3})


def test_a_long_blank_beginning_is_no_empty_response() -> None:
    rows = [TrainingExample("1+1", " " * 100 + "2")]
    assert left_out(tokenise("sft", rows, tiny.qwen_tokenizer(), 200)) == (1, {})


@pytest.mark.slow
@pytest.mark.parametrize("rows", [PAIRS, EXAMPLES])
@pytest.mark.parametrize("changes", [{"use_cache": True}, {"use_cache": False}, {"pad_token_id": 3}])
def test_the_configuration_stays_the_parents(
    train: Train, tmp_path: Path, policy: Path, rows: Any, changes: dict[str, Any]
) -> None:
    parent = tiny.tiny_policy(tmp_path / "parent", **changes)
    settings = {"gradient_checkpointing": True, "save_dtype": "bfloat16"}
    report = train("M1", rows, replace(ONE_STEP, **settings), policy=parent)  # type: ignore[arg-type]
    before, after = (
        json.loads((folder / "config.json").read_text()) for folder in (parent, report.checkpoint)
    )
    assert after == before | {"dtype": "bfloat16"}


CASES = Path(__file__).parents[1] / "unit" / "field_files"


def pairs_of_case(name: str) -> list[TrainingRow]:
    """The pairs of a file whose prompts are texts."""
    pairs = read_pairs([CASES / f"{name}.jsonl"], Counter())
    return [TrainingPair(str(pair.prompt), pair.chosen, pair.rejected) for pair in pairs]


@pytest.mark.parametrize(
    ("name", "reasons"),
    [("dpo_identical", {"equal responses"}), ("dpo_empty", {"empty response", "empty prompt"})],
)
def test_cases_that_teach_nothing_are_refused_with_their_counts(name: str, reasons: set[str]) -> None:
    rows = pairs_of_case(name)
    with pytest.raises(BadInputError, match="nothing to train on: ") as refusal:
        tokenise("dpo", rows, demo_tokenizer(), 512)
    counts = dict(part.split(" × ")[::-1] for part in str(refusal.value).partition(": ")[2].split(", "))
    assert counts.keys() == reasons
    assert sum(map(int, counts.values())) == len(rows)


def test_the_case_whose_texts_bring_their_end_has_one_end() -> None:
    tokenizer = demo_tokenizer()
    data = tokenise("dpo", pairs_of_case("dpo_eos"), tokenizer, 512)
    assert (len(data.rows), data.left_out) == (len(pairs_of_case("dpo_eos")), {})
    for row in data.rows:
        for part in ("chosen_ids", "rejected_ids"):
            assert row[part].count(tokenizer.eos_token_id) == 1 == (row[part][-1] == tokenizer.eos_token_id)
        assert tokenizer.eos_token_id not in row["prompt_ids"]
