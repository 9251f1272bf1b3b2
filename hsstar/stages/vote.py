"""The majority vote on a problem: whether the most frequent answer of its samples is correct (maj@k)."""

from collections.abc import Mapping, Sequence

from hsstar.domain.statistics import majority
from hsstar.store.votes import Ballot
from hsstar.verifier.contract import VerificationRequest, Verifier

Answers = Sequence[tuple[str | None, bool]]

_CORRECT = (True, "")
"""The class of all correct answers."""


def vote(ballots: Mapping[int, Ballot], verifier: Verifier) -> dict[int, bool]:
    """Decide by problem whether the most frequent answer is correct.

    Correct answers are one class. Wrong ones are put together where the verifier finds them equivalent,
    a later one with the first class whose first answer it equals. Samples without an answer cast no vote.
    Of equally frequent answers the first one counts. Where the verifier compares no answers, equal texts are
    equivalent.
    """
    pairs = [
        (problem, later, earlier)
        for problem, ballot in ballots.items()
        for later, earlier in _deciding_pairs(ballot.answers)
        if verifier.compares_answers
    ]
    requests = [VerificationRequest(later, earlier, is_answer=True) for _, later, earlier in pairs]
    judged = zip(pairs, verifier.verify(requests), strict=True)
    equivalent = {pair for pair, judgement in judged if judgement.verdict == "correct"}
    return {
        problem: _majority_is_correct(problem, ballot.answers, equivalent)
        for problem, ballot in ballots.items()
    }


def _deciding_pairs(answers: Answers) -> list[tuple[str, str]]:
    """Pairs of wrong answers that decide the vote; none without a correct answer or if those win anyway."""
    correct = sum(is_correct for _, is_correct in answers)
    wrong = [answer for answer, is_correct in answers if answer is not None and not is_correct]
    if not correct or len(wrong) < correct:
        return []
    different = list(dict.fromkeys(wrong))
    return [(later, earlier) for place, later in enumerate(different) for earlier in different[:place]]


def _majority_is_correct(problem: int, answers: Answers, equivalent: set[tuple[int, str, str]]) -> bool:
    class_of: dict[str, str] = {}
    votes: list[tuple[bool, str] | None] = []
    for answer, is_correct in answers:
        if is_correct:
            votes.append(_CORRECT)
        elif answer is None:
            votes.append(None)
        else:
            heads = dict.fromkeys(class_of.values())
            head = next((head for head in heads if (problem, answer, head) in equivalent), answer)
            votes.append((False, class_of.setdefault(answer, head)))
    return majority(votes) == _CORRECT
