"""Verdicts and their causes."""

from hsstar.domain.verdict import LASTING_CAUSES, VERDICT_OF_CAUSE, Cause, Judgement, Verdict


def test_an_answer_that_cannot_be_read_is_wrong_and_a_failed_check_is_no_verdict() -> None:
    wrong = dict.fromkeys((Cause.INCORRECT, Cause.NO_ANSWER, Cause.UNPARSABLE), Verdict.INCORRECT)
    unknown = dict.fromkeys((Cause.TIMED_OUT, Cause.CRASHED, Cause.BAD_REFERENCE), None)
    assert {Cause.CORRECT: Verdict.CORRECT, **wrong, **unknown} == VERDICT_OF_CAUSE
    assert {cause: Judgement(cause, "42").verdict for cause in Cause} == VERDICT_OF_CAUSE


def test_what_depends_on_the_machine_does_not_last_and_no_answer_needs_no_memory() -> None:
    assert set(Cause) - LASTING_CAUSES == {Cause.TIMED_OUT, Cause.CRASHED, Cause.NO_ANSWER}
