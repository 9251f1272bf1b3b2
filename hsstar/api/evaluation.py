"""An evaluation as an object: wait for it, then take its results."""

from hsstar.api.run import RunHandle
from hsstar.commands.evaluate import Evaluation
from hsstar.domain.errors import ConflictError
from hsstar.insights.evaluation import BenchmarkResult, PolicyComparison, compare_policies, load_results
from hsstar.settings import Settings
from hsstar.store.database import Database


class EvaluationHandle:
    """One policy, or two that are compared, on some benchmarks; the workers do what is missing."""

    def __init__(self, database: Database, settings: Settings, evaluation: Evaluation, seed: int) -> None:
        self._database = database
        self._settings = settings
        self._evaluation = evaluation
        self._seed = seed

    @property
    def done(self) -> bool:
        """Whether every policy has its accuracy on every benchmark."""
        return not self._evaluation.unfinished(self._database)

    @property
    def runs(self) -> list[RunHandle]:
        """The runs that hold the samples, one per policy."""
        return [RunHandle(self._database, self._settings, of.run.name) for of in self._evaluation.runs]

    def wait(self, timeout_seconds: float | None = None) -> "EvaluationHandle":
        """Wait until it is done; return itself. Raise as `RunHandle.wait`; the time counts per policy."""
        for unfinished in self._evaluation.unfinished(self._database):
            RunHandle(self._database, self._settings, unfinished.run.name).wait(timeout_seconds)
        return self

    def results(self) -> dict[str, list[BenchmarkResult]]:
        """Return the results by policy, a benchmark each; raise ConflictError before it is done."""
        if not self.done:
            raise ConflictError("the evaluation is under way; call wait() first")
        return {of.model: load_results(self._database, of) for of in self._evaluation.runs}

    def comparison(self) -> PolicyComparison | None:
        """Return the paired difference of two policies, second minus first; None for one policy."""
        results = list(self.results().values())
        return compare_policies(results[0], results[1], self._seed) if len(results) > 1 else None
