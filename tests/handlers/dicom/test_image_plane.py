"""Pixel spacing and slice position of DICOM objects."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from handlers.formats.decode import decode
from handlers.formats.image import Image, Origin, Plane
from tests.handlers.images import dicom, film

AXIAL = [1, 0, 0, 0, 1, 0]
ORIGIN = Origin(instance="1.2.826.0.1.3680043.8.498.1")
"""Of the images of `dicom`."""


def image(**attributes: Any) -> Image:
    return decode(dicom(film(), Modality="MR", **attributes))


def test_the_plane_of_a_slice_is_read() -> None:
    decoded = image(
        SeriesInstanceUID="1.2.3",
        ImagePositionPatient=[-120.5, 80, 33.25],
        ImageOrientationPatient=AXIAL,
        SpacingBetweenSlices=5.5,
        SliceThickness=5,
    ).plane
    assert decoded == Plane("1.2.3", (-120.5, 80.0, 33.25), (0.0, 0.0, 1.0), 5.5, 5.0, ORIGIN)


def test_the_normal_is_row_cross_column() -> None:
    sagittal = image(ImageOrientationPatient=[0, 1, 0, 0, 0, -1]).plane
    assert sagittal is not None
    assert sagittal.normal == (-1.0, 0.0, 0.0)
    tilt = np.radians(20)
    oblique = image(ImageOrientationPatient=[1, 0, 0, 0, round(np.cos(tilt), 5), round(np.sin(tilt), 5)]).plane
    assert oblique is not None
    assert oblique.normal == pytest.approx((0, -np.sin(tilt), np.cos(tilt)), abs=1e-4)


def test_an_object_without_plane_attributes_has_an_empty_plane() -> None:
    assert image().plane == Plane(origin=ORIGIN)
    assert image().spacing is None


@pytest.mark.parametrize(
    ("attributes", "part"),
    [
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "normal"),
        ({"ImageOrientationPatient": [2, 0, 0, 0, 1, 0]}, "normal"),
        ({"ImageOrientationPatient": [0] * 6}, "normal"),
        ({"ImageOrientationPatient": [1, 0, 0]}, "normal"),
        ({"ImagePositionPatient": [1, 2]}, "position"),
        ({"SliceThickness": 0}, "thickness"),
        ({"SliceThickness": -3}, "thickness"),
        ({"SpacingBetweenSlices": 5000}, "between"),
    ],
)
def test_implausible_values_are_ignored(attributes: dict[str, Any], part: str) -> None:
    decoded = image(**attributes).plane
    assert decoded is not None
    assert getattr(decoded, part) is None


def test_malformed_plane_attributes_do_not_prevent_decoding() -> None:
    data = dicom(film(), SliceThickness="5.25", ImagePositionPatient=[11.5, 22.5, 33.5])
    for sound, broken in ((b"5.25", b"ABCD"), (b"11.5\\22.5\\33.5", b"nan \\inf \\33.5")):
        assert sound in data
        data = data.replace(sound, broken)
    assert decode(data).plane == Plane(origin=ORIGIN)


def test_the_plane_of_an_enhanced_object_is_read_from_functional_groups() -> None:
    place, turn, measures, frame = Dataset(), Dataset(), Dataset(), Dataset()
    place.ImagePositionPatient = [1, 2, 3]
    turn.ImageOrientationPatient = AXIAL
    measures.PixelSpacing, measures.SliceThickness, measures.SpacingBetweenSlices = [0.5, 0.75], 4, 6
    frame.PlanePositionSequence, frame.PlaneOrientationSequence = [place], [turn]
    shared = Dataset()
    shared.PixelMeasuresSequence = [measures]
    decoded = image(PerFrameFunctionalGroupsSequence=[frame], SharedFunctionalGroupsSequence=[shared])
    assert decoded.spacing == (0.5, 0.75)
    assert decoded.plane == Plane(None, (1.0, 2.0, 3.0), (0.0, 0.0, 1.0), 6.0, 4.0, ORIGIN)


def test_what_an_image_belongs_to_is_read() -> None:
    decoded = image(StudyInstanceUID="1.2", FrameOfReferenceUID="1.3", SOPInstanceUID="1.4").plane
    assert decoded is not None
    assert decoded.origin == replace(ORIGIN, study="1.2", frame_of_reference="1.3", instance="1.4")


def test_identifiers_are_part_of_no_text() -> None:
    uids = ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID")
    decoded = image(PatientID="4711", **dict.fromkeys(uids, "1.2.826.4711"))
    assert "4711" not in repr(decoded)
