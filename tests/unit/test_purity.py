"""The domain is pure: standard library only, and nothing that reads clock, disk, network or chance."""

import ast
import sys
from pathlib import Path

import pytest

import hsstar.domain

FILES = sorted(Path(hsstar.domain.__path__[0]).rglob("*.py"))
IMPURE = {"os", "io", "pathlib", "random", "secrets", "time", "datetime", "socket", "subprocess", "threading"}


def imported_modules(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_domain_imports_the_standard_library_and_itself(file: Path) -> None:
    for module in imported_modules(file):
        top = module.split(".")[0]
        assert module.startswith("hsstar.domain") or top in sys.stdlib_module_names
        assert top not in IMPURE
