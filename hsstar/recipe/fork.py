"""`[fork]` of a recipe: the run that a run continues, and from where."""

from hsstar.recipe.base import Name, Natural, Section


class ForkSection(Section):
    """Where a forked run comes from; written by `runs fork`, and refused in the recipe of a new run."""

    run: Name
    """The run whose iterations before `iteration` it shares."""
    iteration: Natural
    """Its first iteration of its own."""
