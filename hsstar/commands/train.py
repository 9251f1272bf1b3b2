"""Trains from a file, in the foreground and without a database: M_0, or by the objectives of iterations."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from hsstar.checkpoints.card import CardEntry, card
from hsstar.checkpoints.resolve import check_policy, resolve
from hsstar.commands.foreground_training import checked_output, train_in_foreground
from hsstar.commands.models import lasting_location
from hsstar.data.bad_rows import BadRows
from hsstar.data.conversations import Turn
from hsstar.data.judged_rows import JudgedRow, read_judged
from hsstar.data.sources import files_of
from hsstar.data.training_rows import (
    Conversation,
    ExampleRow,
    PairRow,
    Prompt,
    Question,
    read_examples,
    read_pairs,
)
from hsstar.domain.errors import BadInputError
from hsstar.domain.preference import PairCut
from hsstar.domain.prompts import CHAT, DEFAULT, PromptFormat
from hsstar.domain.rounding import SampledUpdate, resolve_format
from hsstar.domain.seeds import derived_seed
from hsstar.domain.steps import split_steps
from hsstar.engines.device import has_gpu
from hsstar.engines.prompts import ConversationRenderer, Renderer, conversation_renderer, prompt_renderer
from hsstar.engines.training.contract import (
    Objective,
    ProgressCallback,
    TrainingExample,
    TrainingPair,
    TrainingReport,
    TrainingRow,
    TrainingVerdict,
    training_settings,
)
from hsstar.recipe.policy import PolicySection
from hsstar.recipe.recipe import Recipe
from hsstar.recipe.training import OptimisationSection
from hsstar.settings import Settings

_OPENED_TAG = re.compile(r"(<\w+>)\s*\Z")


@dataclass(frozen=True, slots=True)
class FileTraining:
    """A training that a user asks for."""

    objective: Objective
    data: str  # a file, folder, pattern or name on the hub: examples (`sft`), pairs, judged responses (`kto`)
    model: str  # the checkpoint to start from
    output: Path  # the folder of the new checkpoint; it is missing or empty
    section: OptimisationSection
    seed: int
    prompt: str | None = None  # the template that the user names, for problems and single questions
    default_prompt: PromptFormat = DEFAULT  # that renders problems otherwise
    recipe: str | None = None  # the text that the settings come from, for the model card
    policy: PolicySection | None = None  # that says how the new checkpoint is sampled; None for the defaults
    bad: BadRows = field(default_factory=BadRows)  # what takes rows that cannot be used
    keep_cut: bool = False  # whether a response that was cut at its limit may be learnt

    @property
    def prompt_format(self) -> PromptFormat:
        """What renders problems."""
        return PromptFormat(self.prompt) if self.prompt else self.default_prompt


def file_training(
    objective: Objective,
    data: str,
    model: str,
    output: Path,
    section: OptimisationSection,
    purpose: str,
    *,
    recipe: Recipe | None,
    recipe_text: str | None,
    prompt: str | None,
    seed: int | None,
    bad: BadRows,
) -> FileTraining:
    """Return the training that a user asks for by these settings; the rest is what the recipe says, if any.

    `purpose` tells the seeds of an initialisation and a training of one recipe apart.
    """
    return FileTraining(
        objective,
        data,
        model,
        output,
        section,
        derived_seed(recipe.seed if recipe else seed or 0, purpose) % 2**31,
        prompt,
        recipe.policy.prompt.resolved if recipe else DEFAULT,
        recipe_text,
        recipe.policy if recipe else None,
        bad,
        recipe is not None and recipe.pairs.cut is PairCut.KEEP,
    )


@dataclass(frozen=True, slots=True)
class FileTrainingReport:
    """The result of a training from a file."""

    training: TrainingReport
    update: SampledUpdate
    left_out: Mapping[str, int] = field(default_factory=dict)  # rows of the file, by reason
    one_step: int = 0  # trained solutions that are not divided into steps


def train_from_file(
    request: FileTraining, settings: Settings, progress: ProgressCallback | None = None
) -> FileTrainingReport:
    """Train, or resume the same training after an interruption; further errors as in `train_in_foreground`.

    Raises:
        BadInputError: the data cannot be read.
        CheckpointError: the model is missing, broken or no policy.
    """
    output = checked_output(request.output)
    check_policy(request.model)
    policy = resolve(request.model)
    rows, left_out = _read(request, policy)
    chosen = training_settings(request.section, request.seed)

    def update_of(report: TrainingReport) -> SampledUpdate:
        return SampledUpdate(_sampled_as(request.policy), report.updates)

    def write_card(_: Path, report: TrainingReport) -> str:
        return _card(request, output.name, len(rows), report, update_of(report), asdict(chosen))

    location = lasting_location(request.model)
    report = train_in_foreground(
        request.objective, policy, rows, chosen, output, settings, write_card, progress, location
    )
    one_step = sum(len(split_steps(row.response)) < 2 for row in rows if isinstance(row, TrainingExample))
    return FileTrainingReport(report, update_of(report), left_out, one_step)


def _sampled_as(policy: PolicySection | None) -> str | None:
    gpu = has_gpu()
    return resolve_format("auto", gpu=gpu) if policy is None else policy.sampled_as(gpu=gpu)


def _read(request: FileTraining, policy: Path) -> tuple[list[TrainingRow], Counter[str]]:
    """Return the rows of a file with their prompts rendered, and by reason how many others it has."""
    files, left_out = files_of([request.data]), Counter[str]()
    reading: dict[str, Any] = {"keep_cut": request.keep_cut, "bad": request.bad}
    render = PromptRenderer(request, policy)
    rows: list[TrainingRow]
    match request.objective:
        case "dpo":
            rows = [_pair(render(pair.prompt), pair) for pair in read_pairs(files, left_out, **reading)]
        case "kto":
            judged = [_verdict(render(row.prompt), row) for row in read_judged(files, left_out, **reading)]
            _refuse_one_kind(request.data, judged)
            rows = [*judged]
        case _:
            rows = [_example(render(row.prompt), row) for row in read_examples(files, left_out, **reading)]
    if not rows:
        counts = left_out + Counter({"rows that cannot be used": request.bad.count})
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts.items())
        raise BadInputError(f"{request.data} holds nothing to learn from: {reasons}")
    return rows, left_out


def _pair(prompt: str, row: PairRow) -> TrainingPair:
    chosen, rejected = _behind(prompt, row.chosen), _behind(prompt, row.rejected)
    return TrainingPair(prompt, chosen, rejected, row.chosen_cut, row.rejected_cut)


def _example(prompt: str, row: ExampleRow) -> TrainingExample:
    return TrainingExample(prompt, _behind(prompt, row.response), row.cut)


def _verdict(prompt: str, row: JudgedRow) -> TrainingVerdict:
    return TrainingVerdict(prompt, _behind(prompt, row.response), row.desirable, row.cut)


def _refuse_one_kind(data: str, rows: Sequence[TrainingVerdict]) -> None:
    """Raise BadInputError for responses that are all desirable, or all not: KTO compares the two."""
    desirable = sum(row.desirable for row in rows)
    if rows and desirable in (0, len(rows)):
        kind, lacking = ("false", "true") if not desirable else ("true", "false")
        raise BadInputError(
            f"{data}: all {len(rows)} labels are {kind}; KTO needs responses that are {lacking} too, "
            "and correct responses alone are for: hsstar train sft"
        )


def _behind(prompt: str, response: str) -> str:
    """Leave out the tag that a prompt has opened already, as templates of reasoning models open `<think>`."""
    opened = _OPENED_TAG.search(prompt)
    if opened is None or not response.lstrip().startswith(opened[1]):
        return response
    return response.lstrip().removeprefix(opened[1]).lstrip("\n")


class PromptRenderer:
    """Renders the prompts of a file: questions by a template, conversations by the model's own.

    Where the user names a template, it renders conversations too, if they are one question.
    """

    def __init__(self, request: FileTraining, policy: Path) -> None:
        self._format = request.prompt_format
        self._named = request.prompt not in (None, CHAT)
        self._policy = policy

    def __call__(self, prompt: Prompt) -> str:
        """Return a prompt as text; raise CheckpointError if the model has no usable chat template for it."""
        match prompt:
            case Question(statement):
                return self._question(statement)
            case Conversation((Turn("user", statement),)) if self._named:
                return self._question(statement)
            case Conversation() if self._named:
                raise BadInputError(
                    f"--prompt {self._format.template} renders one question, and a row is a conversation "
                    "of several turns; leave it out to use the model's own template"
                )
            case Conversation(turns):
                return self._conversation([turn._asdict() for turn in turns])
        return prompt

    @cached_property
    def _question(self) -> Renderer:
        return prompt_renderer(self._format, str(self._policy))

    @cached_property
    def _conversation(self) -> ConversationRenderer:
        return conversation_renderer(self._policy, "conversations need (or --prompt, for one question each)")


def _card(
    request: FileTraining,
    name: str,
    rows: int,
    report: TrainingReport,
    update: SampledUpdate,
    settings: dict[str, object],
) -> str:
    way = {"sft": "supervised fine-tuning", "kto": "KTO"}.get(request.objective, "DPO")
    beside = "" if request.section.lora_merge else f", as an adapter on {request.model}"
    entry = CardEntry(
        name=name,
        parent=request.model,
        objective=request.objective,
        made=f"by {way} on {rows} rows of {request.data} in {report.steps} optimiser steps{beside}",
        recipe=request.recipe,
        settings=settings,
        update=update,
    )
    return card([entry], request.model)
