"""What every section of a recipe is built of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\w./: +-]+$")]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A table of a recipe: it knows its keys, refuses any other, and never changes."""

    # JSON, which keeps a recipe with its run, knows neither infinity nor NaN
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
