"""The notebook of the docs runs from its first cell to its last, in a kernel of its own, on a real run."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import hsstar
from tests.checkout import ROOT
from tests.cli.conftest import CommandLine, working
from tests.store.factory import add_problems

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


@pytest.mark.heavy
def test_the_notebook_runs(
    cli: CommandLine, db: hsstar.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cli.database.begin() as connection:
        add_problems(connection, 8, "demo-train")
        add_problems(connection, 3, "demo-heldout")
    run = db.create(cli.recipe(), sampling={"n": 4, "n_p": 2})
    run.iterate(2)
    with working(cli):
        run.wait(120)
    for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    printed = "".join(output.get("text", "") for output in outputs)
    assert f"{run.pairs().to_arrow().num_rows} pairs of" in printed
    assert "expected" in printed
    assert "--- rejected" in printed


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []
