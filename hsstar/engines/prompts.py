"""How a policy is shown a problem. Sampling, training, export and `hsstar prompts` render here.

Importing this module does not import PyTorch; a chat template and the count of tokens take it.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from hsstar.checkpoints.files import read_json
from hsstar.checkpoints.resolve import resolve
from hsstar.domain.errors import CheckpointError, MissingDependencyError
from hsstar.domain.prompts import CHAT, TEMPLATES, chat_message, render_prompt

Renderer = Callable[[str], str]
"""From a problem to the text that the policy continues."""


def prompt_renderer(template: str, policy: str | Path) -> Renderer:
    """The renderer of a recipe's `policy.prompt`.

    Args:
        template: a name of `domain.prompts.TEMPLATE_NAMES`.
        policy: the checkpoint, by a name as in `checkpoints.resolve`; a template of the domain does not
            look at it.

    Raises:
        CheckpointError: the policy has no chat template, or one that cannot render a single question.
        MissingDependencyError: a package that a chat template needs is not installed.
        RecipeError: there is no template of that name.
    """
    if template == CHAT:
        return _chat_renderer(resolve(policy))
    render_prompt(template, "")
    return partial(render_prompt, template)


def count_tokens(policy: str | Path, prompt: str) -> int:
    """Tokens of a prompt as samplers and trainers read it.

    Raises:
        CheckpointError: the policy's tokenizer cannot be loaded.
        MissingDependencyError: a package that this takes is not installed.
    """
    loading = _loading()
    return len(loading.encode_prompts(loading.load_tokenizer(resolve(policy)), [prompt])[0])


def check_end_of_text(policy: str | Path) -> None:
    """Refuses a policy that cannot be trained: every response in training ends with the end-of-text token.

    Raises:
        CheckpointError: the policy's tokenizer has none, or cannot be loaded.
        MissingDependencyError: a package that looking takes is not installed.
    """
    folder = resolve(policy)
    files = (folder / name for name in ("tokenizer_config.json", "special_tokens_map.json"))
    if any(file.is_file() and read_json(file).get("eos_token") for file in files):
        return
    if _loading().load_tokenizer(folder).eos_token_id is None:  # it may come with the tokenizer's class
        raise CheckpointError(
            f"{folder}: its tokenizer has no end-of-text token (eos_token), which training ends responses "
            "with; training.objective = 'none' does without"
        )


@lru_cache(maxsize=8)
def _chat_renderer(folder: Path) -> Renderer:
    tokenizer = _loading().load_tokenizer(folder)
    if not tokenizer.chat_template:
        raise CheckpointError(
            f"{folder}: the model has no chat template, which policy.prompt = {CHAT!r} takes; "
            f"use one of {', '.join(sorted(TEMPLATES))}"
        )
    added = _added_beginning(tokenizer)

    def render(problem: str) -> str:
        conversation = [{"role": "user", "content": chat_message(problem)}]
        try:
            text: str = tokenizer.apply_chat_template(
                conversation, tokenize=False, add_generation_prompt=True
            )
        except Exception as error:  # whatever the template, which is a program of its own, comes to
            raise CheckpointError(f"{folder}: its chat template cannot render a question: {error}") from error
        return text.removeprefix(added)

    render("1 + 1 = ?")
    return render


def _added_beginning(tokenizer: Any) -> str:
    """The beginning-of-text token that the tokenizer puts in front by itself; many templates have it too."""
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
