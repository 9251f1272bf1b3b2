"""The files of benchmarks as published: from a folder, or from the Hugging Face hub."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hsstar.data.files import read_problems
from hsstar.domain.benchmarks import Benchmark
from hsstar.domain.errors import BadInputError, MissingDependencyError
from hsstar.domain.problems import Problem

_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
_HUB_SECONDS = 10


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
    for suffix in _SUFFIXES:
        file = source / f"{benchmark.name}{suffix}"
        if file.exists():
            return file
    raise BadInputError(
        f"{source} has no file of {benchmark.title}; expected {benchmark.name}{', '.join(_SUFFIXES)}"
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
        from huggingface_hub import HfApi, hf_hub_download
    except ImportError:
        raise MissingDependencyError(
            f"{benchmark.title} from the Hugging Face hub needs pip install 'hsstar[train]'; "
            "or give its file: --data FOLDER"
        ) from None
    try:
        names = HfApi().dataset_info(benchmark.hub, timeout=_HUB_SECONDS).siblings or []
        files = [
            found.rfilename
            for found in names
            if found.rfilename.startswith(benchmark.hub_folder) and found.rfilename.endswith(_SUFFIXES)
        ]
        if len(files) == 1:
            return Path(
                hf_hub_download(benchmark.hub, files[0], repo_type="dataset", etag_timeout=_HUB_SECONDS)
            )
    except Exception as error:  # the hub client raises errors of several libraries
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise BadInputError(
            f"the Hugging Face hub does not give {benchmark.hub}: {reason}; "
            f"give the file {benchmark.name}.jsonl as published: --data FOLDER"
        ) from None
    raise BadInputError(
        f"{benchmark.hub} on the Hugging Face hub has {len(files)} files that could be {benchmark.title}, "
        "expected one; give the file as published: --data FOLDER"
    )
