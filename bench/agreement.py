"""Compare the verdicts of hsstar and of Math-Verify: on cases with a person's verdict, references, responses.

    python -m bench.agreement [--cases FILE] [--benchmarks FOLDER] [--responses FILE ...] [--patience SECONDS]

A line of the cases holds `kind`, `reference`, `answer` or `response`, and the right `verdict`. Each reference
of the benchmarks is judged as an answer to itself, and to the next problem. The shortest examples are shown.
Math-Verify has `--patience` by the clock for reading a text or comparing two; its own limit is 5 seconds.
"""

import argparse
import multiprocessing
import resource
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Self

from bench.setup import ROOT, describe_host, table
from hsstar.data.files import read_json_lines, read_problems
from hsstar.data.samples import SampleFiles
from hsstar.verifier import MathVerifier, VerificationRequest
from hsstar.verifier.requests import read_request

SHARED = ROOT.parent / "shared"
CASES = SHARED / "cases" / "verifier" / "cases.jsonl"
BENCHMARKS = SHARED / "data" / "benchmarks"
RESPONSES = sorted((SHARED / "data" / "responses").glob("*.jsonl"))
EXAMPLES = 6
LONGEST_EXAMPLE = 60
PATIENT_SECONDS = 60
"""By the clock, for reading a text or comparing two: a busy machine does not cut Math-Verify's work short."""
PLAIN_MEMORY = 4 << 30
NAMES = ("hsstar", "Math-Verify")
ERRORS = ("wrong accepts", "wrong rejects", "no verdict")


@dataclass(frozen=True)
class Judged:
    """A request with the verdicts of hsstar and of Math-Verify: `correct`, `incorrect`, None without one."""

    request: VerificationRequest
    verdicts: tuple[str | None, str | None]


def math_verify_accepts(request: VerificationRequest, seconds: int = 5) -> bool:
    """Use Math-Verify as in its own documentation, with its own settings; 5 seconds are its own limit."""
    from math_verify import parse, verify

    texts = f"${request.reference}$", f"${request.response}$" if request.is_answer else request.response
    reference, answer = (parse(text, parsing_timeout=seconds) for text in texts)
    return bool(verify(reference, answer, timeout_seconds=seconds))


class PlainVerifier:
    """Math-Verify in a process, which is replaced when it hangs, grows or dies: that pair has no verdict."""

    def __init__(self, patience: int = PATIENT_SECONDS) -> None:
        self._patience = patience

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()

    def verdict(self, request: VerificationRequest) -> str | None:
        """Return `correct`, `incorrect`, or None."""
        try:
            self._connection.send(request)
            if self._connection.poll(2.5 * self._patience):
                return "correct" if self._connection.recv() else "incorrect"
        except (EOFError, OSError):
            pass
        self._process.kill()
        self._start()
        return None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_answer, args=(theirs, self._patience), daemon=True)
        self._process.start()
        theirs.close()


def _answer(requests: Connection, patience: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (PLAIN_MEMORY, PLAIN_MEMORY))
    while True:
        requests.send(math_verify_accepts(requests.recv(), patience))


def judge(requests: Sequence[VerificationRequest], patience: int) -> list[Judged]:
    """Ask both verifiers."""
    with MathVerifier() as verifier, PlainVerifier(patience) as plain:
        ours = [judgement.verdict for judgement in verifier.verify(requests)]
        theirs = map(plain.verdict, requests)
        return [Judged(*rest) for rest in zip(requests, zip(ours, theirs, strict=True), strict=True)]


def error_of(verdict: str | None, right: str) -> str | None:
    """Return which of `ERRORS` a verdict is, None if it is right."""
    if verdict == right:
        return None
    return "no verdict" if verdict is None else "wrong accepts" if verdict == "correct" else "wrong rejects"


def describe_cases(path: Path, patience: int) -> str:
    """Say what each verifier gets wrong in cases with a person's verdict, by kind and with examples."""
    rows = [row for _, row in read_json_lines(path)]
    judged = judge([read_request(row) for row in rows], patience)
    wrong: list[dict[str, list[tuple[str, Judged]]]] = [defaultdict(list) for _ in NAMES]
    for row, one in zip(rows, judged, strict=True):
        for errors, verdict in zip(wrong, one.verdicts, strict=True):
            if error := error_of(verdict, row["verdict"]):
                errors[error].append((row["kind"], one))
    totals = [
        [name, *(str(len(errors[error])) for error in ERRORS), str(sum(map(len, errors.values())))]
        for name, errors in zip(NAMES, wrong, strict=True)
    ]
    parts = [
        f"## {len(rows)} judged cases",
        table(["verifier", *ERRORS, "errors"], totals),
        table(["kind", "cases", *NAMES], list(_kind_rows(Counter(row["kind"] for row in rows), wrong))),
        "Errors of a kind: accepts + rejects + none.",
    ]
    for name, errors in zip(NAMES, wrong, strict=True):
        for error in ERRORS:
            if examples := [[kind, *_cells(one)] for kind, one in _shortest(errors[error])]:
                parts += [f"{name}, {error}:", table(["kind", "answer", "reference"], examples)]
    return "\n\n".join(parts)


