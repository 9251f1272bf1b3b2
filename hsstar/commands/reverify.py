"""`hsstar reverify`: judge stored samples again, and say what changes or would change.

Rounds are judged one after the other, in batches of problems: read, compare, and append what is news in one
short transaction. Nothing else is remembered: after a kill the command finds its own verdicts there.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pkgutil import resolve_name

from hsstar.commands.consequences import in_order, label_of, load_beside, pairs_of
from hsstar.conductor import Conductor
from hsstar.domain.answers.thinking import reply_of
from hsstar.domain.difficulty import Difficulty
from hsstar.domain.errors import BadInputError
from hsstar.domain.lifecycle import PAIRED
from hsstar.domain.preference import Candidate, Place
from hsstar.domain.verdict import PASSING_CAUSES, VERDICT_OF_CAUSE, Cause, Judgement
from hsstar.settings import Settings
from hsstar.store import datasets, rounds, runs, sources, verdicts
from hsstar.store.database import Database
from hsstar.store.rounds import Round
from hsstar.store.runs import Run
from hsstar.store.samples import load_known_verdicts, remember_verdicts
from hsstar.store.verdicts import Author, JudgedSample, NamedRound
from hsstar.verifier.contract import VerificationRequest, Verifier
from hsstar.verifier.kinds import make_verifier
from hsstar.verifier.kinds.open_verifiers import OneVerifier, OpenVerifiers

_BATCH_SAMPLES = 4_000
"""About how many samples are read, with their texts, and judged at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReverifyRequest:
    """Which samples are judged again, one of the first three, and whether and by whom that is recorded."""

    run: str | None = None
    evaluation: int | None = None  # `round_id` of evaluation_results
    dataset: str | None = None
    author: str = ""
    dry_run: bool = False
    change_evaluations: bool = False  # those that are done too


@dataclass(frozen=True, slots=True)
class Change:
    """A verdict, label or pair that is another by the new verdicts; None where there is none."""

    run: str
    round: str
    problem_id: int
    change: str  # verdict, label or pair
    slots: tuple[Place, ...]  # of the sample; chosen and rejected of a pair; none of a label
    before: str | None  # cause of the verdict, level of the label, `pair`
    after: str | None
    sample_id: int | None = None


@dataclass(slots=True)
class RoundReport:
    """What judging a round again has found."""

    run: str
    round: str
    round_id: int
    judged: int = 0  # samples
    corrected: int = 0  # samples that a person has judged, left alone
    undecided: int = 0  # without a verdict this time, for a passing cause: the earlier verdict counts
    verdicts: int = 0  # that are others now
    causes: int = 0  # others of the same verdict
    labels: int = 0  # that are others
    pairs_lost: int = 0
    pairs_gained: int = 0
    in_force: int = 0  # of verdicts and causes, those that replace the earlier ones
    accuracy: float | None = None  # mean over problems of their share of correct samples, before
    accuracy_again: float | None = None  # and by the new verdicts
    without_text: int = 0  # samples whose text was deleted: then the round is not judged again


def open_verifiers(name: str | None) -> OpenVerifiers:
    """Return the verifiers of recipes, or one of the class MODULE:CLASS in place of all of them.

    Raise BadInputError if there is no such class.
    """
    if name is None:
        return OpenVerifiers(make_verifier)
    try:
        verifier: Verifier = resolve_name(name)()
        _ = verifier.version
    except (ValueError, ImportError, AttributeError, TypeError) as error:
        raise BadInputError(f"--verifier {name}: no verifier by MODULE:CLASS ({error})") from None
    return OneVerifier(verifier)


