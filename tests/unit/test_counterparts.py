"""Whatever the command line does can be called from Python, or is one of the few that stay there."""

import json
import subprocess
import sys
from operator import attrgetter
from pathlib import Path

import click

import hsstar
from tests.checkout import ROOT
from tests.unit.test_command_line import EVERY_COMMAND

COUNTERPARTS = json.loads((Path(__file__).parent / "counterparts.json").read_text())
"""By command the names that do the same in Python; null: it stays with the command line."""


def test_every_command_has_its_counterpart_or_is_one_that_stays() -> None:
    alone = {
        " ".join(path)
        for path, command in EVERY_COMMAND.items()
        if not isinstance(command, click.Group) or command.invoke_without_command
    }
    assert set(COUNTERPARTS) == alone


def test_every_counterpart_is_there_with_types_and_is_documented() -> None:
    page = (ROOT / "docs" / "python.md").read_text()
    for names in filter(None, COUNTERPARTS.values()):
        for name in names.split():
            found = attrgetter(name)(hsstar)
            function = found.fget if isinstance(found, property) else found
            assert function.__doc__, name
            assert "return" in function.__annotations__, name
            assert name.rpartition(".")[2] in page, name


def test_what_the_names_import_leaves_heavy_packages_alone() -> None:
    heavy = ("torch", "transformers", "trl", "starlette", "matplotlib", "prometheus_client", "pandas")
    program = (
        "import sys, hsstar\n"
        "for name in hsstar.__all__: getattr(hsstar, name)\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
