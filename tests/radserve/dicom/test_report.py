from pathlib import Path
from typing import Any

import numpy as np
import pytest
from highdicom.sr import srread
from pydicom.sr.codedict import codes

from radserve.dicom import objects as dicom
from tests.radserve.dicom import examples, readers


def report(result: Any, content: bytes, folder: Path) -> str:
    """Return a report as text, after the validators have found nothing."""
    item = dicom.of_image(content, result)["sr"]
    assert readers.problems(item, folder) == []
    return readers.report_text(item, folder)


@pytest.mark.parametrize(
    ("probability", "presence"), [(0.8, '(52101004,SCT,"Present")'), (0.1, '(272519000,SCT,"Absent")')]
)
def test_a_decision_is_a_finding_with_probability_and_cut_off(
    probability: float, presence: str, tmp_path: Path
) -> None:
    content = examples.image(modality="DX")
    text = report(examples.classification(content, (40, 56), probability), content, tmp_path)
    for line in (
        'Finding")=(233604007,SCT,"Pneumonia")',
        'Finding Site")=(816094009,SCT,"Chest")',
        f'"Probability")="{100 * probability:.1f}" (%,UCUM,"Percent")',
        '"Threshold Value")="60.0" (%,UCUM,"Percent")',
        f'"Presence of property")={presence}',
        '"Algorithm Name")="example"',
        '"Algorithm Version")="1.2.0"',
        f'"Algorithm Parameters")="archive-sha256={examples.SHA256}"',
        f'"Device Observer Serial Number")="{examples.SHA256}"',
        '"Comment")="For research use only. Not for diagnosis."',
        "Verification Flag   : UNVERIFIED",
    ):
        assert line in text


def test_a_doubtful_result_is_undetermined_and_says_why(tmp_path: Path) -> None:
    content = examples.image(modality="DX")
    domain = {"mode": "warn", "status": "unlike", "score": 3.0, "limit": 2.0, "percentile": 99.9}
    text = report(
        examples.classification(content, (40, 56), domain=domain, unchecked=["age", "view"]), content, tmp_path
    )
    assert '(121059,DCM,"Presence Undetermined")' in text
    assert "Unlike the training images: do not rely on the label." in text
    assert "Not stated by the file, so not checked: age, view." in text


def test_a_model_without_a_decision_reports_all_probabilities_the_highest_first(tmp_path: Path) -> None:
    content = examples.image()
    result = examples.classification(
        content,
        (40, 56),
        label="glioma",
        probability=0.7,
        probabilities={"pituitary adenoma": 0.3, "glioma": 0.7},
        positive=None,
        threshold=None,
    )
    item = dicom.of_image(content, result)["sr"]
    text = readers.report_text(item, tmp_path)
    assert text.index('(393564001,SCT,"Glioma")') < text.index('(PITUITARY_3D89FD,99RADSERVE,"pituitary adenoma")')
    assert "Most probable: glioma." in text
    # dciodvfy knows public coding schemes only.
    (warning,) = readers.problems(item, tmp_path)
    assert "Unrecognized defined term = <99RADSERVE>" in warning


def test_a_mask_is_measured_in_mm2_and_refers_to_its_segmentation(tmp_path: Path) -> None:
    content, mask = examples.image(), examples.blob(40, 56)
    result = examples.segmentation(content, mask, [0.5, 0.75])
    objects = dicom.of_image(content, result)
    content_of_report: Any = srread(readers.save(objects["sr"], tmp_path)).content
    (group,) = content_of_report.get_planar_roi_measurement_groups()
    (area,) = group.get_measurements(name=codes.SCT.Area)
    assert (area.value, area.unit.value) == (np.count_nonzero(mask) * 0.375, "mm2")
    frame, image = group.referenced_segmentation_frame
    assert frame.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == objects["seg"].SOPInstanceUID
    assert image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == f"{examples.ROOT}1.1.1"
    assert group.tracking_uid == objects["seg"].SegmentSequence[0].TrackingUID
    assert readers.problems(objects["sr"], tmp_path) == []


def test_an_area_without_spacing_is_measured_in_pixels(tmp_path: Path) -> None:
    content, mask = examples.image(modality="DX"), examples.blob(40, 56)
    text = report(examples.segmentation(content, mask), content, tmp_path)
    assert f'"Area")="{np.count_nonzero(mask)}.0" ({{pixels}},UCUM,"pixels")' in text


def test_an_empty_mask_reports_the_finding_as_absent(tmp_path: Path) -> None:
    content = examples.image()
    text = report(examples.segmentation(content, examples.blob(40, 56) & False, [0.5, 0.75]), content, tmp_path)
    assert '(272519000,SCT,"Absent")' in text
    assert '"Area")="0.0" (mm2,UCUM,"square millimeter")' in text
    assert "(108369006,SCT," in text  # neoplasm, as where some is marked
