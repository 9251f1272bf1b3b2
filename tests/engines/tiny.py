"""Tiny random checkpoints in the layouts that real ones are published in."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor
from transformers import BertConfig, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config
from transformers.models.bert import BertForSequenceClassification
from transformers.models.llama import LlamaForCausalLM
from transformers.models.qwen2 import Qwen2ForCausalLM, Qwen2ForSequenceClassification, Qwen2Tokenizer

END = "<|endoftext|>"
BEGIN = "<begin>"
_LETTERS = [chr(code) for code in range(ord("!"), ord("~") + 1)]
_WIDTHS = {"hidden_size": 32, "intermediate_size": 64, "max_position_embeddings": 256}
_LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
_SIZES: dict[str, Any] = _WIDTHS | _LAYERS | {"initializer_range": 0.3}
_POLICY_SIZES = {"num_attention_heads": 1}
"""One head of size 32, the smallest that vLLM runs."""


def qwen_tokenizer(
    *, pad: bool = True, extra: tuple[str, ...] = (), words: tuple[str, ...] = ()
) -> Qwen2Tokenizer:
    """Qwen2's own tokenizer without merges: one token per ASCII character; it only writes `words`."""
    letters = [END, *extra, *words, *_LETTERS, "Ġ", "Ċ"]  # the last two are byte-level space and line feed
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    special = {"pad_token": END if pad else None, "additional_special_tokens": list(extra)}
    return Qwen2Tokenizer(vocab=vocabulary, merges=[], **special)


