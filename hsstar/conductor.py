"""Advances runs by their rows. Idempotent: any process may call it at any time.

It remembers nothing between two calls. Each call looks at the rounds that are not done, enqueues their
missing work, and advances those that miss nothing. It does so in short transactions that hold
the run's lock, a batch of problems each; a process that finds it taken passes on. A held run stays as it is.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from datetime import datetime
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection

from hsstar.domain.lifecycle import IterationState, JobKind
from hsstar.domain.preference import LEARNT_FROM
from hsstar.domain.run_quality import failed_evaluation, failed_limit, nothing_trained
from hsstar.settings import Settings
from hsstar.stages.spans import OpenSpan, no_span
from hsstar.store import (
    allocation,
    counts,
    datasets,
    evaluations,
    method,
    missing,
    notifications,
    rounds,
    runs,
    sources,
    steps,
    stored_outcomes,
    training,
    votes,
)
from hsstar.store.database import Database, refresh_statistics, try_lock_run
from hsstar.store.queue import jobs
from hsstar.store.queue.jobs import Job
from hsstar.store.queue.sweeper import begin_sweep
from hsstar.store.rounds import Iteration, Round, SampleQuality
from hsstar.store.runs import Run

Result = TypeVar("Result")

_BATCH_SAMPLES = 16_000
"""About how many samples one transaction looks at: half a second at the most."""


class Conductor:
    """Advances runs, with jobs of `job_samples` samples and `max_attempts` attempts."""

    def __init__(self, database: Database, settings: Settings, span: OpenSpan = no_span) -> None:
        self._database = database
        self._span = span
        self._job_samples = settings.job_samples
        self._max_attempts = settings.max_attempts
        self._lease_seconds = settings.lease_seconds

    def sweep(self) -> None:
        """Reclaim the jobs of workers that do not answer, and advance runs."""
        for run_id in self._database.run(self._reclaim):
            self.advance(run_id)

    def _reclaim(self, connection: Connection) -> list[int]:
        if begin_sweep(connection, self._lease_seconds):
            jobs.reclaim_expired(connection, self._max_attempts)
        return rounds.runs_without_work(connection)

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
            round_ = rounds.find_round(connection, job.round_id)
            if round_ is None:  # its run has been deleted
                return None
            # not while others advance it or judge it again: the end of pre-sampling makes all that lack
            if judged and round_.kind == "iteration" and try_lock_run(connection, round_.run_id, shared=True):
                run = runs.get_run(connection, round_.run_id)
                with self._span("label", run_id=run.id, problems=len(problem_ids)):
                    method.label_problems(connection, run, round_, problem_ids)
            return None if round_is_live or rounds.has_live_jobs(connection, round_.id) else round_.run_id

        idle_run = self._database.run(label)
        if idle_run is not None:
            self.advance(idle_run)
        return adds or idle_run is not None

    def advance(self, run_id: int) -> None:
        """Advance a run as far as its rows allow, unless it is held or another process advances it."""
        with suppress(_NotOursError):
            while self._pass(run_id):
                pass

    def _turn(self, run_id: int, work: Callable[[Connection], Result], span: str | None = None) -> Result:
        """Work in a transaction that holds the run's lock; the run is not held in it."""

        def locked(connection: Connection) -> Result:
            if not try_lock_run(connection, run_id) or runs.is_held(connection, run_id):
                raise _NotOursError
            with nullcontext() if span is None else self._span(span, run_id=run_id):
                return work(connection)

        return self._database.run(locked)

    def _pass(self, run_id: int) -> bool:
        """Look at every round once; return whether one has moved."""

        def look(
            connection: Connection,
        ) -> tuple[datetime, list[int], Run, list[Iteration], list[Round], list[Round], list[Round]]:
            return (
                *rounds.list_idle(connection, run_id),
                runs.get_run(connection, run_id),
                rounds.list_iterations(connection, run_id),
                evaluations.list_unfinished(connection, run_id),
                steps.list_unfinished(connection, run_id),
                sources.list_unfinished(connection, run_id),
            )

        time, idle, run, iterations, unfinished, continued, beside = self._turn(run_id, look)
        moved = False
        before: Iteration | None = None
        for iteration in iterations:
            if iteration.round.id in idle:
                moved |= self._advance_iteration(run, iteration, before)
            before = iteration
        for evaluation in unfinished:
            if evaluation.id in idle:
                moved |= self._advance_evaluation(run, evaluation)
        for step_round in continued:
            if step_round.id in idle:
                moved |= self._advance_steps(run, step_round)
        for source_round in beside:
            if source_round.id in idle:
                moved |= self._advance_source(run, source_round)
        if not moved:
            self._turn(run_id, lambda connection: rounds.set_looked_at(connection, idle, time))
        return moved

    def _advance_iteration(self, run: Run, iteration: Iteration, before: Iteration | None) -> bool:
        match iteration.state:
            case IterationState.WAITING:
                if before is not None and _holds_up(run, before):
                    return False
                model_id = run.model_id if before is None else before.output_model_id
                move = partial(self._start, run, iteration.round, model_id)
            case IterationState.PRE_SAMPLING:
                return self._estimate_difficulty(run, iteration.round)
            case IterationState.RE_SAMPLING:
                return self._pair(run, iteration.round)
            case IterationState.TRAINING:
                move = partial(self._adopt_trained_policy, run, iteration.round)
            case IterationState.EVALUATING:
                move = partial(self._finish, run, iteration)
            case IterationState.DONE:
                return False
        return self._turn(run.id, move)

    def _start(self, run: Run, waiting: Round, model_id: int | None, connection: Connection) -> bool:
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
                repeat=recipe.problems.repeat,
            )
        if not rounds.begin_iteration(connection, waiting.id, model_id, recipe.sampling.n):
            return False
        sources.begin(connection, run, waiting, labelled=False)
        self._evaluate(connection, run, waiting.number, model_id)
        return True

    def _estimate_difficulty(self, run: Run, iteration: Round) -> bool:
        """Pre-sampling → re-sampling: label every problem, then allot the rest of the budget."""
        if not self._complete(run, iteration, scored=run.recipe.scored):
            return False
        if not self._turn(run.id, partial(self._pass_gate, run, iteration)):
            return False
        # without the lock: it reads every sample
        unreadable = self._database.run(partial(method.bad_references, iteration=iteration))
        reasons = dict.fromkeys(unreadable, "the reference answer cannot be read")
        if reasons:
            self._turn(run.id, lambda connection: rounds.exclude(connection, iteration.id, reasons))
        label = partial(method.label_problems, run=run, iteration=iteration)
        for problem_ids in self._batches(run, iteration):
            self._turn(run.id, partial(label, problem_ids=problem_ids), "label")
        self._database.run(lambda connection: refresh_statistics(connection, "difficulty_labels, samples"))
        if not self._give_away(run, iteration, 0):
            return False

        def begin_resampling(connection: Connection) -> bool:  # the wave is closed with it, or neither
            allocation.close(connection, iteration, 0)
            if not rounds.leave_state(connection, iteration.id, IterationState.PRE_SAMPLING):
                return False
            sources.begin(connection, run, iteration, labelled=True)
            return True

        if not self._turn(run.id, begin_resampling):
            return False
        self._enqueue_samples(run, iteration)
        return True

    def _pass_gate(self, run: Run, iteration: Round, connection: Connection) -> bool:
        """Judge the pre-samples of an iteration once; hold the run and return False if they fail.

        A person who lets the run continue thereby passes over what the gate says of this iteration.
        """
        gate = run.recipe.gate.limits
        if not gate.judges_samples or not rounds.begin_judging(connection, iteration.id):
            return True
        reason = failed_limit(gate, counts.of_round(connection, iteration.id))
        if reason is None:
            return True
        runs.hold(connection, run.id, "gate", f"iteration {iteration.number}: {reason}")
        return False

    def _give_away(self, run: Run, iteration: Round, wave: int) -> bool:
        """Give a wave of the allocation away, all but closed; return False if somebody else has done so."""
        if not self._turn(run.id, partial(allocation.open_wave, run=run, iteration=iteration, wave=wave)):
            return False
        record = partial(allocation.record_states, iteration=iteration, wave=wave)
        for problem_ids in self._batches(run, iteration):
            self._turn(run.id, partial(record, problem_ids=problem_ids), "record states")
        decide = partial(allocation.decide, run=run, iteration=iteration, wave=wave)
        decision = self._turn(run.id, decide, "decide the wave")
        give = partial(allocation.give, run=run, iteration=iteration, decision=decision)
        for problem_ids in self._batches(run, iteration):
            self._turn(run.id, partial(give, problem_ids=problem_ids), "allot")
        return True

    def _enqueue_samples(self, run: Run, iteration: Round) -> None:
        """Enqueue what has just been allotted, at once instead of after another look."""
        for problem_ids in self._batches(run, iteration):
            self._turn(run.id, partial(self._enqueue, iteration, JobKind.SAMPLE, problem_ids))

    def _pair(self, run: Run, iteration: Round) -> bool:
        """Re-sampling → training: the next wave, or pairs from the samples of the trained levels."""
        # read before looking what is missing: what is complete is then complete for these waves
        wave = self._turn(run.id, partial(allocation.decided_waves, iteration=iteration))
        if not self._complete(run, iteration, scored=run.recipe.scored):
            return False
        if wave < run.recipe.allocation.waves:
            if not self._give_away(run, iteration, wave):
                return False
            self._turn(run.id, partial(allocation.close, iteration=iteration, wave=wave))
            self._enqueue_samples(run, iteration)
            return True
        if run.recipe.sources:
            awaited = self._turn(run.id, partial(sources.are_awaited, iteration=iteration))
            if awaited:
                return False

        def pair(problem_ids: list[int], connection: Connection) -> None:
            method.build_pairs(connection, run, iteration, problem_ids)
            stored_outcomes.write(connection, iteration.id, problem_ids)

        for problem_ids in self._batches(run, iteration):
            self._turn(run.id, partial(pair, problem_ids), "pair")
        with self._span("measure quality", run_id=run.id):  # without the lock
            quality = self._database.run(partial(method.sample_quality, iteration=iteration))
        return self._turn(run.id, partial(self._train, run, iteration, quality))

    def _train(self, run: Run, iteration: Round, quality: SampleQuality, connection: Connection) -> bool:
        if not rounds.leave_state(connection, iteration.id, IterationState.RE_SAMPLING):
            return False
        rounds.set_quality(connection, iteration.id, quality)
        stored_outcomes.use(connection, iteration.id, stored=True)
        objective = run.recipe.training.objective
        if objective == "none":
            material = False
        elif verdicts := LEARNT_FROM.get(objective):
            material = all(method.has_examples(connection, run, iteration, verdict) for verdict in verdicts)
        else:
            material = method.has_pairs(connection, iteration)
        if material:
            training.ensure_training_job(connection, iteration.id)
        else:
            self._adopt(connection, run, iteration, iteration.model_id)
        return True

    def _adopt_trained_policy(self, run: Run, iteration: Round, connection: Connection) -> bool:
        """Training → evaluating, with the new policy, or the old one if the training is discarded.

        A training whose job was withdrawn is enqueued again.
        """
        model_id = training.trained_model(connection, iteration.id)
        if model_id is None and missing.training_discarded(connection, iteration.id):
            model_id = iteration.model_id
        if model_id is None:
            training.ensure_training_job(connection, iteration.id)
        return self._adopt(connection, run, iteration, model_id)

    def _adopt(self, connection: Connection, run: Run, iteration: Round, model_id: int | None) -> bool:
        if model_id is None or not rounds.leave_state(
            connection, iteration.id, IterationState.TRAINING, model_id
        ):
            return False
        self._evaluate(connection, run, iteration.number + 1, model_id)
        return True

    def _finish(self, run: Run, iteration: Iteration, connection: Connection) -> bool:
        """Evaluating → done, once both policies are evaluated; hold the run if it has to stop there."""
        policies = [
            model for model in (iteration.round.model_id, iteration.output_model_id) if model is not None
        ]
        if evaluations.pending(connection, run.id, policies):
            return False
        if not rounds.leave_state(connection, iteration.round.id, IterationState.EVALUATING):
            return False
        self._stop_after(run, iteration, connection)
        if rounds.all_iterations_done(connection, run.id):
            done = f"iteration {iteration.round.number} is done, and no other is asked for"
            notifications.decide(connection, run.id, "done", done)
        return True

    def _stop_after(self, run: Run, iteration: Iteration, connection: Connection) -> None:
        """Hold the run if an iteration that ends now has trained nothing, or a worse policy."""
        ended, gate = iteration.round, run.recipe.gate.limits
        if _stops_for_nothing(run, iteration) and not missing.training_discarded(connection, ended.id):
            pairs = method.count_pairs(connection, ended)
            reason = nothing_trained(ended.number, run.recipe.training.objective, pairs)
            runs.hold(connection, run.id, "trained-nothing", f"iteration {ended.number}: {reason}")
        elif gate.judges_evaluations:
            before, after = (
                evaluations.accuracies(connection, run.id, model)
                for model in (ended.model_id, iteration.output_model_id)
            )
            if failed := failed_evaluation(gate, before, after):
                runs.hold(connection, run.id, "gate", f"iteration {ended.number}: {failed}")

    def _evaluate(self, connection: Connection, run: Run, number: int, model_id: int) -> None:
        settings = run.recipe.evaluation
        if settings.dataset is not None:
            evaluations.ensure_held_out(connection, run, number, model_id)
        for benchmark in settings.benchmarks:
            evaluations.ensure_benchmark(connection, run, number, model_id, benchmark)

    def _advance_evaluation(self, run: Run, evaluation: Round) -> bool:
        """Finish an evaluation that is verified and has its votes (maj@k); enqueue those that are missing."""
        if not self._complete(run, evaluation, scored=False):
            return False

        def finish(connection: Connection) -> bool:
            if votes.allocate_votes(connection, evaluation.id, self._job_samples):
                return False
            evaluations.finish(connection, evaluation)
            return True

        return self._turn(run.id, finish)

    def _advance_steps(self, run: Run, step_round: Round) -> bool:
        """Finish a round of continuations that are all verified."""
        if not self._complete(run, step_round, scored=False):
            return False
        return self._turn(run.id, partial(steps.finish, round_id=step_round.id))

    def _advance_source(self, run: Run, source_round: Round) -> bool:
        """Finish a round of a source that is verified and scored."""
        if not self._complete(run, source_round, scored=run.recipe.scored):
            return False
        return self._turn(run.id, partial(sources.finish, source_round=source_round))

    def _complete(self, run: Run, checked: Round, *, scored: bool) -> bool:
        """Tell whether a round lacks no sample, verdict or (`scored`) reward; enqueue what it lacks."""

        def fill(problem_ids: list[int], connection: Connection) -> bool:
            lack = rounds.shortfall(connection, checked.id, problem_ids)
            samples = {JobKind.SAMPLE: lack.undrawn, JobKind.VERIFY: lack.unverified}
            if scored:
                samples[JobKind.SCORE] = lack.unscored
            kinds = [kind for kind, count in samples.items() if count > 0]
            for kind in kinds:
                self._enqueue(checked, kind, problem_ids, connection)
            return not kinds

        full = [self._turn(run.id, partial(fill, problem_ids)) for problem_ids in self._batches(run, checked)]
        return all(full)

    def _enqueue(self, of: Round, kind: JobKind, problem_ids: list[int], connection: Connection) -> None:
        rounds.allocate(connection, of.id, kind, self._job_samples, problem_ids)

    def _batches(self, run: Run, of: Round) -> Iterator[list[int]]:
        """Yield the problems of a round by their ids, as many at a time as one short transaction handles."""
        allotment = self._database.run(partial(rounds.mean_allotment, round_id=of.id), single=True)
        limit = max(1, int(_BATCH_SAMPLES / max(allotment, run.recipe.sampling.n)))
        problem_ids = self._database.run(partial(rounds.problems_of, round_id=of.id), single=True)
        for start in range(0, len(problem_ids), limit):
            yield problem_ids[start : start + limit]


def _stops_for_nothing(run: Run, iteration: Iteration) -> bool:
    return iteration.trained_nothing(run) and not iteration.keep_going


def _holds_up(run: Run, before: Iteration) -> bool:
    """Tell whether the next iteration waits for the end of this one, which may hold the run."""
    may_hold = _stops_for_nothing(run, before) or run.recipe.gate.limits.judges_evaluations
    return may_hold and before.state is not IterationState.DONE


class _NotOursError(Exception):
    """Another process advances the run, or the run is held."""
