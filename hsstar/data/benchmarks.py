"""The files of benchmarks as published: from a folder, or from the Hugging Face hub."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hsstar.data.files import read_problems
from hsstar.data.hub import DATA_SUFFIXES, HubError, download_file, list_data_files
from hsstar.domain.benchmarks import Benchmark
from hsstar.domain.errors import BadInputError
from hsstar.domain.problems import Problem


def find_file(benchmark: Benchmark, source: Path | None) -> Path:
    """The file of a benchmark.

    Args:
        benchmark: which one.
        source: its file, or a folder with a file that has its name; None to ask the hub.

    Raises:
        BadInputError: there is no such file, or the hub does not give it.
    """
    if source is None:
        return _from_hub(benchmark)
    if not source.is_dir():
        return source
    for suffix in DATA_SUFFIXES:
        file = source / f"{benchmark.name}{suffix}"
        if file.exists():
            return file
    raise BadInputError(
        f"{source} has no file of {benchmark.title}; expected {benchmark.name}{', '.join(DATA_SUFFIXES)}"
    )


def read_benchmark(benchmark: Benchmark, file: Path, *, partial: bool = False) -> list[Problem]:
    """The problems of a benchmark's file, in its order; equal statements are told apart.

    Args:
        benchmark: which one.
        file: as published.
        partial: take any number of problems.

    Raises:
        BadInputError: it cannot be read, or has another number of problems than the benchmark.
    """
    problems = list(read_problems(file, benchmark.problem_format))
    if len(problems) != benchmark.problems and not partial:
        raise BadInputError(
            f"{file} holds {len(problems)} problems, and {benchmark.title} has {benchmark.problems}; "
            "give the file as published, or look at the first few with --problems N"
        )
    seen: Counter[str] = Counter()
    told_apart = []
    for problem in problems:
        told_apart.append(replace(problem, occurrence=seen[problem.key]))
        seen[problem.key] += 1
    return told_apart


def content_fingerprint(problems: Sequence[Problem]) -> str:
    """32 hex digits that name statements and reference answers in their order."""
    digest = hashlib.sha256()
    for problem in problems:
        for part in (problem.statement, problem.reference):
            raw = part.encode("utf-8", "surrogatepass")
            digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()[:32]


def _from_hub(benchmark: Benchmark) -> Path:
    """The data file of a benchmark's set on the hub, from the local cache where it is there."""
    try:
        files = [name for name in list_data_files(benchmark.hub) if name.startswith(benchmark.hub_folder)]
        if len(files) == 1:
            return download_file(benchmark.hub, files[0])
    except HubError as error:
        raise BadInputError(
            f"the Hugging Face hub does not give {benchmark.hub}: {error}; "
            f"give the file {benchmark.name}.jsonl as published: --data FOLDER"
        ) from None
    raise BadInputError(
        f"{benchmark.hub} on the Hugging Face hub has {len(files)} files that could be {benchmark.title}, "
        "expected one; give the file as published: --data FOLDER"
    )
