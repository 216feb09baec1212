"""Every layout of gray and RGB TIFFs, against tifffile."""

import itertools
import struct
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image as Pillow

from handlers.errors import ContentTooLargeError, RequestError, UnreadableImageError, UnusableImageError
from handlers.formats.decode import decode
from handlers.formats.image import Budget, Limits
from tests.handlers.fuzz_seeds import changed, tiff_counts, tiff_samples, tiff_strips, tiff_tile
from tests.handlers.images import film, picture, saved, tiff

KINDS = {"u1": 255, "u2": 65535, "f2": 1, "f4": 1, "f8": 1}
CODINGS: list[dict[str, Any]] = [
    {},
    {"compression": "packbits"},
    {"compression": "lzw"},
    {"compression": "zlib"},
    {"compression": "lzw", "predictor": 2},
    {"compression": "zlib", "predictor": 2},
    {"compression": "zlib", "predictor": 3},
]
LAYOUTS: list[dict[str, Any]] = [{}, {"rowsperstrip": 7}, {"tile": (16, 32)}]


def shown(data: bytes) -> NDArray[Any]:
    return np.asarray(decode(data).pixels).astype(np.float64)


def samples(kind: str, *, color: bool) -> NDArray[Any]:
    levels = (picture() if color else film()) / 255 * KINDS[kind]
    return (levels if kind[0] == "f" else np.rint(levels)).astype(kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planes", ["gray", "contig", "separate"])
def test_layouts(kind: str, order: str, planes: str) -> None:
    pixels = samples(kind, color=planes != "gray")
    for coding, layout in itertools.product(CODINGS, LAYOUTS):
        if coding.get("predictor", 1) != 1 and (coding["predictor"] == 3) != (kind[0] == "f"):
            continue
        shape = {} if planes == "gray" else {"planarconfig": planes}
        stored = pixels.transpose(2, 0, 1) if planes == "separate" else pixels
        data = tiff(stored.astype(order + kind), byteorder=order, **coding, **layout, **shape)
        read = tifffile.imread(BytesIO(data))
        np.testing.assert_array_equal(read, stored)
        np.testing.assert_allclose(shown(data), pixels.astype(np.float64) * (255 / KINDS[kind]), atol=0.51)


@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_white_is_zero(kind: str, order: str) -> None:
    pixels = samples(kind, color=False)
    data = tiff(pixels.astype(order + kind), byteorder=order, photometric="miniswhite")
    np.testing.assert_allclose(shown(data), 255 - pixels.astype(np.float64) * (255 / KINDS[kind]), atol=0.01)


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 10, 12, 14])
@pytest.mark.parametrize("compression", [None, "zlib", "packbits"])
def test_packed_samples(bits: int, compression: str | None) -> None:
    pixels = film(top=2**bits - 1, kind=np.uint8 if bits <= 8 else np.uint16)
    expected = pixels * (255 / (2**bits - 1))
    np.testing.assert_allclose(shown(packed(pixels, bits, compression)), expected, atol=0.51)
    if compression is None:  # tifffile compresses no packed samples
        data = tiff(pixels if bits > 1 else pixels.astype(bool), bitspersample=bits)
        np.testing.assert_allclose(shown(data), expected, atol=0.51)


def packed(pixels: NDArray[Any], bits: int, compression: str | None) -> bytes:
    """Return a TIFF with rows of packed bits."""
    rows = [np.packbits(np.array([[int(bit) for bit in f"{value:0{bits}b}"] for value in row])) for row in pixels]
    body = np.stack(rows)
    data = bytearray(tiff(body, compression=compression))
    with tifffile.TiffFile(BytesIO(bytes(data))) as file:
        tags = file.pages[0].tags  # type: ignore[union-attr]
        for tag, value in ((256, pixels.shape[1]), (258, bits)):
            at = tags[tag].valueoffset
            data[at : at + 2] = value.to_bytes(2, "little")
    return bytes(data)


