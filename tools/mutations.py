"""Small changes of a program: one operator, constant, argument or statement at a time, in Python or in SQL.

A change that no test could notice is left out as far as a rule can say so: texts for people, logging,
annotations, assertions, limits of time and size, and options that say how rather than what.
"""

import ast
import re
from dataclasses import dataclass

_COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
_ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
}
_OPPOSITES = {"min": "max", "max": "min", "any": "all", "all": "any"}
_HOW_NOT_WHAT = frozenset(
    {
        "check",
        "daemon",
        "description",
        "encoding",
        "errors",
        "exist_ok",
        "help",
        "ignore_errors",
        "interval_start",
        "local_files_only",
        "max_workers",
        "metavar",
        "name",
        "parents",
        "short_help",
        "single",
        "stacklevel",
        "strict",
        "thread_name_prefix",
        "timeout",
    }
)
_FOR_PEOPLE = frozenset(
    {
        "AssertionError",
        "NewType",
        "RuntimeError",
        "ThreadPoolExecutor",
        "TypeError",
        "TypeVar",
        "ValueError",
        "cast",
        "close",
        "critical",
        "dataclass",
        "debug",
        "echo",
        "error",
        "exception",
        "filterwarnings",
        "getLogger",
        "info",
        "log",
        "print",
        "secho",
        "sleep",
        "warn",
        "warning",
    }
)
_SQL_RULES: tuple[tuple[str, str, str], ...] = (
    ("comparison", r"(?<![<>=!:-])<(?![<>=@-])", "<="),
    ("comparison", r"(?<![<>=!:-])<=(?![<>=])", "<"),
    ("comparison", r"(?<![<>=!-])>(?![<>=])", ">="),
    ("comparison", r"(?<![<>=!])>=(?![<>=])", ">"),
    ("comparison", r"(?<![<>=!:])=(?![<>=])", "<>"),
    ("logic", r"\bAND\b", "OR"),
    ("logic", r"\bOR\b(?! REPLACE)", "AND"),
    ("logic", r"\bNOT (?!NULL|MATERIALIZED|DISTINCT)", ""),
    ("null", r"\bIS NULL\b", "IS NOT NULL"),
    ("null", r"\bIS NOT NULL\b", "IS NULL"),
    ("null", r"\bcoalesce\((?=\w+(?:\.\w+)?, )", "nullif("),
    ("arithmetic", r"(?<= )\+(?= )", "-"),
    ("arithmetic", r"(?<= )-(?= )", "+"),
    ("arithmetic", r"(?<= )/(?= )", "*"),
    ("order", r"\bDESC\b", "ASC"),
    ("order", r"\bORDER BY [\w.]+(?=[,)\s])(?! DESC)", r"\g<0> DESC"),
    ("aggregate", r"\bmin\(", "max("),
    ("aggregate", r"\bmax\(", "min("),
    ("aggregate", r"\b(?:least)\(", "greatest("),
    ("aggregate", r"\b(?:greatest)\(", "least("),
    ("aggregate", r"\bsum\(", "max("),
    ("rows", r"\bLEFT JOIN\b", "JOIN"),
    ("rows", r"\bDISTINCT (?!FROM|ON)", ""),
    ("number", r"(?<![\w.:$])\d+(?![\w.])", "+1"),
    ("text", r"'[a-z_]+'", "'another'"),
)


@dataclass(frozen=True)
class Mutation:
    """One change of a file: the text from `start` to `end` (characters) becomes `new`."""

    kind: str
    start: int
    end: int
    new: str

    def apply(self, source: str) -> str:
        """Return the source with the change in it."""
        return source[: self.start] + self.new + source[self.end :]


def python_mutations(source: str) -> list[Mutation]:
    """Find the changes of a Python module."""
    finder = _Finder(source)
    finder.visit(ast.parse(source))
    return finder.found


def embedded_sql_mutations(source: str) -> list[Mutation]:
    """Find the changes of the SQL that a Python module holds in calls of `text`."""
    finder = _Finder(source)
    return [
        Mutation(found.kind, start + found.start, start + found.end, found.new)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and _name(node.func) == "text" and node.args
        and isinstance(node.args[0], ast.Constant)
        for start, end in [finder.span(node.args[0])]
        for found in sql_mutations(source[start:end])
    ]  # fmt: skip


def sql_mutations(source: str) -> list[Mutation]:
    """Find the changes of SQL statements; comments stay as they are."""
    visible = re.sub(r"--[^\n]*|/\*.*?\*/", lambda comment: " " * len(comment[0]), source, flags=re.S)
    outside = re.sub(r"'[^'\n]*'", lambda literal: "'" + "x" * (len(literal[0]) - 2) + "'", visible)
    found = []
    for kind, pattern, new in _SQL_RULES:
        for match in re.finditer(pattern, visible if kind == "text" else outside):
            text = str(int(match[0]) + 1) if kind == "number" else match.expand(new)
            found.append(Mutation(f"sql {kind}", match.start(), match.end(), text))
    return found


def _is_limit(target: ast.expr) -> bool:
    return _name(target).endswith(("_SECONDS", "_BYTES"))


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


