"""One way from a problem to the text that a policy continues, by its own chat template too."""

import contextlib
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hsstar.cli.main import hsstar
from hsstar.domain.errors import CheckpointError, MissingDependencyError, RecipeError
from hsstar.domain.prompts import chat_message, render_prompt
from hsstar.engines import prompts
from hsstar.engines.loading import encode_prompts, load_tokenizer
from hsstar.engines.prompts import check_end_of_text, count_tokens, prompt_renderer
from hsstar.engines.time_limit import within
from tests.engines import tiny

QWEN = tiny.CHAT_TEMPLATE + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
WITH_BEGINNING = "{{ bos_token }}[INST] {{ messages[0].content }} [/INST]"
ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
WANTS_SYSTEM = "{% if messages[0].role != 'system' %}{{ raise_exception('no system message') }}{% endif %}"


def tokenizer_folder(folder: Path, tokenizer: Any, template: str | None) -> Path:
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def chat_policy(tmp_path: Path) -> Path:
    tokenizer = tiny.qwen_tokenizer(extra=("<|im_start|>", "<|im_end|>"))
    return tokenizer_folder(tmp_path / "chat", tokenizer, QWEN)


def test_a_template_of_the_domain_does_not_look_at_the_policy() -> None:
    assert prompt_renderer("bare", "no/such folder")("1+1") == render_prompt("bare", "1+1")
    with pytest.raises(RecipeError, match="unknown prompt template 'cot'"):
        prompt_renderer("cot", "no/such folder")


def test_a_chat_template_makes_a_conversation_whose_marks_are_tokens(chat_policy: Path) -> None:
    prompt = prompt_renderer("chat", chat_policy)("1+1")
    assert prompt == f"<|im_start|>user\n{chat_message('1+1')}<|im_end|>\n<|im_start|>assistant\n"
    tokenizer = load_tokenizer(chat_policy)
    [ids] = encode_prompts(tokenizer, [prompt])
    chat = [{"role": "user", "content": chat_message("1+1")}]
    assert ids == tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    assert count_tokens(chat_policy, prompt) == len(ids) < len(prompt)


def test_a_beginning_of_text_token_stands_there_once(tmp_path: Path) -> None:
    folder = tokenizer_folder(tmp_path / "llama", tiny.beginning_tokenizer(), WITH_BEGINNING)
    prompt, tokenizer = prompt_renderer("chat", folder)("1+1"), load_tokenizer(folder)
    [ids] = encode_prompts(tokenizer, [prompt])
    assert prompt.startswith("[INST]")
    assert ids[0] == tokenizer.bos_token_id not in ids[1:]


UNFIT = [
    (None, r"has no chat template.*use one of bare, qwen25-step-cot"),
    (WANTS_SYSTEM, "its chat template cannot render a question: no system message"),
    (ENDLESS, r"its chat template cannot render a question: it took more than 0\.3 s"),
    ("{{ 'many ' * 300000 }}", "cannot render a question: it makes 1,500,000 characters of 119"),
]


@pytest.mark.parametrize(("template", "message"), UNFIT)
def test_an_unfit_chat_template_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str | None, message: str
) -> None:
    monkeypatch.setattr(prompts, "_RENDER_SECONDS", 0.3)
    folder = tokenizer_folder(tmp_path, tiny.qwen_tokenizer(), template)
    with pytest.raises(CheckpointError, match=message):
        prompt_renderer("chat", folder)


def test_a_time_limit_ends_what_takes_too_long_and_changes_nothing_else() -> None:
    def busy(seconds: float) -> str:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass
        return "done"

    assert within(5.0, lambda: "at once") == "at once"
    with pytest.raises(KeyError):
        within(5.0, lambda: dict[str, int]()["none"])
    with pytest.raises(TimeoutError, match=r"it took more than 0\.05 s"):
        within(0.05, lambda: busy(30.0))
    for _ in range(300):  # about when the time is up
        with contextlib.suppress(TimeoutError):
            assert within(0.002, lambda: busy(0.002)) == "done"
        assert busy(0.0) == "done"


@pytest.mark.parametrize("file", ["tokenizer_config.json", "special_tokens_map.json"])
def test_an_end_of_text_token_is_found_in_either_file(policy: Path, tmp_path: Path, file: str) -> None:
    folder = shutil.copytree(policy, tmp_path / "copy")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["eos_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / file).write_text(json.dumps(settings | {"eos_token": "x"}))
    check_end_of_text(folder)


def test_a_policy_without_end_of_text_token_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no end-of-text token"):
        check_end_of_text(tiny.tiny_policy_without_end(tmp_path))


def test_a_missing_package_is_named(chat_policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("hsstar.engines.loading")
    monkeypatch.setitem(sys.modules, "hsstar.engines.loading", None)
    prompts._chat_renderer.cache_clear()
    with pytest.raises(MissingDependencyError, match=r"hsstar\[train\]"):
        prompt_renderer("chat", chat_policy)


@pytest.mark.parametrize("template", ["bare", "qwen25-step-cot", "chat"])
def test_show_prints_the_prompt(tmp_path: Path, chat_policy: Path, template: str) -> None:
    demo = (Path(__file__).parents[2] / "configs" / "demo.toml").read_text()
    recipe, problem = tmp_path / "recipe.toml", "\\frac{1}{2} of 8\n\nor {x}?"
    recipe.write_text(
        demo.replace("builtin:demo-policy", str(chat_policy)).replace('"bare"', f'"{template}"')
    )
    shown = CliRunner().invoke(hsstar, ["prompts", "show", str(recipe), "--problem", problem])
    assert (shown.exit_code, shown.stdout) == (0, prompt_renderer(template, chat_policy)(problem))
    assert shown.stderr == f"{count_tokens(chat_policy, shown.stdout)} tokens\n"
