"""What the thresholds of an iteration look at."""

from dataclasses import dataclass

from sqlalchemy import Connection

from hsstar.store.database import execute_file, rows_of


@dataclass(frozen=True, slots=True)
class ThresholdGroup:
    """The problems that no threshold of two decimals tells apart; see threshold_counts.sql."""

    right: str  # of the pre-samples: `all`, `none` or `some`
    below: int | None
    above: int | None
    problems: int
    pairs: int


def threshold_groups(
    connection: Connection, run_id: int, iteration: int, at_most: int | None
) -> list[ThresholdGroup]:
    """Return the labelled problems of an iteration in groups; `at_most` pairs of each count."""
    values = {"run_id": run_id, "iteration": iteration, "at_most": at_most}
    return rows_of(execute_file(connection, "threshold_counts", values), ThresholdGroup)
