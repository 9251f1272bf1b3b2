"""Prompt templates: the one renderer for sampling, training and evaluation."""

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


def render_prompt(template: str, problem: str) -> str:
    """The text that the policy continues for a problem, under a template of `TEMPLATES`.

    Raises:
        RecipeError: there is no template of that name.
    """
    try:
        text = TEMPLATES[template]
    except KeyError:
        known = ", ".join(sorted(TEMPLATES))
        raise RecipeError(f"unknown prompt template {template!r}; known templates: {known}") from None
    return text.replace("{problem}", problem)
