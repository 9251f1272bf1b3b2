"""Rules of security that a reader of the source can check: no SQL from strings, no pickles."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(file for room in ("hsstar", "workers", "cli") for file in (ROOT / room).rglob("*.py"))

ALLOWED = {
    ("store/database.py", "_try_to_open"),  # three time limits, by psycopg's own literals; SET binds nothing
    ("store/database.py", "execute_file"),  # a file of the package, named by a constant (checked below)
    ("store/database.py", "refresh_statistics"),  # tables named by a constant (checked below)
    ("store/read/sql.py", "_answer"),  # the user's own query, which is what hsstar sql runs
}
"""Where SQL is no constant, and why that is safe."""

PICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib", "yaml"}
PICKLERS |= {"multiprocessing"}
EXECUTORS = {"text", "execute", "exec_driver_sql", "executemany", "copy", "SQL"}


def functions(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Every call with the function that it stands in."""

    def visit(node: ast.AST, where: str) -> Iterator[tuple[str, ast.Call]]:
        for child in ast.iter_child_nodes(node):
            inside = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else where
            if isinstance(child, ast.Call):
                yield inside, child
            yield from visit(child, inside)

    yield from visit(tree, "")


def constants(tree: ast.Module) -> set[str]:
    """Names of the module that are strings put together from nothing but constants."""
    known: set[str] = set()
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and is_constant(statement.value, known):
            known |= {target.id for target in statement.targets if isinstance(target, ast.Name)}
    return known


def is_constant(node: ast.expr, known: set[str]) -> bool:
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


def is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and name_of(node) in ("text", "sa.text")


def name_of(call: ast.Call) -> str:
    return ast.unparse(call.func)


def built_statements(source: str) -> list[tuple[str, str]]:
    """(function, statement) for every SQL text that is not a constant."""
    tree = ast.parse(source)
    known = constants(tree)
    found = []
    for where, call in functions(tree):
        method = name_of(call).rpartition(".")[2]
        if not call.args or method not in EXECUTORS:
            continue
        statement = call.args[0]
        is_clause = isinstance(statement, ast.Name) and name_of(call).startswith("connection.")
        if method == "execute" and (is_text(statement) or is_clause):
            continue  # SQLAlchemy's `execute` takes no strings: mypy sees to that
        if not is_constant(statement, known):
            found.append((where, ast.unparse(statement)))
    return found


@pytest.mark.parametrize(
    "source",
    [
        'connection.execute(text(f"SELECT {name}"))',
        'connection.execute(text("SELECT " + name))',
        'connection.execute(text("SELECT {}".format(name)))',
        'connection.execute(text("SELECT %s" % name))',
        "def f(query):\n    connection.execute(text(query))",
        'raw.execute(f"SELECT {name}")',
        'connection.exec_driver_sql("SELECT " + name)',
        'statement = f"SELECT {name}"\nconnection.execute(text(statement))',
        'sql.SQL("SELECT {}".join(names))',
    ],
)
def test_the_search_finds_built_statements(source: str) -> None:
    assert built_statements(source)


def test_sql_has_bound_parameters_only() -> None:
    assert len(FILES) > 100
    found = {
        (file.relative_to(ROOT).as_posix().removeprefix("hsstar/"), where): statement
        for file in FILES
        for where, statement in built_statements(file.read_text(encoding="utf-8"))
    }
    assert found.keys() == ALLOWED, found


@pytest.mark.parametrize(("function", "place"), [("execute_file", 1), ("refresh_statistics", 1)])
def test_what_those_are_given_is_constant(function: str, place: int) -> None:
    given = [
        call.args[place]
        for file in FILES
        for _, call in functions(ast.parse(file.read_text(encoding="utf-8")))
        if name_of(call).rpartition(".")[2] == function
    ]
    assert given
    assert all(isinstance(argument, ast.Constant) for argument in given)


def test_nothing_is_unpickled() -> None:
    for file in FILES:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            modules: list[str] = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            assert not {module.partition(".")[0] for module in modules} & PICKLERS, file
        for _, call in functions(tree):
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            if name_of(call) == "torch.load":
                assert keywords.get("weights_only") == "True", file
            assert keywords.get("allow_pickle", "False") == "False", file
            assert keywords.get("trust_remote_code", "False") == "False", file
