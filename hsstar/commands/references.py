"""Reference answers of an import: the kind of each, counted; the value of those that are sentences."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from hsstar.data.references import is_sentence, value_of_sentence
from hsstar.domain.errors import BadInputError
from hsstar.domain.problems import Problem
from hsstar.domain.verdict import Cause
from hsstar.verifier import MathVerifier, ReferenceKind, VerificationRequest, Verifier

MOST_NAMED = 1_000
"""As many unusable references are kept in a report; further ones are counted."""

_LONGEST_SAYING = 5  # words of an answer in words; a longer sentence without a value is none


@dataclass(frozen=True, slots=True)
class NamedReference:
    """A reference answer; `number` is its problem's place in the file, from 1."""

    number: int
    reference: str


@dataclass
class ReferenceReport:
    """The reference answers of an import by kind, with an example of each."""

    counts: Counter[ReferenceKind] = field(default_factory=Counter)
    examples: dict[ReferenceKind, NamedReference] = field(default_factory=dict)
    unusable: list[NamedReference] = field(default_factory=list)
    sentences: int = 0  # whose one value became the reference

    @property
    def read(self) -> int:
        """All references."""
        return self.counts.total()

    @property
    def unusable_count(self) -> int:
        """References by which nothing can be judged; their problems take no part."""
        return sum(count for kind, count in self.counts.items() if not kind.is_usable)

    def add(self, problem: Problem, kind: ReferenceKind, *, from_sentence: bool) -> None:
        """Count the next reference."""
        self.counts[kind] += 1
        self.sentences += from_sentence
        named = NamedReference(self.read, problem.reference)
        if kind not in self.examples or (problem.reference and not self.examples[kind].reference):
            self.examples[kind] = named
        if not kind.is_usable and len(self.unusable) < MOST_NAMED:
            self.unusable.append(named)

    def refuse_unusable(self) -> None:
        """Raise BadInputError if most references cannot be used."""
        if self.unusable_count * 2 <= self.read:
            return
        example = next((named.reference for named in self.unusable if named.reference), "no answer")
        raise BadInputError(
            f"{self.unusable_count} of {self.read} reference answers cannot be used, such as "
            f"{' '.join(example.split())[:60]!r}; nothing was imported: name their column by --map, "
            "or import them all the same with --allow-unreadable"
        )


def examine(verifier: Verifier, problems: Sequence[Problem]) -> list[tuple[Problem, ReferenceKind, bool]]:
    """Return each problem with the kind of its reference, and whether that was the value of a sentence.

    In mathematics a sentence with one value becomes that value. A longer one without is no answer.
    """
    if not isinstance(verifier, MathVerifier):
        kinds = verifier.examine([_request(problem) for problem in problems])
        return [(problem, kind, False) for problem, kind in zip(problems, kinds, strict=True)]
    values = [_value_of(problem.reference) for problem in problems]
    references = [value or problem.reference for value, problem in zip(values, problems, strict=True)]
    kinds = verifier.examine_references(references)
    examined = []
    for problem, value, reference, kind in zip(problems, values, references, kinds, strict=True):
        no_answer = kind is ReferenceKind.WORDS and _says_too_much(reference)
        used = replace(problem, reference=reference) if value else problem
        examined.append((used, ReferenceKind.UNREADABLE if no_answer else kind, bool(value)))
    return examined


def same_references(verifier: Verifier, pairs: Sequence[tuple[str, str, str]]) -> list[bool]:
    """Say of each (statement, reference, other reference) whether the two references mean the same."""
    if not verifier.compares_answers:
        return [one.strip() == other.strip() for _, one, other in pairs]
    requests = [
        VerificationRequest(one, other, is_answer=True, problem=problem) for problem, one, other in pairs
    ]
    return [judgement.cause is Cause.CORRECT for judgement in verifier.verify(requests)]


def _request(problem: Problem) -> VerificationRequest:
    return VerificationRequest("", problem.reference, problem=problem.statement, source_id=problem.source_id)


def as_value(reference: str) -> str:
    """Return the one value of a sentence, any other reference as it is."""
    return _value_of(reference) or reference


def _value_of(reference: str) -> str:
    return value_of_sentence(reference) if is_sentence(reference) else ""


def _says_too_much(reference: str) -> bool:
    return is_sentence(reference) and len(reference.split()) > _LONGEST_SAYING
