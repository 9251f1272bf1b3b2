"""`hsstar verify`: give verdicts on the answers in a file, without a database, or explain one verdict."""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from hsstar.cli.options import FilePath, skipping, writing
from hsstar.cli.text import say

if TYPE_CHECKING:
    from hsstar.data.bad_rows import BadRows
    from hsstar.verifier import MathVerifier
    from hsstar.verifier.contract import VerificationRequest

_STANDARD_INPUT = Path("-")


@click.command(epilog="Example:  hsstar verify answers.jsonl --output verdicts.jsonl")
@click.argument("file", type=FilePath(), required=False)
@click.option(
    "--format", type=click.Choice(("jsonl",)), default="jsonl", show_default=True, expose_value=False
)
@skipping
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
@click.option("--serve", is_flag=True, help="Judge what comes over HTTP: POST /verify, one answer or a list.")
@click.option("--host", default="127.0.0.1", show_default=True, help="With --serve: the address.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=8017, show_default=True, help="With --serve: 0 is any."
)
@click.option(
    "--queue",
    type=click.IntRange(1),
    default=1024,
    show_default=True,
    help="With --serve: answers that may wait; more are refused for a second.",
)
def verify(
    file: Path | None,
    bad: "BadRows",
    output: Path | None,
    processes: int | None,
    deadline: float,
    memory_limit: int,
    explain: tuple[str, str] | None,
    as_json: bool,
    serve: bool,
    host: str,
    port: int,
    queue: int,
) -> None:
    """Compare the answers in FILE (- for standard input) with their reference answers.

    A line of FILE holds {"reference": …} and either {"answer": …}, the final answer itself, or
    {"response": …}, a whole response whose final answer is extracted; {"truncated": true} says that
    the response was cut at its token limit. The output has one line per line of FILE, in the same
    order, with verdict (correct, incorrect or null), cause and answer. Blank lines are skipped, and those
    that --skip-bad leaves out.

    With --serve the same objects come over HTTP. An address that others can reach needs a token in
    HSSTAR_VERIFY_TOKEN or the file that HSSTAR_VERIFY_TOKEN_FILE names.
    """
    from hsstar.verifier import MathVerifier

    if isnan(deadline):
        raise click.BadParameter("nan is not a number of seconds", param_hint="'--deadline'")
    if (file is not None) + (explain is not None) + serve != 1 or (as_json and explain is None):
        raise click.UsageError("give one of FILE, --explain ANSWER REFERENCE and --serve")
    if serve:
        _serve(host, port, queue, processes, deadline, memory_limit)
        return
    with MathVerifier(1 if explain else processes, deadline, memory_limit) as verifier:
        if explain is not None:
            _explain(verifier, *explain, as_json)
        elif file is not None:
            _verify(verifier, file, output, bad)


def _serve(
    host: str, port: int, queue: int, processes: int | None, deadline: float, memory_limit: int
) -> None:
    from hsstar.domain.errors import MissingDependencyError
    from hsstar.remote.secrets import read_secret
    from hsstar.verifier import SharedVerifier

    try:
        from hsstar.verifier import server
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"--serve needs {error.name}: pip install 'hsstar[web]'") from None

    token = read_secret(os.environ, "HSSTAR_VERIFY_TOKEN")
    with (
        server.listen(host, port, token) as bound,
        SharedVerifier(processes, deadline, memory_limit) as verifier,
    ):
        say(f"http://{server.address(bound)}/verify")
        server.serve(verifier, bound, token, queue)


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


def _verify(verifier: "MathVerifier", file: Path, output: Path | None, bad: "BadRows") -> None:
    from hsstar.cli.views.rows import left_out_lines
    from hsstar.data.writing import write_rows

    verdicts: Counter[str | None] = Counter()
    target = output if output is not None else sys.stdout.buffer
    shows_progress = sys.stderr.isatty() and (output is not None or not sys.stdout.isatty())
    rows = _judged(_requests(file, bad), verifier, verdicts)
    written = write_rows(target, _with_progress(rows) if shows_progress else rows)
    say(
        f"{written} lines: {verdicts['correct']} correct, {verdicts['incorrect']} incorrect, "
        f"{verdicts[None]} without verdict",
        err=True,
    )
    for line in left_out_lines(bad):
        say(line, err=True)


def _judged(
    requests: Iterator["VerificationRequest"], verifier: "MathVerifier", verdicts: Counter[str | None]
) -> Iterator[dict[str, str | None]]:
    """Yield the lines to write, each window as soon as it is verified, and count their verdicts."""
    from hsstar.verifier.requests import write_judgement

    for window in _windows(requests):
        for judgement in verifier.verify(window):
            verdicts[judgement.verdict] += 1
            yield write_judgement(judgement)


def _windows(requests: Iterator["VerificationRequest"]) -> Iterator[list["VerificationRequest"]]:
    """Yield as many requests as are written at once, and those before a bad line before its error."""
    from hsstar.data.rows import ROWS_IN_A_BATCH
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


def _requests(file: Path, bad: "BadRows") -> Iterator["VerificationRequest"]:
    from hsstar.data.files import read_json_lines
    from hsstar.data.rows import naming
    from hsstar.verifier.requests import read_request

    source: Path | IO[bytes] = sys.stdin.buffer if file == _STANDARD_INPUT else file
    name = source if isinstance(source, Path) else source.name
    for line, row in read_json_lines(source, bad):
        with bad.left_out(), naming(name, line):
            yield read_request(row)


def _with_progress(rows: Iterator[dict[str, str | None]]) -> Iterator[dict[str, str | None]]:
    from hsstar.data.rows import ROWS_IN_A_BATCH

    try:
        for number, row in enumerate(rows, start=1):
            yield row
            if number % ROWS_IN_A_BATCH == 0:
                click.echo(f"\r{number} lines verified ", nl=False, err=True)
    finally:
        click.echo("\r\x1b[K", nl=False, err=True)