def _kind_rows(
    cases: Counter[str], wrong: Sequence[dict[str, list[tuple[str, Judged]]]]
) -> Iterator[list[str]]:
    for kind, number in cases.most_common():
        counts = [[sum(of == kind for of, _ in errors[error]) for error in ERRORS] for errors in wrong]
        if any(map(any, counts)):
            yield [kind, str(number), *(" + ".join(map(str, count)) for count in counts)]


def describe_references(folder: Path, patience: int) -> str:
    """Say of which references each verifier accepts the same text, and which others as the same answer."""
    references = [
        problem.reference or "" for path in sorted(folder.glob("*.jsonl")) for problem in read_problems(path)
    ]
    itself = [VerificationRequest(text, text, is_answer=True) for text in references]
    beside = [VerificationRequest(*pair, is_answer=True) for pair in pairwise(references)]
    parts = [f"## {len(references)} references of benchmarks"]
    for what, requests in (("beside itself", itself), ("beside the next one", beside)):
        parts.append(_describe_agreement(f"each {what}", judge(requests, patience)))
    return "\n\n".join(parts)


def describe_responses(paths: Sequence[Path], patience: int) -> str:
    """Say where the verifiers agree on responses of models, and show where they do not."""
    requests = [
        VerificationRequest(response.text, row.problem.reference or "")
        for path in paths
        for row in SampleFiles([path]).by_problem()
        for response in row.responses
    ]
    return f"## {len(requests)} responses of models\n\n" + _describe_agreement(
        "each response", judge(requests, patience)
    )


def _describe_agreement(what: str, judged: Sequence[Judged]) -> str:
    """Count the pairs of verdicts, and show the shortest of each disagreement."""
    counts = Counter(one.verdicts for one in judged)
    rows = [[verdict or "none" for verdict in pair] + [str(number)] for pair, number in counts.most_common()]
    parts = [f"{what.capitalize()}:", table([*NAMES, "pairs"], rows)]
    for pair in counts:
        differing = [("", one) for one in judged if one.verdicts == pair and pair[0] != pair[1]]
        if examples := [_cells(one) for _, one in _shortest(differing)]:
            said = f"{NAMES[0]} {pair[0] or 'none'}, {NAMES[1]} {pair[1] or 'none'}:"
            parts += [said, table(["answer", "reference"], examples)]
    return "\n\n".join(parts)


def _shortest(found: Sequence[tuple[str, Judged]]) -> list[tuple[str, Judged]]:
    """Return different examples that are short enough to be shown, one of each kind first."""
    different = {_texts(pair[1]): pair for pair in found}
    short = [pair for texts, pair in different.items() if max(map(len, texts)) <= LONGEST_EXAMPLE]
    short.sort(key=lambda pair: sum(map(len, _texts(pair[1]))))
    first = list({kind: (kind, one) for kind, one in reversed(short)}.values())
    rest = [pair for pair in short if pair not in first]
    return [*reversed(first), *rest][:EXAMPLES]


def _texts(judged: Judged) -> tuple[str, str]:
    """Return answer and reference on one line; of a response its end."""
    request = judged.request
    text = " ".join(request.response.split())
    if not request.is_answer and len(text) > LONGEST_EXAMPLE:
        text = "…" + text[1 - LONGEST_EXAMPLE :]
    return text, " ".join(request.reference.split())


def _cells(judged: Judged) -> list[str]:
    return [f"`` {text} ``".replace("|", "\\|") if text else "" for text in _texts(judged)]


def main() -> None:
    """Judge what is there, and print tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=Path, default=CASES, metavar="FILE")
    parser.add_argument("--benchmarks", type=Path, default=BENCHMARKS, metavar="FOLDER")
    parser.add_argument("--responses", type=Path, nargs="*", default=RESPONSES, metavar="FILE")
    parser.add_argument("--patience", type=int, default=PATIENT_SECONDS, metavar="SECONDS")
    arguments = parser.parse_args()
    for needed in (arguments.cases, arguments.benchmarks, *arguments.responses):
        if not needed.exists():
            sys.exit(f"nothing is compared: {needed} is not here")
    with MathVerifier() as verifier:
        print(f"{describe_host()}\n- {verifier.version}\n")
    for describe, what in (
        (describe_cases, arguments.cases),
        (describe_responses, arguments.responses),
        (describe_references, arguments.benchmarks),
    ):
        print(describe(what, arguments.patience) + "\n", flush=True)


if __name__ == "__main__":
    main()
