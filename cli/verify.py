"""`hsstar verify`: give verdicts on the answers in a file, without a database, or explain one verdict."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from hsstar.cli.options import writing
from hsstar.cli.text import say

if TYPE_CHECKING:
    from hsstar.verifier import MathVerifier
    from hsstar.verifier.contract import VerificationRequest

_STANDARD_INPUT = Path("-")


@click.command(epilog="Example:  hsstar verify answers.jsonl --output verdicts.jsonl")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--format", type=click.Choice(("jsonl",)), default="jsonl", show_default=True, expose_value=False
)
@writing()
@click.option(
    "--processes", type=click.IntRange(1), help="Checking processes.  [default: one per core, at least two]"
)
@click.option(
    "--deadline",
    type=click.FloatRange(0, min_open=True),
    default=3.0,
    show_default=True,
    help="Seconds of processor time for one answer; a slower one gets twice as much, then no verdict.",
)
@click.option(
    "--memory-limit",
    type=click.IntRange(256),
    default=1024,
    show_default=True,
    help="MiB of address space for one checking process.",
)
@click.option("--explain", nargs=2, metavar="ANSWER REFERENCE", help="Say how these two are compared.")
@click.option("--json", "as_json", is_flag=True, help="With --explain: as a JSON object.")
def verify(
    file: Path | None,
    output: Path | None,
    processes: int | None,
    deadline: float,
    memory_limit: int,
    explain: tuple[str, str] | None,
    as_json: bool,
) -> None:
    """Compare the answers in FILE (- for standard input) with their reference answers.

    A line of FILE holds {"reference": …} and either {"answer": …}, the final answer itself, or
    {"response": …}, a whole response whose final answer is extracted; {"truncated": true} says that
    the response was cut at its token limit. The output has one line per line of FILE, in the same
    order, with verdict (correct, incorrect or null), cause and answer. Blank lines are skipped.
    """
    from hsstar.verifier import MathVerifier

    if isnan(deadline):
        raise click.BadParameter("nan is not a number of seconds", param_hint="'--deadline'")
    if (file is None) == (explain is None) or (as_json and explain is None):
        raise click.UsageError("give either FILE or --explain ANSWER REFERENCE")
    with MathVerifier(1 if explain else processes, deadline, memory_limit) as verifier:
        if explain is not None:
            _explain(verifier, *explain, as_json)
        elif file is not None:
            _verify(verifier, file, output)


def _explain(verifier: "MathVerifier", answer: str, reference: str, as_json: bool) -> None:
    from hsstar.domain.text import storable
    from hsstar.domain.verdict import VERDICT_OF_CAUSE

    explanation = verifier.explain(storable(answer), storable(reference))
    fields = asdict(explanation) | {"verdict": VERDICT_OF_CAUSE[explanation.cause]}
    if as_json:
        say(json.dumps(fields, ensure_ascii=False))
        return
    for name, value in fields.items():
        say(f"{name.replace('_', ' '):16}{'none' if value is None else ' '.join(value.split())}")


def _verify(verifier: "MathVerifier", file: Path, output: Path | None) -> None:
    from hsstar.data.files import write_rows

    verdicts: Counter[str | None] = Counter()
    target = output if output is not None else sys.stdout.buffer
    shows_progress = sys.stderr.isatty() and (output is not None or not sys.stdout.isatty())
    rows = _judged(file, verifier, verdicts)
    written = write_rows(target, _with_progress(rows) if shows_progress else rows)
    say(
        f"{written} lines: {verdicts['correct']} correct, {verdicts['incorrect']} incorrect, "
        f"{verdicts[None]} without verdict",
        err=True,
    )


def _judged(
    file: Path, verifier: "MathVerifier", verdicts: Counter[str | None]
) -> Iterator[dict[str, str | None]]:
    """Yield the lines to write, each window as soon as it is verified, and count their verdicts."""
    for window in _windows(_requests(file)):
        for judgement in verifier.verify(window):
            verdicts[judgement.verdict] += 1
            yield {"verdict": judgement.verdict, "cause": judgement.cause, "answer": judgement.answer}


def _windows(requests: Iterator["VerificationRequest"]) -> Iterator[list["VerificationRequest"]]:
    """Yield as many requests as are written at once, and those before a bad line before its error."""
    from hsstar.data.files import ROWS_IN_A_BATCH
    from hsstar.domain.errors import BadInputError

    window = []
    try:
        for request in requests:
            window.append(request)
            if len(window) == ROWS_IN_A_BATCH:
                yield window
                window = []
    except BadInputError:
        yield window
        raise
    yield window


def _requests(file: Path) -> Iterator["VerificationRequest"]:
    from hsstar.data.files import naming, read_json_lines

    source: Path | IO[bytes] = sys.stdin.buffer if file == _STANDARD_INPUT else file
    name = source if isinstance(source, Path) else source.name
    for line, row in read_json_lines(source):
        with naming(name, line):
            request = _request(row)
        yield request


def _request(row: dict[str, Any]) -> "VerificationRequest":
    from hsstar.domain.errors import BadInputError
    from hsstar.verifier.contract import VerificationRequest

    if ("answer" in row) == ("response" in row):
        raise BadInputError(f"expected answer or response, found {'both' if 'answer' in row else 'neither'}")
    reference = _text(row, "reference")
    if "answer" in row:
        return VerificationRequest(_text(row, "answer"), reference, is_answer=True)
    return VerificationRequest(_text(row, "response"), reference, truncated=_truncated(row))


def _text(row: dict[str, Any], key: str) -> str:
    """Return the text under a key; a number counts as its text."""
    from hsstar.data.formats import kind_of
    from hsstar.domain.errors import BadInputError

    if key not in row:
        raise BadInputError(f"expected {key}, which is missing")
    value = row[key]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadInputError(f"expected text or a number under {key}, found {kind_of(value)}")
    return str(value)


def _truncated(row: dict[str, Any]) -> bool:
    from hsstar.data.formats import kind_of
    from hsstar.domain.errors import BadInputError

    value = row.get("truncated", False)
    if not isinstance(value, bool):
        raise BadInputError(f"expected true or false under truncated, found {kind_of(value)}")
    return value


def _with_progress(rows: Iterator[dict[str, str | None]]) -> Iterator[dict[str, str | None]]:
    from hsstar.data.files import ROWS_IN_A_BATCH

    try:
        for number, row in enumerate(rows, start=1):
            yield row
            if number % ROWS_IN_A_BATCH == 0:
                click.echo(f"\r{number} lines verified ", nl=False, err=True)
    finally:
        click.echo("\r\x1b[K", nl=False, err=True)
