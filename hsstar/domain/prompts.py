"""Prompt templates, shared by sampling, training and evaluation."""

from hsstar.domain.errors import RecipeError

_QWEN25_STEP_COT = (
    "Please reason step by step, separate the steps with a blank line, "
    "and put your final answer within \\boxed{}.\n"
    "User:\n{problem}\n\nAssistant:\n"
)

TEMPLATES: dict[str, str] = {
    "qwen25-step-cot": _QWEN25_STEP_COT,
    "bare": "{problem}\n",
}
"""Template name to text; `{problem}` stands for the problem, any other brace for itself."""

CHAT = "chat"
"""The policy's own chat template; `chat_message` is the user's message in it."""

TEMPLATE_NAMES = (*TEMPLATES, CHAT)
"""The templates that a recipe may name."""

_CHAT_MESSAGE = (
    "{problem}\n\nPlease reason step by step, separate the steps with a blank line, "
    "and put your final answer within \\boxed{}."
)


def chat_message(problem: str) -> str:
    """Return the user's message of a chat: the problem and how to answer it."""
    return _CHAT_MESSAGE.replace("{problem}", problem)


def render_prompt(template: str, problem: str) -> str:
    """Return the prompt for a problem by a template of `TEMPLATES`; raise RecipeError without one."""
    try:
        text = TEMPLATES[template]
    except KeyError:
        known = ", ".join(sorted(TEMPLATE_NAMES))
        raise RecipeError(f"unknown prompt template {template!r}; known templates: {known}") from None
    return text.replace("{problem}", problem)
