"""The tests of a problem, in a sandbox without the program: its functions are called through the channel.

What a function returns comes as a plain value, so that no comparison runs code of the program. An object that
is none is a `Remote`, equal to itself alone.
"""

import ast
import builtins
import importlib
import sys
import traceback
from contextlib import suppress
from typing import Any

from hsstar.verifier.sandbox.inside.channel import Channel, Message
from hsstar.verifier.sandbox.inside.values import NotPlainError, decode, encode

_LONGEST_SHOWN = 200


class _CannotAskError(BaseException):
    """The tests want of the program what no plain value can say; no test may catch this."""


class RemoteError(Exception):
    """The program raised an exception of a class of its own."""


class _Program:
    """The program, on the other side of the channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.last = ""  # what it has returned last, shortened
        self.asked = False

    def ask(self, op: str, target: Any, **rest: Any) -> Message:
        self.asked = True
        self._channel.send({"ask": {"op": op, "target": target, **rest}})
        answer = self._channel.receive()
        if answer is None:
            raise SystemExit
        if "raised" in answer:
            self.last = f"the program raised {answer['text']}"
            raise _raised(str(answer["raised"]), str(answer["text"]))
        return answer

    def value(self, sent: Any) -> Any:
        try:
            return decode(sent, self._remote)
        except NotPlainError as error:
            raise RemoteError(f"the program's answer is no value: {error}") from None

    def _remote(self, sent: list[Any]) -> "Remote":
        return Remote(self, sent, str(sent[-1]))

    def argument(self, value: Any) -> Any:
        def keep(value: Any) -> list[Any]:
            if isinstance(value, Remote):
                return list(value._target)
            raise _CannotAskError(f"they pass a {type(value).__name__}, which cannot leave its process")

        return encode(value, keep)


class Remote:
    """A function, class or object of the program."""

    def __init__(self, program: _Program, target: Any, shown: str) -> None:
        self._program, self._target, self._shown = program, target, shown

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call it with plain values; return what it returns."""
        program = self._program
        sent = [program.argument(argument) for argument in arguments]
        answer = program.ask(
            "call",
            self._target,
            arguments=sent,
            named={name: program.argument(held) for name, held in named.items()},
        )
        for place, changed in dict(answer.get("changed") or {}).items():
            _replace(arguments[int(place)], program.value(changed))
        value = program.value(answer.get("value"))
        program.last = f"the program returned {_shown(value)}"
        return value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._program.value(self._program.ask("get", self._target, name=name).get("value"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remote) and other._target == self._target

    def __hash__(self) -> int:
        return hash(str(self._target))

    def __repr__(self) -> str:
        return f"<{self._shown} of the program>"


def run_tests(message: Message, channel: Channel) -> Message:
    """Run tests in order until one fails; return its place and why, or that none did.

    `bad_tests` says why the tests themselves cannot be run.
    """
    program = _Program(channel)
    names: dict[str, Any] = {"__name__": "tests", "__builtins__": builtins}
    sources: dict[str, str] = {f"test {place}": source for place, source in enumerate(message["tests"])}
    try:
        for source in message["setup"]:
            exec(compile(source, "setup", "exec"), names)  # noqa: S102  # that is what it is for
        trees = {file: ast.parse(source, file) for file, source in sources.items()}
        for tree in trees.values():
            _provide(tree, names, set(message["names"]), program)
        for name in message["called"]:
            names[name] = Remote(program, message["entry_point"] or name, name)
    except (Exception, RecursionError) as error:
        return {"bad_tests": f"{type(error).__name__}: {error}"}
    for place, (file, tree) in enumerate(trees.items()):
        program.last = ""
        try:
            exec(compile(tree, file, "exec"), names)  # noqa: S102  # that is what it is for
        except _CannotAskError as error:
            return {"bad_tests": str(error)}
        except SystemExit:
            return {"failed": place, "why": "the tests were left by an exit"}
        except Exception as error:
            return {"failed": place, "why": _why(error, sources, file, program.last)}
    if not program.asked:
        return {"bad_tests": "they call nothing of the program"}
    return {"failed": None, "count": len(trees)}


def _provide(tree: ast.Module, names: dict[str, Any], defined: set[str], program: _Program) -> None:
    """Provide the names that a test reads and does not define: the program's, else modules."""
    called = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Name) or node.id in names or hasattr(builtins, node.id):
            continue
        if (
            node.id in sys.stdlib_module_names and node.id not in called
        ):  # the program's `math` would be a forgery
            names[node.id] = importlib.import_module(node.id)
        elif node.id in defined:
            names[node.id] = Remote(program, node.id, node.id)


def _raised(name: str, text: str) -> Exception:
    """Return an exception of Python by its name; of another name, or one that text does not make, ours."""
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        with suppress(TypeError):  # UnicodeDecodeError has five arguments
            return kind(text)
    return RemoteError(text)


def _replace(argument: Any, changed: Any) -> None:
    """Change a list, dictionary or set as the program has changed its copy."""
    match argument, changed:
        case list(), list():
            argument[:] = changed
        case (dict(), dict()) | (set(), set()):
            argument.clear()
            argument.update(changed)


def _why(error: Exception, sources: dict[str, str], file: str, last: str) -> str:
    """Return the line that failed and what the program did last."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in sources]
    place, number = (frames[-1].filename, frames[-1].lineno or 1) if frames else (file, 1)
    line = sources[place].splitlines()[number - 1].strip()
    text = "" if isinstance(error, AssertionError) and not str(error) else f"{type(error).__name__}: {error}"
    return "; ".join(part for part in (line[:_LONGEST_SHOWN], text[:_LONGEST_SHOWN], last) if part)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"
