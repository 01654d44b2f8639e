"""The example notebook runs in a kernel, and its cells show what a reader expects."""

from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "infra/notebooks/first-labels.ipynb"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of jupyter_client, pyzmq and nbformat
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of the kernel's sockets
def test_the_example_notebook_runs_and_shows_labels(tmp_path):
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "clear the outputs before a commit"
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    shown = [output["data"] for cell in notebook.cells for output in cell.get("outputs", ()) if "data" in output]
    text = "\n".join(data.get("text/html", "") for data in shown)
    assert "1 video pending" in text
    assert "labelled 1 of 1 pending video in" in text
    assert '<progress max="1"' in text
    assert "Labels of" in text
    assert any("image/png" in data for data in shown)
