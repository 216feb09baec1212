"""Depth and sign of samples in every codec, and tables and padding with a wrong sign, against dcmtk."""

import functools
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow
from pydicom import uid
from pydicom.dataset import Dataset

from handlers.errors import UnreadableImageError, UnusableImageError
from handlers.formats.decode import decode
from tests.handlers.images import dicom, film, jpeg2000, jpeg_12, jpeg_lossless, picture

Pixels = NDArray[Any]

ENCODERS = {
    "jpeg-ls": ("dcmcjpls", "+el"),
    "jpeg-lossless": ("dcmcjpeg", "+el"),
    "jpeg-lossless-sv1": ("dcmcjpeg", "+e1"),
    "rle": ("dcmcrle",),
}
"""Commands of dcmtk: they take the precision from BitsStored."""
DEPTHS = (8, 10, 12, 13, 15, 16)


def shown(data: bytes) -> Pixels:
    return np.asarray(decode(data).pixels).astype(np.float64)


def values(bits: int, *, signed: bool) -> Pixels:
    levels = film(top=2**bits - 1, kind=np.int64) - (2 ** (bits - 1) if signed else 0)
    return levels.astype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")


def attributes(bits: int, *, signed: bool) -> dict[str, Any]:
    center = 0 if signed else 2 ** (bits - 1)
    return {
        "BitsStored": bits,
        "HighBit": bits - 1,
        "WindowCenter": center,
        "WindowWidth": 2**bits,
        "PixelRepresentation": int(signed),
    }


def dcmtk(folder: Path, data: bytes, *command: str) -> bytes:
    """Convert a DICOM file with a command of dcmtk."""
    before, after = folder / "before", folder / "after"
    before.write_bytes(data)
    subprocess.run([*command, str(before), str(after)], check=True, capture_output=True, timeout=60)
    return after.read_bytes()


@functools.cache
def rendered(folder: Path, data: bytes) -> Pixels:
    """Render a DICOM file with its first window or table, as dcmtk does."""
    table = b"\x28\x00\x10\x30" in data
    dcmtk(folder, data, "dcmj2pnm", "+Wl" if table else "+Wi", "1")
    return np.asarray(Pillow.open(folder / "after")).astype(np.float64)


@pytest.mark.parametrize("codec", ENCODERS)
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
def test_codecs_of_dcmtk(tmp_path: Path, codec: str, signed: bool) -> None:
    for bits in DEPTHS:
        plain = dicom(values(bits, signed=signed), **attributes(bits, signed=signed))
        expected = rendered(tmp_path, plain)
        assert np.ptp(expected) > 250
        np.testing.assert_allclose(shown(plain), expected, atol=1.01)
        np.testing.assert_allclose(shown(dcmtk(tmp_path, plain, *ENCODERS[codec])), expected, atol=1.01)


def jpeg_ls(pixels: Pixels, _precision: int) -> bytes:
    return bytes(imagecodecs.jpegls_encode(pixels))


CODES: dict[str, tuple[uid.UID, Callable[[Pixels, int], bytes]]] = {
    "jpeg-ls": (uid.JPEGLSLossless, jpeg_ls),
    "jpeg-2000": (uid.JPEG2000Lossless, jpeg2000),
    "jpeg-lossless": (uid.JPEGLosslessSV1, jpeg_lossless),
}


@pytest.mark.parametrize("codec", CODES)
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("overlay", [False, True], ids=["clean", "overlay"])
def test_codestreams_as_deep_as_their_container(codec: str, signed: bool, overlay: bool) -> None:
    """Bits above BitsStored may be anything; a codestream without sign has the bits of two's complement."""
    syntax, encode = CODES[codec]
    for bits in DEPTHS:
        stored = values(bits, signed=signed)
        raw = stored.view(f"u{stored.itemsize}").copy()
        if overlay and bits % 8:
            raw = (raw & raw.dtype.type(2**bits - 1)) | (np.indices(raw.shape).sum(0) % 3 == 0) * raw.dtype.type(
                2**bits
            )
        settings = attributes(bits, signed=signed)
        coded = encode(raw.astype(raw.dtype), 8 * raw.itemsize)
        actual = shown(dicom(stored, syntax, coded=coded, **settings))
        np.testing.assert_allclose(actual, shown(dicom(stored, **settings)), atol=1e-3)


@pytest.mark.parametrize("bits", [9, 12, 16])
@pytest.mark.parametrize("kind", ["i", "u"])
def test_signed_jpeg_2000(bits: int, kind: str) -> None:
    """The codestream has a sign of its own; some encoders omit it."""
    stored = values(bits, signed=True)
    raw = stored if kind == "i" else (stored.view("u2") & np.uint16(2**bits - 1))
    data = dicom(stored, uid.JPEG2000Lossless, coded=jpeg2000(raw, bits), **attributes(bits, signed=True))
    np.testing.assert_allclose(shown(data), shown(dicom(stored, **attributes(bits, signed=True))), atol=1e-3)


def test_negative_values_of_an_unsigned_object_are_rejected() -> None:
    coded = jpeg2000(values(12, signed=True), 12)
    data = dicom(values(12, signed=False), uid.JPEG2000Lossless, coded=coded, **attributes(12, signed=False))
    with pytest.raises(UnreadableImageError, match="PixelRepresentation is 0"):
        decode(data)


def test_precision_below_bits_stored_keeps_the_sign() -> None:
    stored = values(12, signed=True)
    settings = attributes(12, signed=True) | {"BitsStored": 16, "HighBit": 15}
    data = dicom(stored, uid.JPEG2000Lossless, coded=jpeg2000(stored, 12), **settings)
    np.testing.assert_allclose(shown(data), shown(dicom(stored, **settings)), atol=1e-3)


