"""`hsstar rescore`: score stored samples by another reward model; say which labels and pairs would differ.

It scores in this process, in batches of problems, and appends what a sample does not have yet. Nothing else
is remembered: after a kill the command finds its own rewards there. What the run's samples came to stays, and
so do labels and pairs: an iteration is decided by one set of rewards, that of its recipe. The samples of an
evaluation have no rewards of their own; what is appended there decides nothing either.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from statistics import fmean

from sqlalchemy import Connection

from hsstar.commands.consequences import Beside, in_order, label_of, load_beside, pairs_of
from hsstar.commands.rewards import Scorer, check_scorer
from hsstar.domain.answers.thinking import reply_of
from hsstar.domain.calibration import area_under_curve
from hsstar.domain.difficulty import Difficulty
from hsstar.domain.errors import BadInputError
from hsstar.domain.lifecycle import PAIRED
from hsstar.domain.preference import Place
from hsstar.domain.rewards import CombinedReward, RewardRule, aggregate, combine
from hsstar.domain.steps import steps_at
from hsstar.domain.verdict import VERDICT_OF_CAUSE, Cause, Verdict
from hsstar.engines.registry import build_scorer
from hsstar.engines.rewards.contract import ProcessRewardModel, RequestError, RewardRequest
from hsstar.engines.step_splitting import split_responses
from hsstar.recipe.recipe import Recipe
from hsstar.recipe.reward import NamedRewardSection
from hsstar.store import models, rewards, rounds, runs, verdicts
from hsstar.store.database import Database
from hsstar.store.rewards import SampleReward
from hsstar.store.rounds import Iteration
from hsstar.store.runs import Run
from hsstar.store.verdicts import JudgedSample, NamedRound, no_evaluation

_BATCH_SAMPLES = 1_000
"""About how many samples are read, with their texts, and scored at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RescoreRequest:
    """Whose samples are scored again, one of the first two, by what, and whether that is recorded."""

    run: str | None = None
    evaluation: int | None = None  # `round_id` of evaluation_results
    reward: str  # the name of a reward of the run, or a reward model
    in_place_of: str | None = None  # the reward that it stands in for; None: the run has one
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class RescoreChange:
    """A label or pair that would be another; None where there is none."""

    run: str
    round: str
    problem_id: int
    change: str  # label or pair
    slots: tuple[Place, ...]  # chosen and rejected of a pair; none of a label
    before: str | None  # level of the label, `pair`
    after: str | None