class _Finder(ast.NodeVisitor):
    """Collects the changes of one module."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._lines = [0]
        for line in source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        self._texts = source.splitlines(keepends=True)
        self.found: list[Mutation] = []

    def span(self, node: ast.expr | ast.stmt | ast.keyword) -> tuple[int, int]:
        """Where a node is, in characters."""
        assert node.end_lineno and node.end_col_offset is not None  # noqa: S101 - parsed, so it has them
        return self._at(node.lineno, node.col_offset), self._at(node.end_lineno, node.end_col_offset)

    def _at(self, line: int, bytes_before: int) -> int:
        return self._lines[line - 1] + len(self._texts[line - 1].encode()[:bytes_before].decode())

    def _add(self, kind: str, start: int, end: int, new: str) -> None:
        self.found.append(Mutation(kind, start, end, new))

    def _replace_between(self, kind: str, left: ast.expr, right: ast.expr, old: str, new: str) -> None:
        start, end = self.span(left)[1], self.span(right)[0]
        words = r"\s+".join(map(re.escape, old.split()))
        match = re.search(rf"(?<![\w<>=!*/]){words}(?![\w<>=!*/])", self._source[start:end])
        if match:
            self._add(kind, start + match.start(), start + match.end(), new)

    def visit_Compare(self, node: ast.Compare) -> None:
        for left, operator, right in zip(
            [node.left, *node.comparators], node.ops, node.comparators, strict=False
        ):
            self._replace_between("comparison", left, right, *_COMPARISONS[type(operator)])
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            self._replace_between("logic", left, right, old, new)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self._add("logic", self.span(node)[0], self.span(node.operand)[0], "")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        is_text = any(isinstance(side, ast.JoinedStr) or isinstance(getattr(side, "value", None), str)
                      for side in (node.left, node.right))  # fmt: skip
        if type(node.op) in _ARITHMETIC and not is_text:
            self._replace_between("arithmetic", node.left, node.right, *_ARITHMETIC[type(node.op)])
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._add("constant", *self.span(node), str(not node.value))
        elif isinstance(node.value, int | float):
            self._add("constant", *self.span(node), repr(node.value + 1))

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if "TYPE_CHECKING" not in ast.unparse(node.test):
            self._negate(node.test)
            self.generic_visit(node)

    def _negate(self, test: ast.expr) -> None:
        if not isinstance(test, ast.Compare | ast.UnaryOp):
            start, end = self.span(test)
            self._add("condition", start, end, f"not ({self._source[start:end]})")

    def visit_Call(self, node: ast.Call) -> None:
        name = _name(node.func)
        if name in _FOR_PEOPLE or name.endswith("Error"):
            return
        if name in _OPPOSITES and isinstance(node.func, ast.Name):
            self._add("opposite", *self.span(node.func), _OPPOSITES[name])
        if name not in ("min", "max"):
            self._swap_arguments(node)
        self._drop_keywords(node)
        self.visit(node.func)
        for argument in node.args:
            self.visit(argument)
        for keyword in node.keywords:
            if keyword.arg not in _HOW_NOT_WHAT:
                self.visit(keyword.value)

    def _swap_arguments(self, node: ast.Call) -> None:
        for left, right in zip(node.args, node.args[1:], strict=False):
            if isinstance(left, ast.Starred) or isinstance(right, ast.Starred):
                continue
            if isinstance(left, ast.Constant) or isinstance(right, ast.Constant):
                continue
            (start, middle), (other, end) = self.span(left), self.span(right)
            text = self._source
            self._add("arguments", start, end, text[other:end] + text[middle:other] + text[start:middle])

    def _drop_keywords(self, node: ast.Call) -> None:
        parts = sorted([*map(self.span, node.args), *map(self.span, node.keywords)])
        for keyword in node.keywords:
            if keyword.arg is None or keyword.arg in _HOW_NOT_WHAT:
                continue
            start, end = self.span(keyword)
            position = parts.index((start, end))
            if position:
                self._add("keyword", parts[position - 1][1], end, "")
            elif len(parts) == 1:
                self._add("keyword", start, end, "")

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None and not isinstance(node.value, ast.Constant):
            self._add("return", *self.span(node.value), "None")
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call) and _name(node.value.func) not in _FOR_PEOPLE:
            self._add("statement", *self.span(node), "pass")
        if not isinstance(node.value, ast.Constant):
            self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if type(node.op) in (ast.Add, ast.Sub):
            old, new = _ARITHMETIC[type(node.op)]
            self._replace_between_assignment(node, f"{old}=", f"{new}=")
        self.generic_visit(node)

    def _replace_between_assignment(self, node: ast.AugAssign, old: str, new: str) -> None:
        start = self.span(node.target)[1]
        at = self._source.index(old, start)
        self._add("arithmetic", at, at + len(old), new)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if node.name in ("__repr__", "__str__"):
            return
        for part in (*node.decorator_list, *node.args.defaults, *node.args.kw_defaults, *node.body):
            if part is not None:
                self.visit(part)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None and not _is_limit(node.target):
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        if not any(_is_limit(target) for target in node.targets):
            self.visit(node.value)

    def visit_Raise(self, node: ast.Raise) -> None:
        """Leave out what an error says."""

    def visit_Assert(self, node: ast.Assert) -> None:
        """Leave out what the type checker needs."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Leave out what people read."""


def mutations(path: str, source: str) -> list[Mutation]:
    """Find the changes of a file of Python or, by its name, of SQL."""
    return sql_mutations(source) if path.endswith(".sql") else python_mutations(source)
