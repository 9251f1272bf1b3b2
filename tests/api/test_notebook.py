"""The notebook of the docs runs from its first cell to its last, in a kernel of its own, on a real run."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from traitlets.config import Config

import hsstar
from tests.checkout import ROOT
from tests.cli.conftest import CommandLine, working
from tests.store.factory import add_problems

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
SECONDS = 600
"""For the start of the kernel, and for a cell; on a busy machine imports alone take a minute."""


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A folder for sockets, whose paths have to be short.

    By default a kernel is told ports that were free a moment ago. Where another process takes one of them
    before the kernel does, the kernel dies at its start; sockets in a folder are taken by nobody else.
    """
    with tempfile.TemporaryDirectory(prefix="hsn-", dir="/tmp") as folder:
        yield Path(folder)


def execute(notebook: nbformat.NotebookNode, sockets: Path, folder: Path) -> None:
    """Run every cell in a kernel; if that dies, say what it wrote last, and where in the program it was."""
    own_sockets = {"transport": "ipc", "ip": str(sockets / "kernel")}
    client = NotebookClient(
        notebook,
        timeout=SECONDS,
        startup_timeout=SECONDS,
        resources={"metadata": {"path": str(folder)}},
        config=Config(AsyncKernelManager=own_sockets),
    )
    log = folder / "kernel.log"
    try:
        with log.open("w") as written:
            client.execute(stderr=written)
    except RuntimeError as error:  # a dead kernel, or one that never answered
        raise AssertionError(f"{error}; the kernel wrote:\n{log.read_text()[-4000:]}") from error


@pytest.mark.heavy
def test_the_notebook_runs(
    cli: CommandLine, db: hsstar.Client, tmp_path: Path, sockets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cli.database.begin() as connection:
        add_problems(connection, 8, "demo-train")
        add_problems(connection, 3, "demo-heldout")
    run = db.create(cli.recipe(), sampling={"n": 4, "n_p": 2})
    run.iterate(2)
    with working(cli):
        run.wait(SECONDS)
    for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setenv("PYTHONFAULTHANDLER", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    execute(notebook, sockets, tmp_path)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    printed = "".join(output.get("text", "") for output in outputs)
    assert f"{run.pairs().to_arrow().num_rows} pairs of" in printed
    assert "expected" in printed
    assert "--- rejected" in printed


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []
