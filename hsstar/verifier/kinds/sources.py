"""Where the function of `python` comes from: its place, and the text that decides what it does."""

import sys
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, entry_points, packages_distributions, version
from pathlib import Path

from hsstar.domain.errors import BadInputError

GROUP = "hsstar.verifiers"
"""The group of entry points."""


def module_of(function: str) -> str:
    """Return `MODULE:NAME` of a function that is no file's; raise BadInputError without its entry point."""
    if ":" in function:
        return function
    found = {point.name: point for point in _installed()}
    if function not in found:
        known = ", ".join(sorted(found)) or "none is installed"
        raise BadInputError(
            f"function: no entry point {function!r} in the group {GROUP} ({known}); "
            "or give FILE.py:NAME or MODULE:NAME"
        )
    return found[function].value


def source_of(function: str, text: str | None) -> str:
    """Return the text of a file's function, else the module's text with the version of its package.

    The module is not executed. Raise BadInputError without such a module.
    """
    if text is not None:
        return text
    module = module_of(function).partition(":")[0]
    path = _path_of(module, function)
    top = module.partition(".")[0]
    package = next(iter(packages_distributions().get(top, ())), None)
    installed = f"{package} {version(package)}" if package else "of no package"
    return f"{installed}\n{path.read_text(encoding='utf-8', errors='replace')}"


def _installed() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=GROUP))


def _path_of(module: str, function: str) -> Path:
    """Return the file of a function's module, found part by part without executing any."""
    places: list[str] | None = None
    found = None
    for end in range(1, module.count(".") + 2):
        name = ".".join(module.split(".")[:end])
        found = _spec(name, places)
        if found is None or (found.origin is None and not found.submodule_search_locations):
            raise BadInputError(f"function = {function!r}: there is no module {name!r}")
        places = [*(found.submodule_search_locations or ())]
    if found is None or found.origin is None or not found.origin.endswith(".py"):
        raise BadInputError(f"function = {function!r}: {module!r} is no module with a source file")
    return Path(found.origin)


def _spec(name: str, places: list[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        if (spec := finder.find_spec(name, places)) is not None:
            return spec
    return None
