"""`hsstar data`: prepare data files for training."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hsstar.cli.options import FilePath, reading, writing
from hsstar.cli.text import say
from hsstar.domain.problems import ProblemFormat

if TYPE_CHECKING:
    from hsstar.data.bad_rows import BadRows

_SHOWN = 12


@click.group(epilog="Example:  hsstar data steps train.jsonl --output steps.jsonl")
def data() -> None:
    """Prepare data files for training; needs no database."""


@data.command(epilog="Example:  hsstar data steps gsm8k.jsonl --output steps.jsonl")
@click.argument("file")
@click.option(
    "--format",
    "file_format",
    type=click.Choice([known.value for known in ProblemFormat]),
    default="auto",
    show_default=True,
)
@reading
@writing()
@click.option("--refused", type=FilePath(), help="A file that lists every problem left out.")
def steps(
    file: str,
    file_format: str,
    mapping: tuple[str, ...],
    bad: "BadRows",
    output: Path | None,
    refused: Path | None,
) -> None:
    """Split the solutions in FILE into steps: a blank line between them, the answer in a box in the last.

    FILE holds GSM8K, MATH, NuminaMath or HS-STaR rows (JSONL, JSON, CSV, Parquet), or is a folder or pattern
    of such files, a dataset of the Hugging Face hub (hub:OWNER/NAME/FILE), or made on demand
    (gym:gsm_symbolic?size=1000&seed=1). A line of the result holds query, resp, ref_ans and id. Solutions
    that cannot be split are left out and reported.
    """
    from hsstar.cli.views.rows import left_out_lines
    from hsstar.data.files import ProblemFiles
    from hsstar.data.mapping import ColumnMap
    from hsstar.data.solutions import StepReport, in_steps, read_solutions
    from hsstar.data.sources import files_of
    from hsstar.data.writing import write_rows

    columns = ColumnMap.parse(mapping, ("statement",), ("solution",))
    files, report = ProblemFiles(files_of([file]), ProblemFormat(file_format), columns, bad), StepReport()
    problems = read_solutions(files)
    write_rows(output if output is not None else sys.stdout.buffer, in_steps(problems, report))
    left_out = sum(map(len, report.refused.values()))
    say(f"{report.written} solutions in steps, {left_out} left out", err=True)
    for obstacle, names in report.refused.items():
        more = f" and {len(names) - _SHOWN} more (--refused FILE names all)" if len(names) > _SHOWN else ""
        say(f"  {obstacle}: {len(names)} ({', '.join(names[:_SHOWN])}{more})", err=True)
    for line in left_out_lines(bad):
        say(line, err=True)
    if refused is not None:
        rows = ({"id": name, "reason": reason} for reason, names in report.refused.items() for name in names)
        write_rows(refused, rows)
