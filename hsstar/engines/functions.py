"""Asks functions of the user, each task in a process of its own: what it does reaches nothing else."""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from hsstar.engines.rewards.contract import RequestError
from hsstar.verifier.kinds.pooled import processes_or_default
from hsstar.verifier.pool import Failure
from hsstar.verifier.pool_processes import PoolOptions
from hsstar.verifier.pool_thread import PoolThread

_SECONDS, _MEMORY_MB, _WALL_FACTOR = 10.0, 4096, 10.0
"""Processor time and address space of one task; ten times as long by the clock."""
_START_SECONDS = 60.0


class UserFunction:
    """A function of a file, whose text is `source`, or of a module; `call` says how it is called.

    `call` is a name of `function_task.CALLS`.
    """

    def __init__(self, call: str, function: str, source: str | None) -> None:
        self.name = function
        self._pool = PoolThread(
            PoolOptions(
                "hsstar.engines.function_task",
                {"call": call, "function": function, "source": source},
                function,
                processes_or_default(None),
                _SECONDS,
                _MEMORY_MB,
                one_task_each=True,
                wall_factor=_WALL_FACTOR,
                start_seconds=_START_SECONDS,
            )
        )

    def check(self) -> None:
        """Import the function; raise EngineError if there is none that can be called so."""
        self._pool.start()

    def ask(self, tasks: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Return what the function gives for each task; raise RequestError for the first that fails."""
        found: list[Any] = [None] * len(tasks)
        with closing(self._pool.run(tasks, 0.0)) as outcomes:  # type: ignore[type-var]  # it is a generator
            for place, outcome in outcomes:
                if isinstance(outcome, Failure):
                    raise RequestError(place, f"{self.name} {outcome.value}")
                answer = json.loads(outcome)
                if "error" in answer:
                    raise RequestError(place, f"{self.name}: {answer['error']}")
                found[place] = answer["value"]
        return found

    def close(self) -> None:
        """End its processes."""
        self._pool.close()
