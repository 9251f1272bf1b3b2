"""`hsstar train prm`: a process reward model for the policy of a run, from continuations of its responses.

The workers continue every prefix of the responses (`store/steps.py`). The share of continuations that are
correct is the label of a step; a value head on the policy learns it in this process.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hsstar.checkpoints.card import CardEntry, card
from hsstar.checkpoints.step_rule import write_step_rule
from hsstar.commands.foreground_training import checked_output, train_in_foreground
from hsstar.commands.runs import refuse_held
from hsstar.domain.errors import BadInputError, ConflictError, NotFoundError
from hsstar.domain.lifecycle import IterationState
from hsstar.domain.reward_quality import RewardQuality, ScoredResponse, held_out_keys, reward_quality
from hsstar.domain.seeds import derived_seed
from hsstar.domain.step_labels import Label, share, soft_labels
from hsstar.domain.steps import Span, prefixes_at, steps_at
from hsstar.engines.device import clear_memory
from hsstar.engines.registry import build_reward_model
from hsstar.engines.rewards.contract import RewardRequest
from hsstar.engines.step_splitting import split_responses
from hsstar.engines.training.contract import (
    ProgressCallback,
    TrainingReport,
    TrainingSettings,
    TrainingSteps,
    training_settings,
)
from hsstar.recipe.training import RewardTrainingSection
from hsstar.settings import Settings
from hsstar.store import models, retention, rounds, runs, steps
from hsstar.store.database import Database, lock_run
from hsstar.store.models import checkpoint_of
from hsstar.store.read.recorded import recorded_problems
from hsstar.store.rounds import Iteration, Round
from hsstar.store.runs import Run
from hsstar.store.steps import JudgedResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardTraining:
    """What a user asks for."""

    run: str
    output: Path  # the folder of the new checkpoint; it is missing or empty
    section: RewardTrainingSection
    iteration: int | None = None  # None: the last one that is done
    responses: int = 4  # of each problem, the first ones
    continuations: int = 8  # of each prefix
    held_out: float = 0.2  # share of the problems that measure
    seed: int | None = None  # of training and held-out problems; None: the run's


@dataclass(frozen=True, slots=True)
class StepLabelling:
    """The round of continuations that a training waits for, and the iteration that it continues."""

    run: Run  # that the iteration belongs to
    iteration: Round
    policy: models.Model
    round: Round


@dataclass(frozen=True, slots=True)
class RewardTrainingReport:
    """The result: the training, and how good the rewards are on problems that it has not seen."""

    training: TrainingReport
    quality: RewardQuality


@dataclass(frozen=True, slots=True)
class _Labelled:
    """A response with the labels of its steps."""

    response: JudgedResponse
    spans: Sequence[Span]
    labels: tuple[Label, ...]

    @property
    def steps(self) -> tuple[str, ...]:
        return steps_at(self.response.response, self.spans)


def label_steps(database: Database, request: RewardTraining) -> StepLabelling:
    """Find or add the round that continues the responses; the workers draw what it lacks.

    An iteration that a fork shares is labelled in the run that it belongs to.

    Raises:
        NotFoundError: there is no such run or iteration.
        ConflictError: no iteration is done, something lies at `output`, or the run is held.
        CheckpointError: the policy's folder is gone or holds other weights.
    """
    checked_output(request.output)
    with database.begin() as connection:
        asked = runs.find_run(connection, request.run)
        source = _source(asked, rounds.list_shared_iterations(connection, asked.id), request.iteration)
        section = runs.get_run(connection, source.run_id).recipe.steps
        judged = steps.load_judged(connection, source.id, request.responses)
    texts = [of.response for of in judged]
    prefixes = [
        prefixes_at(text, spans) for text, spans in zip(texts, split_responses(texts, section), strict=True)
    ]
    with database.begin() as connection:
        lock_run(connection, source.run_id)
        run = runs.get_run(connection, source.run_id)
        if retention.has_pruned(connection, source.id):
            raise ConflictError(
                f"iteration {source.number} of run {run.name!r} has lost texts (hsstar samples prune)"
            )
        policy = models.get_model(connection, source.model_id or run.model_id)
        checkpoint_of(policy)
        added = steps.ensure_step_round(
            connection,
            source,
            request.responses,
            request.continuations,
            steps.different_prefixes(judged, prefixes),
        )
        if not steps.is_finished(connection, added.id):
            refuse_held(connection, run)
    return StepLabelling(run, source, policy, added)


def _source(run: Run, iterations: Sequence[Iteration], number: int | None) -> Round:
    done = [iteration.round for iteration in iterations if iteration.state is IterationState.DONE]
    if number is None:
        if not done:
            raise ConflictError(f"no iteration of run {run.name!r} is done; see: hsstar status {run.name}")
        return done[-1]
    if number not in [iteration.round.number for iteration in iterations]:
        raise NotFoundError(f"run {run.name!r} has no iteration {number}")
    chosen = [round_ for round_ in done if round_.number == number]
    if not chosen:
        raise ConflictError(
            f"iteration {number} of run {run.name!r} is not done; see: hsstar status {run.name}"
        )
    return chosen[0]


def is_labelled(database: Database, labelling: StepLabelling) -> bool:
    """Tell whether every continuation is there and verified."""
    with database.begin() as connection:
        return steps.is_finished(connection, labelling.round.id)


def train_reward_model(
    database: Database,
    request: RewardTraining,
    labelling: StepLabelling,
    settings: Settings,
    progress: ProgressCallback | None = None,
) -> RewardTrainingReport:
    """Train on the labels of a finished round, and measure on held-out problems; resume if interrupted.

    Errors are those of `train_in_foreground`, and BadInputError without two problems that have responses.
    """
    output = checked_output(request.output)
    policy = checkpoint_of(labelling.policy)
    labelled, further = _load(database, request, labelling)
    seed = labelling.run.recipe.seed if request.seed is None else request.seed
    held_out = held_out_keys((of.response.problem_key for of in labelled), request.held_out, seed)
    if not held_out:
        raise BadInputError(
            f"iteration {labelling.iteration.number} of run {request.run!r} has no two problems with "
            "judged responses: one has to be held out"
        )
    learned = [of for of in labelled if of.response.problem_key not in held_out]
    measured = [of for of in labelled if of.response.problem_key in held_out]
    rows = [TrainingSteps(of.response.statement, of.steps, of.labels) for of in learned]
    chosen = training_settings(request.section, derived_seed(seed, "train prm") % 2**31)
    found: list[RewardQuality] = []

    def measure(checkpoint: Path, report: TrainingReport) -> str:
        write_step_rule(checkpoint, labelling.run.recipe.steps.trained)
        found.append(reward_quality(_scored(checkpoint, measured), further))
        return _card(request, labelling, report, chosen, found[-1])

    report = train_in_foreground("prm", policy, rows, chosen, output, settings, measure, progress)
    return RewardTrainingReport(report, found[-1])


def _load(
    database: Database, request: RewardTraining, labelling: StepLabelling
) -> tuple[list[_Labelled], dict[str, tuple[int, int]]]:
    """Return the labelled responses, and by problem the counts of verdicts on its other samples."""
    with database.begin() as connection:
        judged = steps.load_judged(connection, labelling.iteration.id, request.responses)
        counts = steps.load_prefix_counts(connection, labelling.round.id)
        recorded = recorded_problems(connection, labelling.iteration.id)
    texts = {response.sample_id: response.response for response in judged}
    shares: dict[int, dict[str, Label]] = {}
    for of in counts:
        prefix = texts[of.sample_id][: of.characters]
        shares.setdefault(of.problem_id, {})[prefix] = share(of.correct, of.incorrect)
    split = split_responses([of.response for of in judged], labelling.run.recipe.steps)
    labelled = [
        _Labelled(
            of,
            spans,
            soft_labels(prefixes_at(of.response, spans), of.correct, shares.get(of.problem_id, {})),
        )
        for of, spans in zip(judged, split, strict=True)
        if spans
    ]
    verdicts = {
        problem.key: [sample.correct for sample in problem.samples[request.responses :]]
        for problem in recorded
    }
    return labelled, {key: (own.count(True), own.count(False)) for key, own in verdicts.items()}


def _scored(checkpoint: Path, measured: Sequence[_Labelled]) -> list[ScoredResponse]:
    """Score held-out responses as a worker would."""
    clear_memory()  # of the training
    model = build_reward_model(checkpoint, kind="skywork")
    try:
        scores = model.score([RewardRequest(of.response.statement, of.steps) for of in measured])
    finally:
        model.close()
    return [
        ScoredResponse(of.response.problem_key, of.response.correct, of.labels, score.rewards)
        for of, score in zip(measured, scores, strict=True)
    ]


def _card(
    request: RewardTraining,
    labelling: StepLabelling,
    report: TrainingReport,
    chosen: TrainingSettings,
    quality: RewardQuality,
) -> str:
    entry = CardEntry(
        name=request.output.name,
        parent=labelling.policy.name,
        objective="prm",
        made=(
            f"as a process reward model on {report.examples} responses of iteration "
            f"{labelling.iteration.number} of the run {request.run}, each step labelled by "
            f"{request.continuations} continuations, in {report.steps} optimiser steps"
        ),
        recipe=json.dumps(labelling.run.recipe.document(), indent=2),
        settings=asdict(chosen),
        measures=dict(measures(quality)),
    )
    return card([entry], labelling.policy.location)


def measures(quality: RewardQuality) -> list[tuple[str, str]]:
    """Return the measures of a reward model with their names, as people read them."""

    def number(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    return [
        ("problems, responses, steps", f"{quality.problems}, {quality.responses}, {quality.steps}"),
        ("AUC of the minimum reward for the verdict", number(quality.auc, ".3f")),
        ("the same within problems", number(quality.auc_within, ".3f")),
        ("mean error of a reward against its label", number(quality.label_error, ".3f")),
        ("log-loss of further verdicts, saved over the count", number(quality.gain, ".1%")),
    ]
