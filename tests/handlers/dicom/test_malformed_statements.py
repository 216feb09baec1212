"""Malformed and oversized attributes that statements are read from."""

import struct
from typing import Any

import pytest
from pydicom import uid
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from handlers.dicom import dataset, statements
from handlers.errors import RequestError, UnreadableImageError
from handlers.formats.decode import decode
from handlers.formats.image import Limits
from tests.handlers.dicom.objects import GOOD, code, codes, item
from tests.handlers.images import dicom, film

pytestmark = pytest.mark.filterwarnings("ignore:.*VR:UserWarning")  # pydicom writes what vendors write


def test_damaged_sequences_are_errors_of_the_request() -> None:
    data = dicom(film(), AnatomicRegionSequence=codes(code("51185008", "SCT")))
    for position in range(data.index(b"\x08\x00\x18\x22"), data.index(b"\x08\x00\x18\x22") + 60):
        try:
            decode(data[:position] + b"\xff" + data[position + 1 :])
        except RequestError:
            continue


def with_element(tag: int, value: bytes, representation: str = "", **attributes: Any) -> bytes:
    """Return a chest film with one more element, in explicit VR if its representation is given."""
    syntax = uid.ExplicitVRLittleEndian if representation else uid.ImplicitVRLittleEndian
    data = dicom(film(), syntax, **(GOOD | attributes))
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + representation.encode()
    long = representation in ("OB", "SQ", "UN")
    length = struct.pack("<xxI" if long else "<H" if representation else "<I", len(value))
    at = data.rindex(struct.pack("<HH", 0x28, 2))
    return data[:at] + head + length + value + data[at:]


EMPTY_ITEM = b"\xfe\xff\x00\xe0\0\0\0\0"


@pytest.mark.parametrize("tag", [0x00540220, 0x00081032, 0x00283010, 0x00400275, 0x52009229, 0x52009230])
def test_sequences_of_defined_length_share_the_budget_of_the_object(tag: int) -> None:
    with pytest.raises(UnreadableImageError, match="more elements or fragments than any film"):
        decode(with_element(tag, EMPTY_ITEM * 10_000))


def test_the_bytes_of_converted_values_are_limited() -> None:
    meaning = struct.pack("<HHI", 0x8, 0x104, 1000) + b"x" * 1000
    coded = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(meaning)) + meaning
    decode(with_element(0x00540220, coded * 10))
    with pytest.raises(UnreadableImageError, match="more elements or fragments than any film"):
        decode(with_element(0x00540220, coded * 100))


def test_functional_groups_with_too_many_items_are_rejected() -> None:
    body = struct.pack("<HHI", 0x18, 0x15, 4) + b"KNEE"
    knee = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(body)) + body
    with pytest.raises(UnreadableImageError, match="functional groups of the DICOM object have 101 items"):
        decode(with_element(0x52009229, EMPTY_ITEM * 100 + knee))


def test_elements_that_the_scope_does_not_read_are_not_converted() -> None:
    echo = Dataset()
    echo.RepetitionTime = [1.0] * 5000
    groups = item(MRTimingAndRelatedParametersSequence=Sequence([echo]), RepetitionTime=3)
    source = dataset.read(dicom(film(), SharedFunctionalGroupsSequence=groups), Limits())
    list(statements.read(source))
    (group,) = source.items("SharedFunctionalGroupsSequence")
    assert all(isinstance(group.dataset.get_item(tag), RawDataElement) for tag in group.dataset.keys())  # noqa: SIM118


def test_a_character_set_with_thousands_of_names_is_rejected() -> None:
    data = dicom(film(), uid.ImplicitVRLittleEndian, **GOOD)
    names = b"x\\" * 100_000
    at = data.index(b"\x08\x00\x16\x00")
    with pytest.raises(UnreadableImageError, match="more elements or fragments than any film"):
        decode(data[:at] + b"\x08\x00\x05\x00" + struct.pack("<I", len(names)) + names + data[at:])


@pytest.mark.parametrize(
    ("tag", "representation", "value"),
    [
        (0x00101010, "FD", b"\0\0\xc0?"),  # PatientAge, four bytes of a double
        (0x00101010, "FD", struct.pack("<d", 3)),
        (0x00101010, "SQ", EMPTY_ITEM),
        (0x00541500, "OB", b"1234"),
        (0x00540220, "OB", b"1234"),  # ViewCodeSequence
        (0x00540220, "SQ", b"1234"),
        (0x00540220, "UN", b"1234"),
        (0x00321064, "LO", b"1234"),  # RequestedProcedureCodeSequence
        (0x00281041, "CS", b"LIN "),  # PixelIntensityRelationshipSign
        (0x00281041, "SS", b"1"),
        (0x00080008, "CS", b"X" * 1026),  # ImageType
        (0x0008103E, "LO", b"X" * 1026),  # SeriesDescription
        (0x00200037, "FD", b"1234"),  # ImageOrientationPatient
        (0x00280030, "FD", b"1234"),  # PixelSpacing
    ],
)
def test_a_malformed_attribute_that_pixels_do_not_need_states_nothing(
    tag: int, representation: str, value: bytes
) -> None:
    more = {"PatientAge": None} if tag == 0x00101010 else {}
    image = decode(with_element(tag, value, representation, **more))
    kept = {"Modality": "DX", "BodyPartExamined": "chest", "ViewPosition": "PA"}
    assert {item.source: item.value for item in image.statements if item.attribute != "age"} == kept


@pytest.mark.parametrize(
    ("tag", "representation", "value"),
    [
        (0x00281050, "FD", b"1234"),  # WindowCenter
        (0x00281053, "FD", b"1234"),  # RescaleSlope
        (0x00280008, "FD", b"1234"),  # NumberOfFrames
        (0x00280120, "FD", b"1234"),  # PixelPaddingValue
        (0x00283010, "OB", b"1234"),  # VOILUTSequence
        (0x00283010, "SQ", b"1234"),
        (0x00283000, "LO", b"1234"),  # ModalityLUTSequence
        (0x52009229, "LO", b"1234"),  # SharedFunctionalGroupsSequence
    ],
)
def test_a_malformed_attribute_that_pixels_need_is_an_error_of_the_request(
    tag: int, representation: str, value: bytes
) -> None:
    with pytest.raises(RequestError) as error:
        decode(with_element(tag, value, representation))
    assert error.value.status in (400, 422)
