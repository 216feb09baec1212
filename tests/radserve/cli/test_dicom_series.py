"""`radserve predict --dicom-out` on folders with series of slices."""

import csv
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from radserve.schema.segmentation import Segmentation
from tests import command_line
from tests.radserve.dicom import examples, readers
from tests.radserve.dicom.test_frames import enhanced, series
from tests.radserve.scripted import Reply, Request, Scripted, document, problem
from tests.server import ROOT

SERIES = f"series-{examples.ROOT}3"
OWN = "Each slice of the series has its own SEG and SR."


def slice_file(number: int, **attributes: Any) -> bytes:
    return examples.image(InstanceNumber=number, ImagePositionPatient=[-10, 5, 7 + 3 * number], **attributes)


def script(request: Request) -> Reply:
    if request.headers.get("Accept", "").startswith("image/png"):
        return Reply(200, examples.png(np.zeros((40, 56, 3), np.uint8)), "image/png")
    result = examples.segmentation(request.body, examples.blob(40, 56), [0.5, 0.75]).raw
    return document({**result, "model": result["model"] | {"name": "glioma"}})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder with four slices of one series, and one of another."""
    folder = tmp_path / "slices"
    folder.mkdir()
    for number in range(1, 5):
        (folder / f"{number}.dcm").write_bytes(slice_file(number))
    (folder / "other.dcm").write_bytes(slice_file(9, SeriesInstanceUID=f"{examples.ROOT}8"))
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def predict(odd: Scripted, *arguments: object) -> Any:
    return command_line.run("predict", "glioma", *arguments, "--url", odd.url)


def objects(out: Path, kind: str) -> list[str]:
    return sorted(path.name.removesuffix(f".{kind}.dcm") for path in out.glob(f"*.{kind}.dcm"))


def test_the_masks_of_a_series_are_one_object(odd: Scripted, folder: Path, out: Path, tmp_path: Path) -> None:
    odd.script = script
    done = predict(odd, folder, "--dicom-out", out, "--json")
    files = [str(folder / name) for name in ("1.dcm", "2.dcm", "3.dcm", "4.dcm", "other.dcm")]
    assert [json.loads(line)["file"] for line in done.stdout.splitlines()] == files
    counts = f"DICOM objects in {out}: 1 series of 4 slices, 1 single image."
    assert (done.returncode, done.stderr) == (0, f"5 images analysed, 0 failed. {counts}\n")
    assert objects(out, "sc") == ["1", "2", "3", "4", "other"]
    assert objects(out, "seg") == objects(out, "sr") == ["other", SERIES]
    mask, report = (dcmread(out / f"{SERIES}.{kind}.dcm") for kind in ("seg", "sr"))
    assert mask.NumberOfFrames == 4
    text = readers.report_text(report, tmp_path)
    assert "The slices were analysed one by one, so their volume was not measured." in text
    assert "ml" not in text
    assert not {request.path for request in odd.requests} - {"/predictions/glioma", "/predictions/glioma/1.2.0"}
    again = predict(odd, folder, "--dicom-out", out, "--json")
    assert (again.returncode, "add --force" in again.stderr) == (2, True)


def test_other_files_and_failures_lose_no_mask(odd: Scripted, folder: Path, out: Path) -> None:
    (folder / "README").write_text("no image")
    (folder / "empty.dcm").touch()
    odd.script = lambda request: (
        script(request) if request.body[128:132] == b"DICM" else problem(415, "Unsupported", "No image.")
    )
    done = predict(odd, folder, "--dicom-out", out)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert objects(out, "seg") == objects(out, "sr") == ["other", SERIES]


def test_images_that_are_not_dicom_have_no_objects(odd: Scripted, tmp_path: Path, out: Path) -> None:
    def png_script(request: Request) -> Reply:
        if request.headers.get("Accept", "").startswith("image/png"):
            return script(request)
        result = examples.segmentation(request.body, examples.blob(40, 56)).raw
        model, image = result["model"] | {"name": "glioma"}, result["image"] | {"format": "png"}
        return document({**result, "model": model, "image": image})

    (tmp_path / "films").mkdir()
    for number in range(2):
        (tmp_path / "films" / f"{number}.png").write_bytes(examples.png(np.full((40, 56), number, np.uint8)))
    odd.script = png_script
    done = predict(odd, tmp_path / "films", "--dicom-out", out)
    assert (done.returncode, out.exists()) == (1, False)
    reason = "The image is png, not DICOM, so its result cannot be DICOM either."
    such = f"2 images not written as DICOM, such as {tmp_path / 'films' / '0.png'}: {reason}"
    assert done.stderr.splitlines()[-2:] == [such, "2 images analysed, 0 failed. No DICOM objects were written."]


def test_a_file_with_several_frames_has_a_row_and_a_mask_for_each_and_common_objects(
    odd: Scripted, tmp_path: Path, out: Path
) -> None:
    content = enhanced(3)
    path = tmp_path / "enhanced.dcm"
    path.write_bytes(content)
    answer = series(content, [True, None, True])
    items = [
        {**item.raw} if isinstance(item, Segmentation) else item.model_dump(exclude_none=True)
        for item in answer.predictions
    ]
    for item in items:
        if "model" in item:
            item["model"] = item["model"] | {"name": "glioma"}
    odd.script = lambda request: document({"predictions": items, "volume": answer.volume.model_dump(exclude_none=True)})
    done = predict(odd, path, "--dicom-out", out, "--masks", out, "--json")
    assert (done.returncode, len(odd.requests)) == (1, 1)  # a frame is rejected
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row.get("image", row.get("problem"))["frame"] for row in rows] == [1, 2, 3]
    assert {row["file"] for row in rows} == {str(path)}
    names = ["enhanced.mask/1.png", "enhanced.mask/3.png", "enhanced.seg.dcm", "enhanced.sr.dcm"]
    assert sorted(str(item.relative_to(out)) for item in out.rglob("*.*") if item.is_file()) == names
    repeated = predict(odd, path, "--masks", out)
    assert (repeated.returncode, len(odd.requests), "add --force" in repeated.stderr) == (2, 1, True)
    done = predict(odd, path, "--out", tmp_path / "table.csv")
    again = predict(odd, path, "--out", tmp_path / "table.csv", "--resume")
    assert (done.returncode, again.returncode, len(odd.requests)) == (1, 1, 3)  # 422 may be due to options
    table = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [(row["frame"], row["status"]) for row in table] == [("1", "200"), ("2", "422"), ("3", "200")]
    (tmp_path / "other.dcm").write_bytes(content)
    drawn = predict(odd, path, tmp_path / "other.dcm", "--overlays", out, "--json")
    problems = [json.loads(line)["problem"]["title"] for line in drawn.stdout.splitlines()]
    assert (drawn.returncode, problems) == (1, ["Several frames"] * 2)


def test_force_replaces_the_other_form_of_a_series(odd: Scripted, folder: Path, out: Path) -> None:
    odd.script = script
    predict(odd, folder, "--dicom-out", out, "--limit", 2)
    assert objects(out, "seg") == objects(out, "sr") == ["1", "2"]
    predict(odd, folder, "--dicom-out", out, "--force")
    assert objects(out, "seg") == objects(out, "sr") == ["other", SERIES]
    predict(odd, folder, "--dicom-out", out, "--limit", 2, "--force")
    assert objects(out, "seg") == objects(out, "sr") == ["1", "2", "other"]


def test_slices_at_one_position_are_single_and_named(odd: Scripted, folder: Path, out: Path) -> None:
    (folder / "4.dcm").write_bytes(slice_file(3, SOPInstanceUID=f"{examples.ROOT}1.1.4"))
    odd.script = script
    done = predict(odd, folder, "--dicom-out", out)
    assert "4.dcm: Two slices have the same position" in done.stderr
    assert objects(out, "seg") == ["1", "2", "3", "4", "other"]


def test_a_failed_slice_is_missing_in_the_object_only(odd: Scripted, folder: Path, out: Path, tmp_path: Path) -> None:
    failing = (folder / "2.dcm").read_bytes()
    odd.script = lambda request: problem(500, "Bad", "It is.") if request.body == failing else script(request)
    done = predict(odd, folder, "--dicom-out", out, "--out", table := tmp_path / "results.jsonl")
    assert (done.returncode, done.stderr.count("Failed: ")) == (1, 1)
    problems = ["problem" in json.loads(line) for line in table.read_text().splitlines()]
    assert problems == [False, True, False, False, False]
    assert dcmread(out / f"{SERIES}.seg.dcm").NumberOfFrames == 3
    text = readers.report_text(dcmread(out / f"{SERIES}.sr.dcm"), tmp_path)
    assert "1 of 4 slices were not analysed." in text
    odd.script = script
    done = predict(odd, folder, "--dicom-out", out, "--out", table, "--resume")
    assert done.returncode == 0
    assert objects(out, "seg") == ["2", "other", SERIES]
    assert dcmread(out / f"{SERIES}.seg.dcm").NumberOfFrames == 3


def test_a_part_of_a_series_is_not_written_as_the_whole(odd: Scripted, folder: Path, out: Path) -> None:
    odd.script = script
    done = predict(odd, folder, "--dicom-out", out, "--limit", 3, "--json")
    assert done.returncode == 0
    reason, counts = done.stderr.splitlines()
    assert reason == f"{folder / '4.dcm'}: not sent because of --limit, so the series is incomplete. {OWN}"
    assert "2 images not sent (--limit 3)." in counts
    assert counts.endswith("3 single images.")
    assert objects(out, "seg") == objects(out, "sr") == objects(out, "sc") == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("changes", "files", "reason"),
    [
        ({"PatientID": "another"}, ["1", "4"], "different PatientID"),
        ({"StudyInstanceUID": f"{examples.ROOT}7"}, ["1", "4"], "different StudyInstanceUID"),
        ({"SOPInstanceUID": f"{examples.ROOT}1.1.3"}, ["3", "4"], "the same SOPInstanceUID"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, 1]}, ["1", "4"], "different ImageOrientationPatient"),
    ],
)
def test_slices_without_a_common_object_have_their_own(
    odd: Scripted, folder: Path, out: Path, changes: dict[str, Any], files: list[str], reason: str
) -> None:
    odd.script = script
    (folder / "4.dcm").write_bytes(slice_file(4, **changes))
    done = predict(odd, folder, "--dicom-out", out, "--json")
    assert done.returncode == 0
    assert done.stderr.startswith(" and ".join(str(folder / f"{name}.dcm") for name in files))
    assert reason in done.stderr.splitlines()[0]
    assert OWN in done.stderr
    assert objects(out, "seg") == objects(out, "sr") == ["1", "2", "3", "4", "other"]


def test_a_slice_without_identifier_has_no_object(odd: Scripted, folder: Path, out: Path) -> None:
    odd.script = script
    (folder / "2.dcm").write_bytes(slice_file(2, StudyInstanceUID=None))
    done = predict(odd, folder, "--dicom-out", out, "--json")
    assert done.returncode == 1
    assert f"{folder / '2.dcm'}: not written as DICOM. The DICOM file has no valid StudyInstanceUID" in done.stderr
    assert f"{folder / '2.dcm'}: this slice has no DICOM result in this call. {OWN}" in done.stderr
    assert objects(out, "seg") == ["1", "3", "4", "other"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rows": 20, "columns": 30}, "The result has 40 rows"),
        ({"PixelSpacing": None}, "The DICOM file has attributes that its result cannot have"),
    ],
)
def test_a_mask_that_cannot_be_written_affects_one_slice(
    odd: Scripted, folder: Path, out: Path, changes: dict[str, Any], reason: str
) -> None:
    odd.script = script
    (folder / "2.dcm").write_bytes(slice_file(2, **changes))
    done = predict(odd, folder, "--dicom-out", out, "--json")
    assert done.returncode == 1
    assert f"{folder / '2.dcm'}: not written as DICOM. {reason}" in done.stderr
    assert OWN in done.stderr
    assert objects(out, "seg") == ["1", "3", "4", "other"]


def test_finished_slices_of_an_interrupted_call_have_objects(odd: Scripted, folder: Path, out: Path) -> None:
    last, arrived, enough = (folder / "4.dcm").read_bytes(), threading.Event(), threading.Event()

    def slow(request: Request) -> Reply:
        if request.body == last:
            arrived.set()
            enough.wait(30)
        return script(request)

    odd.script = slow
    command = [sys.executable, "-m", "radserve", "predict", "glioma", folder, "--dicom-out", out, "--json"]
    process = subprocess.Popen(
        [*map(str, command), "--url", odd.url, "--concurrency", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - a single system call
    )
    assert process.stdout is not None
    for _ in range(3):
        process.stdout.readline()
    assert arrived.wait(20)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=20)
    enough.set()
    reason = f"{folder / '4.dcm'}: this slice has no DICOM result in this call. {OWN}"
    assert (process.returncode, message) == (130, f"{reason}\nInterrupted after 3 of 5 results.\n")
    assert objects(out, "seg") == ["1", "2", "3"]


def test_a_classifier_has_one_result_for_each_film(odd: Scripted, folder: Path, out: Path) -> None:
    def classified(request: Request) -> Reply:
        if request.path.startswith("/explanations"):
            return problem(404, "Not found", "No heat maps.")
        if request.headers.get("Accept", "").startswith("image/png"):
            return script(request)
        result = examples.classification(request.body, (40, 56)).raw
        return document({**result, "model": result["model"] | {"name": "glioma"}})

    odd.script = classified
    done = predict(odd, folder, "--dicom-out", out, "--json")
    assert done.returncode == 0
    assert [json.loads(line)["label"] for line in done.stdout.splitlines()] == ["pneumonia"] * 5
    assert objects(out, "sr") == objects(out, "sc") == ["1", "2", "3", "4", "other"]
    assert objects(out, "seg") == []
