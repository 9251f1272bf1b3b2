"""Tiny random checkpoints in the layouts that real ones are published in."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2ForSequenceClassification,
)
from transformers.models.qwen2 import Qwen2Tokenizer

from hsstar.engines.sampling.contract import Completion, Sampler, SampleRequest, SamplingParameters

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
_POLICY_SIZES = {"num_attention_heads": 1}
"""One head of size 32, the smallest that vLLM runs."""


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


def _written(folder: Path, tokenizer: Any, build: Callable[[], Any], seed: int) -> Path:
    torch.manual_seed(seed)
    build().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_policy(folder: Path, *, seed: int = 0, tokenizer: Any = None, **changes: Any) -> Path:
    """Writes a random Qwen2 policy with its tokenizer."""
    tokenizer = tokenizer or qwen_tokenizer()
    configuration = qwen_configuration(tokenizer, **(_POLICY_SIZES | changes))
    return _written(folder, tokenizer, lambda: Qwen2ForCausalLM(configuration), seed)


def tiny_policy_without_end(folder: Path) -> Path:
    """Writes a random Qwen2 policy that knows of no end-of-text token at all."""
    return tiny_policy(
        folder, tokenizer=PreTrainedTokenizerFast(tokenizer_object=qwen_tokenizer().backend_tokenizer)
    )


def tiny_llama_policy(folder: Path) -> Path:
    """Writes a random Llama policy whose tokenizer puts a beginning-of-text token in front."""
    tokenizer = beginning_tokenizer()
    sizes = _SIZES | _POLICY_SIZES
    configuration = LlamaConfig(vocab_size=len(tokenizer), eos_token_id=0, bos_token_id=1, **sizes)
    return _written(folder, tokenizer, lambda: LlamaForCausalLM(configuration), 0)


_MESSAGE = "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
CHAT_TEMPLATE = "{% for message in messages %}" + _MESSAGE + "{% endfor %}"
STEP_END = "<extra_0>"


def reward_backbone(tokenizer: Any, *, seed: int, **changes: Any) -> Qwen2ForCausalLM:
    """A random causal language model that a reward head is put on."""
    torch.manual_seed(seed)
    return Qwen2ForCausalLM(qwen_configuration(tokenizer, tie_word_embeddings=False, **changes))


def write_reward_model(
    folder: Path, tokenizer: Any, model: Any, tensors: dict[str, Tensor], layout: str
) -> Path:
    """Writes a reward model's tensors in one of the layouts `single`, `sharded`, `bin`, `sharded-bin`."""
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    names = sorted(tensors)
    parts = [names] if "sharded" not in layout else [names[0::3], names[1::3], names[2::3]]
    stem, suffix = ("pytorch_model", "bin") if "bin" in layout else ("model", "safetensors")
    placed: dict[str, str] = {}
    for number, part in enumerate(parts, start=1):
        shard = f"-{number:05}-of-{len(parts):05}" if len(parts) > 1 else ""
        file = folder / f"{stem}{shard}.{suffix}"
        content = {name: tensors[name] for name in part}
        torch.save(content, file) if suffix == "bin" else save_file(content, file, {"format": "pt"})
        placed |= dict.fromkeys(part, file.name)
    if len(parts) > 1:
        index = {"metadata": {}, "weight_map": placed}
        (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))
    return folder


def tiny_skywork(
    folder: Path, *, layout: str = "single", prefix: str = "", seed: int = 1, **changes: Any
) -> Path:
    """Writes a random Skywork-o1-Open-PRM; `prefix` stands before the language model's tensor names."""
    tokenizer = qwen_tokenizer()
    model = reward_backbone(tokenizer, seed=seed, **changes)
    width = model.config.hidden_size
    tensors = {prefix + name: tensor for name, tensor in model.state_dict().items()}
    tensors |= {"v_head.summary.weight": torch.randn(1, width), "v_head.summary.bias": torch.randn(1)}
    return write_reward_model(folder, tokenizer, model, tensors, layout)


def tiny_qwen_math(folder: Path, *, layout: str = "single", seed: int = 1, **changes: Any) -> Path:
    """Writes a random Qwen2.5-Math-PRM, which has no vocabulary head, and names code that must not run."""
    tokenizer = qwen_tokenizer(extra=("<|im_start|>", "<|im_end|>", STEP_END))
    tokenizer.chat_template = CHAT_TEMPLATE
    model = reward_backbone(tokenizer, seed=seed, max_position_embeddings=512, **changes)
    width = model.config.hidden_size
    tensors = {name: tensor for name, tensor in model.state_dict().items() if name != "lm_head.weight"} | {
        "score.0.weight": torch.randn(width, width),
        "score.0.bias": torch.randn(width),
        "score.2.weight": torch.randn(2, width),
        "score.2.bias": torch.randn(2),
    }
    model.config.architectures = ["Qwen2ForProcessRewardModel"]
    code = "modeling_qwen2_rm.Qwen2ForProcessRewardModel"
    model.config.auto_map = dict.fromkeys(("AutoModel", "AutoModelForCausalLM"), code)
    (folder / "modeling_qwen2_rm.py").write_text("raise AssertionError('code of a checkpoint has run')\n")
    return write_reward_model(folder, tokenizer, model, tensors, layout)


def tiny_classifier(folder: Path, *, labels: int, chat: bool = False, pad: bool = True) -> Path:
    """Writes a random Qwen2 classifier, with or without a chat template and a padding token."""
    tokenizer = qwen_tokenizer(pad=pad)
    tokenizer.chat_template = CHAT_TEMPLATE if chat else None
    padding = tokenizer.pad_token_id if pad else None
    configuration = qwen_configuration(tokenizer, num_labels=labels, pad_token_id=padding)
    return _written(folder, tokenizer, lambda: Qwen2ForSequenceClassification(configuration), 2)


def tiny_bert_classifier(folder: Path, *, labels: int) -> Path:
    """Writes a random BERT classifier, which attends both ways and reads pairs of texts."""
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    vocabulary = {token: number for number, token in enumerate([*special, *_LETTERS, " ", "\n"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    sizes = {key: value for key, value in _SIZES.items() if key != "num_key_value_heads"}
    configuration = BertConfig(vocab_size=len(vocabulary), pad_token_id=0, num_labels=labels, **sizes)
    reader = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    return _written(folder, reader, lambda: BertForSequenceClassification(configuration), 3)


def draw_all(
    sampler: Sampler, requests: Sequence[SampleRequest], parameters: SamplingParameters
) -> list[Completion | str]:
    """The results of a draw in the order of the requests; there has to be one for each."""
    pairs = list(sampler.draw(requests, parameters))
    results = dict(pairs)
    assert len(results) == len(pairs)
    assert sorted(results) == list(range(len(requests)))
    return [results[index] for index in range(len(requests))]


def fail_once(loop: Any, error: Exception) -> None:
    """Makes the next forward pass of the vLLM engine of an `EngineLoop` fail."""
    executor = loop.call(lambda engine: engine.model_executor)
    execute = executor.execute_model

    def fail(*_: Any, **__: Any) -> None:
        executor.execute_model = execute
        raise error

    executor.execute_model = fail
