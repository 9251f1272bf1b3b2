"""Which SQL is a file, as docs/architecture.md says, and that twins and oracles name each other."""

import ast
import importlib
import re
from pathlib import Path

import pytest

import hsstar.store

STORE = Path(hsstar.store.__path__[0])
FILES = sorted((STORE / "sql").glob("*.sql"))
MODULES = sorted([*STORE.glob("*.py"), *(STORE / "read").glob("*.py")])
LONGEST_INLINE = 15


def inline_statements(source: str) -> list[str]:
    """Every text of a module that is SQL, without blank lines."""
    strings = [
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    stripped = ["\n".join(line for line in text.splitlines() if line.strip()) for text in strings]
    return [text for text in stripped if re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", text)]


def loaded_names(source: str) -> set[str]:
    return {
        str(call.args[1].value)
        for call in ast.walk(ast.parse(source))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "execute_file"
        and isinstance(call.args[1], ast.Constant)
    }


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.stem)
def test_long_statements_and_those_with_ctes_are_files(module: Path) -> None:
    for statement in inline_statements(module.read_text(encoding="utf-8")):
        assert len(statement.splitlines()) <= LONGEST_INLINE, statement
        assert not statement.lstrip().startswith("WITH"), statement


def test_every_file_is_run_by_the_store() -> None:
    assert {file.stem for file in FILES} == set().union(
        *(loaded_names(module.read_text(encoding="utf-8")) for module in STORE.rglob("*.py"))
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_says_its_purpose_and_its_parameters(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    head = [line for line in lines if line.startswith("--")]
    assert re.match(r"-- [A-Z]", lines[0]), lines[0]
    statement = "\n".join(line for line in lines if not line.startswith("--"))
    if re.search(r"(?<!:):[a-z_]+", statement):
        assert any("Parameter" in line for line in head)


@pytest.mark.parametrize("file", [file for file in FILES if "SQL twin" in file.read_text(encoding="utf-8")])
def test_twin_and_oracle_name_each_other(file: Path) -> None:
    named = re.search(
        r"SQL twin of (.+?) in (domain/[\w/]+)\.py", file.read_text(encoding="utf-8").replace("\n-- ", " ")
    )
    assert named is not None
    module = importlib.import_module("hsstar." + named[2].replace("/", "."))
    for function in re.findall(r"`(\w+)`", named[1]):
        assert f"Oracle for store/sql/{file.name}; not called by the product." in (
            getattr(module, function).__doc__
        )