def _character_tokenizer(special: list[str], unknown: str, **templates: str) -> tuple[Tokenizer, int]:
    """One token per character after the special ones, which stand where the templates say; and how many."""
    vocabulary = {token: number for number, token in enumerate([*special, *_LETTERS, " ", "\n"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        **templates, special_tokens=[(token, vocabulary[token]) for token in special]
    )
    return tokenizer, len(vocabulary)


def beginning_tokenizer() -> PreTrainedTokenizerFast:
    """One token per character, and a beginning-of-text token that the tokenizer adds by itself."""
    tokenizer, _ = _character_tokenizer([END, BEGIN], "?", single=f"{BEGIN} $A")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, bos_token=BEGIN)


def qwen_configuration(tokenizer: Any, **changes: Any) -> Qwen2Config:
    """A Qwen2 of some thousand parameters over the tokenizer's vocabulary."""
    settings = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    return Qwen2Config(**(_SIZES | settings | changes))


def written(folder: Path, tokenizer: Any, build: Callable[[], Any], seed: int) -> Path:
    """Writes a model that is random by this seed, and its tokenizer."""
    torch.manual_seed(seed)
    build().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_policy(folder: Path, *, seed: int = 0, tokenizer: Any = None, **changes: Any) -> Path:
    """Writes a random Qwen2 policy with its tokenizer."""
    tokenizer = tokenizer or qwen_tokenizer()
    configuration = qwen_configuration(tokenizer, **(_POLICY_SIZES | changes))
    return written(folder, tokenizer, lambda: Qwen2ForCausalLM(configuration), seed)


JUDGED = ("VERDICT:Ġcorrect", "VERDICT:Ġincorrect")


def tiny_judge(folder: Path) -> Path:
    """Writes a policy that finds a response correct if it begins with 7, and any other incorrect.

    Its chat template puts that character last, and only the last token decides the next.
    """
    tokenizer = qwen_tokenizer(words=JUDGED)
    tokenizer.chat_template = (
        "{{ messages[0].content }}{{ messages[0].content.split(' RESPONSE]')[1].strip()[0] }}"
    )
    sizes = {"hidden_size": 128, "max_position_embeddings": 4096, "tie_word_embeddings": False}
    model = Qwen2ForCausalLM(qwen_configuration(tokenizer, **(_POLICY_SIZES | sizes)))
    seven, end, correct, incorrect = tokenizer.convert_tokens_to_ids(["7", END, *JUDGED])
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weights.zero_()
        embedded, head = model.model.embed_tokens.weight, model.lm_head.weight
        embedded.copy_(torch.eye(*embedded.shape))
        head.zero_()
        head[incorrect] = 1.0
        head[correct, seven] = head[end, correct] = head[end, incorrect] = 2.0
    return written(folder, tokenizer, lambda: model, 0)


def tiny_policy_without_end(folder: Path) -> Path:
    """Writes a random Qwen2 policy that knows of no end-of-text token at all."""
    endless = PreTrainedTokenizerFast(tokenizer_object=qwen_tokenizer().backend_tokenizer)
    return tiny_policy(folder, tokenizer=endless)


def tiny_llama_policy(folder: Path) -> Path:
    """Writes a random Llama policy whose tokenizer puts a beginning-of-text token in front."""
    tokenizer = beginning_tokenizer()
    special = {"vocab_size": len(tokenizer), "eos_token_id": 0, "bos_token_id": 1}
    configuration = LlamaConfig(**(_SIZES | _POLICY_SIZES | special))
    return written(folder, tokenizer, lambda: LlamaForCausalLM(configuration), 0)


_MESSAGE = "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
CHAT_TEMPLATE = "{% for message in messages %}" + _MESSAGE + "{% endfor %}"
STEP_END = "<extra_0>"


def reward_backbone(tokenizer: Any, *, seed: int, **changes: Any) -> Qwen2ForCausalLM:
    """A random causal language model that a reward head is put on."""
    torch.manual_seed(seed)
    return Qwen2ForCausalLM(qwen_configuration(tokenizer, tie_word_embeddings=False, **changes))


def _write_reward_model(
    folder: Path, tokenizer: Any, model: Any, tensors: dict[str, Tensor], layout: str
) -> Path:
    """Writes a reward model's tensors in one of the layouts `single`, `sharded`, `bin`, `sharded-bin`."""
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    names = sorted(tensors)
    parts = [names[start::3] for start in range(3)] if "sharded" in layout else [names]
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


def write_skywork(folder: Path, tokenizer: Any, model: Any, layout: str = "single", prefix: str = "") -> Path:
    """Writes a model with a random value head; `prefix` stands before the language model's tensor names."""
    width = model.config.hidden_size
    tensors = {prefix + name: tensor for name, tensor in model.state_dict().items()}
    tensors |= {"v_head.summary.weight": torch.randn(1, width), "v_head.summary.bias": torch.randn(1)}
    return _write_reward_model(folder, tokenizer, model, tensors, layout)


def tiny_skywork(
    folder: Path, *, layout: str = "single", prefix: str = "", seed: int = 1, **changes: Any
) -> Path:
    """Writes a random Skywork-o1-Open-PRM."""
    tokenizer = qwen_tokenizer()
    model = reward_backbone(tokenizer, seed=seed, **changes)
    return write_skywork(folder, tokenizer, model, layout, prefix)


def tiny_qwen_math(folder: Path, *, layout: str = "single", seed: int = 1, **changes: Any) -> Path:
    """Writes a random Qwen2.5-Math-PRM, which has no vocabulary head, and names code that must not run."""
    tokenizer = qwen_tokenizer(extra=("<|im_start|>", "<|im_end|>", STEP_END))
    tokenizer.chat_template = CHAT_TEMPLATE
    model = reward_backbone(tokenizer, seed=seed, max_position_embeddings=512, **changes)
    width = model.config.hidden_size
    tensors = {name: tensor for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    for name, shape in {"0": (width, width), "2": (2, width)}.items():
        tensors |= {f"score.{name}.weight": torch.randn(shape), f"score.{name}.bias": torch.randn(shape[0])}
    model.config.architectures = ["Qwen2ForProcessRewardModel"]
    code = "modeling_qwen2_rm.Qwen2ForProcessRewardModel"
    model.config.auto_map = dict.fromkeys(("AutoModel", "AutoModelForCausalLM"), code)
    (folder / "modeling_qwen2_rm.py").write_text("raise AssertionError('code of a checkpoint has run')\n")
    return _write_reward_model(folder, tokenizer, model, tensors, layout)


def tiny_classifier(folder: Path, *, labels: int, chat: bool = False, pad: bool = True) -> Path:
    """Writes a random Qwen2 classifier, with or without a chat template and a padding token."""
    tokenizer = qwen_tokenizer(pad=pad)
    tokenizer.chat_template = CHAT_TEMPLATE if chat else None
    padding = tokenizer.pad_token_id if pad else None
    configuration = qwen_configuration(tokenizer, num_labels=labels, pad_token_id=padding)
    return written(folder, tokenizer, lambda: Qwen2ForSequenceClassification(configuration), 2)


def tiny_bert_classifier(folder: Path, *, labels: int) -> Path:
    """Writes a random BERT classifier, which attends both ways and reads pairs of texts."""
    templates = {"single": "[CLS] $A [SEP]", "pair": "[CLS] $A [SEP] $B:1 [SEP]:1"}
    tokenizer, count = _character_tokenizer(["[PAD]", "[CLS]", "[SEP]", "[UNK]"], "[UNK]", **templates)
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "cls", "sep", "unk")}
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    reader = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=inputs, **special)
    sizes = {key: value for key, value in _SIZES.items() if key != "num_key_value_heads"}
    configuration = BertConfig(vocab_size=count, pad_token_id=0, num_labels=labels, **sizes)
    return written(folder, reader, lambda: BertForSequenceClassification(configuration), 3)


def fail_once(loop: Any, error: Exception) -> None:
    """Makes the next forward pass of the vLLM engine of an `EngineLoop` fail."""
    executor = loop.call(lambda engine: engine.model_executor)
    execute = executor.execute_model

    def fail(*_: Any, **__: Any) -> None:
        executor.execute_model = execute
        raise error

    executor.execute_model = fail
