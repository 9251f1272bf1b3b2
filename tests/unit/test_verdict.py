"""Verdicts and their causes."""

import pytest

from hsstar.domain.verdict import LASTING_CAUSES, VERDICT_OF_CAUSE, Cause, Judgement, Verdict


def test_every_cause_says_what_it_means() -> None:
    assert set(VERDICT_OF_CAUSE) == set(Cause)


@pytest.mark.parametrize("cause", [Cause.INCORRECT, Cause.NO_ANSWER, Cause.UNPARSABLE])
def test_an_answer_that_cannot_be_read_is_wrong(cause: Cause) -> None:
    assert Judgement(cause).verdict is Verdict.INCORRECT


@pytest.mark.parametrize("cause", [Cause.TIMED_OUT, Cause.CRASHED, Cause.BAD_REFERENCE])
def test_where_the_checking_failed_there_is_no_verdict(cause: Cause) -> None:
    assert Judgement(cause, "42").verdict is None


def test_what_depends_on_the_machine_does_not_last() -> None:
    assert not {Cause.TIMED_OUT, Cause.CRASHED} & LASTING_CAUSES