@dataclass(slots=True)
class RescoreReport:
    """What scoring an iteration or evaluation again has found."""

    run: str
    round: str
    round_id: int
    reward: str  # that the model stands in for
    scored: int = 0  # samples
    known: int = 0  # of them, those that the model has scored before
    mean_before: float | None = None  # of the reward, over the samples that have both; None without
    mean_again: float | None = None  # over the same samples; over all of them where none has an earlier one
    auc: float | None = None  # chance that a correct sample has a higher new reward than an incorrect one
    labels: int = 0  # that would be others
    pairs_lost: int = 0
    pairs_gained: int = 0
    without_text: int = 0  # samples whose text was deleted: then the round is not scored again


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What scores, and the reward that it stands in for."""

    section: NamedRewardSection
    scorer: Scorer


def rescore(
    database: Database,
    request: RescoreRequest,
    reports: list[RescoreReport],
    progress: Callable[[int], None] = lambda scored: None,
) -> Iterator[RescoreChange]:
    """Score the samples of a run's own iterations, or of an evaluation; yield what would differ, report each.

    `progress` is called with the number of samples so far.

    Raises:
        NotFoundError: there is no such run or evaluation.
        BadInputError: it is not said which reward the model stands in for, or its iterations have this one.
        CheckpointError: the reward model is missing, broken or was trained on other steps.
    """
    with database.begin() as connection:
        run, chosen_rounds = _find(connection, request)
        iterations = rounds.list_iterations(connection, run.id)
    chosen = _choose(run.recipe, request)
    with database.begin() as connection:
        needed = {of.name: of for of in rewards.list_of_run(connection, run.id)}
        registered = chosen.scorer.register(connection)
        own = registered.id in [of.reward_model_id for of in needed.values()]
        if own and request.evaluation is None:  # nothing has scored an evaluation before
            raise BadInputError(
                f"{registered.name} gives the run {run.name!r} its rewards already, and has not changed since"
            )
        if request.dry_run:
            connection.rollback()
        elif not own:
            rewards.add_again(connection, run.id, chosen.section, registered.id)
    states = {of.round.id: of for of in iterations}
    with closing(build_scorer(models.scorer_location(registered), chosen.section)) as engine:
        scoring = _Scoring(database, request, run, chosen, registered.id, engine, needed)
        total = 0
        for named in chosen_rounds:
            if request.evaluation is None and named.round_id not in states:
                continue
            state = states.get(named.round_id)
            report = RescoreReport(run.name, named.name, named.round_id, chosen.section.name)
            if named.texts_pruned:
                report.without_text = named.texts_pruned
            else:
                for of_batch in scoring.of_round(named, report, state):
                    yield from of_batch
                    progress(total + report.scored)
            total += report.scored
            reports.append(report)


def _find(connection: Connection, request: RescoreRequest) -> tuple[Run, list[NamedRound]]:
    """Return the run whose samples are scored, and its rounds, or the evaluation that is asked for."""
    if request.evaluation is None:
        run = runs.find_run(connection, request.run or "")
        return run, verdicts.list_rounds(connection, run_id=run.id, evaluation_id=None, dataset_id=None)
    chosen = verdicts.list_rounds(connection, run_id=None, evaluation_id=request.evaluation, dataset_id=None)
    if not chosen:
        raise no_evaluation(request.evaluation)
    return runs.get_run(connection, chosen[0].run_id), chosen


def _choose(recipe: Recipe, request: RescoreRequest) -> _Chosen:
    """Return what scores: a reward of the run by its name, or a model with the keys of the one before."""
    known = {section.name: section for section in recipe.scoring}
    if request.reward in known:
        if request.in_place_of not in (None, request.reward):
            raise BadInputError(f"{request.reward!r} is a reward of the run and stands in for itself alone")
        section = known[request.reward]
        return _Chosen(section, check_scorer(section, recipe.steps))
    name = request.in_place_of or (next(iter(known)) if len(known) == 1 else None)
    if known and name not in known:
        raise BadInputError(
            f"the rewards of the run are {', '.join(known)}; say which one the model stands in for: "
            "--in-place-of NAME"
        )
    before = known.get(name or "")
    keys = {} if before is None else before.model_dump(include={"weight", "use", "aggregate", "dtype"})
    section = NamedRewardSection(**{"name": name or "reward", "model": request.reward} | keys)
    return _Chosen(section, check_scorer(section, recipe.steps))


@dataclass(frozen=True, slots=True)
class _Scores:
    """What the samples of some problems have, and what their sources have drawn."""

    given: Mapping[int, Mapping[int, Sequence[float]]]  # step rewards by sample and reward model
    fresh: Mapping[int, Sequence[float]]  # those by the model that scores again, by sample
    beside: Sequence[Beside]


class _Scoring:
    """The samples of one run, scored again by one model."""

    def __init__(
        self,
        database: Database,
        request: RescoreRequest,
        run: Run,
        chosen: _Chosen,
        reward_model_id: int,
        engine: ProcessRewardModel,
        needed: Mapping[str, rewards.RunReward],
    ) -> None:
        self._database, self._request, self._run = database, request, run
        self._section, self._model_id, self._engine = chosen.section, reward_model_id, engine
        self._needed = needed
        self._rules: dict[str, RewardRule] = {name: of.rule for name, of in needed.items()}

    def of_round(
        self, named: NamedRound, report: RescoreReport, iteration: Iteration | None
    ) -> Iterator[list[RescoreChange]]:
        """Score an iteration, or an evaluation (None), batch by batch; yield what would differ."""
        with self._database.begin() as connection:
            problem_ids = verdicts.list_problems(connection, named.round_id, None)
            samples = rounds.mean_allotment(connection, named.round_id)
        limit = max(1, int(_BATCH_SAMPLES / max(samples, 1)))
        before: list[float] = []
        again: list[float] = []
        every: list[float] = []
        judged: list[tuple[float, int, int]] = []  # reward, whether correct, whether incorrect
        for start in range(0, len(problem_ids), limit):
            batch = problem_ids[start : start + limit]
            with self._database.begin() as connection:
                loaded = verdicts.load_judged(connection, named.round_id, batch)
                beside = load_beside(connection, named.round_id, batch)
                groups: dict[str | None, list[JudgedSample]] = {None: loaded}
                groups |= {of.source: of.samples for of in beside}
                ids = [sample.id for group in groups.values() for sample in group]
                given = rewards.load_step_rewards(connection, ids)
            fresh: dict[int, Sequence[float]] = {}
            for source, group in groups.items():
                fresh |= self._score(group, self._run.recipe.thinking_of(source), given, report)
            aggregation = self._section.aggregate
            old = self._needed.get(self._section.name)
            for sample in loaded:
                steps = given.get(sample.id, {}).get(old.reward_model_id) if old else None
                every.append(aggregate(fresh[sample.id], aggregation))
                verdict = VERDICT_OF_CAUSE[Cause(sample.cause)] if sample.cause else None
                judged.append((every[-1], verdict is Verdict.CORRECT, verdict is Verdict.INCORRECT))
                if steps is not None and old is not None and old.reward_model_id != self._model_id:
                    before.append(aggregate(steps, aggregation))
                    again.append(every[-1])
            scores = _Scores(given, fresh, beside)
            yield [
                change
                for _, of_problem in groupby(loaded, key=lambda sample: sample.problem_id)
                for change in self._compare(named, [*of_problem], scores, report, iteration)
            ]
        if before:
            report.mean_before, report.mean_again = fmean(before), fmean(again)
        elif every:
            report.mean_again = fmean(every)
        report.auc = area_under_curve(judged)

    def _score(
        self,
        samples: Sequence[JudgedSample],
        thinking: str,
        given: Mapping[int, Mapping[int, Sequence[float]]],
        report: RescoreReport,
    ) -> dict[int, Sequence[float]]:
        """Return the step rewards by the model; compute and append those that are not there."""
        known = {
            sample.id: given[sample.id][self._model_id]
            for sample in samples
            if self._model_id in given.get(sample.id, {})
        }
        missing = [sample for sample in samples if sample.id not in known]
        missing = [replace(sample, response=reply_of(sample.response, thinking)) for sample in missing]
        split = split_responses([sample.response for sample in missing], self._run.recipe.steps)
        requests = [
            RewardRequest(
                sample.statement,
                steps_at(sample.response, spans),
                sample.response,
                sample.reference_answer,
                sample.tokens,
            )
            for sample, spans in zip(missing, split, strict=True)
        ]
        try:
            scores = self._engine.score(requests)
        except RequestError as error:
            raise error.of(f"reward {self._section.name!r}, sample {missing[error.place].id}") from error
        of_function = self._run.recipe.steps.function is not None
        scored = [
            SampleReward(sample.id, score.rewards, score.truncated, spans if of_function else None)
            for sample, score, spans in zip(missing, scores, split, strict=True)
        ]
        if scored and not self._request.dry_run:
            self._database.run(partial(rewards.write, reward_model_id=self._model_id, scored=scored))
        report.scored += len(samples)
        report.known += len(known)
        return {**known, **{reward.sample_id: reward.step_rewards for reward in scored}}

    def _compare(
        self,
        named: NamedRound,
        samples: list[JudgedSample],
        scores: "_Scores",
        report: RescoreReport,
        iteration: Iteration | None,
    ) -> Iterator[RescoreChange]:
        """Yield what would be another of a problem, and count it."""
        if iteration is None or samples[0].level is None:
            return
        recipe, level = self._run.recipe, Difficulty(samples[0].level)
        causes = {sample.id: Cause(sample.cause) for sample in samples if sample.cause}
        combined = self._combined(samples, scores)
        of_problem = partial(RescoreChange, named.run, named.name, samples[0].problem_id)
        pre = [sample.id for sample in samples if sample.slot < recipe.sampling.budget.pre_samples]
        again: Difficulty | None = level
        if all(sample_id in combined for sample_id in pre):
            quality = fmean([combined[sample_id].difficulty for sample_id in pre]) if self._rules else None
            again = label_of(recipe, samples, causes, quality)
        if again is not level:
            report.labels += 1
            yield of_problem("label", (), level, again)
        if iteration.state not in PAIRED:
            return
        number, problem_id = iteration.round.number, samples[0].problem_id
        ranks = {sample.id: sample.pair_reward for sample in samples}
        other = ranks | {sample_id: reward.pairs for sample_id, reward in combined.items()}
        taught = [candidate for of in scores.beside for candidate in of.of_problem(problem_id)]
        taught_again = [
            candidate
            for of in scores.beside
            for candidate in of.of_problem(
                problem_id,
                {sample_id: reward.pairs for sample_id, reward in self._combined(of.samples, scores).items()},
            )
        ]
        lost = pairs_of(recipe, number, samples, causes, level, ranks, taught)
        gained = pairs_of(recipe, number, samples, causes, again, other, taught_again)
        report.pairs_lost += len(lost - gained)
        report.pairs_gained += len(gained - lost)
        for pair in sorted(lost ^ gained, key=in_order):
            yield of_problem("pair", pair, *(("pair", None) if pair in lost else (None, "pair")))

    def _combined(
        self,
        samples: Sequence[JudgedSample],
        scores: "_Scores",
    ) -> dict[int, CombinedReward]:
        """Return what the rewards of samples come to with the new one, of those that have all others."""
        combined = {}
        for sample in samples:
            own = {
                name: scores.fresh[sample.id]
                if name == self._section.name
                else scores.given.get(sample.id, {}).get(of.reward_model_id)
                for name, of in self._needed.items()
            }
            steps = {name: values for name, values in own.items() if values is not None}
            if steps and len(steps) == len(self._rules):
                combined[sample.id] = combine(steps, self._rules)
        return combined
