"""What the checking processes of `UserFunction` do: call the user's function on one task.

A task holds the arguments by name. Its outcome is `{"value": …}`, or `{"error": reason}` in one line.
"""

import inspect
import json
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

from hsstar.domain.steps import spans_of_steps
from hsstar.verifier.kinds.python_task import failure, import_function
from hsstar.verifier.process import AnswerTask

Task = Mapping[str, Any]


def load(setup: dict[str, Any]) -> AnswerTask:
    """Import the function; return what calls it. Raise an error in one line if it cannot be called so."""
    function = import_function(setup["function"], setup["source"])
    arguments, read = CALLS[setup["call"]]
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError as error:
        expected = f"expected a function of {', '.join(arguments)}"
        raise TypeError(f"{expected}, found {inspect.signature(function)}: {error}") from None

    def answer_task(task: Task) -> str:
        try:
            return json.dumps({"value": read(function(*(task[name] for name in arguments)), task)})
        except BaseException as error:  # it is the user's own code
            return json.dumps({"error": failure(error)})

    return answer_task


def _rewards(value: Any, task: Task) -> list[float]:
    """Return a number, or one for each step, as the rewards of steps."""
    if hasattr(value, "tolist"):  # of NumPy or PyTorch
        value = value.tolist()
    values = value if isinstance(value, list | tuple) else [value]
    for number in values:
        if not isinstance(number, Real) or not 0 <= float(number) <= 1:  # nor NaN
            shown = f"{type(number).__name__} {number!r}"[:200]
            raise ValueError(f"it returned {shown}; a reward is a number from 0 to 1")
    return [float(number) for number in values]


def _spans(value: Any, task: Task) -> list[tuple[int, int]]:
    """Return where the steps are that a function gives as texts."""
    if not isinstance(value, list | tuple) or not all(isinstance(step, str) for step in value):
        raise ValueError(f"it returned {type(value).__name__}; expected a list of texts")
    return list(spans_of_steps(task["response"], value))


CALLS: dict[str, tuple[tuple[str, ...], Callable[[Any, Task], Any]]] = {
    "reward": (("response", "reference", "problem"), _rewards),
    "steps": (("response",), _spans),
}
"""By name: the arguments, and what becomes of the result."""
