"""The notebooks, executed as a reader would."""

from __future__ import annotations

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="notebooks: pip install nbclient ipykernel")
nbclient = pytest.importorskip("nbclient", reason="notebooks: pip install nbclient ipykernel")
pytest.importorskip("ipykernel", reason="notebooks: pip install nbclient ipykernel")

FOLDER = Path(__file__).parent.parent / "examples"
SHOWN = {
    "run.ipynb": ("6 architectures", "winner by validation accuracy", "6 networks are too few", "<svg", "Sequential("),
    "parts.ipynb": ("6,002,115,840 architectures", "multiply-adds", "image/png", "True"),
}
"""What the outputs of each must show, in this order."""


@pytest.mark.filterwarnings("default")  # those of another process's libraries are not ours
@pytest.mark.parametrize("name", SHOWN)
def test_every_cell_runs_and_shows_what_the_text_promises(name: str, tmp_path: Path) -> None:
    notebook = nbformat.read(FOLDER / name, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells), f"{name}: save it without outputs"
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    text, place = "\n".join(str(output) for cell in cells for output in cell.outputs), 0
    for part in SHOWN[name]:
        place = text.find(part, place)
        assert place >= 0, f"{name}: {part!r} is not shown"
    assert "Traceback" not in text


def test_every_notebook_is_executed() -> None:
    assert {path.name for path in FOLDER.glob("*.ipynb")} == set(SHOWN)
