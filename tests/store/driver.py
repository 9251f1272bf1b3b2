"""A worker without broker: it claims jobs one by one and runs the real stages on small engines."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import pytest
from sqlalchemy import Connection, text

from hsstar.conductor import Conductor
from hsstar.domain.lifecycle import IterationState, JobKind
from hsstar.recipe.recipe import Recipe
from hsstar.settings import Settings
from hsstar.stages.context import WorkerContext
from hsstar.stages.engine_pool import EnginePool
from hsstar.store import rounds
from hsstar.store.database import Database
from hsstar.store.queue import jobs
from hsstar.store.queue.jobs import Job
from hsstar.store.runs import Run
from hsstar.verifier import MathVerifier
from hsstar.workers.runtime import STAGES
from tests.deterministic import DeterministicSampler, MarkingTrainer, ReadingRewardModel, Script
from tests.store.factory import HELDOUT, add_problems, add_run, claim, make_recipe

ATTEMPTS = 3
SAMPLE_KINDS = (JobKind.SAMPLE, JobKind.VERIFY, JobKind.SCORE)
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_PROBLEMS = """
    FROM rounds JOIN round_problems ON round_problems.round_id = rounds.id
    JOIN problems ON problems.id = round_problems.problem_id
"""
_SAMPLES = f"{_PROBLEMS} JOIN samples USING (round_id, problem_id)"
_IN_ORDER = "ORDER BY kind, number, evaluation_key, position"
TABLES = {
    "slices": "SELECT kind, number, statement, allotment, difficulty_labels.level "
    f"{_PROBLEMS} LEFT JOIN difficulty_labels USING (round_id, problem_id) {_IN_ORDER}",
    "jobs": "SELECT rounds.kind, number, jobs.kind, statement, slots FROM jobs "
    "JOIN rounds ON rounds.id = round_id LEFT JOIN job_items ON job_id = jobs.id "
    "LEFT JOIN problems ON problems.id = problem_id ORDER BY 1, 2, jobs.id, problem_id",
    "samples": "SELECT kind, number, statement, slot, samples.seed, response, cause "
    f"{_SAMPLES} JOIN sample_responses ON sample_id = samples.id {_IN_ORDER}, slot",
    "cut": "SELECT kind, number, statement, slot "
    f"{_SAMPLES} WHERE finish_reason = 'length' {_IN_ORDER}, slot",
    "rewards": "SELECT kind, number, statement, slot, CAST(round(CAST(min_reward AS numeric), 4) AS float) "
    f"{_SAMPLES} WHERE min_reward IS NOT NULL {_IN_ORDER}, slot",
    "pairs": f"SELECT kind, number, statement, chosen.slot, rejected.slot {_PROBLEMS} "
    "JOIN preference_pairs AS pairs USING (round_id, problem_id) "
    "JOIN samples AS chosen ON chosen.id = chosen_sample_id "
    f"JOIN samples AS rejected ON rejected.id = rejected_sample_id {_IN_ORDER}, chosen.slot",
}
"""What a run has made, by what names it in every database."""


def call(
    database: Database,
    function: Callable[Concatenate[Connection, Arguments], Result],
    *given: Arguments.args,
    **options: Arguments.kwargs,
) -> Result:
    """Call a function of the store in a transaction of its own."""
    with database.begin() as connection:
        return function(connection, *given, **options)


def rows(database: Database, query: str, **parameters: Any) -> Sequence[Any]:
    """The rows of a query, in a transaction of its own."""
    with database.begin() as connection:
        return connection.execute(text(query), parameters).all()


class _KilledError(Exception):
    """The process is gone."""


class Worker:
    """Does what workers do, one job after the other, and reads the rows."""

    def __init__(self, database: Database, engines: EnginePool, folder: Path, job_samples: int) -> None:
        self.database = database
        settings = Settings(folder, folder, job_samples=job_samples, max_attempts=ATTEMPTS)
        self.conductor = Conductor(database, settings)
        self._context = WorkerContext(database, engines, job_samples, folder)

    def work(self, kinds: Collection[JobKind] = frozenset(JobKind)) -> None:
        """Do jobs of these kinds until none is left."""
        self.conductor.sweep()
        while job_ids := self.queued(kinds):
            for job_id in job_ids:
                self.do(job_id)

    def work_among_dying_conductors(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Work until nothing moves; each look that moves the run is the last one of its process."""
        look, moved = Conductor._pass, False

        def die(conductor: Conductor, run_id: int) -> bool:
            nonlocal moved
            if look(conductor, run_id):
                moved = True
                raise _KilledError
            return False

        with monkeypatch.context() as patch:
            patch.setattr(Conductor, "_pass", die)
            while True:
                moved = False
                with suppress(_KilledError):
                    self.conductor.sweep()
                queued = self.queued()
                for job_id in queued:
                    self.compute(job_id)
                if not (moved or queued):
                    return

    def do(self, job_id: int, name: str = "driver") -> bool:
        """Do one job; return whether the conductor may have added jobs after it."""
        return self.conductor.after_job(*self.compute(job_id, name))

    def compute(self, job_id: int, name: str = "driver") -> tuple[Job, list[int]]:
        """Run the stage of a job and no conductor; return the ids of its problems too."""
        job = call(self.database, claim, job_id, name)
        return job, STAGES[job.kind](self._context, job)

    def fail(self, job_id: int, error: str = "poison") -> None:
        """Let the last attempt of a job fail."""
        job = call(self.database, claim, job_id)
        call(self.database, jobs.record_failure, job, error, "trace", job.attempts, divisible=False)

    def queued(self, kinds: Collection[JobKind] = frozenset(JobKind)) -> list[int]:
        """The jobs of these kinds that can be taken."""
        query = "SELECT id FROM jobs WHERE state = 'queued' AND kind = ANY (:kinds) ORDER BY id"
        return [row.id for row in self.rows(query, kinds=list(kinds))]

    def rows(self, query: str, **parameters: Any) -> Sequence[Any]:
        return rows(self.database, query, **parameters)

    def count(self, condition: str) -> int:
        return int(self.rows(f"SELECT count(*) FROM {condition}")[0][0])

    def execute(self, statement: str) -> None:
        with self.database.begin() as connection:
            connection.execute(text(statement))