def reverify(
    database: Database,
    request: ReverifyRequest,
    verifiers: OpenVerifiers,
    settings: Settings,
    reports: list[RoundReport],
    progress: Callable[[int], None] = lambda judged: None,
) -> Iterator[Change]:
    """Judge samples again; yield what changes or would change, and add a report of each round when it ends.

    `progress` is called with the number of samples judged so far. Raise NotFoundError without the run, the
    evaluation or the dataset.
    """
    with database.begin() as connection:
        run_id = None if request.run is None else runs.find_run(connection, request.run).id
        dataset = None if request.dataset is None else datasets.find_dataset(connection, request.dataset)
        dataset_id = None if dataset is None else dataset.id
        chosen = verdicts.list_rounds(
            connection, run_id=run_id, evaluation_id=request.evaluation, dataset_id=dataset_id
        )
    if request.evaluation is not None and not chosen:
        raise verdicts.no_evaluation(request.evaluation)
    total = 0
    for named in chosen:
        report = RoundReport(named.run, named.name, named.round_id)
        if named.texts_pruned:  # its labels would follow from a part of its samples
            report.without_text = named.texts_pruned
            reports.append(report)
            continue
        judging = _Judging(database, request, verifiers, named, report)
        for problem_ids in judging.batches(dataset_id):
            yield from judging.judge(problem_ids)
            progress(total + report.judged)
        total += report.judged
        if report.judged or report.corrected:
            reports.append(report)
    if request.change_evaluations and not request.dry_run:
        conductor = Conductor(database, settings)
        for changed in sorted({named.run_id for named in chosen}):
            conductor.advance(changed)


