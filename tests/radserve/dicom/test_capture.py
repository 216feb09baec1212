from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radserve.dicom import objects as dicom
from tests.radserve.dicom import examples, readers


@pytest.mark.parametrize("shape", [(40, 56), (700, 31), (1500, 2000), (1, 1)])
def test_a_capture_shows_the_picture_between_notice_and_legend(shape: tuple[int, int], tmp_path: Path) -> None:
    content = examples.image(*shape)
    picture = np.full((*shape, 3), 120, dtype=np.uint8)
    result = examples.segmentation(content, examples.blob(*shape), [0.5, 0.75])
    item = dicom.of_image(content, result, examples.png(picture), kinds=["sc"])["sc"]
    pixels = item.pixel_array
    assert 640 <= max(pixels.shape[:2]) <= 2600
    assert (pixels == 120).all(axis=2).any()
    assert (pixels == (255, 196, 0)).all(axis=2).any()  # notice
    assert (pixels == (255, 0, 255)).all(axis=2).any()  # legend of the outline
    assert readers.problems(item, tmp_path) == []


@pytest.mark.parametrize("shape", [(700, 31), (40, 56)])
def test_no_text_of_a_capture_is_cut(shape: tuple[int, int]) -> None:
    content = examples.image(*shape, modality="DX")
    result = examples.explanation(content, np.resize(np.arange(256, dtype=np.uint8), shape))
    item = dicom.of_image(content, result, examples.png(np.zeros((*shape, 3), dtype=np.uint8)))["sc"]
    assert item.pixel_array[:, -1].max() == 0
    assert item.Columns >= 480


@pytest.mark.parametrize(("declared", "written"), [(None, "YES"), ("YES", "YES"), ("NO", "NO")])
def test_a_capture_says_what_it_is(declared: str | None, written: str, tmp_path: Path) -> None:
    attributes: dict[str, Any] = {} if declared is None else {"BurnedInAnnotation": declared}
    content = examples.image(modality="DX", **attributes)
    result = examples.explanation(content, np.resize(np.arange(256, dtype=np.uint8), (40, 56)))
    item = dicom.of_image(content, result, examples.png(np.zeros((40, 56, 3), dtype=np.uint8)))["sc"]
    assert (item.BurnedInAnnotation, item.ConversionType) == (written, "WSD")
    assert item.DerivationDescription == (
        "example 1.2.0: pneumonia: 80.0%, at or above the cut-off of 60.0%. For research use only. Not for diagnosis."
    )
    assert item.SourceImageSequence[0].ReferencedSOPInstanceUID == f"{examples.ROOT}1.1.1"
    assert list(item.PatientOrientation) == ["L", "F"]
    assert readers.problems(item, tmp_path) == []
