"""`radserve predict --dicom-out` on folders with series of slices."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from tests import command_line
from tests.radserve.client.test_catalog import VERSION
from tests.radserve.dicom import examples
from tests.radserve.scripted import Reply, Request, Scripted, document, problem, volume

SERIES = f"series-{examples.ROOT}3"


def slice_file(number: int, **attributes: Any) -> bytes:
    return examples.image(InstanceNumber=number, ImagePositionPatient=[-10, 5, 7 + 3 * number], **attributes)


def answered(content: bytes) -> dict[str, Any]:
    if content.startswith(b"bad"):
        return {"status": 400, "title": "Unreadable image", "detail": "It is bad."}
    document = examples.segmentation(content, examples.blob(40, 56), [0.5, 0.75]).raw
    return {**document, "model": document["model"] | {"name": "glioma"}}


def catalog(task: str) -> Reply:
    return document({"models": [{"name": "glioma", "versions": [VERSION | {"version": "1.2.0", "task": task}]}]})


def script(request: Request, task: str = "segmentation") -> Reply:
    if request.path.endswith("/catalog"):
        return catalog(task)
    if request.headers.get("Accept", "").startswith("image/png"):
        return Reply(200, examples.png(np.zeros((40, 56, 3), np.uint8)), "image/png")
    if request.headers.get("Content-Type") != "application/json":
        return document(answered(request.body))
    items = [answered(base64.b64decode(item["b64"])) for item in json.loads(request.body)["instances"]]
    return document({"predictions": items} | volume(items))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder with four slices of one series, one of another, and a film without DICOM."""
    folder = tmp_path / "slices"
    folder.mkdir()
    for number in range(1, 5):
        (folder / f"{number}.dcm").write_bytes(slice_file(number))
    (folder / "other.dcm").write_bytes(slice_file(9, SeriesInstanceUID=f"{examples.ROOT}8"))
    return folder


def predict(odd: Scripted, *arguments: object) -> Any:
    return command_line.run("predict", "glioma", *arguments, "--url", odd.url)


def test_the_slices_of_a_series_get_one_segmentation(odd: Scripted, folder: Path, tmp_path: Path) -> None:
    odd.script = script
    out, table = tmp_path / "out", tmp_path / "results.csv"
    done = predict(odd, folder, "--dicom-out", out, "--out", table)
    assert done.returncode == 0
    first, last = done.stderr.splitlines()
    assert first.startswith("1 series, 4 slices: ")
    assert last == f"5 images analysed, 0 failed. DICOM objects of 1 series: {out}/series-*.dcm. Results: {table}"
    single = [f"other.{kind}.dcm" for kind in ("sc", "seg", "sr")]
    assert sorted(path.name for path in out.iterdir()) == [*single, f"{SERIES}.seg.dcm", f"{SERIES}.sr.dcm"]
    assert dcmread(out / f"{SERIES}.seg.dcm").NumberOfFrames == 4
    posted = [request for request in odd.requests if request.headers.get("Content-Type") == "application/json"]
    assert [len(json.loads(request.body)["instances"]) for request in posted] == [4]
    assert len(table.read_text().splitlines()) == 6
    before = (out / f"{SERIES}.seg.dcm").read_bytes()
    again = predict(odd, folder, "--dicom-out", out, "--json")
    assert (again.returncode, "series-" in again.stderr, "add --force" in again.stderr) == (2, True, True)
    assert (out / f"{SERIES}.seg.dcm").read_bytes() == before


def test_a_rejected_slice_is_missing_in_the_segmentation_only(odd: Scripted, folder: Path, tmp_path: Path) -> None:
    bad = (folder / "2.dcm").read_bytes()
    odd.script = lambda request: script(
        Request(request.path, request.headers, request.body.replace(base64.b64encode(bad), base64.b64encode(b"bad")))
    )
    done = predict(odd, folder, "--dicom-out", tmp_path / "out", "--json")
    assert done.returncode == 1
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(item["file"]).name for item in results if "problem" in item] == ["2.dcm"]
    assert dcmread(tmp_path / "out" / f"{SERIES}.seg.dcm").NumberOfFrames == 3


def test_a_series_that_is_too_large_for_a_request_has_no_volume(odd: Scripted, folder: Path, tmp_path: Path) -> None:
    def limited(request: Request) -> Reply:
        if request.headers.get("Content-Type") == "application/json" and len(json.loads(request.body)["instances"]) > 2:
            return problem(413, "Content too large", "Send fewer.")
        return script(request)

    odd.script = limited
    done = predict(odd, folder, "--dicom-out", tmp_path / "out", "--json")
    assert [Path(json.loads(line)["file"]).name for line in done.stdout.splitlines()] == [
        *(f"{number}.dcm" for number in range(1, 5)),
        "other.dcm",
    ]
    mask = dcmread(tmp_path / "out" / f"{SERIES}.seg.dcm")
    assert mask.NumberOfFrames == 4
    assert "its volume was not measured" in mask.SegmentSequence[0].SegmentDescription


def test_a_part_of_a_series_is_not_written_as_the_whole(odd: Scripted, folder: Path, tmp_path: Path) -> None:
    odd.script = script
    done = predict(odd, folder, "--dicom-out", tmp_path / "out", "--limit", 3, "--json")
    assert done.returncode == 1
    assert "Only 3 of the 4 slices of this series are sent" in done.stderr
    assert "DICOM objects" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_slices_without_a_common_result_are_written_one_by_one(odd: Scripted, folder: Path, tmp_path: Path) -> None:
    odd.script = script
    (folder / "4.dcm").write_bytes(slice_file(4, PatientID="another"))
    done = predict(odd, folder, "--dicom-out", tmp_path / "out", "--json")
    assert done.returncode == 0
    assert "Series " in done.stderr
    assert "different PatientID" in done.stderr
    assert len(list((tmp_path / "out").glob("*.seg.dcm"))) == 5


def test_a_classifier_has_one_result_for_each_film(odd: Scripted, folder: Path, tmp_path: Path) -> None:
    odd.script = lambda request: script(request, "classification")
    predict(odd, folder, "--dicom-out", tmp_path / "out", "--json")
    assert not [request for request in odd.requests if request.headers.get("Content-Type") == "application/json"]
