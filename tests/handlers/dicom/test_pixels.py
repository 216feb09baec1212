import struct
import tracemalloc
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from pydicom import dcmread, uid
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate

from handlers.dicom.pixels import SYNTAXES
from handlers.errors import RequestError, UnreadableImageError, UnsupportedMediaTypeError, UnusableImageError
from handlers.formats.decode import decode
from handlers.formats.image import Limits
from tests.handlers.images import code, dicom, dicom_dataset, film, jpeg2000, picture, saved, written

LOSSLESS = [
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.RLELossless,
    uid.JPEGLSLossless,
    uid.JPEG2000Lossless,
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
]
WHOLE: dict[str, Any] = {"WindowCenter": 2048, "WindowWidth": 4096, "VOILUTFunction": "LINEAR_EXACT"}


def shown(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(decode(data).pixels).astype(np.float64)


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda value: value.name)
def test_lossless_syntaxes_give_the_same_levels(syntax: uid.UID) -> None:
    values = film(39, 41, top=4095, kind=np.uint16)
    actual = shown(dicom(values, syntax, BitsStored=12, HighBit=11, **WHOLE))
    np.testing.assert_allclose(actual, values / 4096 * 255, atol=1e-3)


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda value: value.name)
def test_signed_values(syntax: uid.UID) -> None:
    values = film(top=4000, kind=np.int16) - np.int16(2000)
    data = dicom(values, syntax, WindowCenter=0, WindowWidth=4096, VOILUTFunction="LINEAR_EXACT")
    np.testing.assert_allclose(shown(data), (values / 4096 + 0.5) * 255, atol=1e-3)


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda value: value.name)
def test_colour(syntax: uid.UID) -> None:
    values = picture(39, 41)
    image = decode(dicom(values, syntax))
    assert image.pixels.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image.pixels), values)


@pytest.mark.parametrize(
    ("syntax", "bits"),
    [(uid.ExplicitVRLittleEndian, 16), (uid.ExplicitVRLittleEndian, 32), (uid.RLELossless, 16)],
)
def test_deep_colour(syntax: uid.UID, bits: int) -> None:
    values = picture().astype(f"u{bits // 8}") * ((2**bits - 1) // 255)
    np.testing.assert_array_equal(np.asarray(decode(dicom(values, syntax)).pixels), picture())


def test_planar_configuration_1() -> None:
    values = picture()
    data = dicom(
        values, PlanarConfiguration=1, PixelData=values.transpose(2, 0, 1).tobytes()
    )  # fmt: skip
    np.testing.assert_array_equal(shown(data), values)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.RLELossless], ids=lambda value: value.name)
def test_unused_high_bits_are_ignored(syntax: uid.UID) -> None:
    values = film(top=4095, kind=np.uint16)
    stored = values | np.uint16(0xA000)
    coded = code(stored, dicom_dataset(stored), syntax) if syntax.is_encapsulated else None
    data = dicom(stored, syntax, coded=coded, BitsStored=12, HighBit=11, **WHOLE)
    np.testing.assert_allclose(shown(data), values / 4096 * 255, atol=1e-3)


@pytest.mark.parametrize("syntax", [uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless], ids=lambda x: x.name)
@pytest.mark.parametrize("planar", [0, 1, None])
def test_coded_colours_do_not_depend_on_the_declared_planar_configuration(syntax: uid.UID, planar: int | None) -> None:
    np.testing.assert_array_equal(shown(dicom(picture(), syntax, PlanarConfiguration=planar)), picture())


@pytest.mark.parametrize("syntax", [uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless], ids=lambda x: x.name)
def test_coded_pixels_without_pixel_representation_are_unsigned(syntax: uid.UID) -> None:
    coded = code(film(), dicom_dataset(film()), syntax)
    np.testing.assert_array_equal(shown(dicom(film(), syntax, coded=coded, PixelRepresentation=None)), film())


def test_jpeg_equals_pillows_decoding() -> None:
    coded = saved(film(), "JPEG")
    expected = np.asarray(Pillow.open(BytesIO(coded)))
    np.testing.assert_array_equal(shown(dicom(film(), uid.JPEGBaseline8Bit, coded=coded)), expected)