@pytest.mark.parametrize("codec", ["jpeg-2000", "jpeg-lossless"])
def test_precision_below_bits_stored_without_sign_is_ambiguous(codec: str) -> None:
    """3000 of 12 bits may be itself or -1096."""
    syntax, encode = CODES[codec]
    stored, settings = values(12, signed=False), attributes(16, signed=True)
    with pytest.raises(UnusableImageError, match="12 bits without sign"):
        decode(dicom(stored, syntax, coded=encode(stored, 12), **settings))
    data = dicom(stored // 2, syntax, coded=encode(stored // 2, 12), **settings)
    np.testing.assert_allclose(shown(data), shown(dicom(stored // 2, **settings)), atol=1e-3)


@pytest.mark.parametrize("codec", ["jpeg-2000", "jpeg-ls"])
def test_lossy_code_in_a_lossless_syntax_is_clipped(codec: str) -> None:
    """An overshoot of 4096 is white, not black."""
    stored, settings = values(12, signed=False), attributes(12, signed=False)
    stored[10:] = 4096
    code = (
        imagecodecs.jpegls_encode(stored, level=1)
        if codec == "jpeg-ls"
        else imagecodecs.jpeg2k_encode(stored, level=90, codecformat="j2k", bitspersample=16, reversible=False)
    )
    actual = shown(dicom(stored, CODES[codec][0], coded=bytes(code), **settings))
    np.testing.assert_allclose(actual[12:], 255, atol=2)


def test_lossy_values_beyond_bits_stored() -> None:
    """Noise is clipped; an overlay looks the same."""
    stored = values(12, signed=False)
    settings = attributes(12, signed=False)
    noisy = stored + np.uint16(100)
    actual = shown(dicom(stored, uid.JPEG2000, coded=jpeg2000(noisy, 16), **settings))
    np.testing.assert_allclose(actual, shown(dicom(np.minimum(noisy, 4095), **settings)), atol=1e-3)
    coded = jpeg2000(stored | np.uint16(0x1000), 16)
    with pytest.raises(UnusableImageError, match="BitsStored is 12, but the lossily coded pixels range from 4096"):
        decode(dicom(stored, uid.JPEG2000, coded=coded, **settings))


def test_jpeg_of_12_bits(tmp_path: Path) -> None:
    data = dcmtk(
        tmp_path, dicom(values(12, signed=False), **attributes(12, signed=False)), "dcmcjpeg", "+ee", "+q", "95"
    )
    assert uid.JPEGExtended12Bit.encode() in data
    np.testing.assert_allclose(shown(data), rendered(tmp_path, data), atol=1.5)


@pytest.mark.parametrize("syntax", [uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit], ids=lambda syntax: syntax.name)
def test_signed_lossy_jpeg_is_rejected(syntax: uid.UID) -> None:
    with pytest.raises(UnusableImageError, match="lossy JPEG is unsigned"):
        decode(dicom(film(), syntax, PixelRepresentation=1))


@pytest.mark.parametrize("meaning", ["RGB", "YBR_FULL"])
def test_colour_of_jpeg_lossless(tmp_path: Path, meaning: str) -> None:
    components = np.asarray(Pillow.fromarray(picture()).convert("YCbCr")) if meaning == "YBR_FULL" else picture()
    data = dicom(components, PhotometricInterpretation=meaning)
    coded = dcmtk(tmp_path, data, "dcmcjpeg", "+e1")
    assert np.abs(shown(coded) - picture()).max() <= (3 if meaning == "YBR_FULL" else 0)


def table(entries: Pixels, bits: int, first: int = 0, vr: str = "US") -> list[Dataset]:
    item = Dataset()
    item.add_new(0x00283002, vr, [len(entries), first, bits])
    item.add_new(0x00283006, "OW", np.asarray(entries, "<u2").tobytes())
    return [item]


CURVE = (np.arange(4096) / 4095) ** 0.7


@pytest.mark.parametrize(
    ("declared", "actual"), [(16, 16), (16, 14), (16, 12), (16, 10), (16, 8), (12, 12), (12, 16), (10, 12), (8, 12)]
)
def test_tables_with_a_wrong_depth(declared: int, actual: int) -> None:
    stored = values(12, signed=False)
    entries = np.rint(CURVE * (2**actual - 1))
    data = dicom(stored, **attributes(12, signed=False), VOILUTSequence=table(entries, declared))
    np.testing.assert_allclose(shown(data), 255 * CURVE[stored], atol=0.51)


@pytest.mark.parametrize(("declared", "depth"), [(12, 12), (16, 12), (8, 8), (10, 10)])
def test_tables_whose_greatest_entry_is_off_by_one(declared: int, depth: int) -> None:
    stored = values(12, signed=False)
    entries = np.rint(CURVE * 2**depth)
    data = dicom(stored, **attributes(12, signed=False), VOILUTSequence=table(entries, declared))
    np.testing.assert_allclose(shown(data), 255 * CURVE[stored], atol=1.51)


@pytest.mark.parametrize(("declared", "top"), [(16, 65535), (16, 40000), (16, 20000), (12, 2000), (12, 1000)])
def test_dark_tables_are_valid(tmp_path: Path, declared: int, top: int) -> None:
    data = dicom(
        values(12, signed=False), **attributes(12, signed=False), VOILUTSequence=table(np.rint(CURVE * top), declared)
    )
    np.testing.assert_allclose(shown(data), rendered(tmp_path, data), atol=1.01)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian], ids=lambda x: x.name)
@pytest.mark.parametrize(("vr", "first"), [("SS", -1024), ("US", 64512)])
@pytest.mark.parametrize("keyword", ["VOILUTSequence", "ModalityLUTSequence"])
def test_the_first_value_of_a_table_has_the_sign_of_its_inputs(
    syntax: uid.UID, vr: str, first: int, keyword: str
) -> None:
    stored = values(12, signed=False) if keyword == "VOILUTSequence" else film(top=4095, kind=np.int16) - np.int16(1024)
    settings = attributes(16, signed=stored.dtype.kind == "i") | {keyword: table(np.rint(CURVE * 65535), 16, first, vr)}
    if keyword == "VOILUTSequence":
        settings |= {"RescaleIntercept": -1024, "RescaleSlope": 1}
    else:
        settings |= {"WindowCenter": 32768, "WindowWidth": 65536}
    np.testing.assert_allclose(
        shown(dicom(stored, syntax, **settings)), 255 * CURVE[film(top=4095, kind=int)], atol=0.51
    )


def test_an_unsigned_first_value_that_was_written_as_signed() -> None:
    stored = film(top=4095, kind=np.uint16) + np.uint16(40000)
    settings = attributes(16, signed=False) | {"VOILUTSequence": table(np.rint(CURVE * 65535), 16, 40000 - 65536, "SS")}
    np.testing.assert_allclose(shown(dicom(stored, **settings)), 255 * CURVE[film(top=4095, kind=int)], atol=0.51)


def test_dark_palette_beside_bright_ones() -> None:
    """The depth of three tables is that of the brightest."""
    palette: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, top in {"Red": 65535, "Green": 65535, "Blue": 4095}.items():
        palette[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        palette[f"{name}PaletteColorLookupTableData"] = np.linspace(0, top, 256).astype("<u2").tobytes()
    colors = shown(dicom(film(), **palette))
    np.testing.assert_array_equal(colors.max((0, 1)), [255, 255, 16])


@pytest.mark.parametrize(
    ("bits", "signed", "stored", "written"),
    [
        (16, True, -2000, (-2000, "SS")),
        (16, True, -2000, (63536, "US")),
        (12, True, -2000, (63536, "US")),
        (12, True, -2000, (2096, "US")),
        (16, False, 63536, (-2000, "SS")),
        (12, False, 0, (0, "US")),
    ],
)
def test_padding_with_another_sign(bits: int, signed: bool, stored: int, written: tuple[int, str]) -> None:
    samples = (values(bits, signed=signed) // 4).astype(f"{'i' if signed else 'u'}2")
    samples[:10] = stored
    actual = shown(dicom(samples, **attributes(bits, signed=signed)))
    dataset = dicom(samples, **attributes(bits, signed=signed))
    element = b"\x28\x00\x20\x01" + written[1].encode() + b"\x02\x00" + (written[0] % 65536).to_bytes(2, "little")
    at = dataset.index(b"\x28\x00\x50\x10")
    padded = shown(dataset[:at] + element + dataset[at:])
    assert (padded[:10] == 0).all()
    np.testing.assert_allclose(padded[10:], actual[10:], atol=1e-3)


@pytest.mark.parametrize("vr", ["US", "SS"])
def test_padding_that_no_sample_can_have_is_ignored(vr: str) -> None:
    """-2000 of 12 unsigned bits would be the gray level 2096."""
    samples = values(12, signed=False)
    samples[:10] = 2096
    data = dicom(samples, **attributes(12, signed=False))
    element = b"\x28\x00\x20\x01" + vr.encode() + struct.pack("<Hh", 2, -2000)
    at = data.index(b"\x28\x00\x50\x10")
    np.testing.assert_allclose(shown(data[:at] + element + data[at:]), shown(data), atol=1e-3)


@pytest.mark.parametrize("syntax", [uid.JPEGLosslessSV1, uid.JPEGExtended12Bit], ids=lambda syntax: syntax.name)
def test_a_jpeg_that_declares_more_than_its_bytes_can_hold_is_rejected(syntax: uid.UID) -> None:
    """Libjpeg would fill the rest with gray."""
    stored = values(12, signed=False)
    coded = bytearray(jpeg_lossless(stored, 12) if syntax == uid.JPEGLosslessSV1 else jpeg_12(stored))
    start = coded.index(b"\xff\xc3" if syntax == uid.JPEGLosslessSV1 else b"\xff\xc1") + 5
    coded[start : start + 4] = struct.pack(">HH", 4000, 4000)
    settings = attributes(12, signed=False) | {"Rows": 4000, "Columns": 4000}
    with pytest.raises(UnreadableImageError, match="declares more pixels than"):
        decode(dicom(stored, syntax, coded=bytes(coded), **settings))


@pytest.mark.parametrize(
    ("pixels", "settings", "message"),
    [
        (picture().astype(np.int8), {}, "colours must be unsigned"),
        (picture().astype(np.uint16), {"PhotometricInterpretation": "YBR_FULL"}, "BitsAllocated 16"),
    ],
    ids=["signed", "ybr"],
)
def test_unsupported_colours_are_rejected(pixels: Pixels, settings: dict[str, Any], message: str) -> None:
    for syntax in (uid.ExplicitVRLittleEndian, uid.JPEGLSLossless):
        with pytest.raises(UnusableImageError, match=message):
            decode(dicom(pixels, syntax, **settings))
