import struct
import tracemalloc
import warnings
import zlib
from io import BytesIO
from typing import Literal

import imagecodecs
import numpy as np
import pytest
from PIL import ExifTags, ImageOps
from PIL import Image as Pillow

from handlers.errors import UnreadableImageError, UnsupportedMediaTypeError, UnusableImageError
from handlers.formats.decode import decode
from handlers.formats.image import Limits
from tests.handlers import fuzz_seeds
from tests.handlers.images import film, jpeg_lossless, picture, saved


def levels(data: bytes) -> np.ndarray:
    return np.asarray(decode(data).pixels).astype(np.float64)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "BMP"])
def test_gray_stays_gray(form: str) -> None:
    image = decode(saved(film(), form))
    assert image.pixels.mode == "L"
    assert (image.format, image.width, image.height) == (form.lower(), 48, 40)
    assert np.abs(np.asarray(image.pixels).astype(int) - film()).max() <= (40 if form == "JPEG" else 0)


@pytest.mark.parametrize(("form", "options"), [("JPEG", {}), ("PNG", {}), ("TIFF", {}), ("BMP", {}), ("WEBP", {})])
def test_color_stays_color(form: str, options: dict[str, object]) -> None:
    assert decode(saved(picture(), form, **options)).pixels.mode == "RGB"


def test_gray_film_saved_as_rgb_jpeg_stays_rgb() -> None:
    """The suitability check needs the channels to recognise colour pictures."""
    assert decode(saved(Pillow.fromarray(film()).convert("RGB"), "JPEG")).pixels.mode == "RGB"


def test_progressive_equals_baseline() -> None:
    baseline, progressive = (levels(saved(film(), "JPEG", quality=90, progressive=flag)) for flag in (False, True))
    np.testing.assert_array_equal(baseline, progressive)


@pytest.mark.parametrize("bits", [12, 16])
def test_deep_jpeg_is_named(bits: int) -> None:
    coded = imagecodecs.jpeg8_encode(film(top=4095, kind=np.uint16), lossless=bits == 16, bitspersample=bits)
    with pytest.raises(UnsupportedMediaTypeError, match=f"JPEG of {bits} bits"):
        decode(bytes(coded))


def test_lossless_jpeg() -> None:
    np.testing.assert_array_equal(levels(jpeg_lossless(film())), film())


def cmyk_jpeg(*, adobe: bool) -> bytes:
    """Return a CMYK JPEG of a film: inverted with Adobe's marker, as Adobe writes it, or neither."""
    image = Pillow.merge(
        "CMYK", [Pillow.fromarray(np.zeros((40, 48), np.uint8))] * 3 + [Pillow.fromarray(255 - film())]
    )
    if adobe:
        return saved(image, "JPEG", quality=100)
    upright = Pillow.merge("CMYK", [band.point(lambda ink: 255 - ink) for band in image.split()])
    data = saved(upright, "JPEG", quality=100)
    start = data.index(b"\xff\xee")
    (length,) = struct.unpack_from(">H", data, start + 2)
    return data[:start] + data[start + 2 + length :]