def without_marker(data: bytes, marker: bytes) -> bytes:
    start = data.index(marker)
    return data[:start] + data[start + 2 + struct.unpack_from(">H", data, start + 2)[0] :]


@pytest.mark.parametrize("meaning", ["YBR_FULL_422", "YBR_FULL", "RGB"])
@pytest.mark.parametrize("jfif", [True, False])
def test_jpeg_colour(meaning: str, jfif: bool) -> None:
    """Markers decide what the components are; without them the attributes do."""
    smooth = np.asarray(Pillow.fromarray(picture()).resize((5, 4)).resize((48, 40), Pillow.Resampling.BICUBIC))
    coded = saved(smooth, "JPEG", quality=100, subsampling=0)
    if not jfif:
        coded = without_marker(coded, b"\xff\xe0")
    actual = shown(dicom(smooth, uid.JPEGBaseline8Bit, coded=coded, PhotometricInterpretation=meaning))
    expected = smooth if jfif or meaning != "RGB" else np.asarray(Pillow.fromarray(smooth).convert("YCbCr"))
    assert np.abs(actual - expected).max() < 6


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.RLELossless, uid.JPEGLSLossless])
def test_ybr_full(syntax: uid.UID) -> None:
    values = np.asarray(Pillow.fromarray(picture()).convert("YCbCr"))
    actual = shown(dicom(values, syntax, PhotometricInterpretation="YBR_FULL"))
    assert np.abs(actual - picture()).max() <= 3


def test_ybr_full_422_uncompressed() -> None:
    color = np.asarray(Pillow.fromarray(picture()).convert("YCbCr"))
    packed = np.stack(
        [color[:, ::2, 0], color[:, 1::2, 0], color[:, ::2, 1], color[:, ::2, 2]], axis=-1
    )  # PS3.3 C.7.6.3.1.2
    actual = shown(dicom(picture(), PhotometricInterpretation="YBR_FULL_422", PixelData=packed.tobytes()))
    assert np.abs(actual[:, ::2] - picture()[:, ::2]).max() <= 3


@pytest.mark.parametrize(("bits", "order"), [(8, "<"), (16, "<"), (16, ">")])
def test_palette(bits: int, order: str) -> None:
    table = np.random.default_rng(3).integers(0, 2**bits, (3, 256)).astype(f"{order}u{bits // 8}")
    palette: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, entries in zip(("Red", "Green", "Blue"), table, strict=True):
        palette[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        palette[f"{name}PaletteColorLookupTableData"] = entries.tobytes()
    syntax = uid.ExplicitVRLittleEndian if order == "<" else uid.ExplicitVRBigEndian
    image = decode(dicom(film(), syntax, **palette))
    expected = np.rint(table.astype(np.float64)[:, film()].transpose(1, 2, 0) * 255 / (2**bits - 1))
    assert image.pixels.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image.pixels), expected)


def test_fragments_of_one_frame_are_joined() -> None:
    dataset = dicom_dataset(film())
    coded = jpeg2000(film())
    dataset.PixelData = encapsulate([coded], fragments_per_frame=3)
    dataset["PixelData"].VR = "OB"
    np.testing.assert_array_equal(shown(written(dataset, uid.JPEG2000Lossless)), film())


REFUSED = [
    uid.MPEG2MPML,
    uid.UID("1.2.840.10008.1.2.4.94"),
    uid.UID("1.2.840.10008.1.2.1.98"),
    uid.UID("1.2.3.4"),
]


@pytest.mark.parametrize("syntax", REFUSED, ids=lambda value: value.name)
def test_unsupported_syntaxes_are_named(syntax: uid.UID) -> None:
    assert syntax not in SYNTAXES
    data = dicom(film(), uid.JPEGBaseline8Bit).replace(
        b"UI\x16\x00" + uid.JPEGBaseline8Bit.encode(), b"UI\x16\x00" + syntax.encode().ljust(22, b"\0")[:22]
    )
    if len(syntax) > 22:
        dataset = dicom_dataset(film())
        dataset.PixelData = encapsulate([b"1234"])
        dataset["PixelData"].VR = "OB"
        data = written(dataset, syntax)
    with pytest.raises(UnsupportedMediaTypeError, match="send it as Explicit VR Little Endian") as caught:
        decode(data)
    assert (syntax.name if syntax.name != syntax else "unknown UID") in str(caught.value)


