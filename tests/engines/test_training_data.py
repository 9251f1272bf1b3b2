"""Training reads a prompt exactly as sampling reads it, and drops nothing silently."""

import pytest
from transformers.models.qwen2 import Qwen2Tokenizer

from hsstar.domain.errors import BadInputError
from hsstar.engines.loading import encode_prompts
from hsstar.engines.training.contract import TrainingExample, TrainingPair
from hsstar.engines.training.data import tokenise
from tests.engines import tiny


def test_the_prompt_is_tokenised_as_for_sampling_and_the_response_ends() -> None:
    tokenizer = tiny.qwen_tokenizer()
    [row] = tokenise("dpo", [TrainingPair("1+1=?\n", "two\n\nend", "one")], tokenizer, 100).rows
    assert row["prompt_ids"] == encode_prompts(tokenizer, ["1+1=?\n"])[0]
    responses = [tokenizer.decode(row[name]) for name in ("chosen_ids", "rejected_ids")]
    assert responses == ["two\n\nend" + tiny.END, "one" + tiny.END]


def test_the_beginning_of_text_token_stands_in_front_once() -> None:
    tokenizer = tiny.beginning_tokenizer()
    [row] = tokenise("dpo", [TrainingPair("ab", "cd", "ef")], tokenizer, 100).rows
    assert row["prompt_ids"] == encode_prompts(tokenizer, ["ab"])[0]
    assert row["prompt_ids"].count(tokenizer.bos_token_id) == 1
    assert tokenizer.bos_token_id not in row["chosen_ids"] + row["rejected_ids"]


def test_a_token_that_merges_over_the_border_leaves_the_prompt_whole() -> None:
    letters = {letter: n for n, letter in enumerate([tiny.END, "a", "b", "Ċ", "ĊĊ"])}
    tokenizer = Qwen2Tokenizer(vocab=letters, merges=[("Ċ", "Ċ")])
    assert tokenizer("a\n\nb")["input_ids"] == [1, 4, 2]
    [row] = tokenise("sft", [TrainingExample("a\n", "\nb")], tokenizer, 100).rows
    assert (row["input_ids"], row["labels"]) == ([1, 3, 3, 2, 0], [-100, -100, 3, 2, 0])


def test_long_responses_are_cut_at_the_end_and_counted() -> None:
    pairs = [TrainingPair("p" * 4, "c" * 20, "r" * 3), TrainingPair("p" * 4, "c" * 5, "r" * 5)]
    data = tokenise("dpo", pairs, tiny.qwen_tokenizer(), 10)
    assert [(len(row["chosen_ids"]), len(row["rejected_ids"])) for row in data.rows] == [(6, 4), (6, 6)]
    assert (data.truncated, data.left_out) == (1, 0)


def test_a_prompt_without_room_for_a_response_is_left_out_and_counted() -> None:
    examples = [TrainingExample("p" * 10, "r"), TrainingExample("p", "r" * 30)]
    data = tokenise("sft", examples, tiny.qwen_tokenizer(), 10)
    assert [len(row["input_ids"]) for row in data.rows] == [10]
    assert (data.truncated, data.left_out) == (1, 1)


@pytest.mark.parametrize("pairs", [[], [TrainingPair("p" * 50, "c", "r")]])
def test_nothing_to_train_on_is_an_error(pairs: list[TrainingPair]) -> None:
    with pytest.raises(BadInputError, match="nothing to train on"):
        tokenise("dpo", pairs, tiny.qwen_tokenizer(), 20)
