"""Writes the reference pages in docs/ from the code that they describe: `python -m tools.references`."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from textwrap import fill
from typing import Any

import click

from hsstar.cli.main import hsstar
from hsstar.recipe.recipe import Recipe
from tools import layout_tables

ROOT = Path(__file__).parents[1]
NOTE = "<!-- Written by `make references`; changes belong into the code. -->"
COMMAND_PAGE = Path("docs/reference-cli.md")
RECIPE_PAGE = Path("docs/reference-recipe.md")

Schema = dict[str, Any]


def pages() -> dict[Path, str]:
    """The text of each reference page, by its path from the root of the repository."""
    return {
        COMMAND_PAGE: command_page(),
        RECIPE_PAGE: recipe_page(),
        layout_tables.PAGE: layout_tables.renewed((ROOT / layout_tables.PAGE).read_text(encoding="utf-8")),
    }


def commands(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Each command that does something by itself, with its path below `hsstar`."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            if command.invoke_without_command:
                yield (*path, name), command
            yield from commands(command, *path, name)
        elif command is not None:
            yield (*path, name), command


def command_page() -> str:
    """The reference of the command line."""
    introduction = (
        "`hsstar --help` lists the commands and `hsstar COMMAND --help` explains one. `hsstar --version`\n"
        "prints the version. `hsstar --debug COMMAND` shows the traceback of an error. An option without a\n"
        "meaning below has the one in this list."
    )
    calls = list(commands(hsstar))
    uses = Counter(option for _, command in calls for option in _options(command))
    shared = sorted(option for option, count in uses.items() if count > 2 and option[1])
    parts = ["# The commands", NOTE, introduction]
    parts.append("\n".join(f"- `{syntax}` {explanation}" for syntax, explanation in shared))
    parts += (_command_section(path, command, shared) for path, command in calls)
    return "\n\n".join(parts) + "\n"


def _command_section(path: tuple[str, ...], command: click.Command, explained: list[tuple[str, str]]) -> str:
    name = " ".join(("hsstar", *path))
    purpose = " ".join((command.help or "").split("\n\n")[0].split())
    usage = " ".join((name, *command.collect_usage_pieces(click.Context(command)))).replace(" [OPTIONS]", "")
    example = (command.epilog or "").removeprefix("Example:").strip()
    without_arguments = usage in (name, example)  # then the example says as much
    code = example if without_arguments and example else f"{usage}\n\n{example}"
    parts = [f"## {name}", purpose, f"```\n{code}\n```"]
    lines = (
        f"- `{syntax}` {'' if (syntax, explanation) in explained else explanation}".strip()
        for syntax, explanation in _options(command)
    )
    return "\n\n".join(filter(None, (*parts, "\n".join(lines))))


def _options(command: click.Command) -> list[tuple[str, str]]:
    """The options of a command as `--help` shows them: syntax and explanation."""
    context = click.Context(command)
    options = (parameter for parameter in command.params if isinstance(parameter, click.Option))
    records = (option.get_help_record(context) for option in options)
    return [(record[0].replace(" RANGE", ""), " ".join(record[1].split())) for record in records if record]


def recipe_page() -> str:
    """The reference of a recipe's keys."""
    introduction = (
        "[recipe.md](recipe.md) explains how the keys work together. `extends` names the recipe that a file\n"
        "changes. Where a default depends on something else, the meaning says it."
    )
    schema = Recipe.model_json_schema()
    sections = list(_sections("Top level", "", schema, schema["$defs"]))
    texts = (_recipe_section(*section, sections[:place]) for place, section in enumerate(sections))
    return "\n\n".join(("# The keys of a recipe", NOTE, introduction, *texts)) + "\n"


def _sections(title: str, path: str, section: Schema, kinds: Schema) -> Iterator[tuple[str, Schema]]:
    """A section and those below it: the title and schema of each, the kinds of its values filled in."""
    keys: Schema = {}
    below = []
    for key, value in section["properties"].items():
        resolved = _resolved(value, kinds)
        items = _resolved(resolved.get("items", {}), kinds)
        keys[key] = resolved | ({"items": items} if items else {})
        place = f"{path}.{key}".removeprefix(".")
        if "properties" in resolved:
            below.append((f"`[{place}]`", place, resolved))
        elif "properties" in items:
            below.append((f"`[[{place}]]`", place, items))
    yield title, section | {"properties": keys}
    for inner in below:
        yield from _sections(*inner, kinds)


def _resolved(value: Schema, kinds: Schema) -> Schema:
    """The schema of a value that is there, with what it refers to filled in."""
    choices = [choice for choice in value.get("anyOf", ()) if choice.get("type") != "null"]
    if len(choices) == 1:
        own = {key: text for key, text in value.items() if key != "anyOf"}
        return _resolved(choices[0], kinds) | own
    if "$ref" in value:
        return {**kinds[value["$ref"].rpartition("/")[2]], **value}
    return value


def _recipe_section(title: str, section: Schema, earlier: list[tuple[str, Schema]]) -> str:
    keys = {key: value for key, value in section["properties"].items() if "properties" not in value}
    repeated, same_as = _repeated(keys, earlier)
    rows = []
    for key, value in keys.items():
        if key not in repeated:
            default = _default(value, key in section.get("required", ()))
            cells = (f"`{key}`", default, _legal(value), " ".join(value["description"].split()))
            rows.append(" | ".join(cell.replace("|", r"\|") for cell in cells).join(("| ", " |")))
    parts = [f"## {title}", " ".join(section["description"].split())]
    if rows:
        parts.append("\n".join(("| key | default | legal | meaning |", "|---|---|---|---|", *rows)))
    if repeated:
        parts.append(fill(f"As in {same_as}: {', '.join(f'`{key}`' for key in repeated)}.", 110))
    return "\n\n".join(parts)


def _repeated(keys: Schema, earlier: list[tuple[str, Schema]]) -> tuple[list[str], str]:
    """The keys that an earlier section explains already, and the title of that section."""
    for title, section in earlier:
        same = [key for key, value in keys.items() if section["properties"].get(key) == value]
        if len(same) > 2:
            return same, title
    return [], ""


def _default(value: Schema, required: bool) -> str:
    if re.search(r"\bdefault: ", value["description"], re.IGNORECASE):
        return "–"
    if required:
        return "required"
    default = value.get("default", {})
    return "none" if default is None else f"`{re.sub(r'e-0', 'e-', json.dumps(default))}`"


def _legal(value: Schema) -> str:
    if "enum" in value:
        return ", ".join(f"`{choice}`" for choice in value["enum"])
    if "anyOf" in value:
        return ", ".join(map(_legal, value["anyOf"]))
    kind = value["type"]
    if "prefixItems" in value:
        return f"`[{', '.join(map(_legal, value['prefixItems']))}]`"
    if kind == "array":
        items = value["items"]
        return f"list: {_legal(items)}" if "enum" in items else "list"
    if kind in ("integer", "number"):
        bounds = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
        return ", ".join(f"{sign} {value[bound]}" for bound, sign in bounds if bound in value) or "number"
    return {"boolean": "`true`, `false`", "string": "text", "object": "table"}[kind]


def main() -> None:
    """Write the pages."""
    for path, text in pages().items():
        (ROOT / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
