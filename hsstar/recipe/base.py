"""The base of every section of a recipe, and the parser of documents with one-line errors."""

from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hsstar.domain.errors import RecipeError
from hsstar.domain.suggestions import did_you_mean

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\w./: +-]+$")]
Positive = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Temperature = Annotated[float, Field(ge=0, le=10)]
TopP = Annotated[float, Field(gt=0, le=1)]
MinP = Annotated[float, Field(ge=0, le=1)]
RepetitionPenalty = Annotated[float, Field(gt=0, le=10)]
NumberFormat = Literal["float32", "bfloat16", "float16"]
Document = TypeVar("Document", bound=BaseModel)


class Section(BaseModel):
    """A table of a recipe: immutable, and it refuses unknown keys."""

    # a recipe is stored as JSON, which has neither infinity nor NaN
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


def parse_section(kind: type[Document], document: dict[str, Any], source: str) -> Document:
    """Return a recipe, a section or any other document from plain values.

    Raises:
        RecipeError: one line that names the first wrong key and its legal values.
    """
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise RecipeError(f"{source}: {_first_line(error, kind)}") from None


def _first_line(error: ValidationError, document: type[BaseModel]) -> str:
    first, *others = error.errors()
    key = ".".join(str(part) for part in first["loc"])
    more = f" (and {len(others)} more)" if others else ""
    if first["type"] == "extra_forbidden":
        legal = _legal_keys(first["loc"], document)
        meant = did_you_mean(str(first["loc"][-1]), legal)
        return f"unknown key {key!r}; legal keys there: {', '.join(legal)}{meant}{more}"
    if first["type"] == "missing":
        return f"key {key!r} is missing{more}"
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    value = first.get("input")
    shown = f", got {value!r}" if isinstance(value, str | int | float) else ""
    return f"{key}: {message}{shown}{more}" if key else f"{message}{more}"


def _legal_keys(location: tuple[int | str, ...], section: type[BaseModel]) -> list[str]:
    for part in location[:-1]:
        if isinstance(part, int):  # an index in a list of tables
            continue
        annotation = section.model_fields[str(part)].annotation
        choices = (annotation, *get_args(annotation))
        tables = [kind for kind in choices if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not tables:
            break
        section = tables[0]
    return sorted(section.model_fields)
