"""`[policy.prompt]` of a recipe: how a problem becomes what the policy continues."""

import re
from typing import Annotated, Any, Self

from pydantic import Field, JsonValue, SerializerFunctionWrapHandler, model_serializer, model_validator

from hsstar.domain.errors import RecipeError
from hsstar.domain.prompts import ANSWER_INSTRUCTION, CHAT, TEMPLATE_NAMES, Example, PromptFormat
from hsstar.domain.suggestions import did_you_mean
from hsstar.recipe.base import Name, Natural, Positive, Section

MOST_CHARACTERS = 100_000
"""Of a template; a prompt is read again with every sample."""

IS_JINJA = re.compile(r"\{[{%]")
_Text = Annotated[str, Field(max_length=MOST_CHARACTERS)]


class ExampleRow(Section):
    """A solved problem."""

    problem: _Text
    """The statement."""
    solution: _Text
    """What the policy is to write like."""


class ExamplesSection(Section):
    """Solved problems that are shown before each problem; a problem is never its own example."""

    dataset: Name | None = None
    """An imported dataset with solutions, from which they are drawn when the run is created."""
    count: Positive | None = None
    """Examples that are shown; default: 4 of a dataset, or all `rows`."""
    seed: Natural = 0
    """Decides which ones of the dataset."""
    rows: tuple[ExampleRow, ...] = ()
    """The examples themselves; the run stores those of a dataset here, one more than it shows."""

    @model_validator(mode="after")
    def _come_from_somewhere(self) -> Self:
        if self.dataset is None and not self.rows:
            raise ValueError("give the dataset of the examples, or rows with problem and solution")
        if self.rows and self.shown > len(self.rows):
            raise ValueError(f"count = {self.count} is more than the {len(self.rows)} rows")
        return self

    @property
    def shown(self) -> int:
        """How many examples a prompt has."""
        return self.count or (4 if self.dataset is not None else len(self.rows))


class PromptSection(Section):
    """How a problem becomes a prompt, in sampling, training and evaluation; a name alone is its template."""

    template: Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS)]
    """`qwen25-step-cot`, `bare`, `chat` (the policy's own chat template), the text of a Jinja template with
    `{{ problem }}`, or a file that ends in `.j2`, `.jinja`, `.jinja2` or `.txt`."""
    system: _Text | None = None
    """The system message."""
    answer_instruction: _Text | None = None
    """Stands behind each problem of a chat; default: to reason in steps and to box the answer."""
    prefill: _Text = ""
    """The beginning of the response: it belongs to the prompt, and the policy continues it."""
    chat_arguments: dict[str, JsonValue] = Field(default_factory=dict)
    """Values of the chat template's own variables: `{ enable_thinking = false }`."""
    examples: ExamplesSection | None = None

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: object) -> object:
        return {"template": value} if isinstance(value, str) else value

    @model_serializer(mode="wrap")
    def _as_name(self, handler: SerializerFunctionWrapHandler) -> str | dict[str, Any]:
        document: dict[str, Any] = handler(self)
        return self.template if self == PromptSection(template=self.template) else document

    @model_validator(mode="after")
    def _template_shows_all(self) -> Self:
        if self.template not in TEMPLATE_NAMES and not IS_JINJA.search(self.template):
            meant = did_you_mean(self.template, TEMPLATE_NAMES)
            raise ValueError(
                f"unknown prompt template; legal values: {', '.join(sorted(TEMPLATE_NAMES))}, "
                f"or a text with {{{{ problem }}}}{meant}"
            )
        if self.chat_arguments and self.template != CHAT:
            raise ValueError("chat_arguments needs template = 'chat'")
        if self.template in TEMPLATE_NAMES and self.template != CHAT:
            for key in ("system", "answer_instruction", "examples"):
                if getattr(self, key) is not None:
                    raise ValueError(
                        f"template {self.template!r} has no place for {key}; take template = 'chat', "
                        "or write a template"
                    )
        return self

    @property
    def resolved(self) -> PromptFormat:
        """The section as the method has it.

        Raise RecipeError while the examples of a dataset are not drawn.
        """
        examples = self.examples
        if examples is not None and not examples.rows:
            raise RecipeError(
                f"policy.prompt.examples: those from dataset {examples.dataset!r} are drawn when a run is "
                "created; here give them as rows"
            )
        instruction = self.answer_instruction
        return PromptFormat(
            self.template,
            self.system,
            ANSWER_INSTRUCTION if instruction is None else instruction,
            tuple(Example(row.problem, row.solution) for row in examples.rows) if examples else (),
            examples.shown if examples else 0,
            self.prefill,
            tuple(self.chat_arguments.items()),
        )
