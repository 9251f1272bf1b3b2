"""The published files of benchmarks: from a folder or the Hugging Face hub."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hsstar.data.files import read_problems
from hsstar.data.hub import HubError, download_file, list_data_files
from hsstar.data.rows import SUFFIXES
from hsstar.domain.benchmarks import Benchmark
from hsstar.domain.errors import BadInputError
from hsstar.domain.problems import Problem


def find_file(benchmark: Benchmark, source: Path | None) -> Path:
    """Return the file of a benchmark: `source`, or in that folder the one with its name; None asks the hub.

    Raise BadInputError if the file is not there, or the hub does not give it.
    """
    if source is None:
        return _from_hub(benchmark)
    if not source.is_dir():
        return source
    for suffix in SUFFIXES:
        file = source / f"{benchmark.name}{suffix}"
        if file.exists():
            return file
    raise BadInputError(
        f"{source} has no file of {benchmark.title}; expected {benchmark.name}{', '.join(SUFFIXES)}"
    )


def read_benchmark(benchmark: Benchmark, file: Path, *, partial: bool = False) -> list[Problem]:
    """Return the problems of a benchmark's published file in order; equal statements get different keys.

    Raise BadInputError if the file cannot be read, or (unless `partial`) has another number of problems.
    """
    problems = list(read_problems(file, benchmark.problem_format))
    if len(problems) != benchmark.problems and not partial:
        raise BadInputError(
            f"{file} holds {len(problems)} problems, and {benchmark.title} has {benchmark.problems}; "
            "give the file as published, or look at the first few with --problems N"
        )
    seen: Counter[str] = Counter()
    distinct = []
    for problem in problems:
        distinct.append(replace(problem, occurrence=seen[problem.key]))
        seen[problem.key] += 1
    return distinct


def content_fingerprint(problems: Sequence[Problem]) -> str:
    """Return 32 hex digits that identify statements and reference answers in their order."""
    digest = hashlib.sha256()
    for problem in problems:
        for part in (problem.statement, problem.reference):
            raw = part.encode("utf-8", "surrogatepass")
            digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()[:32]


def _from_hub(benchmark: Benchmark) -> Path:
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
