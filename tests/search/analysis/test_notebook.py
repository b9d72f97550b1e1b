"""The notebooks of docs/ run from top to bottom, where Jupyter starts them."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[3]


def executed(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A notebook of docs/ with the outputs of a kernel that sees no more of Attune than the folder it starts in tells."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    notebook = nbformat.read(ROOT / "docs" / name, as_version=4)
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    client.execute()
    return notebook


@pytest.mark.slow
def test_the_notebook_runs(known_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTUNE_RUN", str(known_run))
    notebook = executed("analysis.ipynb", ROOT / "docs", monkeypatch)
    outputs = [cell["outputs"] for cell in notebook.cells if cell["cell_type"] == "code"]
    assert len(outputs) == 6
    assert all(outputs)
    assert "attune_tiny:" in str(outputs[-1])


@pytest.mark.matrix  # tests/test_attune.py searches over the same objects
@pytest.mark.slow
def test_a_network_of_a_notebook_is_searched_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its class and data are known to the kernel alone; the run goes where the notebook is."""
    (tmp_path / "docs").mkdir()
    for name in ("attune", "spaces", "evaluators", "search"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = executed("own_network.ipynb", tmp_path / "docs", monkeypatch)
    outputs = {
        cell["source"].partition("\n")[0]: cell["outputs"] for cell in notebook.cells if cell["cell_type"] == "code"
    }
    searched = outputs["run = attune.search("]
    assert "4/4 trials" in str(searched), f"the bar: {searched}"
    assert "4 architectures" in str(searched)
    assert "<svg" in str(searched)
    assert not [one for one in searched if one["output_type"] == "error"]

    def number(source: str) -> float:
        return float(str(outputs[source][0]["data"]["text/plain"]).removeprefix("np.float64(").removesuffix(")"))

    assert number("accuracy(best.model)") > number("torch.manual_seed(0)")
    (run,) = (tmp_path / "docs" / "runs").iterdir()
    assert (run / "config.yaml").exists()
