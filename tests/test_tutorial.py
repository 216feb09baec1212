"""docs/tutorial.ipynb, against a real server."""

import os
from collections.abc import Iterator
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from radserve.build.source import find_sources
from tests.built_archives import Provide
from tests.server import ROOT, Server, running

TUTORIAL = ROOT / "docs" / "tutorial.ipynb"
MODELS = ["chest-xray-cnn", "glioma-unet"]


@pytest.fixture(scope="module")
def marking(provide: Provide, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a server that marks images unlike the training images, as the tutorial says."""
    folder = tmp_path_factory.mktemp("tutorial")
    provide(folder / "store", find_sources(ROOT / "archives", MODELS))
    with running(folder / "store", folder / "log", "--domain", "warn") as started:
        yield started


def read() -> Any:
    return nbformat.read(TUTORIAL, as_version=4)  # type: ignore[no-untyped-call]


def text(cell: Any) -> str:
    """Return the text and the HTML of a cell's outputs."""
    parts: list[str] = []
    for output in cell.outputs:
        data = output.get("data", {})
        parts += [output.get("text", ""), data.get("text/plain", ""), data.get("text/html", "")]
    return "".join(parts)


def test_it_is_stored_without_outputs() -> None:
    cells = [cell for cell in read().cells if cell.cell_type == "code"]
    assert [cell for cell in cells if cell.outputs or cell.execution_count is not None] == []


@pytest.mark.e2e
def test_it_runs_and_shows_its_results(marking: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADSERVE_URL", marking.url)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = read()
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(TUTORIAL.parent)}}).execute()
    shown = {cell.source.partition("\n")[0]: text(cell) for cell in notebook.cells if cell.cell_type == "code"}
    (predicted,) = (shown[line] for line in shown if line.startswith("film ="))
    assert "pneumonia: at or above the cut-off" in predicted
    assert "Unlike the training images" not in predicted
    (rejected,) = (shown[line] for line in shown if "not an image" in line)
    assert "Could not be analysed" in rejected
    (series,) = (shown[line] for line in shown if line.startswith("SERIES ="))
    assert "3 of 3 slices marked" in series
    assert "no volume" not in series
    (counts,) = (shown[line] for line in shown if line.startswith("analysed"))
    assert "0 of 4 images could not be analysed." in counts
    (plot,) = (cell for cell in notebook.cells if "segmentation.plot()" in cell.source)
    assert any("image/png" in output.get("data", {}) for output in plot.outputs)