class Driver(Worker):
    """The worker of one run."""

    def __init__(self, database: Database, run: Run, engines: EnginePool, folder: Path, samples: int) -> None:
        super().__init__(database, engines, folder, samples)
        self.run = run

    def advance(self) -> None:
        self.conductor.advance(self.run.id)

    def states(self) -> list[IterationState]:
        return [iteration.state for iteration in call(self.database, rounds.list_iterations, self.run.id)]

    def tables(self) -> dict[str, list[list[Any]]]:
        return {name: [list(row) for row in self.rows(query)] for name, query in TABLES.items()}

    def made(self) -> dict[str, Any]:
        """What a run has made, whatever its jobs were."""
        return {name: rows for name, rows in self.tables().items() if name != "jobs"}

    def statistics(self, iteration: int = 0) -> Any:
        """The row of `iteration_statistics`."""
        query = "SELECT * FROM iteration_statistics WHERE run = :run AND iteration = :iteration"
        return self.rows(query, run=self.run.name, iteration=iteration)[0]


def small_engines(
    verifier: MathVerifier,
    script: Script | None = None,
    sampler: type[DeterministicSampler] = DeterministicSampler,
) -> EnginePool:
    """The engines of tests, with a real verifier."""
    return EnginePool(
        lambda folder, recipe: sampler(folder, script=script),
        lambda folder, recipe: ReadingRewardModel(),
        lambda settings: verifier,
        MarkingTrainer,
    )


@pytest.fixture(scope="session")
def verifier() -> Iterator[MathVerifier]:
    """One real verifier for all drivers; its process starts when a pair needs algebra."""
    with MathVerifier(1, deadline_seconds=1.0) as verifier:
        yield verifier


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a policy or reward model for small engines, which read its fingerprint alone."""
    folder = tmp_path_factory.mktemp("checkpoint")
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(64))
    return folder


Begin = Callable[..., Driver]
"""Makes a run with waiting iterations and enough problems; its driver."""


@pytest.fixture(scope="session")
def begin_in(tmp_path_factory: pytest.TempPathFactory, verifier: MathVerifier, checkpoint: Path) -> Begin:
    """Takes the database first."""

    def begin(
        database: Database,
        recipe: Recipe | None = None,
        script: Script | None = None,
        *,
        iterations: int = 1,
        job_samples: int = 16,
        sampler: type[DeterministicSampler] = DeterministicSampler,
        name: str | None = None,
        folder: Path | None = None,
    ) -> Driver:
        recipe = recipe or make_recipe()
        with database.begin() as connection:
            add_problems(connection, max(iterations, 1) * recipe.problems.per_iteration)
            add_problems(connection, 5, HELDOUT)
            add_problems(connection, 4, "quick")
            run = add_run(connection, recipe, name, checkpoint=checkpoint)
            rounds.add_iterations(connection, run, range(iterations))
        engines = small_engines(verifier, script, sampler)
        return Driver(database, run, engines, folder or tmp_path_factory.mktemp("models"), job_samples)

    return begin


@pytest.fixture
def begin(begin_in: Begin, database: Database) -> Begin:
    return partial(begin_in, database)
