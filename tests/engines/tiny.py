"""Tiny random checkpoints in the layouts that real ones are published in."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from transformers.models.qwen2 import Qwen2Tokenizer

END = "<|endoftext|>"
BEGIN = "<begin>"
_LETTERS = [chr(code) for code in range(ord("!"), ord("~") + 1)]
_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
}


def qwen_tokenizer(*, pad: bool = True, extra: tuple[str, ...] = ()) -> Qwen2Tokenizer:
    """Qwen2's own tokenizer without merges: one token per ASCII character."""
    letters = [END, *extra, *_LETTERS, "Ġ", "Ċ"]  # the last two are byte-level space and line feed
    return Qwen2Tokenizer(
        vocab={letter: number for number, letter in enumerate(letters)},
        merges=[],
        pad_token=END if pad else None,
        additional_special_tokens=list(extra),
    )


def beginning_tokenizer() -> PreTrainedTokenizerFast:
    """One token per character, and a beginning-of-text token that the tokenizer adds by itself."""
    vocabulary = {token: number for number, token in enumerate([END, BEGIN, *_LETTERS, " ", "\n"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, vocabulary[BEGIN])]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, bos_token=BEGIN)


def qwen_configuration(tokenizer: Any, **changes: Any) -> Qwen2Config:
    """A Qwen2 of some thousand parameters over the tokenizer's vocabulary."""
    settings = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    return Qwen2Config(**(_SIZES | settings | changes))


def tiny_policy(folder: Path, *, seed: int = 0, pad: bool = True, **changes: Any) -> Path:
    """Writes a random Qwen2 policy with its tokenizer."""
    tokenizer = qwen_tokenizer(pad=pad)
    torch.manual_seed(seed)
    Qwen2ForCausalLM(qwen_configuration(tokenizer, **changes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_llama_policy(folder: Path, *, seed: int = 0) -> Path:
    """Writes a random Llama policy whose tokenizer puts a beginning-of-text token in front."""
    tokenizer = beginning_tokenizer()
    torch.manual_seed(seed)
    configuration = LlamaConfig(vocab_size=len(tokenizer), eos_token_id=0, bos_token_id=1, **_SIZES)
    LlamaForCausalLM(configuration).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
