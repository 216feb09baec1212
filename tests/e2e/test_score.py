"""`radserve score` gives the answers of a server with the same archive."""

import json
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests import command_line
from tests.handlers.images import dicom, saved
from tests.radserve.batch.conftest import table
from tests.repack import NAME
from tests.server import ROOT, Server

pytestmark = pytest.mark.e2e


def test_answers_and_rejections_equal_those_of_the_server(server: Server, tmp_path: Path) -> None:
    folder, output = tmp_path / "films", tmp_path / "out"
    folder.mkdir()
    sample = (ROOT / "archives" / NAME / "sample.png").read_bytes()
    (folder / "film.png").write_bytes(sample)
    pixels = np.asarray(Image.open(ROOT / "archives" / NAME / "sample.png").convert("L"))
    for number in range(9):
        (folder / f"turned-{number}.jpg").write_bytes(saved(np.rot90(pixels, number), "JPEG", quality=80 + number))
    (folder / "film").write_bytes(dicom(pixels, BodyPartExamined="CHEST", ViewPosition="PA", PatientAge="004Y"))
    (folder / "hand.dcm").write_bytes(dicom(pixels, BodyPartExamined="HAND"))
    (folder / "cut.png").write_bytes(sample[:400])
    (folder / "photograph.png").write_bytes((ROOT / "archives" / "cifar10-lenet" / "sample.png").read_bytes())
    options = ("--model", NAME, "--model-store", server.store, "--workers", "1", "--domain", "off")
    result = command_line.run("score", folder, output, *options)
    assert result.returncode == 0, result.stderr
    rows = table(output)
    assert len(rows) == 14
    for row in rows:
        response = httpx.put(f"{server.url}/predictions/{NAME}", content=Path(row["file"]).read_bytes(), timeout=60)
        here, there = json.loads(row["document"]), response.json()
        assert row["status"] == response.status_code, row
        assert here.pop("probabilities", {}) == pytest.approx(there.pop("probabilities", {}), abs=1e-6)
        assert here.pop("probability", 0) == pytest.approx(there.pop("probability", 0), abs=1e-6)
        assert here == there
    assert {row["status"] for row in rows} == {200, 400, 422}
