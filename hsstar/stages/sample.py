"""Sampling: the missing slots of a job become samples; their verification and scoring start at once."""

from hsstar.domain.lifecycle import JobKind
from hsstar.domain.prompts import render_prompt
from hsstar.domain.seeds import evaluation_seed, slot_seed
from hsstar.engines.contracts import Completion, SampleRequest, SamplingParameters
from hsstar.stages.context import JobContext, Workshop, computing, load_context
from hsstar.store import jobs, rounds, samples
from hsstar.store.database import lock_run


def run(workshop: Workshop, job: jobs.Job) -> list[int]:
    """Draws what is missing of a sampling job; returns the ids of its problems."""
    with workshop.database.begin() as connection:
        context = load_context(connection, job)
        slots = samples.load_missing_slots(connection, job)
    seeds = [_seed(context, slot) for slot in slots]
    results: list[Completion | str] = []
    if slots:
        sampler = workshop.engines.sampler(context.policy, context.recipe)
        requests = [
            SampleRequest(render_prompt(context.recipe.policy.prompt, slot.statement), seed)
            for slot, seed in zip(slots, seeds, strict=True)
        ]
        with computing():
            results = sampler.sample(requests, _parameters(context))
    drawn = [
        samples.DrawnSample(
            slot.problem_id, slot.slot, result.text, seed, result.tokens, result.finish_reason,
            result.cumulative_logprob,
        )
        for slot, seed, result in zip(slots, seeds, results, strict=True)
        if isinstance(result, Completion)
    ]  # fmt: skip
    refused = {
        slot.problem_id: result
        for slot, result in zip(slots, results, strict=True)
        if isinstance(result, str)
    }
    return _write(workshop, job, context, drawn, refused)


def _write(
    workshop: Workshop,
    job: jobs.Job,
    context: JobContext,
    drawn: list[samples.DrawnSample],
    refused: dict[int, str],
) -> list[int]:
    problem_ids = sorted({sample.problem_id for sample in drawn})
    follow_ups = [JobKind.VERIFY]
    if context.recipe.reward.used and context.round.kind == "iteration":
        follow_ups.append(JobKind.SCORE)
    with workshop.database.begin() as connection:
        samples.write_samples(connection, job.round_id, context.policy.id, job.worker, drawn)
        rounds.exclude(connection, job.round_id, refused)
        jobs.complete(connection, job)
        lock_run(connection, context.run.id)
        for kind in follow_ups:
            rounds.allocate(connection, job.round_id, kind, workshop.job_samples, problem_ids)
    return problem_ids


def _seed(context: JobContext, slot: samples.Slot) -> int:
    derive = slot_seed if context.round.kind == "iteration" else evaluation_seed
    return derive(context.recipe.seed, context.round.number, slot.problem_key, slot.slot)


def _parameters(context: JobContext) -> SamplingParameters:
    settings = context.recipe.sampling if context.round.kind == "iteration" else context.recipe.evaluation
    return SamplingParameters(
        temperature=settings.temperature,
        top_p=settings.top_p,
        max_new_tokens=settings.max_new_tokens,
        stop=context.recipe.sampling.stop,
    )
