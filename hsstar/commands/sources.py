"""Check the sources of a recipe: the policies that draw samples beside the one in training."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from hsstar.checkpoints.size import model_size
from hsstar.commands.models import CheckedPolicy, check_engine, check_recipe_policy, policy_location
from hsstar.commands.prompts import check_rendering, check_room, with_examples, with_thinking
from hsstar.domain.errors import BadInputError, CheckpointError, HsstarError
from hsstar.domain.findings import Finding
from hsstar.engines.prompts import check_stop_tokens
from hsstar.recipe.recipe import Recipe
from hsstar.recipe.source import SourceSection
from hsstar.store.database import Database


def check_sources(
    database: Database, recipe: Recipe, policy: CheckedPolicy
) -> tuple[tuple[SourceSection, ...], list[CheckedPolicy]]:
    """Return the sources of a recipe as a run stores them, and their checked policies; `policy` is the run's.

    Raise as `check_recipe_policy`, and BadInputError if a source has the weights of the run's policy.
    """
    sections, teachers = [], []
    for source in recipe.sources:
        with _naming(source):
            section = with_examples(database, source)
            teacher = check_recipe_policy(database, section)
            own = (policy.fingerprint, recipe.policy.served[1])
            if (teacher.fingerprint, section.served[1]) == own:
                raise BadInputError(
                    f"{teacher.location} holds the weights of the run's own policy; sampling.n says how much "
                    "that draws, and a source needs another model"
                )
            check_stop_tokens(teacher.location, section.stop_token_ids)
            section = with_thinking(section, teacher.location)
            check_rendering(database, recipe.drawn_by(section), teacher.location)
        sections.append(section)
        teachers.append(teacher)
    return tuple(sections), teachers


@contextmanager
def _naming(source: SourceSection) -> Iterator[None]:
    """Put the name of a source before an error."""
    try:
        yield
    except HsstarError as error:
        raise type(error)(f"source {source.name!r}: {error}") from error


def look_at_sources(database: Database | None, recipe: Recipe) -> list[Finding]:
    """Find what the engines and contexts of sources give reason to look at, as far as models are there."""
    findings = []
    for source in recipe.sources:
        location = source.model if database is None else policy_location(database, source.model)
        try:
            size = model_size(location)
        except CheckpointError:
            continue
        found = check_engine(source, size.parameters)
        if size.folder is not None:
            found += check_room(database, recipe.drawn_by(source), str(size.folder))
        findings += [replace(one, text=f"source {source.name!r}: {one.text}") for one in found]
    return findings
