"""Prompt templates, which sampling, training and evaluation share."""

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
"""Template name to text; `{problem}` stands for the problem, every other brace for itself."""

CHAT = "chat"
"""The template that a policy brings along; `chat_message` is what the user says in it."""

TEMPLATE_NAMES = (*TEMPLATES, CHAT)
"""What a recipe may name."""

_CHAT_MESSAGE = (
    "{problem}\n\nPlease reason step by step, separate the steps with a blank line, "
    "and put your final answer within \\boxed{}."
)


def chat_message(problem: str) -> str:
    """What the user of a chat says: the problem, and how to answer it."""
    return _CHAT_MESSAGE.replace("{problem}", problem)


def render_prompt(template: str, problem: str) -> str:
    """The text that the policy continues for a problem, under a template of `TEMPLATES`.

    Raises:
        RecipeError: there is no template of that name.
    """
    try:
        text = TEMPLATES[template]
    except KeyError:
        known = ", ".join(sorted(TEMPLATE_NAMES))
        raise RecipeError(f"unknown prompt template {template!r}; known templates: {known}") from None
    return text.replace("{problem}", problem)
