"""The verifier is a package that could be published alone."""

import ast
from pathlib import Path

import hsstar.verifier

ALLOWED = {f"hsstar.domain.{name}" for name in ("answers", "errors", "verdict")}


def test_the_verifier_imports_only_three_modules_of_the_domain() -> None:
    domain = Path(hsstar.verifier.__file__).parents[1] / "domain"
    modules = [*Path(hsstar.verifier.__file__).parent.glob("*.py")]
    modules += [domain / f"{name.rpartition('.')[2]}.py" for name in ALLOWED]
    imported = {
        name
        for path in modules
        for node in ast.walk(ast.parse(path.read_text()))
        for name in imported_modules(node)
        if name.startswith("hsstar.") and not name.startswith("hsstar.verifier")
    }
    assert imported <= ALLOWED


def imported_modules(node: ast.AST) -> list[str]:
    match node:
        case ast.ImportFrom(module=str(module)):
            return [module]
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case _:
            return []
