import logging
import threading
import warnings
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from radserve.dicom import codes
from radserve.dicom import objects as dicom
from radserve.dicom.source import quiet
from radserve.errors import DicomError, InvalidResponseError
from tests.radserve.dicom import examples, readers

TIME = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
PICTURE = examples.png(np.resize(np.arange(255, dtype=np.uint8), (40, 56, 3)))


def written(content: bytes, **changes: Any) -> dict[Any, Dataset]:
    """Return all objects of a mask."""
    result = examples.segmentation(content, examples.blob(40, 56), [0.5, 0.75], **changes)
    return dicom.of_image(content, result, PICTURE, time=TIME)


@pytest.fixture(scope="module")
def slice_objects() -> dict[Any, Dataset]:
    return written(examples.image())


def test_a_repeated_request_gives_the_same_bytes(slice_objects: dict[Any, Dataset]) -> None:
    again = written(examples.image())
    assert {kind: dicom.encode(item) for kind, item in again.items()} == {
        kind: dicom.encode(item) for kind, item in slice_objects.items()
    }


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"name": "example", "version": "1.2.0", "sha256": "6" * 64}},
        {"repair": "invert"},
        {"assurances": {"prevalence": 0.1}},
        {"domain": {"mode": "off"}},
        {"profile": {"name": "site", "sha256": "7" * 64}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_archive_or_condition_gives_other_identifiers(
    change: dict[str, Any], slice_objects: dict[Any, Dataset]
) -> None:
    other = written(examples.image(), **change)
    assert {item.SOPInstanceUID for item in other.values()}.isdisjoint(
        item.SOPInstanceUID for item in slice_objects.values()
    )


def test_a_file_with_other_pixels_gives_other_identifiers(slice_objects: dict[Any, Dataset]) -> None:
    other = written(examples.image(PixelData=bytes(40 * 56)))
    for kind, item in slice_objects.items():
        assert item.SOPInstanceUID != other[kind].SOPInstanceUID
        assert item.SeriesInstanceUID == other[kind].SeriesInstanceUID


def test_another_writer_of_the_same_image_gives_the_same_identifiers(slice_objects: dict[Any, Dataset]) -> None:
    file = dcmread(BytesIO(examples.image()))
    file.file_meta.ImplementationVersionName = "OTHER"
    other = written(dicom.encode(file))
    assert [item.SOPInstanceUID for item in other.values()] == [item.SOPInstanceUID for item in slice_objects.values()]


def test_objects_of_one_series_of_images_share_a_series_by_kind(slice_objects: dict[Any, Dataset]) -> None:
    second = written(examples.image(InstanceNumber=2))
    for kind, item in slice_objects.items():
        assert item.SOPInstanceUID != second[kind].SOPInstanceUID
        assert item.SeriesInstanceUID == second[kind].SeriesInstanceUID
    assert len({item.SeriesInstanceUID for item in slice_objects.values()}) == 3


def test_identity_is_copied_and_nothing_else(slice_objects: dict[Any, Dataset]) -> None:
    source = dcmread(BytesIO(examples.image()))
    for item in slice_objects.values():
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate"):
            assert str(item[keyword].value) == str(source[keyword].value)
        assert b"a secret" not in dicom.encode(item)
        assert item.Manufacturer == "RadServe"
        # No release of RadServe: identifiers do not depend on it.
        assert (item.ManufacturerModelName, item.SoftwareVersions) == ("example", "1.2.0")
        assert item.DeviceSerialNumber == examples.SHA256


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("ISO_IR 100", "Müller^Jürgen"),
        ("ISO_IR 144", "Иванов^Илья"),
        ("ISO_IR 192", "王^小東"),
        ("GB18030", "王^小东"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    ],
)
def test_the_character_set_is_kept(encoding: Any, name: str) -> None:
    for item in written(examples.image(SpecificCharacterSet=encoding, PatientName=name)).values():
        read = dcmread(BytesIO(dicom.encode(item)))
        assert (read.SpecificCharacterSet, str(read.PatientName)) == (encoding, name)


def test_a_label_that_the_character_set_cannot_hold_makes_the_objects_utf_8() -> None:
    content = examples.image(SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jürgen")
    model = {"name": "例", "version": "1.2.0", "sha256": None}
    for item in written(content, model=model).values():
        read = dcmread(BytesIO(dicom.encode(item)))
        assert (read.SpecificCharacterSet, str(read.PatientName)) == ("ISO_IR 192", "Müller^Jürgen")
        assert read.ManufacturerModelName == "例"


def test_invalid_values_of_a_file_are_left_out(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = examples.image(PatientSex="X", StudyDate="01/02/2026", PatientBirthDate="2020.1", StudyTime="noon")
    for item in written(content).values():
        assert (item.PatientSex, item.StudyDate, item.PatientBirthDate) in [("", "", ""), (None, None, None)]
        # The study of a file without these values has no place in a DICOMDIR.
        assert [text for text in readers.problems(item, tmp_path) if "DICOMDIR" not in text] == []


def test_a_name_is_neither_logged_nor_part_of_a_warning(
    caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    caplog.set_level(logging.DEBUG)
    assert written(examples.image(PatientName="Secret"))["sr"].PatientName == "Secret"
    assert "Secret" not in caplog.text
    assert [str(item.message) for item in recwarn.list] == []


def test_warnings_are_heard_again_once_no_thread_writes(caplog: pytest.LogCaptureFixture) -> None:
    first_entered, second_entered = threading.Event(), threading.Event()

    def first() -> None:
        with quiet():
            first_entered.set()
            second_entered.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    first_entered.wait(10)
    with quiet():
        second_entered.set()
        thread.join()  # the first to begin ends first
        warnings.warn("unheard", stacklevel=1)
        logging.getLogger("pydicom.pixels.utils").error("unheard")
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)
    logging.getLogger("pydicom.pixels.utils").error("heard")
    assert caplog.messages == ["heard"]


def test_labels_without_a_public_code_have_different_private_ones() -> None:
    labels = ("atelectasis left upper lobe", "atelectasis left lower lobe", "肺炎", "正常", "Mass!", "mass?")
    values = [codes.finding(label).value for label in labels]
    assert len(set(values)) == len(labels)
    assert all(len(value) <= 16 and value.isascii() for value in values)


def test_an_invalid_frame_of_reference_is_not_copied() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = examples.image(FrameOfReferenceUID="1.02.3")
    item = written(content)["seg"]
    assert item.FrameOfReferenceUID.startswith("2.25.")


def test_what_highdicom_rejects_is_an_error_that_does_not_quote_the_file() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = examples.image(PatientBirthDate="20209999")
    with pytest.raises(DicomError, match="attributes that its result cannot have") as error:
        written(content)
    assert isinstance(error.value.__cause__, ValueError)


def test_an_attribute_with_too_many_values_is_left_out() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = examples.image(InstanceNumber=[2, 3], SOPInstanceUID=f"{examples.ROOT}9", PatientID=["1", "2"])
    for item in written(content).values():
        assert (item.InstanceNumber, item.PatientID or "") == (1, "")


def test_a_damaged_picture_is_not_the_fault_of_the_file() -> None:
    content = examples.image()
    with pytest.raises(InvalidResponseError, match="picture of the server is damaged"):
        dicom.of_image(content, examples.segmentation(content, examples.blob(40, 56)), PICTURE[:60])


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID"])
def test_a_file_without_an_identifier_is_rejected(keyword: str) -> None:
    file = dcmread(BytesIO(examples.image()))
    delattr(file, keyword)
    content = dicom.encode(file) if keyword.startswith("S") and "SOP" not in keyword else _saved(file)
    with pytest.raises(DicomError, match=keyword):
        written(content)


def _saved(file: Dataset) -> bytes:
    stream = BytesIO()
    file.save_as(stream)
    return stream.getvalue()


def test_a_result_about_another_image_or_size_is_rejected() -> None:
    content = examples.image()
    result = examples.segmentation(content, examples.blob(40, 56))
    with pytest.raises(DicomError, match="not about this image"):
        dicom.of_image(examples.image(InstanceNumber=2), result)
    turned = examples.segmentation(content, examples.blob(56, 40))
    with pytest.raises(DicomError, match="56 rows and 40 columns"):
        dicom.of_image(content, turned)


def test_an_image_of_another_format_is_rejected() -> None:
    result = examples.classification(PICTURE, (40, 56))
    image = result.image.model_copy(update={"format": "png"})
    with pytest.raises(DicomError, match="The image is png"):
        dicom.of_image(PICTURE, result.model_copy(update={"image": image}))
