"""What the checking processes of `PythonVerifier` do: ask the user's function about one response.

A task is `{"response": …, "reference": …, "problem": …}`; its outcome is cause and detail. The function may
have the signature of hsstar, or one of the trainers' own:

- `hsstar`: `check(response, reference, problem)` returns a bool, a number or a `Verdict`;
- `trl`, `trl-text`: `reward(completions, **columns)`, of one completion, as a conversation or a text;
- `verl`: `compute_score(data_source, solution_str, ground_truth, extra_info)`;
- `verifiers`: a reward function by the names of its parameters, or a rubric with `score_rollout`.
"""

import asyncio
import importlib
import inspect
import json
import sys
import traceback
from collections.abc import Callable
from numbers import Real
from pathlib import PurePath
from types import ModuleType
from typing import Any

from hsstar.domain.verdict import LONGEST_DETAIL, Cause, Verdict
from hsstar.domain.verification import file_of
from hsstar.verifier.kinds.sources import module_of
from hsstar.verifier.process import AnswerTask

Ask = Callable[[dict[str, str]], Any]
"""Asks the function about a task."""

ON_MAIN_THREAD = True
"""Some libraries set alarms, which only the main thread can."""

_COLUMNS = ("solution", "answer", "ground_truth", "reference")
"""The names under which data sets of TRL hold references."""


def load(setup: dict[str, Any]) -> AnswerTask:
    """Import the function; return what asks it. Raise an error in one line if it is none of those above."""
    function = import_function(setup["function"], setup["source"])
    signature = setup["signature"]
    if signature == "auto":
        signature = _signature_of(function)
    if signature != "hsstar" and setup["threshold"] is None:
        raise ValueError(f"a function of {signature} returns a number: set verification.threshold")
    ask = _CALLS[signature](function, setup)

    def answer_task(task: dict[str, Any]) -> str:
        try:
            cause, detail = _cause_of(ask(task), setup["threshold"])
        except BaseException as error:  # it is the user's own code
            cause, detail = Cause.CHECK_FAILED, failure(error)
        return json.dumps({"cause": cause, "detail": detail and detail[:LONGEST_DETAIL]})

    return answer_task


def import_function(function: str, source: str | None) -> Any:
    """Return what the name means, from the text of its file if that is given."""
    path = file_of(function)
    if path is None:
        module_name, _, name = module_of(function).partition(":")
        module: Any = importlib.import_module(module_name)
    else:
        name = function.rpartition(":")[2]
        module = ModuleType(PurePath(path).stem)
        sys.modules[module.__name__] = module
        exec(compile(source or "", path, "exec"), module.__dict__)  # noqa: S102  # the user's own code
    for part in name.split("."):
        if not hasattr(module, part):
            raise AttributeError(f"there is no {name!r} in it")
        module = getattr(module, part)
    if not callable(module) and not hasattr(module, "score_rollout"):
        raise TypeError(f"{name!r} is no function but {type(module).__name__}")
    return module


def _signature_of(function: Any) -> str:
    if hasattr(function, "score_rollout"):
        return "verifiers"
    parameters = inspect.signature(function).parameters
    by_name = {"completions": "trl", "solution_str": "verl", "completion": "verifiers"}
    return next((signature for name, signature in by_name.items() if name in parameters), "hsstar")


def _hsstar(function: Any, setup: dict[str, Any]) -> Ask:
    try:
        inspect.signature(function).bind("", "", "")
    except TypeError as error:
        raise TypeError(
            f"expected check(response, reference, problem), found {inspect.signature(function)}: {error}"
        ) from None
    return lambda task: function(task["response"], task["reference"], task["problem"])


def _trl(function: Any, setup: dict[str, Any], *, texts: bool = False) -> Ask:
    def ask(task: dict[str, str]) -> Any:
        prompt, completion = task["problem"], task["response"]
        values: dict[str, Any] = {name: [task["reference"]] for name in _COLUMNS}
        values["prompts"] = [prompt if texts else [{"role": "user", "content": prompt}]]
        values["completions"] = [completion if texts else [{"role": "assistant", "content": completion}]]
        rewards = _call(function, values)
        if not isinstance(rewards, list | tuple) or len(rewards) != 1:
            raise TypeError(f"expected a list of one reward, found {rewards!r}")
        return rewards[0]

    return ask


def _trl_text(function: Any, setup: dict[str, Any]) -> Ask:
    return _trl(function, setup, texts=True)


def _verl(function: Any, setup: dict[str, Any]) -> Ask:
    def ask(task: dict[str, str]) -> Any:
        values = {
            "data_source": setup["data_source"],
            "solution_str": task["response"],
            "ground_truth": task["reference"],
            "extra_info": {"question": task["problem"]},
        }
        found = _call(function, values)
        return found["score"] if isinstance(found, dict) else found

    return ask


def _verifiers(function: Any, setup: dict[str, Any]) -> Ask:
    async def score(state: dict[str, Any]) -> Any:
        if not hasattr(function, "score_rollout"):
            found = _call(function, state | {"state": state})
            return await found if inspect.isawaitable(found) else found
        await function.score_rollout(state)
        return state["reward"]

    def ask(task: dict[str, str]) -> Any:
        prompt = [{"role": "user", "content": task["problem"]}]
        completion = [{"role": "assistant", "content": task["response"]}]
        state = {"prompt": prompt, "completion": completion, "answer": task["reference"]}
        return asyncio.run(score(state | {"task": "", "info": {}}))

    return ask


_CALLS: dict[str, Callable[[Any, dict[str, Any]], Ask]] = {
    "hsstar": _hsstar,
    "trl": _trl,
    "trl-text": _trl_text,
    "verl": _verl,
    "verifiers": _verifiers,
}


def _call(function: Any, values: dict[str, Any]) -> Any:
    """Call a function with those of the values that it has parameters for."""
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return function(**values)
    return function(
        **{parameter.name: values[parameter.name] for parameter in parameters if parameter.name in values}
    )


def _cause_of(value: Any, threshold: float | None) -> tuple[Cause, str | None]:
    """Return what a function has said, and why that is no verdict if it is none."""
    if inspect.iscoroutine(value):
        value.close()
        return Cause.CHECK_FAILED, "the function is asynchronous; expected bool, number or Verdict"
    value = value.item() if hasattr(value, "item") else value  # of NumPy or PyTorch
    if isinstance(value, Verdict):
        return Cause(value.value), None
    if isinstance(value, bool):
        return Cause.CORRECT if value else Cause.INCORRECT, None
    if not isinstance(value, Real):
        shown = "None" if value is None else f"{type(value).__name__} {value!r}"[:200]
        return Cause.CHECK_FAILED, f"the function returned {shown}; expected bool, number or Verdict"
    number = float(value)
    if number != number:
        return Cause.CHECK_FAILED, "the function returned NaN"
    if threshold is None:
        return Cause.CHECK_FAILED, f"the function returned {number:g}, and verification.threshold is not set"
    return Cause.CORRECT if number >= threshold else Cause.INCORRECT, f"score {number:g}"


def failure(error: BaseException) -> str:
    """Return in a line what a function has raised, and where."""
    frames = traceback.extract_tb(error.__traceback__)
    line = f" (line {frames[-1].lineno} of {PurePath(frames[-1].filename).name})" if len(frames) > 1 else ""
    return " ".join(f"{type(error).__name__}: {error}".split()) + line