@pytest.mark.parametrize("kind", ["u1", "u2"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("color", [False, True], ids=["gray", "rgb"])
@pytest.mark.parametrize("alpha", ["unassalpha", "assocalpha", "unspecified"])
def test_extra_samples(kind: str, planes: str, color: bool, alpha: str) -> None:
    pixels, top = samples(kind, color=color), KINDS[kind]
    opacity = np.full(film().shape, top, kind)
    opacity[:, 24:] = top // 4
    stack = np.concatenate([pixels.reshape(*opacity.shape, -1), opacity[..., None]], axis=-1)
    stored = stack.transpose(2, 0, 1) if planes == "separate" else stack
    photometric = "rgb" if color else "minisblack"
    data = tiff(stored, planarconfig=planes, extrasamples=[alpha], photometric=photometric, compression="zlib")
    weight = opacity / top if alpha == "unassalpha" else np.ones(opacity.shape)
    expected = pixels * (255 / top) * (weight[..., None] if color else weight)
    np.testing.assert_allclose(shown(data), expected, atol=1)


def test_opaque_floats() -> None:
    stored = np.stack([samples("f4", color=False), np.ones(film().shape, np.float32)], axis=-1)
    data = tiff(stored, planarconfig="contig", extrasamples=["unassalpha"])
    np.testing.assert_allclose(shown(data), film(), atol=0.01)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_deep_samples(orientation: int) -> None:
    data = tiff(samples("u2", color=False), extratags=[(274, "H", 1, orientation, True)])
    exif = Pillow.Exif()
    exif[274] = orientation
    image = decode(data)
    expected = decode(saved(film(), "PNG", exif=exif))
    assert image.pixels.size == expected.pixels.size == (image.width, image.height)
    np.testing.assert_allclose(np.asarray(image.pixels), np.asarray(expected.pixels), atol=0.01)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_big_tiff(big: bool, order: str) -> None:
    data = tiff(samples("u2", color=False), bigtiff=big, byteorder=order)
    np.testing.assert_allclose(shown(data), film(), atol=0.01)


@pytest.mark.parametrize(
    ("tag", "value", "message"),
    [
        (258, 24, "24-bit integer"),
        (339, 6, "complex"),
        (277, 2, "2 samples per pixel, 0 of them declared as extra"),
        (284, 3, "planar configuration 3"),
        (262, 8, "photometric interpretation 8"),
        (262, 6, "photometric interpretation 6"),
        (257, 80, r"must have \d+ strips|too short"),
        (278, 1, "must have 40 strips"),
    ],
)
def test_unsupported_tags_are_rejected(tag: int, value: int, message: str) -> None:
    plain = tiff(samples("f4" if tag == 339 else "u2", color=tag == 284))
    with pytest.raises(RequestError, match=message) as caught:
        decode(changed(plain, tag, value))
    assert caught.value.status in {400, 422}


@pytest.mark.parametrize(
    ("pixels", "options", "message"),
    [
        (film().astype(np.int16), {}, "signed"),
        (film().astype(np.uint32), {}, "32-bit"),
        (np.stack([samples("f4", color=False)] * 2, -1), {"extrasamples": ["unassalpha"]}, "Transparent"),
        (np.stack([samples("u2", color=False)] * 2, 0), {"photometric": "minisblack"}, "several frames"),
    ],
    ids=["int16", "uint32", "float alpha", "frames"],
)
def test_unsupported_samples_are_rejected(pixels: NDArray[Any], options: dict[str, Any], message: str) -> None:
    if "extrasamples" in options:
        options = options | {"planarconfig": "contig"}
    with pytest.raises(UnusableImageError, match=message):
        decode(tiff(pixels, **options))


def test_duplicate_tags_are_rejected() -> None:
    data = tiff(film())
    with tifffile.TiffFile(BytesIO(data)) as file:
        at = file.pages[0].tags[257].offset  # type: ignore[union-attr]
    with pytest.raises(UnreadableImageError, match="tag 256 twice"):
        decode(data[:at] + b"\x00\x01" + data[at + 2 :])


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits"])
def test_missing_samples_are_rejected(compression: str | None) -> None:
    """A strip without bytes would be black."""
    data = tiff(film(), compression=compression, rowsperstrip=10)
    with tifffile.TiffFile(BytesIO(data)) as file:
        counts = file.pages[0].tags[279]  # type: ignore[union-attr]
    empty = data[: counts.valueoffset] + b"\0\0" + data[counts.valueoffset + 2 :]
    with pytest.raises(UnreadableImageError):
        decode(empty)


def test_a_wrong_checksum_is_rejected() -> None:
    data = bytearray(tiff(film(), compression="zlib"))
    with tifffile.TiffFile(BytesIO(bytes(data))) as file:
        page = file.pages[0]
        end = page.dataoffsets[0] + page.databytecounts[0]
    data[end - 1] ^= 1
    with pytest.raises(UnreadableImageError, match="damaged"):
        decode(bytes(data))


def test_decoded_bytes_are_limited() -> None:
    data = tiff(samples("f8", color=True))
    with pytest.raises(UnusableImageError, match="decodes to 46080 bytes; the limit is 16000"):
        decode(data, Limits(pixels=2000))


def test_palette() -> None:
    colormap = np.tile(np.arange(256, dtype="u2") * 257, (3, 1))
    np.testing.assert_array_equal(shown(tiff(film(), photometric="palette", colormap=colormap)), film())


def test_samples_of_a_padded_tile_are_limited() -> None:
    with pytest.raises(UnusableImageError, match="decodes to 31457280 bytes; the limit is 31200000"):
        decode(tiff_samples(256, 60), Limits(pixels=3_900_000))


def test_padding_is_subtracted_from_the_budget() -> None:
    budget = Budget(pixels=10_000_000)
    assert decode(tiff_samples(256, 60), Limits(budget=budget)).pixels.size == (1, 1)
    assert budget.pixels == 10_000_000 - 256 * 256 * 60
    decode(tiff_samples(256, 60), Limits(budget=budget))
    with pytest.raises(ContentTooLargeError, match="too many pixels together"):
        decode(tiff_samples(256, 60), Limits(budget=budget))


def test_overlapping_strips_are_rejected() -> None:
    with pytest.raises(UnreadableImageError, match="have 4294967295000 bytes, the file has"):
        decode(tiff_counts(1000, 1000))


@pytest.mark.parametrize(("count", "message"), [(11, "must have 1 strips"), (200_000, "Tag 273 .* 200000 values")])
def test_superfluous_strips_are_rejected(count: int, message: str) -> None:
    with pytest.raises(UnreadableImageError, match=message):
        decode(tiff_strips(count))


@pytest.mark.parametrize(("tag", "kind", "count"), [(317, 8, 1), (339, 6, 1), (339, 3, 65), (258, 3, 65)])
def test_unusual_types_of_tags_are_rejected(tag: int, kind: int, count: int) -> None:
    """Without the tag, its default would apply."""
    data = tiff(samples("f4", color=False), compression="zlib", predictor=3)
    with tifffile.TiffFile(BytesIO(data)) as file:
        at = file.pages[0].tags[tag].offset  # type: ignore[union-attr]
    with pytest.raises(UnreadableImageError, match=f"Tag {tag} .* has {count} values of type {kind};"):
        decode(data[: at + 2] + struct.pack("<HI", kind, count) + data[at + 8 :])


@pytest.mark.parametrize("compression", [None, "zlib", "packbits", "lzw"])
@pytest.mark.parametrize("bits", [1, 8])
def test_the_last_strip_may_be_as_high_as_the_others(compression: str | None, bits: int) -> None:
    pixels = film() > 100 if bits == 1 else film()
    data = tiff(pixels, compression=compression, rowsperstrip=16)
    padded = tiff(np.pad(pixels, ((0, 8), (0, 0))), compression=compression, rowsperstrip=16)
    np.testing.assert_array_equal(shown(changed(padded, 257, 40)), shown(data))


@pytest.mark.parametrize("top", [1.0, 255.0])
def test_floats_up_to_1_or_to_255(top: float) -> None:
    values = film().astype(np.float32) / 255
    np.testing.assert_allclose(shown(tiff(values * np.float32(top))), film(), atol=1e-3)


def test_tile_that_is_larger_than_its_tiff_is_not_allocated() -> None:
    with pytest.raises(UnreadableImageError, match="tiles of 16777216 pixels"):
        decode(tiff_tile(100, 4096))
    assert decode(tiff_tile(100, 1024)).pixels.size == (100, 100)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (film().astype(np.int16), "signed"),
        (film().astype(np.int32), "signed"),
        (film().astype(np.uint32), "32-bit"),
        (np.full((40, 48), np.nan, np.float32), "not finite"),
        (film().astype(np.float32) - 1000, "scale them to"),
    ],
    ids=["int16", "int32", "uint32", "nan", "negative"],
)
def test_unusable_samples_are_rejected(values: np.ndarray, message: str) -> None:
    with pytest.raises(UnusableImageError, match=message):
        decode(tiff(values))
