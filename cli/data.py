"""`hsstar data`: prepare data files for training."""

import sys
from pathlib import Path

import click

from hsstar.cli.options import writing
from hsstar.cli.text import say
from hsstar.domain.problems import ProblemFormat

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
@writing()
@click.option("--refused", type=click.Path(path_type=Path), help="A file that lists every problem left out.")
def steps(file: str, file_format: str, output: Path | None, refused: Path | None) -> None:
    """Split the solutions in FILE into steps: a blank line between them, the answer in a box in the last.

    FILE holds GSM8K, MATH, NuminaMath or HS-STaR rows (JSONL, JSON, CSV, Parquet), or is a dataset of the
    Hugging Face hub (hub:OWNER/NAME/FILE), or is made on demand (gym:gsm_symbolic?size=1000&seed=1). A line
    of the result holds query, resp, ref_ans and id. Solutions that cannot be split are left out and reported.
    """
    from hsstar.data.hub import local_file
    from hsstar.data.solutions import StepReport, in_steps, read_solutions
    from hsstar.data.writing import write_rows

    report = StepReport()
    problems = read_solutions(local_file(file), ProblemFormat(file_format))
    write_rows(output if output is not None else sys.stdout.buffer, in_steps(problems, report))
    left_out = sum(map(len, report.refused.values()))
    say(f"{report.written} solutions in steps, {left_out} left out", err=True)
    for obstacle, names in report.refused.items():
        more = f" and {len(names) - _SHOWN} more (--refused FILE names all)" if len(names) > _SHOWN else ""
        say(f"  {obstacle}: {len(names)} ({', '.join(names[:_SHOWN])}{more})", err=True)
    if refused is not None:
        rows = ({"id": name, "reason": reason} for reason, names in report.refused.items() for name in names)
        write_rows(refused, rows)
