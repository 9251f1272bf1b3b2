"""Datasets of problems."""

from dataclasses import dataclass

from hsstar.store import datasets
from hsstar.store.database import Database


@dataclass(frozen=True, slots=True)
class DatasetEntry:
    """A dataset as a list of datasets shows it."""

    dataset: str
    problems: int
    unreadable_references: int


def list_datasets(database: Database) -> list[DatasetEntry]:
    """Return every dataset with its counts, by name."""
    with database.begin() as connection:
        rows = datasets.list_datasets(connection)
    return [DatasetEntry(row.name, row.problems, row.unreadable) for row in rows]


def first_problem(database: Database, dataset: str) -> str:
    """Return the statement of the first problem of a dataset that iterations may take."""
    with database.begin() as connection:
        return datasets.first_problem(connection, datasets.find_dataset(connection, dataset))
