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
from radserve.errors import DicomError
from radserve.schema.problem import RejectedImage
from radserve.schema.segmentation import Segmentation, Series
from tests.radserve.dicom import examples, readers

OBLIQUE = [0.8, 0.6, 0, 0, 0, -1]
SIZES = [(40, 56), (31, 17), (1, 9), (64, 64), (33, 8)]


def written(item: Dataset) -> Any:
    return segread(BytesIO(encode(item)))


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("orientation", [[1, 0, 0, 0, 1, 0], OBLIQUE])
def test_a_mask_has_the_pixels_and_the_plane_of_its_image(
    shape: tuple[int, int], orientation: list[float], tmp_path: Path
) -> None:
    content = examples.image(*shape, ImageOrientationPatient=orientation)
    mask = examples.blob(*shape)
    item = dicom.of_image(content, examples.segmentation(content, mask, [0.5, 0.75]))["seg"]
    read = written(item)
    assert np.array_equal(read.pixel_array.reshape(shape) > 0, mask)
    geometry = read.get_volume_geometry()
    assert np.allclose(geometry.spacing[1:], [0.5, 0.75])
    assert np.allclose(geometry.position, [-10, 5, 7])
    assert np.allclose(geometry.direction_cosines, orientation)
    assert item.FrameOfReferenceUID == f"{examples.ROOT}4"
    assert readers.problems(item, tmp_path) == []


@pytest.mark.parametrize("repair", ["rotate-90", "rotate-180", "rotate-270", "invert"])
def test_a_requested_repair_is_undone_in_the_mask(repair: str) -> None:
    content, mask = examples.image(31, 17), examples.blob(31, 17)
    turned = np.rot90(mask, {"rotate-90": -1, "rotate-180": 2, "rotate-270": 1}.get(repair, 0))
    item = dicom.of_image(content, examples.segmentation(content, turned, repair=repair))["seg"]
    assert np.array_equal(written(item).pixel_array > 0, mask)


def test_a_film_without_a_position_has_a_mask_of_its_pixels(tmp_path: Path) -> None:
    content, mask = examples.image(modality="DX"), examples.blob(40, 56)
    item = dicom.of_image(content, examples.segmentation(content, mask))["seg"]
    assert np.array_equal(written(item).pixel_array > 0, mask)
    assert readers.problems(item, tmp_path) == []


def test_the_only_frame_of_an_enhanced_object_has_its_mask_in_place(tmp_path: Path) -> None:
    file = dcmread(BytesIO(examples.image()))
    measures, position, orientation, frame = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = file.PixelSpacing, 3
    position.ImagePositionPatient, orientation.ImageOrientationPatient = [1, 2, 3], OBLIQUE
    frame.PlanePositionSequence, frame.PlaneOrientationSequence = [position], [orientation]
    shared = Dataset()
    shared.PixelMeasuresSequence = [measures]
    for keyword in ("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"):
        delattr(file, keyword)
    file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    file.NumberOfFrames, file.SharedFunctionalGroupsSequence = 1, [shared]
    file.PerFrameFunctionalGroupsSequence = [frame]
    content, mask = encode(file), examples.blob(40, 56)
    item = dicom.of_image(content, examples.segmentation(content, mask, [0.5, 0.75]))["seg"]
    assert np.allclose(written(item).get_volume_geometry().position, [1, 2, 3])
    assert readers.problems(item, tmp_path) == []


@pytest.mark.parametrize("repair", [None, "rotate-90"])
@pytest.mark.parametrize("modality", ["DX", "MR"])
def test_a_heat_map_is_a_fractional_segmentation_with_the_same_256_levels(
    repair: str | None, modality: str, tmp_path: Path
) -> None:
    content = examples.image(24, 32, modality)
    heat = np.resize(np.arange(256, dtype=np.uint8), (24, 32))
    sent = np.ascontiguousarray(np.rot90(heat, -1)) if repair else heat
    item = dicom.of_image(content, examples.explanation(content, sent, repair=repair))["seg"]
    assert (item.SegmentationType, item.MaximumFractionalValue) == ("FRACTIONAL", 255)
    assert np.array_equal(written(item).pixel_array, heat)
    (segment,) = item.SegmentSequence
    assert segment.SegmentDescription.startswith("Relevance, not probability. For research use only.")
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Saliency"
    assert readers.problems(item, tmp_path) == []


def test_an_empty_mask_is_a_valid_segmentation_without_marked_pixels(tmp_path: Path) -> None:
    content = examples.image()
    item = dicom.of_image(content, examples.segmentation(content, examples.blob(40, 56) & False))["seg"]
    assert not written(item).pixel_array.any()
    assert readers.problems(item, tmp_path) == []


