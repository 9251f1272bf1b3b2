"""What the pages of `hsstar web --actions` can ask for: each request once, with a record of who asked."""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from hsstar.commands import jobs, run_life, runs, verdicts
from hsstar.domain.errors import HsstarError
from hsstar.domain.verdict import Verdict
from hsstar.settings import Settings
from hsstar.store import actions
from hsstar.store.database import Database
from hsstar.store.runs import find_run

ActionName = Literal["pause", "resume", "retry", "accept missing", "correct"]


@dataclass(frozen=True, slots=True)
class ActionRequest:
    """An action that somebody asks for.

    Attributes:
        key: of the form; a second request with it does nothing.
        sample_id, verdict, why, change_evaluations: of a correction alone.
    """

    key: UUID
    author: str
    action: ActionName
    run: str
    sample_id: int | None = None
    verdict: Verdict | None = None
    why: str = ""
    change_evaluations: bool = False


def perform(database: Database, settings: Settings, request: ActionRequest) -> None:
    """Do what is asked for and record it in the view `action_log`; do nothing if it was asked before.

    A row without an outcome is an action whose server ended meanwhile. Raise what the command raises.
    """
    detail = request.why if request.verdict is None else f"{request.verdict}: {request.why}"
    with database.begin() as connection:
        find_run(connection, request.run)
        if not actions.record(
            connection,
            request.key,
            request.author,
            request.action,
            request.run,
            request.sample_id,
            detail,
        ):
            return
    outcome, refused = "", True
    try:
        outcome, refused = _perform(database, settings, request), False
    except HsstarError as error:
        outcome = str(error)
        raise
    finally:
        with database.begin() as connection:
            actions.conclude(connection, request.key, outcome, refused=refused)


def _perform(database: Database, settings: Settings, request: ActionRequest) -> str:
    match request.action:
        case "pause":
            return f"{run_life.pause_run(database, request.run, request.author)} jobs still run to their end"
        case "resume":
            return f"was held: {run_life.resume_run(database, request.run)}"
        case "retry":
            return f"{len(jobs.retry_jobs(database, request.run, []))} jobs are queued again"
        case "accept missing":
            with database.begin() as connection:
                run = find_run(connection, request.run)
            return f"{runs.accept_missing(database, run)} failed jobs are discarded"
        case "correct":
            assert request.sample_id is not None and request.verdict is not None  # noqa: S101 - by its form
            done = verdicts.set_verdict(
                database,
                request.sample_id,
                request.verdict,
                request.why,
                request.author,
                settings,
                change_evaluations=request.change_evaluations,
            )
            place = "in force" if done.in_force else "the earlier verdict stays in force"
            return f"{done.before} before; {place}"
