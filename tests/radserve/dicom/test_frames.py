"""Results of objects with several frames: one segmentation and one report for all."""

import time
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from highdicom.seg import segread
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage

from radserve.dicom import objects as dicom
from radserve.dicom.objects import encode
from radserve.dicom.source import read
from radserve.errors import DicomError
from radserve.schema.problem import RejectedImage
from radserve.schema.segmentation import Series
from tests.radserve.dicom import examples, readers

OBLIQUE = [0.8, 0.6, 0, 0, 0, -1]
STEP = np.array([-0.6, 0.8, 0]) * 4


def item(**attributes: Any) -> Dataset:
    content = Dataset()
    for keyword, value in attributes.items():
        setattr(content, keyword, value)
    return content


def enhanced(frames: int, **changes: Any) -> bytes:
    """Return an enhanced MR object of oblique slices, each 4 mm from the next."""
    file = dcmread(BytesIO(examples.image(31, 17)))
    for keyword in ("PixelSpacing", "SliceThickness", "ImagePositionPatient", "ImageOrientationPatient"):
        delattr(file, keyword)
    file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    file.NumberOfFrames, file.PixelData = frames, bytes(frames * (31 * 17 + 1))
    file.SharedFunctionalGroupsSequence = [
        item(
            PixelMeasuresSequence=[item(PixelSpacing=[0.5, 0.75], SliceThickness=4)],
            PlaneOrientationSequence=[item(ImageOrientationPatient=OBLIQUE)],
        )
    ]
    file.PerFrameFunctionalGroupsSequence = [
        item(PlanePositionSequence=[item(ImagePositionPatient=[*np.round(STEP * index, 4)])]) for index in range(frames)
    ]
    for keyword, value in changes.items():
        setattr(file, keyword, value)
    return encode(file)


def series(content: bytes, marked: list[bool | None]) -> Series:
    """Return the results of frames; None stands for a rejected one."""
    results: list[Any] = []
    for number, filled in enumerate(marked, 1):
        mask = np.roll(examples.blob(31, 17), number, 1) & bool(filled)
        result = examples.segmentation(content, mask, [0.5, 0.75])
        document = {**result.raw} | {"image": {**result.raw["image"], "frame": number}}
        rejection = RejectedImage(status=422, title="Unusable", detail="unlike", frame=number)
        results.append(rejection if filled is None else document)
    masks = [entry for entry in results if isinstance(entry, dict)]
    volume: dict[str, Any] = {
        "slices": len(marked),
        "positive_slices": marked.count(True),
        "pixels": sum(entry["area"]["pixels"] for entry in masks),
    }
    measured = {"reason": "No volume."} if None in marked else {"ml": 1.0}
    return Series.model_validate({"predictions": results, "volume": volume | measured})


def objects(content: bytes, marked: list[bool | None]) -> dict[Any, Any]:
    return {**dicom.of_series([content] * len(marked), series(content, marked))}


@pytest.mark.parametrize("marked", [[True, False, True, True], [True, None, False, True], [False] * 4])
def test_all_frames_have_one_segmentation_in_their_planes(marked: list[bool | None], tmp_path: Path) -> None:
    content = enhanced(4)
    made = objects(content, marked)
    assert [problem for entry in made.values() for problem in readers.problems(entry, tmp_path)] == []
    read: Any = segread(BytesIO(encode(made["seg"])))
    uid = dcmread(BytesIO(content)).SOPInstanceUID
    stack = read.get_pixels_by_source_frame(uid, [1, 2, 3, 4], assert_missing_frames_are_empty=True)[..., 0] > 0
    for index, filled in enumerate(marked):
        expected = np.roll(examples.blob(31, 17), index + 1, 1) & bool(filled)
        assert np.array_equal(stack[index], expected)
    if any(marked):
        placed = {
            tuple(frame.PlanePositionSequence[0].ImagePositionPatient)
            for frame in made["seg"].PerFrameFunctionalGroupsSequence
        }
        assert placed == {tuple(np.round(STEP * index, 4)) for index, filled in enumerate(marked) if filled}
    text = readers.report_text(made["sr"], tmp_path)
    analysed = ",".join(str(number) for number, filled in enumerate(marked, 1) if filled is not None)
    assert analysed in text
    assert ("1 of 4 slices were not analysed." in text) == (None in marked)


def test_a_segmentation_does_not_claim_that_frames_without_result_are_empty() -> None:
    with pytest.raises(DicomError, match="some were not analysed"):
        objects(enhanced(2), [False, None])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"PerFrameFunctionalGroupsSequence": []}, "does not declare its position"),
        ({"NumberOfFrames": 161}, "161 frames; the limit is 160"),
        ({"PerFrameFunctionalGroupsSequence": [item(), item(), item()]}, "does not declare its position"),
        (
            {
                "PerFrameFunctionalGroupsSequence": [
                    item(PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 1])]) for _ in range(3)
                ]
            },
            "same position",
        ),
        ({"NumberOfFrames": 2, "PerFrameFunctionalGroupsSequence": []}, "frame 3, but the file has 2|position"),
    ],
)
def test_frames_without_planes_of_their_own_have_no_common_segmentation(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DicomError, match=message):
        objects(enhanced(3, **changes), [True] * 3)


def test_frames_of_several_objects_and_a_frame_alone_have_no_result() -> None:
    one, other = enhanced(2), enhanced(2, SOPInstanceUID=f"{examples.ROOT}77")
    first, second = series(one, [True, True]), series(other, [True, True])
    several = Series.model_validate(
        {
            "predictions": [*first.predictions, *second.predictions],
            "volume": first.volume.model_dump()
            | {"slices": 4, "positive_slices": 4, "pixels": 2 * first.volume.pixels},
        }
    )
    with pytest.raises(DicomError, match="several objects"):
        dicom.of_series([one, one, other, other], several)
    with pytest.raises(DicomError, match="has 2 frames"):
        dicom.of_image(one, first.predictions[0])  # type: ignore[arg-type]


def test_many_frames_and_groups_are_read_in_little_time() -> None:
    shared = [item(PixelMeasuresSequence=[item(PixelSpacing=[1, 1])] * 2000)] * 5
    content = enhanced(160, SharedFunctionalGroupsSequence=shared, PixelData=b"")
    hostile = enhanced(8000, PixelData=b"")
    started = time.process_time()
    assert read(content).frames == 160
    with pytest.raises(DicomError, match="8000 frames"):
        read(hostile)
    assert time.process_time() - started < 4
