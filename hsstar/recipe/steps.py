"""`[steps]` of a recipe: where a step of a response ends and the next one begins."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from hsstar.domain.steps import StepRule
from hsstar.recipe.base import Section

FunctionName = Annotated[
    str, Field(pattern=r"^(\S.*\.py|[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")
]
"""`file.py:function` or `package.module:function`."""


class StepsSection(Section):
    """Steps of a response, which reward models score, `hsstar train prm` labels and pages show."""

    rule: StepRule = StepRule.BLANK_LINE
    """`sentence` spares formulas; a step of `numbered` begins at a line with a number or `Step 3`; `python`
    asks a function."""
    function: FunctionName | None = None
    """For `python`: `my_steps.py:split` or `package.module:split`; it gets a response and returns the texts
    of its steps in order."""

    @model_validator(mode="after")
    def _function_of_the_rule(self) -> Self:
        if (self.rule is StepRule.PYTHON) != (self.function is not None):
            raise ValueError("function belongs to rule = 'python', which needs it")
        return self

    @property
    def trained(self) -> dict[str, str]:
        """The keys as a reward model's checkpoint carries them."""
        return self.model_dump(mode="json", exclude_none=True)
