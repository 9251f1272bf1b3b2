"""Benchmarks: their protocol, and which are imported."""

from dataclasses import dataclass

from hsstar.domain.benchmarks import BENCHMARKS
from hsstar.store import datasets
from hsstar.store.database import Database


@dataclass(frozen=True, slots=True)
class BenchmarkEntry:
    """A benchmark as a list of benchmarks shows it; `unreadable_references` is None until it is imported."""

    benchmark: str
    title: str
    problems: int
    decoding: str
    imported: bool
    unreadable_references: int | None


def list_benchmarks(database: Database) -> list[BenchmarkEntry]:
    """Return the known benchmarks in the order of the published tables."""
    with database.begin() as connection:
        unreadable = {dataset.name: dataset.unreadable for dataset in datasets.list_datasets(connection)}
    return [
        BenchmarkEntry(
            benchmark.name, benchmark.title, benchmark.problems, benchmark.decoding.shown,
            benchmark.dataset in unreadable, unreadable.get(benchmark.dataset),
        )
        for benchmark in BENCHMARKS.values()
    ]  # fmt: skip
