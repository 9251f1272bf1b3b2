"""Renders problems as prompts, for sampling, training and export; only chat templates import PyTorch."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from hsstar.checkpoints.files import read_json
from hsstar.checkpoints.resolve import resolve
from hsstar.domain.chat_prompts import chat_prompt
from hsstar.domain.errors import BadInputError, CheckpointError, MissingDependencyError
from hsstar.domain.prompts import CHAT, TEMPLATES, PromptFormat, chat_message, render_prompt
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


def prompt_renderer(prompt: PromptFormat, policy: str | Path) -> Renderer:
    """Return the renderer of a recipe's `policy.prompt`.

    Raise CheckpointError if the policy has no usable chat template, MissingDependencyError if a package of it
    is not installed, RecipeError for an unknown template, and BadInputError for one that cannot be used.
    """
    if prompt.is_chat:
        return _chat_renderer(prompt, resolve(policy))
    if "{" in prompt.template:
        return _own_renderer(prompt)
    render_prompt(prompt.template, "")
    return lambda problem: render_prompt(prompt.template, problem) + prompt.prefill


def request_renderer(prompt: PromptFormat, policy: str | Path, *, messages: bool) -> Renderer:
    """Return what makes the prompts of requests: a renderer, or `messages` that a server renders."""
    return partial(chat_prompt, prompt) if messages else prompt_renderer(prompt, policy)


def checking_renderer(prompt: PromptFormat, policy: str | Path, *, messages: bool) -> Renderer:
    """Return what renders prompts before a run, as `prompt_renderer` does.

    Where a server renders `messages`, a policy needs no chat template here: its prompts are these messages.
    """
    try:
        return prompt_renderer(prompt, policy)
    except CheckpointError:
        if not messages:
            raise
        return partial(chat_prompt, prompt)


def count_tokens(policy: str | Path, prompts: Sequence[str]) -> list[int]:
    """Return the number of tokens of each prompt, as samplers and trainers read it.

    Raise CheckpointError if the tokenizer cannot be loaded, MissingDependencyError if it lacks a package.
    """
    loading = _loading()
    return [len(ids) for ids in loading.encode_prompts(loading.load_tokenizer(resolve(policy)), prompts)]


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


def check_stop_tokens(policy: str | Path, token_ids: Sequence[int]) -> None:
    """Raise BadInputError for the id of a token that a policy does not have, or as `count_tokens`."""
    if not token_ids:
        return
    size = len(_loading().load_tokenizer(resolve(policy)))
    if (unknown := max(token_ids)) >= size:
        raise BadInputError(
            f"sampling.stop_token_ids: {unknown} is no token of {policy}, whose last one is {size - 1}"
        )


def _chat_renderer(prompt: PromptFormat, folder: Path) -> Renderer:
    arguments = json.dumps(dict(prompt.chat_arguments), sort_keys=True)
    converse = _conversation_renderer(folder, f"policy.prompt = {CHAT!r} needs", arguments)
    return lambda problem: converse(prompt.conversation(problem)) + prompt.prefill


def _own_renderer(prompt: PromptFormat) -> Renderer:
    try:
        from hsstar.engines.own_template import OwnTemplate
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"policy.prompt.template needs the package {error.name}: pip install 'hsstar[train]'"
        ) from error
    return OwnTemplate(prompt)


def conversation_renderer(policy: str | Path, needed_by: str = "conversations need") -> ConversationRenderer:
    """Return what renders a conversation up to the assistant's next answer by the policy's chat template.

    Raise CheckpointError if the policy has no usable chat template, MissingDependencyError if a package of it
    is not installed.
    """
    return _conversation_renderer(resolve(policy), needed_by, "{}")


@lru_cache(maxsize=8)
def _conversation_renderer(folder: Path, needed_by: str, arguments: str) -> ConversationRenderer:
    """As `conversation_renderer`; `arguments` is a JSON object with values of the template's variables."""
    tokenizer = _loading().load_tokenizer(folder)
    values: dict[str, Any] = json.loads(arguments)
    if not tokenizer.chat_template:
        raise CheckpointError(
            f"{folder}: the model has no chat template, which {needed_by}; "
            f"use one of {', '.join(sorted(TEMPLATES))}"
        )
    for name in values:
        if not re.search(rf"\b{re.escape(name)}\b", str(tokenizer.chat_template)):
            raise CheckpointError(
                f"{folder}: its chat template does not use {name!r}, which policy.prompt.chat_arguments sets"
            )
    added = _added_beginning(tokenizer)

    def render(conversation: Conversation) -> str:
        try:
            text: str = within(
                _RENDER_SECONDS,
                partial(
                    tokenizer.apply_chat_template,
                    conversation,
                    tokenize=False,
                    add_generation_prompt=True,
                    **values,
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
