"""`[steps]` of a recipe: where a step of a response ends and the next one begins."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from hsstar.domain.steps import StepRule
from hsstar.domain.verification import file_of
from hsstar.recipe.base import Section
from hsstar.recipe.prompt import MOST_CHARACTERS

FunctionName = Annotated[
    str, Field(pattern=r"^(\S.*\.py|[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")
]
"""`file.py:function` or `package.module:function`."""


def check_source(function: str | None, source: str | None) -> None:
    """Raise ValueError if a function of a file comes without its text, or another one with a text."""
    of_file = function is not None and file_of(function) is not None
    if of_file and source is None:
        raise ValueError(f"function = {function!r} is of a file, and its text (source) is missing")
    if source is not None and not of_file:
        raise ValueError("source is the text of a file, and function names none")


class StepsSection(Section):
    """Steps of a response, which reward models score, `hsstar train prm` labels and pages show."""

    rule: StepRule = StepRule.BLANK_LINE
    """`sentence` spares formulas; a step of `numbered` begins at a line with a number or `Step 3`; `python`
    asks a function."""
    function: FunctionName | None = None
    """For `python`: `my_steps.py:split` or `package.module:split`; it gets a response and returns the texts
    of its steps in order."""
    source: Annotated[str, Field(max_length=MOST_CHARACTERS)] | None = None
    """The text of the function's file, which the run stores here for its workers."""

    @model_validator(mode="after")
    def _function_of_the_rule(self) -> Self:
        if (self.rule is StepRule.PYTHON) != (self.function is not None):
            raise ValueError("function belongs to rule = 'python', which needs it")
        check_source(self.function, self.source)
        return self

    @property
    def trained(self) -> dict[str, str]:
        """The keys as a reward model's checkpoint carries them."""
        return self.model_dump(mode="json", exclude_none=True, exclude={"source"})
