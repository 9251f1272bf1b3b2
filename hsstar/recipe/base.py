"""What every section of a recipe is built of, and how a document is read in one line of error."""

from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hsstar.domain.errors import RecipeError

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\w./: +-]+$")]
Positive = Annotated[int, Field(ge=1)]
Document = TypeVar("Document", bound=BaseModel)


class Section(BaseModel):
    """A table of a recipe: it knows its keys, refuses any other, and never changes."""

    # JSON, which keeps a recipe with its run, knows neither infinity nor NaN
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


def parse_section(kind: type[Document], document: dict[str, Any], source: str) -> Document:
    """A recipe, a section of one, or any other document from plain values.

    Raises:
        RecipeError: one line that names the first wrong key and its legal values.
    """
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise RecipeError(f"{source}: {_first_line(error, kind)}") from None


def _first_line(error: ValidationError, document: type[BaseModel]) -> str:
    """What is wrong first, naming the key and what is legal there; `document` is what was validated."""
    found = error.errors()
    first = found[0]
    key = ".".join(str(part) for part in first["loc"])
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    if first["type"] == "extra_forbidden":
        return (
            f"unknown key {key!r}; legal keys there: {', '.join(_legal_keys(first['loc'], document))}{more}"
        )
    if first["type"] == "missing":
        return f"key {key!r} is missing{more}"
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    given = first.get("input")
    shown = f", got {given!r}" if isinstance(given, str | int | float) else ""
    return f"{key}: {message}{shown}{more}" if key else f"{message}{more}"


def _legal_keys(location: tuple[int | str, ...], section: type[BaseModel]) -> list[str]:
    for part in location[:-1]:
        if isinstance(part, int):  # the place in a list of tables
            continue
        annotation = section.model_fields[str(part)].annotation
        choices = (annotation, *get_args(annotation))
        tables = [kind for kind in choices if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not tables:
            break
        section = tables[0]
    return sorted(section.model_fields)
