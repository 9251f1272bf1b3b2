"""A recipe's own prompt template, a Jinja text: rendered in a sandbox, within limits of time and size."""

from functools import partial
from typing import Any

from jinja2 import StrictUndefined, TemplateError, meta
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from hsstar.domain.errors import BadInputError
from hsstar.domain.prompts import PromptFormat
from hsstar.domain.suggestions import did_you_mean
from hsstar.engines.time_limit import within

RENDER_SECONDS = 5.0
MOST_ADDED = 1_000_000
"""Characters that a template may put around a problem."""

_KEY = "policy.prompt.template"
_VARIABLES = ("problem", "system", "examples", "answer_instruction")
"""What a template may use; an example has `problem` and `solution`."""


class _Sandbox(ImmutableSandboxedEnvironment):
    """Refuses powers, and products that would make a text or list of any length in one operation."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        if operator == "**" or (not numbers and max(_size(left), 1) * max(_size(right), 1) > MOST_ADDED):
            raise SecurityError(f"{operator} makes too much")
        return super().call_binop(context, operator, left, right)


class OwnTemplate:
    """Renders problems by the template of a format, its prefill behind them.

    Raise BadInputError if the text is no template, uses what it is not given, or leaves out what it is given.
    """

    def __init__(self, prompt: PromptFormat) -> None:
        environment = _Sandbox(undefined=StrictUndefined, keep_trailing_newline=True)
        try:
            used = meta.find_undeclared_variables(environment.parse(prompt.template))
            self._template = environment.from_string(prompt.template)
        except TemplateError as error:
            raise BadInputError(f"{_KEY}: no template: {error}") from error
        if unknown := sorted(used - set(_VARIABLES)):
            meant = did_you_mean(unknown[0], _VARIABLES)
            raise BadInputError(f"{_KEY}: it uses {unknown[0]!r}; it may use {', '.join(_VARIABLES)}{meant}")
        if "problem" not in used:
            raise BadInputError(f"{_KEY}: it does not show the problem; write {{{{ problem }}}} in it")
        for name, value in (("system", prompt.system), ("examples", prompt.examples)):
            if value and name not in used:
                raise BadInputError(f"policy.prompt.{name} is set, and the template does not use {name}")
        self._prompt = prompt
        self("1 + 1 = ?")

    def __call__(self, problem: str) -> str:
        """Return the prompt of a problem; raise BadInputError if the template fails on it."""
        prompt = self._prompt
        examples = [
            {"problem": example.problem, "solution": example.solution}
            for example in prompt.examples_for(problem)
        ]
        values = {
            "problem": problem,
            "system": prompt.system or "",
            "examples": examples,
            "answer_instruction": prompt.answer_instruction,
        }
        try:
            text = within(RENDER_SECONDS, partial(self._template.render, values))
            if len(text) > MOST_ADDED + len(problem):
                raise ValueError(f"it makes {len(text):,} characters of {len(problem):,}")
        except Exception as error:  # a template is a program and can raise anything
            raise BadInputError(f"{_KEY}: it cannot render a problem: {error}") from error
        return text + prompt.prefill


def _size(value: object) -> int:
    return int(value) if isinstance(value, int | float) else len(value) if hasattr(value, "__len__") else 1
