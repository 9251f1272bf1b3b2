"""Sampling: draw the missing slots of a job, then enqueue verification and scoring.

Samples are written in batches as they are drawn, each under the job's lease. A worker that dies loses the
last seconds, and the next attempt draws what is missing.
"""

from collections.abc import Generator, Sequence
from contextlib import closing
from functools import partial
from math import isfinite

from sqlalchemy import Connection

from hsstar.domain.errors import EngineError
from hsstar.domain.lifecycle import JobKind
from hsstar.engines.prompts import request_renderer
from hsstar.engines.sampling.contract import Completion, Sampler, SampleRequest, SamplingParameters
from hsstar.stages.batching import in_batches
from hsstar.stages.context import JobContext, WorkerContext, computing, load_context
from hsstar.store import rounds, runs, samples
from hsstar.store.database import try_lock_run
from hsstar.store.queue import jobs

BATCH_SAMPLES = 256
_BATCH_SECONDS = 2.0


def run(worker: WorkerContext, job: jobs.Job) -> list[int]:
    """Draw the missing samples of a job; return the ids of its problems."""
    with worker.span("load"), worker.database.begin() as connection:
        context = load_context(connection, job)
        problem_ids = jobs.problem_ids(connection, job)
        slots = samples.load_missing_slots(connection, job)
    refused = _draw(worker, job, context, slots) if slots else {}
    follow_ups = [JobKind.VERIFY]
    if context.recipe.scored and context.round.has_rewards:
        follow_ups.append(JobKind.SCORE)

    def finish(connection: Connection) -> None:
        rounds.exclude(connection, job.round_id, refused)
        jobs.complete(connection, job)
        run_id = context.run.id
        # else the process that advances the run does this, for a held one after its release
        if try_lock_run(connection, run_id, shared=True) and not runs.is_held(connection, run_id):
            for kind in follow_ups:
                rounds.allocate(connection, job.round_id, kind, worker.job_samples, problem_ids, job.id)

    with worker.span("finish"):
        worker.database.run(finish)
    return problem_ids


def _draw(
    worker: WorkerContext, job: jobs.Job, context: JobContext, slots: Sequence[samples.Slot]
) -> dict[int, str]:
    """Draw and write samples for these slots; return the problems that the sampler refuses, with reasons."""
    refused: dict[int, str] = {}
    policy = context.recipe.policy
    render = request_renderer(policy.prompt.resolved, context.policy.location, messages=policy.sends_messages)
    with worker.span("render prompts"), computing():  # a chat template is a program of the policy
        prompts = [render(slot.statement) + slot.prefix for slot in slots]
    requests = [
        SampleRequest(prompt, context.seed_of(slot)) for prompt, slot in zip(prompts, slots, strict=True)
    ]
    with (
        worker.span("draw", samples=len(requests)),
        worker.engines.sampler(context.policy, context.recipe) as sampler,
        closing(
            in_batches(
                _drawn(sampler, requests, list(map(context.parameters_of, slots))),
                BATCH_SAMPLES,
                _BATCH_SECONDS,
            )
        ) as batches,
    ):
        for batch in batches:
            drawn = []
            for index, result in batch:
                if isinstance(result, str):
                    refused[slots[index].problem_id] = result
                else:
                    drawn.append(_sample(slots[index], requests[index].seed, result, sampler.name))
            with worker.span("write", samples=len(drawn)):
                worker.database.run(partial(_write, job, context.policy.id, drawn))
            worker.progress.moved(job.id, sum(sample.tokens or 0 for sample in drawn))
    return refused


def _write(
    job: jobs.Job, policy_id: int, drawn: Sequence[samples.DrawnSample], connection: Connection
) -> None:
    jobs.fence(connection, job)
    samples.write_samples(connection, job.round_id, policy_id, job.worker, drawn, job.id)


def _drawn(
    sampler: Sampler, requests: Sequence[SampleRequest], parameters: Sequence[SamplingParameters]
) -> Generator[tuple[int, Completion | str]]:
    """Yield index and result of each request; the requests of a wave are drawn together."""
    with computing():
        for alike in dict.fromkeys(parameters):
            places = [place for place, chosen in enumerate(parameters) if chosen == alike]
            for index, result in sampler.draw([requests[place] for place in places], alike):
                if isinstance(result, Completion) and not isfinite(result.cumulative_logprob or 0.0):
                    raise EngineError(
                        f"the policy gave a sample the log-probability {result.cumulative_logprob}; "
                        "are its weights whole?"
                    )
                yield places[index], result


def _sample(slot: samples.Slot, seed: int, drawn: Completion, engine: str) -> samples.DrawnSample:
    return samples.DrawnSample(
        slot.problem_id,
        slot.slot,
        slot.prefix + drawn.text,
        seed,
        drawn.tokens,
        drawn.finish_reason,
        drawn.cumulative_logprob,
        engine,
        drawn.milliseconds,
    )
