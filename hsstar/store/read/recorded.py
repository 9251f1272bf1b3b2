"""The samples of a finished iteration, as replays and calibrations read them."""

from sqlalchemy import Connection

from hsstar.domain.allocation.replay import RecordedProblem, RecordedSample
from hsstar.domain.difficulty import Difficulty
from hsstar.domain.verdict import Verdict
from hsstar.store.database import execute_file

_CORRECT = {Verdict.CORRECT.value: True, Verdict.INCORRECT.value: False}


def recorded_problems(connection: Connection, round_id: int) -> list[RecordedProblem]:
    """Return the problems of an iteration, by key, with their samples by slot."""
    return [
        RecordedProblem(
            row.key,
            Difficulty(row.level) if row.level else None,
            [
                RecordedSample(_CORRECT.get(verdict), text, reward)
                for verdict, text, reward in zip(row.verdicts, row.texts, row.rewards, strict=True)
            ],
        )
        for row in execute_file(connection, "recorded", {"round_id": round_id})
    ]
