"""The JSON Schema of a recipe's file, for editors and other programs."""

from copy import deepcopy
from typing import Any

from hsstar.recipe.documents import EXTENDS
from hsstar.recipe.recipe import Recipe

Schema = dict[str, Any]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE = "#/$defs/"
_NAME_ALONE = {"BenchmarkSection": "name", "PromptSection": "template"}
"""Sections that may be written as a name alone, and the one key that they need."""
_CHANGES = "Changes"


def recipe_schema() -> Schema:
    """Return the JSON Schema of a recipe's file; one that extends another needs no key besides.

    It knows keys, types and bounds; what keys say of one another only `parse_recipe` knows.
    """
    whole = Recipe.model_json_schema()
    parts = whole.pop("$defs")
    for section, key in _NAME_ALONE.items():
        parts[section] = {"anyOf": [{"type": "string"}, parts[section] | {"required": [key]}]}
    whole["properties"][EXTENDS] = {"type": "string", "description": "The recipe that this one changes."}
    changes = {f"{name}{_CHANGES}": _without_required(part) for name, part in parts.items()}
    changes[_CHANGES] = _without_required(whole)
    return {
        "$schema": _DIALECT,
        "title": "Recipe of hsstar",
        "if": {"required": [EXTENDS]},
        "then": {"$ref": f"{_REFERENCE}{_CHANGES}"},
        "else": {"$ref": f"{_REFERENCE}Recipe"},
        "$defs": {**parts, "Recipe": whole, **changes},
    }


def _without_required(schema: Schema) -> Schema:
    """Return a schema that demands no key, of the parts that it refers to neither."""

    def relax(value: Any) -> Any:
        if isinstance(value, list):
            return [relax(item) for item in value]
        if not isinstance(value, dict):
            return value
        changed = {key: relax(item) for key, item in value.items() if not _demands(key, item)}
        if isinstance(reference := changed.get("$ref"), str) and not _names_alone(reference):
            changed["$ref"] = f"{reference}{_CHANGES}"
        return changed

    relaxed: Schema = relax(deepcopy(schema))
    return relaxed


def _names_alone(reference: str) -> bool:
    return reference.removeprefix(_REFERENCE) in _NAME_ALONE


def _demands(key: str, value: Any) -> bool:
    return key == "required" and isinstance(value, list)