@pytest.mark.parametrize(
    "syntax", [uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.JPEGLosslessSV1], ids=lambda x: x.name
)
@pytest.mark.parametrize("padding", [b"\0", bytes(4), bytes(8), b"\xff" * 6])
def test_padding_after_the_end_marker(syntax: uid.UID, padding: bytes) -> None:
    coded = code(film(), dicom_dataset(film()), syntax)
    np.testing.assert_array_equal(shown(dicom(film(), syntax, coded=coded + padding)), film())


@pytest.mark.parametrize("zeros", [1, 2, 5])
def test_zeros_before_the_end_marker_of_jpeg_ls(zeros: int) -> None:
    coded = code(film(), dicom_dataset(film()), uid.JPEGLSLossless)
    data = dicom(film(), uid.JPEGLSLossless, coded=coded[:-2] + bytes(zeros) + coded[-2:])
    np.testing.assert_array_equal(shown(data), film())


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"])
def test_a_decimal_comma_is_named(keyword: str) -> None:
    data = dicom(film(), **({"RescaleSlope": "2.5", "RescaleIntercept": "2.5"} | WHOLE | {keyword: "7.25"}))
    with pytest.raises(UnreadableImageError, match=f"{keyword} is not a decimal number"):
        decode(data.replace(b"7.25", b"7,25"))


