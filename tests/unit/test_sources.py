"""Rules that a reader of the source can check: no SQL from strings, no pickles, pure rules, SQL in files."""

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.unit.tables import tables

ROOT = Path(__file__).resolve().parents[2]
HSSTAR, STORE = ROOT / "hsstar", ROOT / "hsstar" / "store"
FILES = sorted(file for room in ("hsstar", "workers", "cli") for file in (ROOT / room).rglob("*.py"))
STATEMENTS = sorted((STORE / "sql").glob("*.sql"))
LONGEST_INLINE = 15

ALLOWED = {
    ("store/database.py", "_try_to_open"),  # three time limits, by psycopg's own literals; SET binds nothing
    ("store/database.py", "execute_file"),  # a file of the package, named by a constant (checked below)
    ("store/database.py", "refresh_statistics"),  # tables named by a constant (checked below)
    ("store/read/sql.py", "querying"),  # the user's own query, which is what hsstar sql runs
    ("store/read/arrow.py", "_reader"),  # the same, after `check_query`
    ("store/read/selections.py", "_source"),  # a file of the package, named by a constant
}
"""Where SQL is no constant, and why that is safe."""

PICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib", "yaml"}
PICKLERS |= {"multiprocessing"}
EXECUTORS = {"text", "execute", "exec_driver_sql", "executemany", "copy", "stream", "SQL"}
IMPURE = {"os", "io", "pathlib", "random", "secrets", "time", "datetime", "socket", "subprocess", "threading"}


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def calls(tree: ast.AST, where: str = "") -> Iterator[tuple[str, ast.Call]]:
    """Every call with the function that it stands in."""
    for child in ast.iter_child_nodes(tree):
        inside = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else where
        if isinstance(child, ast.Call):
            yield inside, child
        yield from calls(child, inside)


def name_of(call: ast.Call) -> str:
    return ast.unparse(call.func)


def given_to(function: str, place: int = 1) -> list[ast.expr]:
    """The argument at a place (from 0) of every call of a function."""
    every = (call for file in FILES for _, call in calls(tree_of(file)))
    return [call.args[place] for call in every if name_of(call).rpartition(".")[2] == function]


