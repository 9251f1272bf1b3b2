"""Advances runs by their rows. Idempotent: any process may call it at any time.

It remembers nothing between two calls. Each call locks the run, looks at the iterations and evaluations that
are not done, enqueues their missing work, and advances those that miss nothing.
"""

from sqlalchemy import Connection

from hsstar.domain.lifecycle import IterationState, JobKind, next_state
from hsstar.store import (
    datasets,
    evaluations,
    method,
    missing,
    rounds,
    runs,
    training,
    votes,
)
from hsstar.store.database import Database, lock_run
from hsstar.store.queue import jobs
from hsstar.store.queue.jobs import Job
from hsstar.store.rounds import Iteration, Round
from hsstar.store.runs import Run


class Conductor:
    """Advances runs, with jobs of `job_samples` samples and `max_attempts` attempts."""

    def __init__(self, database: Database, job_samples: int, max_attempts: int) -> None:
        self._database = database
        self._job_samples = job_samples
        self._max_attempts = max_attempts

    def sweep(self) -> float:
        """Reclaim jobs of dead workers, advance runs; return the seconds until a lease ends (or infinity)."""
        expiry, without_work = self._database.run(self._reclaim)
        for run_id in without_work:
            self.advance(run_id)
        return expiry

    def _reclaim(self, connection: Connection) -> tuple[float, list[int]]:
        jobs.reclaim(connection, None, self._max_attempts)
        return jobs.seconds_to_expiry(connection), rounds.runs_without_work(connection)

    def after_job(self, job: Job, problem_ids: list[int], following: Job | None = None) -> bool:
        """Label the problems of a finished job, then enqueue the next work; return whether it may add jobs.

        Next work comes only when the round has no live job. Each job checks that after its own completion,
        so the last one finds none. `following` is the job that the worker holds by now: in the same round it
        is a live one.
        """
        adds = job.kind is JobKind.SAMPLE  # its completion adds verification and scoring
        judged = bool(problem_ids) and job.kind in (JobKind.VERIFY, JobKind.SCORE)
        round_is_live = following is not None and following.round_id == job.round_id
        if round_is_live and not judged:
            return adds

        def label(connection: Connection) -> int | None:
            round_ = rounds.get_round(connection, job.round_id)
            if judged and round_.kind == "iteration":
                run = runs.get_run(connection, round_.run_id)
                method.label_problems(connection, run, round_, problem_ids)
            return None if round_is_live or rounds.has_live_jobs(connection, round_.id) else round_.run_id

        idle_run = self._database.run(label)
        if idle_run is not None:
            self.advance(idle_run)
        return adds or idle_run is not None

    def advance(self, run_id: int) -> None:
        """Advance a run as far as its rows allow."""

        def move(connection: Connection) -> None:
            lock_run(connection, run_id)
            run = runs.get_run(connection, run_id)
            while self._step(connection, run):
                pass

        self._database.run(move)

    def _step(self, connection: Connection, run: Run) -> bool:
        moved = False
        model_id: int | None = run.model_id
        for iteration in rounds.list_iterations(connection, run.id):
            moved |= self._advance_iteration(connection, run, iteration, model_id)
            model_id = iteration.output_model_id
        for evaluation in evaluations.list_unfinished(connection, run.id):
            if self._complete(connection, evaluation, scored=False) and self._voted(connection, evaluation):
                evaluations.finish(connection, evaluation)
                moved = True
        return moved

    def _advance_iteration(
        self, connection: Connection, run: Run, iteration: Iteration, model_id: int | None
    ) -> bool:
        match iteration.state:
            case IterationState.WAITING:
                return self._start(connection, run, iteration.round, model_id)
            case IterationState.PRE_SAMPLING:
                return self._estimate_difficulty(connection, run, iteration.round)
            case IterationState.RE_SAMPLING:
                return self._pair(connection, run, iteration.round)
            case IterationState.TRAINING:
                return self._adopt_trained_policy(connection, run, iteration.round)
            case IterationState.EVALUATING:
                return self._finish(connection, run, iteration)
            case IterationState.DONE:
                return False

    def _start(self, connection: Connection, run: Run, waiting: Round, model_id: int | None) -> bool:
        """Waiting → pre-sampling, once the policy exists."""
        if model_id is None:
            return False
        recipe = run.recipe
        if not rounds.has_problems(connection, waiting.id):
            dataset = datasets.find_dataset(connection, recipe.problems.dataset)
            rounds.assign_slice(
                connection,
                waiting.id,
                dataset.id,
                recipe.seed,
                limit=recipe.problems.per_iteration,
                allotment=recipe.sampling.budget.pre_samples,
                without_overlaps=recipe.problems.overlaps == "exclude",
            )
        rounds.begin_iteration(connection, waiting.id, model_id, recipe.sampling.n)
        self._evaluate(connection, run, waiting.number, model_id)
        return True

    def _estimate_difficulty(self, connection: Connection, run: Run, iteration: Round) -> bool:
        """Pre-sampling → re-sampling: label every problem, then allot the rest of the budget."""
        if not self._complete(connection, iteration, scored=run.recipe.reward.used):
            return False
        method.exclude_bad_references(connection, iteration)
        method.label_problems(connection, run, iteration)
        method.allot_budget(connection, run, iteration)
        rounds.set_state(connection, iteration.id, next_state(IterationState.PRE_SAMPLING))
        return True

    def _pair(self, connection: Connection, run: Run, iteration: Round) -> bool:
        """Re-sampling → training: build pairs from the samples of the trained levels."""
        if not self._complete(connection, iteration, scored=run.recipe.reward.used):
            return False
        material = method.build_pairs(connection, run, iteration)
        rounds.set_state(connection, iteration.id, next_state(IterationState.RE_SAMPLING))
        objective = run.recipe.training.objective
        if objective == "sft":
            material = len(method.choose_examples(connection, run, iteration))
        if material and objective != "none":
            training.ensure_training_job(connection, iteration.id)
        else:
            self._adopt(connection, run, iteration, iteration.model_id)
        return True

    def _adopt_trained_policy(self, connection: Connection, run: Run, iteration: Round) -> bool:
        """Training → evaluating, with the new policy, or the old one if the training is discarded."""
        model_id = training.trained_model(connection, iteration.id)
        if model_id is None and missing.training_discarded(connection, iteration.id):
            model_id = iteration.model_id
        return self._adopt(connection, run, iteration, model_id)

    def _adopt(self, connection: Connection, run: Run, iteration: Round, model_id: int | None) -> bool:
        if model_id is None:
            return False
        rounds.set_state(connection, iteration.id, next_state(IterationState.TRAINING), model_id)
        self._evaluate(connection, run, iteration.number + 1, model_id)
        return True

    def _finish(self, connection: Connection, run: Run, iteration: Iteration) -> bool:
        """Evaluating → done, once the policies before and after are evaluated."""
        policies = [
            model for model in (iteration.round.model_id, iteration.output_model_id) if model is not None
        ]
        if evaluations.pending(connection, run.id, policies):
            return False
        rounds.set_state(connection, iteration.round.id, next_state(IterationState.EVALUATING))
        return True

    def _evaluate(self, connection: Connection, run: Run, number: int, model_id: int) -> None:
        settings = run.recipe.evaluation
        if settings.dataset is not None:
            evaluations.ensure_held_out(connection, run, number, model_id)
        for benchmark in settings.benchmarks:
            evaluations.ensure_benchmark(connection, run, number, model_id, benchmark)

    def _voted(self, connection: Connection, evaluation: Round) -> bool:
        """Whether a completely verified evaluation has its votes (maj@k); missing ones are enqueued."""
        return votes.allocate_votes(connection, evaluation.id, self._job_samples) == 0

    def _complete(self, connection: Connection, checked: Round, *, scored: bool) -> bool:
        if rounds.has_live_jobs(connection, checked.id):
            return False
        lack = rounds.shortfall(connection, checked.id)
        samples = {JobKind.SAMPLE: lack.undrawn, JobKind.VERIFY: lack.unverified}
        if scored:
            samples[JobKind.SCORE] = lack.unscored
        kinds = [kind for kind, count in samples.items() if count > 0]
        for kind in kinds:
            rounds.allocate(connection, checked.id, kind, self._job_samples)
        return not kinds