def series(marked: list[bool], **changes: Any) -> tuple[list[bytes], Series]:
    contents = [
        examples.image(31, 17, InstanceNumber=number, ImagePositionPatient=[0, 0, 4 * number])
        for number, _ in enumerate(marked, 1)
    ]
    masks = [np.roll(examples.blob(31, 17), number, 1) & filled for number, filled in enumerate(marked)]
    results = [
        examples.segmentation(content, mask, [0.5, 0.75], **changes)
        for content, mask in zip(contents, masks, strict=True)
    ]
    pixels = sum(result.area.pixels for result in results)
    volume = {"slices": len(marked), "positive_slices": sum(marked), "pixels": pixels, "ml": pixels * 1.5 / 1000}
    return contents, Series.model_validate({"predictions": results, "volume": volume})


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 0, 3, 1]])
def test_the_slices_of_a_series_have_one_segmentation_whose_frames_are_in_place(
    order: list[int], tmp_path: Path
) -> None:
    contents, results = series([True, False, True, True])
    sent = results.model_copy(update={"predictions": tuple(results.predictions[index] for index in order)})
    objects = dicom.of_series([contents[index] for index in order], sent)
    read = written(objects["seg"])
    assert read.NumberOfFrames == 3  # frames without marks are omitted
    images = [dcmread(BytesIO(content)).SOPInstanceUID for content in contents]
    stack = read.get_pixels_by_source_instance(images, assert_missing_frames_are_empty=True)
    masks = [item.mask.pixels > 0 for item in results.predictions if isinstance(item, Segmentation)]
    assert np.array_equal(stack[..., 0] > 0, np.stack(masks))
    assert [problem for item in objects.values() for problem in readers.problems(item, tmp_path)] == []
    assert "Volume" in readers.report_text(objects["sr"], tmp_path)


def test_a_series_without_marks_is_valid(tmp_path: Path) -> None:
    objects = dicom.of_series(*series([False, False]))
    assert [problem for item in objects.values() for problem in readers.problems(item, tmp_path)] == []


def test_a_mask_is_of_the_same_finding_whether_it_is_empty_or_not() -> None:
    segments = []
    for marked in (True, False):
        content = examples.image()
        item = dicom.of_image(content, examples.segmentation(content, examples.blob(40, 56) & marked))["seg"]
        segments.append(item.SegmentSequence[0])
    assert {segment.TrackingUID for segment in segments} == {segments[0].TrackingUID}
    assert {segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning for segment in segments} == {"Neoplasm"}


def test_a_slice_without_a_thickness_has_its_mask_in_place() -> None:
    content, mask = examples.image(SliceThickness=None), examples.blob(40, 56)
    item = dicom.of_image(content, examples.segmentation(content, mask, [0.5, 0.75]))["seg"]
    (frame,) = item.PerFrameFunctionalGroupsSequence
    assert frame.PlanePositionSequence[0].ImagePositionPatient == [-10, 5, 7]
    assert np.array_equal(item.pixel_array > 0, mask)


def test_names_of_a_patient_may_differ_in_empty_components() -> None:
    contents, results = series([True, True])
    contents[1] = examples.image(31, 17, InstanceNumber=2, ImagePositionPatient=[0, 0, 8], PatientName="Doe^Jane^")
    second = examples.segmentation(contents[1], examples.blob(31, 17), [0.5, 0.75])
    sent = results.model_copy(update={"predictions": (results.predictions[0], second)})
    assert dicom.of_series(contents, sent)["seg"].PatientName == "Doe^Jane"


UNLIKE = {"mode": "warn", "status": "unlike", "score": 3.0, "limit": 2.0, "percentile": 99.9}
NORMAL = UNLIKE | {"status": "normal", "score": 1.0}


def test_a_doubt_about_one_slice_makes_the_series_undetermined(tmp_path: Path) -> None:
    contents, results = series([True, False, False], domain=NORMAL)
    doubtful = examples.segmentation(contents[2], examples.blob(31, 17) & False, [0.5, 0.75], domain=UNLIKE)
    objects = dicom.of_series(
        contents, results.model_copy(update={"predictions": (*results.predictions[:2], doubtful)})
    )
    text = readers.report_text(objects["sr"], tmp_path)
    assert "Presence Undetermined" in text
    remark = "Unlike the training images: do not rely on the label. (1 of 3 slices)"
    assert remark in text
    assert remark in objects["seg"].SegmentSequence[0].SegmentDescription


def test_rejected_slices_make_the_series_undetermined(tmp_path: Path) -> None:
    contents, results = series([False])
    rejection = RejectedImage(status=422, title="Unusable", detail="unlike")
    volume = {"slices": 4, "positive_slices": 0, "pixels": 0, "reason": "No volume: 3 of 4 slices have no mask."}
    incomplete = Series.model_validate({"predictions": [*results.predictions, *[rejection] * 3], "volume": volume})
    objects = dicom.of_series([*contents, None, None, None], incomplete)
    text = readers.report_text(objects["sr"], tmp_path)
    assert "Presence Undetermined" in text
    assert "3 of 4 slices were not analysed." in text
    assert "No volume: 3 of 4 slices have no mask." in text
    assert [problem for item in objects.values() for problem in readers.problems(item, tmp_path)] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"SeriesInstanceUID": f"{examples.ROOT}99"}, "several series"),
        ({"StudyInstanceUID": f"{examples.ROOT}99"}, "different StudyInstanceUID"),
        ({"PatientID": "4712"}, "different PatientID"),
        ({"PatientName": "Roe^Jane"}, "different PatientName"),
        ({"PixelSpacing": [0.5, 0.5]}, "different PixelSpacing"),
        ({"ImagePositionPatient": None}, "does not declare its position"),
    ],
)
def test_slices_that_do_not_belong_together_are_rejected(change: dict[str, Any], message: str) -> None:
    contents, results = series([True, True])
    contents[1] = examples.image(31, 17, **change)
    second = examples.segmentation(contents[1], examples.blob(31, 17), [0.5, 0.75])
    mixed = results.model_copy(update={"predictions": (results.predictions[0], second)})
    with pytest.raises(DicomError, match=message):
        dicom.of_series(contents, mixed)