class _Judging:
    """One round that is judged again."""

    def __init__(
        self,
        database: Database,
        request: ReverifyRequest,
        verifiers: OpenVerifiers,
        named: NamedRound,
        report: RoundReport,
    ) -> None:
        self._database, self._request = database, request
        self._named, self._report = named, report
        self._before = self._after = 0.0  # sums over problems of the share of correct samples
        with database.begin() as connection:
            self._round: Round = rounds.get_round(connection, named.round_id)
            self._run: Run = runs.get_run(connection, named.run_id)
            dataset = datasets.name_of_round(connection, named.round_id)
            source = sources.find_section(connection, self._run, self._round)
            states = {of.round.id: of.state for of in rounds.list_iterations(connection, named.run_id)}
        self._verifier = verifiers.get(self._run.recipe.verification.of_dataset(dataset))
        self._thinking = (source or self._run.recipe.policy).thinking
        self._has_pairs = states.get(named.round_id) in PAIRED

    def batches(self, dataset_id: int | None) -> Iterator[list[int]]:
        """Yield the ids of the round's problems, those of a batch at a time."""
        with self._database.begin() as connection:
            problem_ids = verdicts.list_problems(connection, self._round.id, dataset_id)
            samples = rounds.mean_allotment(connection, self._round.id)
        limit = max(1, int(_BATCH_SAMPLES / max(samples, 1)))
        for start in range(0, len(problem_ids), limit):
            yield problem_ids[start : start + limit]
        if problem_ids:
            self._report.accuracy = self._before / len(problem_ids)
            self._report.accuracy_again = self._after / len(problem_ids)

    def judge(self, problem_ids: list[int]) -> Iterator[Change]:
        """Judge the samples of these problems; append what is news, and yield it."""
        with self._database.begin() as connection:
            samples = verdicts.load_judged(connection, self._round.id, problem_ids)
            beside = load_beside(connection, self._round.id, problem_ids)
        judgements = self._judgements([sample for sample in samples if sample.cause and not sample.corrected])
        by_id = {sample.id: sample for sample in samples}
        differs = {
            sample_id
            for sample_id, judgement in judgements.items()
            if (judgement.cause, judgement.answer) != (by_id[sample_id].cause, by_id[sample_id].answer)
        }
        # those with a history may have a newest verdict that is not in force, and is taken back now
        news = {
            sample_id: judgement
            for sample_id, judgement in judgements.items()
            if sample_id in differs or by_id[sample_id].corrected is not None
        }
        if news:
            changed = sorted({by_id[sample_id].problem_id for sample_id in differs})
            if self._record(news, changed):
                self._report.in_force += len(differs)
        for problem_id, of_problem in groupby(samples, key=lambda sample: sample.problem_id):
            taught = [candidate for of in beside for candidate in of.of_problem(problem_id)]
            yield from self._compare(problem_id, list(of_problem), judgements, taught)

    def _judgements(self, samples: Sequence[JudgedSample]) -> dict[int, Judgement]:
        """Judge samples by id, those left out that are not decided this time."""
        verifier, database = self._verifier, self._database
        pairs = verifier.prepare(
            [
                VerificationRequest(
                    reply_of(sample.response, self._thinking),
                    sample.reference_answer,
                    sample.truncated,
                    problem=sample.statement,
                    source_id=sample.source_id,
                )
                for sample in samples
            ]
        )
        waiting = {pair.key: pair for pair in pairs if pair.cause is None}
        with database.begin() as connection:
            known = load_known_verdicts(connection, verifier.version, list(waiting))
        results = dict(verifier.decide([pair for key, pair in waiting.items() if key not in known]))
        database.run(partial(remember_verdicts, version=verifier.version, results=results))
        known |= results
        judged = {
            sample.id: Judgement(pair.cause, pair.answer, pair.detail)
            if pair.cause is not None
            else Judgement(known[pair.key].cause, pair.answer, known[pair.key].detail)
            for sample, pair in zip(samples, pairs, strict=True)
        }
        decided = {
            sample_id: judgement
            for sample_id, judgement in judged.items()
            if judgement.cause not in PASSING_CAUSES
        }
        self._report.judged += len(judged)
        self._report.undecided += len(judged) - len(decided)
        return decided

    def _record(self, news: Mapping[int, Judgement], problem_ids: list[int]) -> bool:
        """Append verdicts, or only tell whether they would come into force."""
        wish = self._request.change_evaluations
        if self._request.dry_run:
            with self._database.begin() as connection:
                return verdicts.is_open(connection, self._round.id, change_evaluations=wish)
        return self._database.run(
            partial(
                verdicts.append,
                round_id=self._round.id,
                judgements=news,
                problem_ids=problem_ids,
                author=Author(self._request.author, self._verifier.version),
                change_evaluations=wish,
            )
        )

    def _compare(
        self,
        problem_id: int,
        samples: list[JudgedSample],
        judgements: Mapping[int, Judgement],
        beside: Sequence[Candidate],
    ) -> Iterator[Change]:
        """Yield what is another of a problem, and count it."""
        report = self._report
        before = {sample.id: Cause(sample.cause) for sample in samples if sample.cause}
        after = before | {
            sample.id: judgements[sample.id].cause for sample in samples if sample.id in judgements
        }
        report.corrected += sum(sample.corrected is True for sample in samples)
        self._before += list(before.values()).count(Cause.CORRECT) / len(samples)
        self._after += list(after.values()).count(Cause.CORRECT) / len(samples)
        of_problem = partial(Change, self._named.run, self._named.name, problem_id)
        for sample in samples:
            old, new = before.get(sample.id), after.get(sample.id)
            if old is not None and new is not None and old is not new:
                report.verdicts += VERDICT_OF_CAUSE[old] != VERDICT_OF_CAUSE[new]
                report.causes += VERDICT_OF_CAUSE[old] == VERDICT_OF_CAUSE[new]
                yield of_problem("verdict", (sample.slot,), old, new, sample.id)
        first = samples[0]
        if self._round.kind != "iteration" or first.level is None or before == after:
            return
        recipe, level = self._run.recipe, Difficulty(first.level)
        again = label_of(recipe, samples, after, first.process_quality)  # the rewards, so their mean, stay
        if again is not level:
            report.labels += 1
            yield of_problem("label", (), level, again)
        if not self._has_pairs:
            return
        rewards = {sample.id: sample.pair_reward for sample in samples}
        number = self._round.number
        lost = pairs_of(recipe, number, samples, before, level, rewards, beside)
        gained = pairs_of(recipe, number, samples, after, again, rewards, beside)
        report.pairs_lost += len(lost - gained)
        report.pairs_gained += len(gained - lost)
        for pair in sorted(lost ^ gained, key=in_order):
            yield of_problem("pair", pair, *(("pair", None) if pair in lost else (None, "pair")))
