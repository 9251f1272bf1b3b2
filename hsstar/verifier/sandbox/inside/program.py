"""A program of a model: run as the main module, or loaded so that its functions can be called."""

import builtins
import os
import sys
import traceback
import types
from typing import Any, NoReturn

from hsstar.verifier.sandbox.inside.channel import Message
from hsstar.verifier.sandbox.inside.values import decode, encode

_FILE = "program.py"
_STANDARD = {"stdin": 0, "stdout": 1, "stderr": 2}
_LONGEST_TEXT = 500


def run_as_main(source: str) -> NoReturn:
    """Run a program in this process, and end it as Python would."""
    module = _main_module()
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        setattr(sys, name, os.fdopen(_STANDARD[name], mode, encoding="utf-8", closefd=False))
    try:
        exec(compile(source, _FILE, "exec"), module.__dict__)  # noqa: S102  # that is what it is for
    except SystemExit:
        raise
    except BaseException as error:
        sys.stderr.write(described(error))
        raise SystemExit(1) from None
    raise SystemExit(0)


def described(error: BaseException) -> str:
    """Return kind, text and line of an error, bounded."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == _FILE]
    if isinstance(error, SyntaxError) and error.filename == _FILE:
        lines = [error.lineno]
    place = f" in line {lines[-1]}" if lines else ""
    try:
        text = " ".join(str(error).split())[:_LONGEST_TEXT]
    except Exception:  # the program may have defined it
        text = ""
    return f"{type(error).__name__}{place}{': ' if text else ''}{text}"


class LoadedProgram:
    """A program whose functions are called. Objects that are no plain values stay here, by number."""

    def __init__(self) -> None:
        self._names = _main_module().__dict__
        self._kept: list[Any] = []

    def load(self, sources: list[str]) -> Message:
        """Run the sources as one module; return its public names, or what was raised."""
        try:
            for source in sources:
                exec(compile(source, _FILE, "exec"), self._names)  # noqa: S102  # that is what it is for
        except BaseException as error:
            return {"raised": type(error).__name__, "text": described(error)}
        return {"names": [name for name in self._names if not name.startswith("__")]}

    def answer(self, message: Message) -> Message:
        """Return the value of an attribute or of a call, or what was raised."""
        try:
            target = self._target(message["target"])
            if message["op"] == "get":
                return {"value": self._encode(getattr(target, message["name"]))}
            arguments = [decode(argument, self._find) for argument in message["arguments"]]
            named = {name: decode(held, self._find) for name, held in message["named"].items()}
            before = [encode(argument, self._keep) for argument in arguments]
            value = self._encode(target(*arguments, **named))
            after = [encode(argument, self._keep) for argument in arguments]
        except BaseException as error:
            return {"raised": type(error).__name__, "text": described(error)}
        changed = {
            place: then for place, (now, then) in enumerate(zip(before, after, strict=True)) if now != then
        }
        return {"value": value, "changed": changed}

    def _target(self, target: Any) -> Any:
        """Return an object by its number, a global by its name, or the method of a `Solution`."""
        if isinstance(target, list):
            return self._find(target)
        if target in self._names:
            return self._names[target]
        solution = self._names.get("Solution")
        if solution is None or not hasattr(solution, target):
            raise NameError(f"the program defines no {target}")
        return getattr(solution(), target)

    def _encode(self, value: Any) -> Any:
        return encode(value, self._keep)

    def _keep(self, value: Any) -> list[Any]:
        self._kept.append(value)
        return ["object", len(self._kept) - 1, type(value).__name__]

    def _find(self, sent: list[Any]) -> Any:
        return self._kept[sent[1]]


def _main_module() -> types.ModuleType:
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    sys.argv = [_FILE]
    return module
