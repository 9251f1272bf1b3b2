"""One way from a problem to the text that a policy continues, by its own chat template too."""

import contextlib
import json
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hsstar.checkpoints.resolve import resolve
from hsstar.cli.main import hsstar
from hsstar.commands.prompts import with_thinking
from hsstar.domain.errors import BadInputError, CheckpointError, MissingDependencyError, RecipeError
from hsstar.domain.prompts import Example, PromptFormat, chat_message, render_prompt
from hsstar.engines import own_template, prompts
from hsstar.engines.loading import encode_prompts, load_tokenizer
from hsstar.engines.prompts import check_end_of_text, check_stop_tokens, count_tokens, prompt_renderer
from hsstar.engines.time_limit import within
from hsstar.recipe.policy import PolicySection
from hsstar.recipe.prompt import PromptSection
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
    assert prompt_renderer(PromptFormat("bare"), "no/such folder")("1+1") == render_prompt("bare", "1+1")
    with pytest.raises(RecipeError, match="unknown prompt template 'cot'"):
        prompt_renderer(PromptFormat("cot"), "no/such folder")


def test_a_chat_template_makes_a_conversation_whose_marks_are_tokens(chat_policy: Path) -> None:
    prompt = prompt_renderer(PromptFormat("chat"), chat_policy)("1+1")
    assert prompt == f"<|im_start|>user\n{chat_message('1+1')}<|im_end|>\n<|im_start|>assistant\n"
    tokenizer = load_tokenizer(chat_policy)
    [ids] = encode_prompts(tokenizer, [prompt])
    chat = [{"role": "user", "content": chat_message("1+1")}]
    assert ids == tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    assert count_tokens(chat_policy, [prompt]) == [len(ids)]
    assert len(ids) < len(prompt)


def test_a_beginning_of_text_token_stands_there_once(tmp_path: Path) -> None:
    folder = tokenizer_folder(tmp_path / "llama", tiny.beginning_tokenizer(), WITH_BEGINNING)
    prompt, tokenizer = prompt_renderer(PromptFormat("chat"), folder)("1+1"), load_tokenizer(folder)
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
        prompt_renderer(PromptFormat("chat"), folder)


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
    prompts._conversation_renderer.cache_clear()
    with pytest.raises(MissingDependencyError, match=r"hsstar\[train\]"):
        prompt_renderer(PromptFormat("chat"), chat_policy)


@pytest.mark.parametrize("template", ["bare", "qwen25-step-cot", "chat"])
def test_show_prints_the_prompt(tmp_path: Path, chat_policy: Path, template: str) -> None:
    demo = (Path(__file__).parents[2] / "configs" / "demo.toml").read_text()
    recipe, problem = tmp_path / "recipe.toml", "\\frac{1}{2} of 8\n\nor {x}?"
    recipe.write_text(
        demo.replace("builtin:demo-policy", str(chat_policy)).replace('"bare"', f'"{template}"')
    )
    shown = CliRunner().invoke(hsstar, ["prompts", "show", str(recipe), "--problem", problem])
    assert (shown.exit_code, shown.stdout) == (
        0,
        prompt_renderer(PromptFormat(template), chat_policy)(problem),
    )
    assert shown.stderr == f"{count_tokens(chat_policy, [shown.stdout])[0]} tokens\n"


def test_messages_of_a_server_are_shown_though_the_policy_has_no_template(tmp_path: Path) -> None:
    demo, recipe = (Path(__file__).parents[2] / "configs" / "demo.toml").read_text(), tmp_path / "recipe.toml"
    server = '[policy.openai]\nbase_url = "http://127.0.0.1:1/v1"\nmodel = "m"\nprotocol = "chat"\n'
    text = demo.replace('prompt = "bare"', f'prompt = "chat"\nengine = "openai"\n\n{server}')
    recipe.write_text(text.replace("[training]", '[training]\nobjective = "none"'))
    shown = CliRunner().invoke(hsstar, ["prompts", "show", str(recipe), "--problem", "1+1?"])
    assert shown.exit_code == 0, shown.output
    [message] = json.loads(shown.stdout)["messages"]
    assert message["role"] == "user"
    assert message["content"].startswith("1+1?\n")


FEW_SHOT = """{{ system }}
{% for example in examples %}Q: {{ example.problem }}
A: {{ example.solution }}

{% endfor %}Q: {{ problem }}
{{ answer_instruction }}
A:"""
SOLVED = (Example("1+1", "It is \\boxed{2}."), Example("2+2", "It is \\boxed{4}."), Example("3+3", "6"))