def imported_modules(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found.add(node.module or "")
    return found


def is_constant(node: ast.expr, known: set[str]) -> bool:
    """Whether a string is put together from nothing but constants, of which some are known by name."""
    match node:
        case ast.Constant(value=str()):
            return True
        case ast.Name(id=name):
            return name in known
        case ast.JoinedStr(values=parts):
            return all(is_constant(part, known) for part in parts)
        case ast.FormattedValue(value=inner):
            return is_constant(inner, known)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return is_constant(left, known) and is_constant(right, known)
    return False


def built_statements(tree: ast.Module) -> list[tuple[str, str]]:
    """(function, statement) for every SQL text that is not a constant."""
    known: set[str] = set()
    for line in tree.body:
        if isinstance(line, ast.Assign) and is_constant(line.value, known):
            known |= {target.id for target in line.targets if isinstance(target, ast.Name)}
    found = []
    for where, call in calls(tree):
        method = name_of(call).rpartition(".")[2]
        if not call.args or method not in EXECUTORS:
            continue
        statement = call.args[0]
        is_text = isinstance(statement, ast.Call) and name_of(statement) in ("text", "sa.text")
        is_clause = isinstance(statement, ast.Name) and name_of(call).startswith("connection.")
        if method == "execute" and (is_text or is_clause):
            continue  # SQLAlchemy's `execute` takes no strings: mypy sees to that
        if not is_constant(statement, known):
            found.append((where, ast.unparse(statement)))
    return found


@pytest.mark.parametrize("source", tables("sources")["built"])
def test_the_search_finds_built_statements(source: str) -> None:
    assert built_statements(ast.parse(source))


def test_sql_has_bound_parameters_only() -> None:
    assert len(FILES) > 100
    found = {
        (file.relative_to(ROOT).as_posix().removeprefix("hsstar/"), where): statement
        for file in FILES
        for where, statement in built_statements(tree_of(file))
    }
    assert found.keys() == ALLOWED, found


@pytest.mark.parametrize("function", ["execute_file", "refresh_statistics"])
def test_what_those_are_given_is_constant(function: str) -> None:
    assert {type(argument) for argument in given_to(function)} == {ast.Constant}


def test_nothing_is_unpickled() -> None:
    for file in FILES:
        assert not {module.partition(".")[0] for module in imported_modules(file)} & PICKLERS, file
        for _, call in calls(tree_of(file)):
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            if name_of(call) == "torch.load":
                assert keywords.get("weights_only") == "True", file
            assert keywords.get("allow_pickle", "False") == "False", file
            assert keywords.get("trust_remote_code", "False") == "False", file


def test_the_domain_imports_the_standard_library_and_itself_without_clock_disk_network_or_chance() -> None:
    imports = {
        (file.stem, name) for file in (HSSTAR / "domain").rglob("*.py") for name in imported_modules(file)
    }
    others = {(file, name) for file, name in imports if not name.startswith("hsstar.domain")}
    allowed = sys.stdlib_module_names - IMPURE
    assert {(file, name) for file, name in others if name.split(".")[0] not in allowed} == set()
    assert others


def test_the_verifier_imports_only_six_modules_of_the_domain_and_for_judges_their_client() -> None:
    names = ("answers", "errors", "program_tests", "text", "verdict", "verification")
    in_domain = (HSSTAR / "domain").rglob("*.py")
    files = [path for path in in_domain if path.stem in names or path.parent.name in names]
    files += (HSSTAR / "verifier").rglob("*.py")
    modules = {module for file in files for module in imported_modules(file) if module.startswith("hsstar.")}
    others = {module for module in modules if not module.startswith("hsstar.verifier")}
    judges = set(imported_modules(HSSTAR / "verifier" / "kinds" / "judge.py"))
    remote = {module for module in others if module.startswith("hsstar.remote")}
    assert remote and remote <= judges
    others -= remote
    assert {".".join(module.split(".")[:3]) for module in others} == {
        f"hsstar.domain.{name}" for name in names
    }


@pytest.mark.parametrize(
    "module", [*STORE.glob("*.py"), *(STORE / "read").glob("*.py")], ids=lambda module: module.stem
)
def test_long_statements_and_those_with_ctes_are_files(module: Path) -> None:
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            lines = [line.strip() for line in node.value.splitlines() if line.strip()]
            if lines and re.match(r"(SELECT|INSERT|UPDATE|DELETE|WITH)\b", lines[0]):
                assert len(lines) <= LONGEST_INLINE, lines
                assert not lines[0].startswith("WITH"), lines


def test_every_file_is_run_by_the_store() -> None:
    named = [*given_to("execute_file"), *given_to("read_statement", place=0)]
    assert {file.stem for file in STATEMENTS} == {
        argument.value for argument in named if isinstance(argument, ast.Constant)
    }


@pytest.mark.parametrize("file", STATEMENTS, ids=lambda file: file.stem)
def test_a_file_says_its_purpose_and_its_parameters(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    assert re.match(r"-- [A-Z]", lines[0]), lines[0]
    statement = "\n".join(line for line in lines if not line.startswith("--"))
    if re.search(r"(?<!:):[a-z_]+", statement):
        assert any(line.startswith("--") and "Parameter" in line for line in lines)


@pytest.mark.parametrize(
    "file", [file for file in STATEMENTS if "SQL twin" in file.read_text(encoding="utf-8")]
)
def test_twin_and_oracle_name_each_other(file: Path) -> None:
    head = file.read_text(encoding="utf-8").replace("\n-- ", " ")
    named = re.search(r"SQL twin of (.+?) in (domain/[\w/]+)\.py", head)
    assert named is not None
    module = importlib.import_module("hsstar." + named[2].replace("/", "."))
    for function in re.findall(r"`(\w+)`", named[1]):
        oracle = f"Oracle for store/sql/{file.name}; "
        assert oracle in getattr(module, function).__doc__
