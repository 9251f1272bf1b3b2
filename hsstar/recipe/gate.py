"""`[gate]` of a recipe: the limits at which a run stops."""

from typing import Annotated

from pydantic import Field, field_validator

from hsstar.domain.run_quality import Gate
from hsstar.recipe.base import Section

_Share = Annotated[float, Field(ge=0, le=1)]


class GateSection(Section):
    """The limits at which a run is held until a person resumes it; the defaults never hold it."""

    correct_share: tuple[_Share, _Share] = (0.0, 1.0)
    """Least and greatest share of correct pre-samples; beyond it an iteration stops before re-sampling."""
    cut_share_at_most: _Share = 1.0
    """Greatest share of pre-samples that are cut at their length limit; checked at the same time."""
    evaluation_drop_at_most: _Share = 1.0
    """How far an accuracy of a new policy may be below that of the one before. With a limit, an iteration
    starts after the evaluation of its policy instead of beside it."""

    @field_validator("correct_share")
    @classmethod
    def _in_order(cls, share: tuple[float, float]) -> tuple[float, float]:
        if share[0] >= share[1]:
            raise ValueError("the least share must be below the greatest")
        return share

    @property
    def limits(self) -> Gate:
        """The limits as the domain reads them."""
        return Gate(self.correct_share, self.cut_share_at_most, self.evaluation_drop_at_most)
