"""Notifications that their webhook has not taken, in words."""

from hsstar.store import notifications
from hsstar.store.database import Database
from hsstar.store.notifications import UnsentCount
from hsstar.store.runs import Run


def unsent_lines(database: Database, run: Run) -> list[str]:
    """Return what a person should know of the notifications of a run; empty while all are taken."""
    with database.begin() as connection:
        return [unsent_line(row) for row in notifications.count_unsent(connection, run.id)]


def unsent_line(row: UnsentCount) -> str:
    """Return how many notifications are not sent, and why."""
    parts = [f"{row.waiting} wait for the next attempt"] if row.waiting else []
    parts += [f"{row.given_up} are given up"] if row.given_up else []
    return f"notifications of {row.run}: {', '.join(parts)}; {row.error}"