@pytest.mark.parametrize("adobe", [True, False])
def test_cmyk_is_not_inverted(adobe: bool) -> None:
    data = cmyk_jpeg(adobe=adobe)
    assert (b"Adobe" in data) is adobe
    image = decode(data)
    assert image.pixels.mode == "L"
    assert np.corrcoef(np.asarray(image.pixels).ravel(), film().ravel())[0, 1] > 0.99


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation(form: str, orientation: int) -> None:
    exif = Pillow.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = saved(film(), form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
    expected = ImageOps.exif_transpose(Pillow.open(BytesIO(data)))
    expected.load()
    image = decode(data)
    assert image.pixels.size == expected.size == (image.width, image.height)
    assert image.pixels.size == ((40, 48) if orientation > 4 else (48, 40))
    np.testing.assert_array_equal(np.asarray(image.pixels), np.asarray(expected))


@pytest.mark.parametrize("orientation", [1, 6])
def test_jpeg_scales_down_while_decoding_but_not_below(orientation: int) -> None:
    exif = Pillow.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = saved(film(400, 480), "JPEG", exif=exif)
    upright = (480, 400) if orientation == 1 else (400, 480)
    smaller = (120, 100) if orientation == 1 else (100, 120)
    image = decode(data, at_least=smaller)
    assert (image.width, image.height) == upright
    assert image.pixels.size == smaller
    assert decode(data, at_least=(smaller[0] + 1, 1)).pixels.size == (upright[0] // 2, upright[1] // 2)


@pytest.mark.parametrize(("bits", "scale"), [(1, 255), (2, 85), (4, 17)], ids=["1 bit", "2 bits", "4 bits"])
def test_png_of_few_bits(bits: int, scale: int) -> None:
    values = film(top=2**bits - 1)
    stream = BytesIO()
    if bits == 1:
        Pillow.fromarray(values * 255).convert("1", dither=Pillow.Dither.NONE).save(stream, "PNG")
    else:
        gray = Pillow.fromarray(values, mode=None)
        gray.putpalette([channel for level in range(2**bits) for channel in [level * scale] * 3])
        gray.save(stream, "PNG", bits=bits)
    image = decode(stream.getvalue())
    assert image.pixels.mode == "L"
    np.testing.assert_array_equal(np.asarray(image.pixels), values * scale)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bits_become_floats_scaled_by_full_scale(form: str) -> None:
    values = film(top=65535, kind=np.uint16)
    image = decode(saved(values, form))
    assert image.pixels.mode == "F"
    np.testing.assert_allclose(np.asarray(image.pixels), values / 257, atol=1e-4)


def png(values: np.ndarray, bits: int, color: int, **chunks: bytes) -> bytes:
    """Return a PNG of samples (height, width, channels), with further chunks before the image."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width, _ = values.shape
    if bits < 8:
        rows = np.packbits((values[..., :1] >> np.arange(bits)[::-1] & 1).reshape(height, -1).astype(np.uint8), axis=1)
    else:
        rows = values.astype(f">u{bits // 8}").reshape(height, -1)
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0))
    extra = b"".join(chunk(kind.encode(), content) for kind, content in chunks.items())
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")


FORMS = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (4, 8), (4, 16), (6, 8), (6, 16)]


@pytest.mark.parametrize(("color", "bits"), FORMS)
@pytest.mark.parametrize("transparent", [False, True])
def test_png_forms(color: int, bits: int, transparent: bool) -> None:
    """Every colour type and depth; a transparent level or colour (tRNS) is black, and so is transparency."""
    top, count = 2**bits - 1, 3 if color in {2, 6} else 1
    gray = np.maximum(film(top=top, kind=np.uint16), 1)[..., None]
    values = np.concatenate([gray, gray[::-1], gray[:, ::-1]][:count], axis=-1)
    chunks, expected = {}, values * (255 / top)
    if color in {4, 6}:
        alpha = np.full_like(gray, top)
        alpha[:, 24:] = 0 if transparent else top
        expected = expected * (alpha > 0)
        values = np.concatenate([values, alpha], axis=-1)
    elif transparent:
        key = values[0, 0]
        chunks["tRNS"] = key.astype(">u2").tobytes()
        expected = expected * (values != key).any(axis=-1, keepdims=True)
    data = png(values, bits, color, **chunks)
    if (color, bits, transparent) == (2, 16, True):
        with pytest.raises(UnusableImageError, match="tRNS"):
            decode(data)
        return
    np.testing.assert_allclose(levels(data).reshape(expected.shape), expected, atol=1)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("transparent", [False, True])
def test_png_palettes(bits: int, transparent: bool) -> None:
    index = film(top=2**bits - 1)
    palette = np.random.default_rng(2).integers(1, 256, (2**bits, 3)).astype(np.uint8)
    chunks = {"PLTE": palette.tobytes()} | ({"tRNS": b"\xff" * (2**bits - 1) + b"\0"} if transparent else {})
    expected = palette[index] * ((index < 2**bits - 1) | (not transparent))[..., None]
    np.testing.assert_array_equal(levels(png(index[..., None], bits, 3, **chunks)), expected)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_is_black(mode: str) -> None:
    whole = Pillow.fromarray(film()).convert(mode)
    whole.putalpha(Pillow.fromarray(np.where(np.arange(48) < 24, 255, 0)[None].repeat(40, 0).astype(np.uint8)))
    image = decode(saved(whole, "PNG"))
    assert image.pixels.mode == "L"
    np.testing.assert_array_equal(np.asarray(image.pixels), film() * (np.arange(48) < 24))


def test_transparent_gray_level_is_black() -> None:
    values = np.maximum(film(), 1)
    values[:8] = 200
    values[8:][values[8:] == 200] = 201
    image = decode(saved(values, "PNG", transparency=200))
    np.testing.assert_array_equal(np.asarray(image.pixels), np.where(values == 200, 0, values))


def test_palette_of_colors_and_of_grays() -> None:
    assert decode(saved(Pillow.fromarray(picture()).quantize(16), "PNG")).pixels.mode == "RGB"
    image = decode(saved(Pillow.fromarray(film()).convert("P"), "PNG"))
    assert image.pixels.mode == "L"
    np.testing.assert_array_equal(np.asarray(image.pixels), film())


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_tiff_compressions(compression: str | None) -> None:
    np.testing.assert_array_equal(levels(saved(film(), "TIFF", compression=compression)), film())


@pytest.mark.parametrize("top", [1.0, 255.0])
def test_tiff_floats(top: float) -> None:
    values = film().astype(np.float32) / 255
    np.testing.assert_allclose(levels(saved(values * np.float32(top), "TIFF")), film(), atol=1e-3)


def tiff(
    values: np.ndarray,
    photometric: int,
    order: Literal["<", ">"] = "<",
    tile: int | None = None,
    bits: int | None = None,
) -> bytes:
    """Return a TIFF with the given photometric interpretation, byte order and tiling."""
    height, width = values.shape
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    if tile:
        padded = np.zeros((-(-height // tile) * tile, -(-width // tile) * tile), values.dtype)
        padded[:height, :width] = values
        blocks = [
            padded[top : top + tile, left : left + tile]
            for top in range(0, height, tile)
            for left in range(0, width, tile)
        ]
    else:
        blocks = [values]
    body = [block.astype(values.dtype.newbyteorder(order)).tobytes() for block in blocks]
    where = [8 + sum(map(len, body[:index])) for index in range(len(body))]
    tags = [(256, 4, [width]), (257, 4, [height]), (258, 3, [bits or 8 * values.dtype.itemsize]), (259, 3, [1])]
    tags += [(262, 3, [photometric]), (277, 3, [1])]
    if tile:
        tags += [(322, 4, [tile]), (323, 4, [tile]), (324, 4, where), (325, 4, [len(part) for part in body])]
    else:
        tags += [(273, 4, where), (278, 4, [height]), (279, 4, [len(body[0])])]
    tags += [(339, 3, [kind])]
    start = 8 + sum(map(len, body))
    extra_at, extra, entries = start + 2 + 12 * len(tags) + 4, b"", b""
    for tag, size, numbers in sorted(tags):
        packed = struct.pack(f"{order}{len(numbers)}{'H' if size == 3 else 'I'}", *numbers)
        entries += struct.pack(f"{order}HHI", tag, size, len(numbers))
        if len(packed) <= 4:
            entries += packed.ljust(4, b"\0")
        else:
            entries += struct.pack(f"{order}I", extra_at + len(extra))
            extra += packed
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, start)
    return head + b"".join(body) + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + extra


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("tile", [None, 16])
@pytest.mark.parametrize(("top", "kind"), [(255, np.uint8), (65535, np.uint16), (1.0, np.float32)])
@pytest.mark.parametrize("photometric", [0, 1], ids=["WhiteIsZero", "BlackIsZero"])
def test_tiff_layouts(order: Literal["<", ">"], tile: int | None, top: float, kind: type, photometric: int) -> None:
    base = film().astype(np.float64) / 255
    values = np.rint(base * top) if kind is not np.float32 else base
    data = tiff(values.astype(kind), photometric, order, tile)
    actual = levels(data)
    expected = 255 * base if photometric == 1 else 255 * (1 - base)
    np.testing.assert_allclose(actual, expected, atol=0.51 if kind is np.uint8 else 0.01)


def test_tile_that_is_larger_than_its_tiff_is_not_allocated() -> None:
    with pytest.raises(UnreadableImageError, match="tiles of 16777216 pixels"):
        decode(fuzz_seeds.tiff_tile(100, 4096))
    assert decode(fuzz_seeds.tiff_tile(100, 1024)).pixels.size == (100, 100)


def test_tiff_of_12_bits_in_16_is_full_scale() -> None:
    values = film(top=4095, kind=np.uint16)
    pairs = values.reshape(-1, 2).astype(np.uint32)
    packed = (pairs[:, 0] << 12) | pairs[:, 1]
    body = np.stack([packed >> 16, packed >> 8, packed], axis=-1).astype(np.uint8).reshape(40, 72)
    data = bytearray(tiff(body, 1, bits=12))
    at = data.index(struct.pack("<HHII", 256, 4, 1, 72))
    data[at : at + 12] = struct.pack("<HHII", 256, 4, 1, 48)
    np.testing.assert_allclose(levels(bytes(data)), values / 4095 * 255, atol=0.01)


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
def test_unusable_tiffs_are_rejected(values: np.ndarray, message: str) -> None:
    with pytest.raises(UnusableImageError, match=message):
        decode(tiff(values, 1))


@pytest.mark.parametrize("form", ["TIFF", "PNG", "WEBP"])
def test_several_frames_are_rejected(form: str) -> None:
    frames = [Pillow.fromarray(film()), Pillow.fromarray(film()[::-1].copy())]
    data = saved(frames[0], form, save_all=True, append_images=frames[1:])
    with pytest.raises(UnusableImageError, match=f"{form} file has several frames"):
        decode(data)


def test_of_a_multi_picture_jpeg_the_first_is_read() -> None:
    frames = [Pillow.fromarray(film()), Pillow.fromarray(film(20, 24))]
    image = decode(saved(frames[0], "MPO", save_all=True, append_images=frames[1:]))
    assert image.pixels.size == (48, 40)


def test_run_length_bmp_is_rejected() -> None:
    data = bytearray(saved(film(), "BMP"))
    data[30] = 1
    with pytest.raises(UnsupportedMediaTypeError, match="Run-length"):
        decode(bytes(data))


def announced(form: str, width: int, height: int) -> bytes:
    """Return a small file that declares a size."""
    data = bytearray(saved(film(), form, **({"lossless": True} if form == "WEBP" else {})))
    match form:
        case "PNG":
            data[16:24] = struct.pack(">II", width, height)
            data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        case "BMP":
            data[18:26] = struct.pack("<II", width, height)
        case "JPEG":
            start = data.index(b"\xff\xc0") + 5
            data[start : start + 4] = struct.pack(">HH", height, width)
        case "TIFF":
            for tag, number in ((256, width), (257, height)):
                start = data.index(struct.pack("<HHI", tag, 4, 1)) + 8
                data[start : start + 4] = struct.pack("<I", number)
        case "WEBP":
            data[21:25] = struct.pack("<I", (width - 1) | (height - 1) << 14)
    return bytes(data)


@pytest.mark.parametrize("size", [(60_000, 60_000), (9_000, 9_000), (16_000, 16_000)])
@pytest.mark.parametrize("form", ["PNG", "BMP", "JPEG", "TIFF", "WEBP"])
def test_a_declared_size_above_the_limit_is_rejected_before_decoding(form: str, size: tuple[int, int]) -> None:
    if form == "WEBP":
        size = min(size[0], 16_000), min(size[1], 16_000)
    data = announced(form, *size)
    tracemalloc.start()
    try:
        with pytest.raises(UnusableImageError, match="declares"):
            decode(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_thousands_of_scans_are_rejected() -> None:
    data = saved(film(), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(UnreadableImageError, match="scans"):
        decode(data[:-2] + scan * 300 + b"\xff\xd9")


def test_a_jpeg_that_declares_more_than_its_bytes_can_hold_is_rejected() -> None:
    """Libjpeg would fill the rest with gray."""
    with pytest.raises(UnreadableImageError, match=r"declares more pixels than its [0-9]+ bytes"):
        decode(announced("JPEG", 5_000, 5_000))


def test_no_warning_leaks_and_none_is_silenced() -> None:
    before = list(warnings.filters)
    decode(announced("PNG", 48, 40), Limits(pixels=10_000))
    with pytest.raises(UnusableImageError):
        decode(announced("PNG", 12_000, 9_000), Limits(pixels=10_000))
    assert warnings.filters == before


def test_the_message_about_a_damaged_file_does_not_quote_it() -> None:
    data = saved(film(), "PNG")
    with pytest.raises(UnreadableImageError, match=r"^The PNG image is damaged or incomplete; export it again.$"):
        decode(data[: len(data) // 2])
    with pytest.raises(
        UnreadableImageError,
        match=r"^The JPEG image is damaged or of an unsupported kind; export it as PNG.$",
    ):
        decode(b"\xff\xd8\xffSECRET")


def test_thousands_of_sequential_scans_are_rejected() -> None:
    with pytest.raises(UnreadableImageError, match="scans"):
        decode(fuzz_seeds.jpeg_scans(picture(), 3000))


def test_lossless_jpeg_is_not_scaled_while_decoding() -> None:
    image = decode(jpeg_lossless(film(400, 480)), at_least=(120, 100))
    np.testing.assert_array_equal(np.asarray(image.pixels), film(400, 480))


def test_a_lossless_jpeg_that_declares_more_than_its_bytes_can_hold_is_rejected() -> None:
    data = bytearray(jpeg_lossless(film()))
    start = data.index(b"\xff\xc3") + 5
    data[start : start + 4] = struct.pack(">HH", 200, 200)
    with pytest.raises(UnreadableImageError, match="declares more pixels"):
        decode(bytes(data))