def test_a_decimal_comma_in_the_spacing_does_not_matter() -> None:
    data = dicom(film(), PixelSpacing=["0.25", "0.75"]).replace(b"0.25\\0.75", b"0,25\\0,75")
    assert decode(data).spacing is None


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"NumberOfFrames": 2}, "2 frames, but its NumberOfFrames"),
        ({"Modality": "SEG"}, "segmentation"),
        ({"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}, "a mask"),
        ({"BitsAllocated": 64, "BitsStored": 64}, "BitsAllocated 64"),
        ({"HighBit": 6}, "HighBit 6 and BitsStored 8"),
        ({"BitsStored": 0}, "BitsStored 0"),
        ({"BitsStored": 9}, "BitsStored 9"),
        ({"Rows": 0}, "Rows 0"),
        ({"Columns": None}, "no Columns"),
        ({"SamplesPerPixel": 2}, "SamplesPerPixel 2"),
        ({"PhotometricInterpretation": "RGB"}, "SamplesPerPixel 1"),
        ({"PhotometricInterpretation": "SECRET"}, "unknown or missing"),
        ({"PhotometricInterpretation": None}, "unknown or missing"),
        ({"PixelData": None}, "damaged"),
        ({"Rows": 41}, "damaged"),
    ],
)
def test_unusable_objects_are_rejected(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        decode(dicom(film(), **attributes))
    assert caught.value.status in {400, 422}
    assert "SECRET" not in str(caught.value)


def test_an_object_without_pixel_data_is_rejected() -> None:
    with pytest.raises(UnusableImageError, match="no Pixel Data"):
        decode(written(dicom_dataset(film())))


def test_float_pixels_are_rejected() -> None:
    data = dicom_dataset(film(), FloatPixelData=film().astype(np.float32).tobytes())
    with pytest.raises(UnusableImageError, match="float pixels"):
        decode(written(data))


def siz(data: bytes, width: int, height: int) -> bytes:
    """Return a JPEG 2000 codestream that declares another size, in one tile."""
    start = data.index(b"\xff\x51") + 6
    return data[:start] + struct.pack(">IIIIII", width, height, 0, 0, width, height) + data[start + 24 :]


@pytest.mark.parametrize("rows", [40, 60_000])
def test_a_codestream_bomb_is_rejected_within_bounded_memory(rows: int) -> None:
    coded = siz(jpeg2000(film()), 60_000, 60_000)
    data = dicom(film(), uid.JPEG2000, coded=coded, Rows=rows, Columns=rows if rows > 40 else 48)
    tracemalloc.start()
    try:
        with pytest.raises(RequestError, match=r"in the coded pixels|the limit is") as caught:
            decode(data)
        assert caught.value.status in {400, 422}
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("syntax", [*LOSSLESS[4:], uid.JPEGBaseline8Bit])
def test_object_and_codestream_must_agree(syntax: uid.UID) -> None:
    data = dicom(film(), syntax, coded=None)
    wider = data.replace(b"\x28\x00\x11\x00US\x02\x00\x30\x00", b"\x28\x00\x11\x00US\x02\x00\x31\x00")
    assert wider != data
    with pytest.raises(UnreadableImageError):
        decode(wider)


def test_declared_pixels_are_limited() -> None:
    with pytest.raises(UnusableImageError, match="declares 48x40 pixels; the limit is 1000"):
        decode(dicom(film()), Limits(pixels=1000))


@pytest.mark.parametrize("syntax", [uid.JPEGBaseline8Bit, uid.JPEG2000, uid.JPEGLSLossless, uid.JPEGLosslessSV1])
def test_truncated_pixels_are_rejected(syntax: uid.UID) -> None:
    """OpenJPEG would invent the missing part."""
    coded = code(film(), dicom_dataset(film()), syntax)
    with pytest.raises(UnreadableImageError):
        decode(dicom(film(), syntax, coded=coded[: len(coded) * 2 // 3]))


@pytest.mark.parametrize("syntax", LOSSLESS[:4], ids=lambda value: value.name)
@pytest.mark.parametrize("attributes", [{}, {"NumberOfFrames": 0}, {"Rows": 30}], ids=["frames", "none", "rows"])
def test_pixels_longer_than_one_frame_are_rejected(syntax: uid.UID, attributes: dict[str, Any]) -> None:
    one = film().tobytes()
    data = one if "Rows" in attributes else 2 * one
    needed = len(one) * 30 // 40 if "Rows" in attributes else len(one)
    with pytest.raises(UnreadableImageError, match=f"has {len(data)} bytes, .* need {needed} for one frame") as caught:
        decode(dicom(film(), syntax, PixelData=data, **attributes))
    assert caught.value.status == 400


def test_pixels_may_be_padded_to_a_multiple_of_four_and_no_more() -> None:
    odd = film(39, 41)
    assert decode(dicom(odd, PixelData=odd.tobytes() + b"\0")).height == 39
    assert decode(dicom(odd, PixelData=odd.tobytes() + b"\0\0\0")).height == 39
    with pytest.raises(UnreadableImageError):
        decode(dicom(odd, PixelData=odd.tobytes() + b"\0\0\0\0\0"))
    with pytest.raises(UnreadableImageError):
        decode(dicom(film(), PixelData=film().tobytes() + b"\0\0\0\0"))


def test_pixels_of_ybr_full_422_have_two_samples_each() -> None:
    declared: dict[str, Any] = {"PhotometricInterpretation": "YBR_FULL_422", "PlanarConfiguration": 0}
    color = np.full((40, 48, 3), 128, np.uint8)
    assert decode(dicom(color, PixelData=bytes([128]) * (40 * 48 * 2), **declared)).width == 48
    with pytest.raises(UnreadableImageError):
        decode(dicom(color, PixelData=bytes([128]) * (40 * 48 * 3), **declared))


def test_truncated_jpeg_ls_does_not_hang() -> None:
    """CharLS 2 would read 2**31 bits: five seconds."""
    coded = bytes(dicom(film(top=4095, kind=np.uint16), uid.JPEGLSNearLossless))
    start, end = coded.index(b"\xff\xd8\xff\xf7"), coded.rindex(b"\xff\xd9")
    data = dicom(film(top=4095, kind=np.uint16), uid.JPEGLSNearLossless, coded=coded[start : (start + end) // 2])
    with pytest.raises(UnreadableImageError, match="end marker"):
        decode(data)


def test_an_implicit_data_set_may_have_coded_pixels() -> None:
    """Writers mislabel such files: PS3.5 A.4 demands explicit value representations."""
    content = Path(str(get_testdata_file("SC_rgb_jpeg.dcm"))).read_bytes()
    with pytest.warns(UserWarning, match="found implicit VR"):
        expected = dcmread(BytesIO(content)).pixel_array
    assert np.abs(shown(content) - expected).max() < 2
