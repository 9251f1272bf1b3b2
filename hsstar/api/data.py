"""Files of problems and solutions, made without a database."""

from pathlib import Path

from hsstar.api.reading import Names, Paths, solution_files, warn_of
from hsstar.data.bad_rows import BadRows
from hsstar.data.solutions import StepReport, in_steps, read_solutions
from hsstar.data.writing import write_rows
from hsstar.demo.family import distinct_problems, write_problems
from hsstar.domain.problems import ProblemFormat


def split_solutions(
    files: Names,
    output: str | Path,
    *,
    file_format: ProblemFormat | str = ProblemFormat.AUTO,
    mapping: Paths | None = None,
    skip_bad: int = 0,
) -> StepReport:
    """Split the solutions of files into steps, as `hsstar data steps` does, and write them to a file.

    The report counts them, and names the refused ones by what keeps them from being split. An existing file
    is replaced.
    """
    bad, report = BadRows(skip_bad), StepReport()
    problems = read_solutions(solution_files(files, file_format, mapping, bad))
    write_rows(Path(output), in_steps(problems, report))
    warn_of(bad)
    return report


def write_demo_problems(file: str | Path, count: int = 200, *, seed: int = 0, held_out: bool = False) -> None:
    """Write arithmetic problems of the demo in the layout of GSM8K; held-out ones share none with others."""
    write_problems(Path(file), distinct_problems(count, seed, held_out=held_out))
