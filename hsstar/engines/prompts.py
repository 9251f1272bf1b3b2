"""Renders problems as prompts, for sampling, training and export; only chat templates import PyTorch."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from hsstar.checkpoints.files import read_json
from hsstar.checkpoints.resolve import resolve
from hsstar.domain.errors import CheckpointError, MissingDependencyError
from hsstar.domain.prompts import CHAT, TEMPLATES, chat_message, render_prompt
from hsstar.engines.time_limit import within

_RENDER_SECONDS = 5.0
_MOST_ADDED = 1_000_000
"""Characters that a chat template may put around a problem."""

Renderer = Callable[[str], str]
"""Turns a problem into the text that the policy continues."""

Conversation = Sequence[Mapping[str, str]]
"""Turns with `role` and `content`."""

ConversationRenderer = Callable[[Conversation], str]
"""Turns a conversation into the text that the policy continues."""


def prompt_renderer(template: str, policy: str | Path) -> Renderer:
    """Return the renderer of a recipe's `policy.prompt`.

    Raise CheckpointError if the policy has no usable chat template, MissingDependencyError if a package of it
    is not installed, and RecipeError for an unknown template.
    """
    if template == CHAT:
        return _chat_renderer(resolve(policy))
    render_prompt(template, "")
    return partial(render_prompt, template)


def count_tokens(policy: str | Path, prompt: str) -> int:
    """Count a prompt's tokens as samplers and trainers read it.

    Raise CheckpointError if the tokenizer cannot be loaded, MissingDependencyError if it lacks a package.
    """
    loading = _loading()
    return len(loading.encode_prompts(loading.load_tokenizer(resolve(policy)), [prompt])[0])


def check_end_of_text(policy: str | Path) -> None:
    """Raise CheckpointError if a policy has no end-of-text token to train with, or as `count_tokens`."""
    folder = resolve(policy)
    files = (folder / name for name in ("tokenizer_config.json", "special_tokens_map.json"))
    if any(file.is_file() and read_json(file).get("eos_token") for file in files):
        return
    if _loading().load_tokenizer(folder).eos_token_id is None:  # the tokenizer's class may bring one
        raise CheckpointError(
            f"{folder}: its tokenizer has no end-of-text token (eos_token), and training ends responses with "
            "it; only training.objective = 'none' works without"
        )


@lru_cache(maxsize=8)
def _chat_renderer(folder: Path) -> Renderer:
    converse = conversation_renderer(folder, f"policy.prompt = {CHAT!r} needs")
    return lambda problem: converse([{"role": "user", "content": chat_message(problem)}])


def conversation_renderer(policy: str | Path, needed_by: str = "conversations need") -> ConversationRenderer:
    """Return what renders a conversation up to the assistant's next answer by the policy's chat template.

    Raise CheckpointError if the policy has no usable chat template, MissingDependencyError if a package of it
    is not installed.
    """
    folder = resolve(policy)
    tokenizer = _loading().load_tokenizer(folder)
    if not tokenizer.chat_template:
        raise CheckpointError(
            f"{folder}: the model has no chat template, which {needed_by}; "
            f"use one of {', '.join(sorted(TEMPLATES))}"
        )
    added = _added_beginning(tokenizer)

    def render(conversation: Conversation) -> str:
        try:
            text: str = within(
                _RENDER_SECONDS,
                partial(
                    tokenizer.apply_chat_template, conversation, tokenize=False, add_generation_prompt=True
                ),
            )
            length = sum(len(turn["content"]) for turn in conversation)
            if len(text) > length + _MOST_ADDED:
                raise ValueError(f"it makes {len(text):,} characters of {length:,}")
        except Exception as error:  # a template is a program and can raise anything
            raise CheckpointError(f"{folder}: its chat template cannot render a question: {error}") from error
        while added and text.startswith(added):
            text = text.removeprefix(added)
        return text

    render([{"role": "user", "content": chat_message("1 + 1 = ?")}])
    return render


def _added_beginning(tokenizer: Any) -> str:
    first = tokenizer("1")["input_ids"][:1]
    return tokenizer.bos_token if first and first[0] == tokenizer.bos_token_id else ""


def _loading() -> Any:
    try:
        from hsstar.engines import loading
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"a policy's tokenizer needs the package {error.name}: pip install 'hsstar[train]'"
        ) from error
    return loading
