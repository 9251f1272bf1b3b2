"""PromptFormat templates, shared by sampling, training and evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hsstar.domain.errors import RecipeError
from hsstar.domain.suggestions import did_you_mean

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
"""The policy's own chat template; `PromptFormat.conversation` is what it renders."""

TEMPLATE_NAMES = (*TEMPLATES, CHAT)
"""The templates that a recipe may name."""

ANSWER_INSTRUCTION = (
    "Please reason step by step, separate the steps with a blank line, "
    "and put your final answer within \\boxed{}."
)
"""What follows the problem in a chat, unless the recipe says something else."""

Turns = list[dict[str, str]]
"""Turns of a conversation with `role` and `content`."""


@dataclass(frozen=True, slots=True)
class Example:
    """A problem with its solution, shown before the problem that is asked."""

    problem: str
    solution: str


@dataclass(frozen=True, slots=True)
class PromptFormat:
    """How a problem becomes what a policy continues."""

    template: str  # a name of TEMPLATE_NAMES, or the text of a Jinja template
    system: str | None = None  # the first turn of a chat
    answer_instruction: str = ANSWER_INSTRUCTION  # behind each problem of a chat
    examples: tuple[Example, ...] = ()  # one more than is shown where one of them may be the problem itself
    shown_examples: int = 0
    prefill: str = ""  # the beginning of the response, which the policy continues
    chat_arguments: tuple[tuple[str, Any], ...] = ()  # values of the chat template's own variables

    @property
    def is_chat(self) -> bool:
        """Whether the policy's own chat template renders it."""
        return self.template == CHAT

    @property
    def renders_by_a_program(self) -> bool:
        """Whether rendering may fail on some problem only."""
        return self.template not in TEMPLATES

    def examples_for(self, problem: str) -> Sequence[Example]:
        """Return the examples that are shown before a problem: never the problem itself."""
        return [example for example in self.examples if example.problem != problem][: self.shown_examples]

    def conversation(self, problem: str) -> Turns:
        """Return the turns of a chat up to the question."""
        turns = [] if self.system is None else [_turn("system", self.system)]
        for example in self.examples_for(problem):
            turns += [
                _turn("user", self._question(example.problem)),
                _turn("assistant", self.prefill + example.solution),
            ]
        return [*turns, _turn("user", self._question(problem))]

    def _question(self, problem: str) -> str:
        return f"{problem}\n\n{self.answer_instruction}" if self.answer_instruction else problem


DEFAULT = PromptFormat("qwen25-step-cot")


def chat_message(problem: str) -> str:
    """Return the user's message of a plain chat: the problem and how to answer it."""
    return PromptFormat(CHAT).conversation(problem)[-1]["content"]


def render_prompt(template: str, problem: str) -> str:
    """Return the prompt for a problem by a template of `TEMPLATES`; raise RecipeError without one."""
    try:
        text = TEMPLATES[template]
    except KeyError:
        known = ", ".join(sorted(TEMPLATE_NAMES))
        meant = did_you_mean(template, TEMPLATE_NAMES)
        raise RecipeError(f"unknown prompt template {template!r}; known templates: {known}{meant}") from None
    return text.replace("{problem}", problem)


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
