"""`[allocation]` of a recipe: who gets the remaining budget."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from hsstar.domain.allocation.policy import Worth, find_policy
from hsstar.domain.errors import BadInputError
from hsstar.recipe.base import Name, Positive, Section

_PriorParameter = Annotated[float, Field(gt=0, le=1000)]


class AllocationSection(Section):
    """Who gets the budget that the pre-samples leave."""

    policy: Name = "levels"
    """`levels` (HS-STaR), `uniform`, `proportional`, `variance`, `knapsack`, `stop`, `pairs`, or a function
    of your own, `package.module:function`."""
    waves: Annotated[int, Field(ge=1, le=100)] = 1
    """Times that a part of it is given away, each after a look at all verdicts."""
    limit: Annotated[int, Field(ge=1, le=100)] = 4
    """Most samples of one problem, times `n`; `levels` and `uniform` know no limit."""
    worth: Worth = "cap"
    """Of `pairs`: what the pairs of a problem are worth; `cap`: the first ones 1 each, `fading`: each less
    than the one before, `count`: each 1."""
    pairs: Positive = 4
    """Of `cap`: pairs that count; of `stop`: right and wrong samples that are enough."""
    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Of `fading`: what a pair is worth of the one before."""
    prior: Literal["empirical", "history"] | tuple[_PriorParameter, _PriorParameter] = "empirical"
    """Pass rates before any sample: fitted to the iteration, to earlier ones too, or a Beta distribution."""

    @field_validator("policy")
    @classmethod
    def _can_be_loaded(cls, policy: str) -> str:
        try:
            find_policy(policy)
        except BadInputError as error:
            raise ValueError(str(error)) from None
        return policy
