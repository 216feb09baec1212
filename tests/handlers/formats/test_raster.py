import struct
import tracemalloc
import warnings
import zlib
from io import BytesIO

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


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bits_become_floats_scaled_by_full_scale(form: str) -> None:
    values = film(top=65535, kind=np.uint16)
    image = decode(saved(values, form))
    assert image.pixels.mode == "F"
    np.testing.assert_allclose(np.asarray(image.pixels), values / 257, atol=1e-4)


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
