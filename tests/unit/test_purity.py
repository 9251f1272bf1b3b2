"""What the domain and the verifier import: the domain is pure, and the verifier could be published alone."""

import ast
import sys
from pathlib import Path

import pytest

import hsstar

HSSTAR = Path(hsstar.__path__[0])
DOMAIN = sorted((HSSTAR / "domain").rglob("*.py"))
VERIFIER = [*(HSSTAR / "verifier").glob("*.py")]
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


@pytest.mark.parametrize("file", DOMAIN, ids=lambda file: file.stem)
def test_the_domain_imports_the_standard_library_and_itself_without_clock_disk_network_or_chance(
    file: Path,
) -> None:
    for module in imported_modules(file):
        top = module.split(".")[0]
        assert module.startswith("hsstar.domain") or top in sys.stdlib_module_names
        assert top not in IMPURE


def test_the_verifier_imports_only_three_modules_of_the_domain() -> None:
    names = ("answers", "errors", "verdict")
    files = [*VERIFIER, *(HSSTAR / "domain" / f"{name}.py" for name in names)]
    modules = {module for file in files for module in imported_modules(file) if module.startswith("hsstar.")}
    assert {module for module in modules if not module.startswith("hsstar.verifier")} == {
        f"hsstar.domain.{name}" for name in names
    }