def test_a_template_of_ones_own_shows_examples_but_never_the_problem_itself() -> None:
    form = PromptFormat(FEW_SHOT, "Be brief.", "Box it.", SOLVED, 2, prefill=" So")
    render = prompt_renderer(form, "no/such folder")
    others = "Be brief.\nQ: 2+2\nA: It is \\boxed{4}.\n\nQ: 3+3\nA: 6\n\nQ: 1+1\nBox it.\nA: So"
    assert render("1+1") == others
    assert render("{{ 9 }}").endswith(
        "Q: 1+1\nA: It is \\boxed{2}.\n\nQ: 2+2\nA: It is \\boxed{4}.\n\nQ: {{ 9 }}\nBox it.\nA: So"
    )


def test_a_chat_has_system_examples_arguments_and_a_beginning(tmp_path: Path) -> None:
    thinking = "{% if enable_thinking is false %}<think></think>{% endif %}"
    folder = tokenizer_folder(
        tmp_path, tiny.qwen_tokenizer(extra=("<|im_start|>", "<|im_end|>")), QWEN + thinking
    )
    form = PromptFormat("chat", "Be brief.", "", SOLVED[:2], 1, "So ", (("enable_thinking", False),))
    turns = (
        ("system", "Be brief."), ("user", "2+2"), ("assistant", "So It is \\boxed{4}."), ("user", "1+1")
    )  # fmt: skip
    said = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns)
    assert prompt_renderer(form, folder)("1+1") == f"{said}<|im_start|>assistant\n<think></think>So "
    mistyped = replace(form, chat_arguments=(("enable_thinkin", False),))
    with pytest.raises(CheckpointError, match="its chat template does not use 'enable_thinkin'"):
        prompt_renderer(mistyped, folder)


UNFIT_TEXTS = [
    ("{{ problem }", "no template: unexpected '}'"),
    ("{{ problems }}", "it uses 'problems'; it may use .*; did you mean 'problem'"),
    ("{{ system }}", "it does not show the problem"),
    ("{{ problem.__class__.__mro__[1].__subclasses__() }}", "cannot render a problem: .*unsafe"),
    ("{{ problem }}" + ENDLESS, "more than 0.3 s"),
    ("{{ problem * 900000 }}", r"\* makes too much"),
    ("{{ problem ~ 9 ** 9 ** 9 }}", r"\*\* makes too much"),
    ("{{ (problem * 99999) ~ (problem * 99999) }}", "it makes 1,799,982 characters of 9"),
    ("{{ problem }}{{ examples[0].problem }}", "cannot render a problem: "),
    ("{% include '/etc/passwd' %}{{ problem }}", "cannot render a problem: no loader"),
]


@pytest.mark.parametrize(("text", "message"), UNFIT_TEXTS)
def test_an_unfit_template_of_ones_own_is_refused(
    monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.setattr(own_template, "RENDER_SECONDS", 0.3)
    with pytest.raises(BadInputError, match=rf"policy\.prompt\.template: .*{message}"):
        prompt_renderer(PromptFormat(text), "no/such folder")


def test_what_a_template_does_not_show_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"policy\.prompt\.system is set, and the template does not use"):
        prompt_renderer(PromptFormat("{{ problem }}", "Be brief."), "no/such folder")


def test_a_stop_token_that_the_policy_lacks_is_named() -> None:
    policy = "builtin:demo-policy"
    size = len(load_tokenizer(resolve(policy)))
    check_stop_tokens(policy, ())
    check_stop_tokens(policy, (0, size - 1))
    with pytest.raises(BadInputError, match=f"stop_token_ids: {size} is no token of builtin:demo-policy"):
        check_stop_tokens(policy, (3, size))


@pytest.mark.parametrize(
    ("ending", "setting"), [("", "auto"), ("<think>\n", "<think>,</think>,prompt"), ("</think>", "auto")]
)
def test_a_template_that_opens_a_block_of_thinking_is_noticed(
    tmp_path: Path, ending: str, setting: str
) -> None:
    policy = tokenizer_folder(tmp_path, tiny.qwen_tokenizer(), "{{ messages[0].content }}" + ending)
    section = PolicySection(model="m", prompt=PromptSection(template="chat"))
    assert with_thinking(section, str(policy)).thinking == setting
    chosen = section.model_copy(update={"thinking": "none"})
    assert with_thinking(chosen, str(policy)).thinking == "none"
