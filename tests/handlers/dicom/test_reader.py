import logging
import struct
import tracemalloc
import warnings
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite

from handlers.dicom import dataset as opened
from handlers.dicom import reader
from handlers.errors import ContentTooLargeError, RequestError, UnreadableImageError, UnusableImageError
from handlers.formats.decode import decode
from handlers.formats.image import Budget, Limits
from tests.handlers.images import dicom, dicom_dataset, film, picture, saved, seeds, written


def bare(pixels: np.ndarray[Any, Any], syntax: uid.UID) -> bytes:
    """Return a data set without preamble and meta information."""
    dataset = dicom_dataset(pixels)
    order = "<" if syntax.is_little_endian else ">"
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    dataset["PixelData"].VR = "OW"
    stream = BytesIO()
    dcmwrite(stream, dataset, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
    return stream.getvalue()


@pytest.mark.parametrize(
    "syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian], ids=lambda s: s.name
)
def test_data_set_without_meta_information(syntax: uid.UID) -> None:
    values = film(top=65535, kind=np.uint16)
    data = bare(values, syntax)
    assert data[128:132] != b"DICM"
    assert reader.recognises(data)
    np.testing.assert_allclose(np.asarray(decode(data).pixels), values / 257, atol=1e-3)


def test_file_without_preamble() -> None:
    np.testing.assert_array_equal(np.asarray(decode(dicom(film())[132:]).pixels), film())


def test_preamble_of_a_tiff_file() -> None:
    data = saved(film(), "TIFF")[:128] + dicom(film())[128:]
    assert decode(data).format == "dicom"


def test_compressed_pixels_without_meta_information() -> None:
    data = dicom(film(), uid.RLELossless)
    start = data.index(b"\x08\x00\x16\x00UI")
    with pytest.raises(UnusableImageError, match="Transfer Syntax UID"):
        decode(data[start:])


@pytest.mark.parametrize("data", [b"", b"\x08\x00", b"SECRET", b"<html>", b"\x00" * 200, saved(film(), "PNG")])
def test_other_bytes_are_not_recognised_as_dicom(data: bytes) -> None:
    assert not reader.recognises(data)


def test_spacing_and_attributes() -> None:
    image = decode(
        dicom(
            film(),
            ImagerPixelSpacing=[0.1, 0.1],
            PixelSpacing=[0.143, 0.15],
            Modality="DX",
            BodyPartExamined="CHEST ",
            ViewPosition="",
        ).replace(b"CHEST ", b" Chest")
    )
    assert image.spacing == (0.143, 0.15)
    stated = {statement.source: statement.value for statement in image.statements}
    assert stated == {"Modality": "DX", "BodyPartExamined": "chest"}
    assert (image.format, image.width, image.height) == ("dicom", 48, 40)


@pytest.mark.parametrize(
    ("attributes", "spacing"),
    [
        ({"ImagerPixelSpacing": [0.1, 0.2], "NominalScannedPixelSpacing": [1, 1]}, (0.1, 0.2)),
        ({"NominalScannedPixelSpacing": [0.3, 0.4]}, (0.3, 0.4)),
        ({"PixelSpacing": [0, 0]}, None),
        ({"PixelSpacing": None}, None),
        ({"PixelSpacing": [0.2]}, None),
        ({}, None),
    ],
)
def test_spacing(attributes: dict[str, Any], spacing: tuple[float, float] | None) -> None:
    assert decode(dicom(film(), **attributes)).spacing == spacing


def test_patient_data_is_not_parsed_logged_or_quoted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    parsed = opened.read(dicom(film()), Limits()).dataset
    assert "PatientName" not in parsed
    assert "PatientID" not in parsed
    assert "SECRET" not in str(parsed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode(dicom(film(), WindowCenter="1", WindowWidth="10"))
        broken = dicom(film(), WindowCenter="1234", WindowWidth="10").replace(b"1234", b"SECR")
        with pytest.raises(RequestError) as caught:
            decode(broken)
    assert "SECR" not in str(caught.value)
    assert not caplog.records
    assert not logging.getLogger("pydicom").disabled


def test_overlays_are_ignored() -> None:
    overlay: dict[str, Any] = {}
    data = dicom_dataset(film(), **overlay)
    data.add_new(0x60003000, "OW", b"\xff" * 240)
    data.PixelData = film().tobytes()
    data["PixelData"].VR = "OB"
    np.testing.assert_array_equal(np.asarray(decode(written(data)).pixels), film())


def test_a_deflate_bomb_is_rejected_within_bounded_memory() -> None:
    data = dicom(film(), uid.DeflatedExplicitVRLittleEndian)
    (length,) = struct.unpack_from("<I", data, 140)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(200)) + packer.flush()
    assert len(bomb) < 1 << 20
    tracemalloc.start()
    try:
        with pytest.raises(ContentTooLargeError, match="has more than 4000000 bytes"):
            decode(data[: 144 + length] + bomb, Limits(bytes=4_000_000))
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_deflated_data_count_against_the_bytes_of_their_request() -> None:
    data = dicom(np.zeros((400, 480), np.uint8), uid.DeflatedExplicitVRLittleEndian)
    budget = Budget(bytes=400 * 480 + len(data))
    with pytest.raises(ContentTooLargeError, match="too many bytes together"):
        decode(data, Limits(budget=budget))
    budget.bytes = 400 * 480 + 2 * len(data) + 1000
    decode(data, Limits(budget=budget))


def test_damaged_deflated_data_are_rejected() -> None:
    data = dicom(film(), uid.DeflatedExplicitVRLittleEndian)
    (length,) = struct.unpack_from("<I", data, 140)
    with pytest.raises(UnreadableImageError, match="deflated"):
        decode(data[: 144 + length] + b"\xff" * 100)


@pytest.mark.parametrize("depth", [50, 3000])
def test_sequences_nested_too_deeply_are_rejected(depth: int) -> None:
    head = dicom(film())
    opening = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    closing = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    at = head.index(b"\x08\x00\x16\x00UI") + 8
    at += struct.unpack_from("<H", head, at - 2)[0]
    data = head[:at] + opening * depth + closing * depth + head[at:]
    if depth < 100:
        decode(data)
    else:
        with pytest.raises(UnreadableImageError, match="damaged"):
            decode(data)


@pytest.mark.parametrize("kind", ["elements", "items", "fragments"])
def test_millions_of_elements_are_not_parsed(kind: str) -> None:
    if kind == "elements":
        data = dicom(film(), uid.ImplicitVRLittleEndian) + b"\xe0\x7f\x00\x20\0\0\0\0" * 1_000_000
    elif kind == "items":
        head = dicom(film(), uid.ImplicitVRLittleEndian)
        at = head.rindex(b"\x28\x00\x02\x00")
        item = b"\xfe\xff\x00\xe0\0\0\0\0"
        data = head[:at] + b"\x08\x00\x15\x11\xff\xff\xff\xff" + item * 1_000_000 + head[at:]
    else:
        head = dicom(film(), uid.RLELossless)
        at = head.rindex(b"\xfe\xff\xdd\xe0")
        data = head[:at] + b"\xfe\xff\x00\xe0\0\0\0\0" * 1_000_000 + head[at:]
    with pytest.raises(UnreadableImageError, match="more elements or fragments than any film"):
        decode(data)


def test_a_value_that_is_too_long_is_rejected() -> None:
    data = dicom(film(), uid.ImplicitVRLittleEndian, WindowCenter="1234", WindowWidth=3)
    at = data.index(b"\x28\x00\x50\x10")
    long = b"1\\" * 1_000_000
    data = data[: at + 4] + struct.pack("<I", len(long)) + long + data[at + 12 :]
    with pytest.raises(UnreadableImageError, match="WindowCenter has 2000000 bytes"):
        decode(data)


@pytest.mark.parametrize(("keyword", "tag"), [("Pixel Data", b"\xe0\x7f\x10\x00"), ("Planar", b"\x28\x00\x06\x00")])
def test_long_texts_in_place_of_pixels_and_numbers_are_not_converted(keyword: str, tag: bytes) -> None:
    data = dicom(picture())
    at = data.rindex(tag)
    rest = data[at + 10 :] if keyword == "Planar" else b""
    content = b"x" * 2000
    with pytest.raises(UnreadableImageError, match=rf"{keyword}.* (value representation OB or OW|2000 bytes)"):
        decode(data[:at] + tag + b"UT\0\0" + struct.pack("<I", len(content)) + content + rest)


def test_every_seed_is_read() -> None:
    for name, data in seeds().items():
        image = decode(data)
        assert (image.width, image.height) == (48, 40), name
        assert image.pixels.mode in {"L", "RGB", "F"}


def test_an_object_without_pixels_is_rejected() -> None:
    dataset = Dataset()
    dataset.PatientName = "SECRET"
    dataset.SOPClassUID, dataset.SOPInstanceUID = uid.SecondaryCaptureImageStorage, "1.2.3"
    with pytest.raises(UnusableImageError, match="no Pixel Data"):
        decode(written(dataset))
