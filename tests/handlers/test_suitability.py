from contextlib import nullcontext
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageDraw

from handlers.errors import UnusableImageError
from handlers.formats.decode import decode
from handlers.formats.image import Image
from handlers.recipe import Input
from handlers.suitability import check, notes
from tests.handlers.images import SHARED, film, picture

GRAY = Input(
    color="gray",
    channels=3,
    height=28,
    width=40,
    mean=(0.5,) * 3,
    std=(0.2,) * 3,
)
RGB = Input(color="rgb", channels=3, height=32, width=32, mean=(0.5,) * 3, std=(0.5,) * 3)


def image(pixels: Any, **fields: Any) -> Image:
    picture = pixels if isinstance(pixels, Pillow.Image) else Pillow.fromarray(pixels)
    return Image(pixels=picture, format="png", width=picture.width, height=picture.height, **fields)


@pytest.mark.parametrize("pixels", [film(), film().astype(np.float32), picture() // 8 + 100])
def test_ordinary_images_pass(pixels: np.ndarray[Any, Any]) -> None:
    check(image(pixels), GRAY if pixels.ndim == 2 else RGB)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((31, 200), "200x31 pixels; this model needs at least 40x32"),
        ((32, 39), "39x32 pixels; this model needs at least 40x32"),
        ((32, 161), "161x32 pixels; one side may be at most 5"),
        ((2, 2), "2x2 pixels"),
    ],
)
def test_unsuitable_sizes_are_rejected(size: tuple[int, int], message: str) -> None:
    with pytest.raises(UnusableImageError, match=message):
        check(image(film(*size)), GRAY, 1)


@pytest.mark.parametrize(
    ("size", "enlargement", "accepted"),
    [
        ((112, 160), 1, True),
        ((111, 160), 1, False),
        ((112, 159), 1, False),
        ((32, 32), 1, False),  # test files of modality OT were called pneumonia
        ((75, 107), 1.5, True),
        ((74, 107), 1.5, False),
    ],
)
def test_the_smallest_size_is_that_of_the_network_input(
    size: tuple[int, int], enlargement: float, accepted: bool
) -> None:
    spec = GRAY.model_copy(update={"height": 112, "width": 160})
    with nullcontext() if accepted else pytest.raises(UnusableImageError, match="in its original size"):
        check(image(film(*size)), spec, enlargement)


@pytest.mark.parametrize(
    ("size", "accepted"),
    [((240, 240), True), ((224, 100), True), ((100, 224), True), ((223, 223), False), ((224, 31), False)],
)
def test_a_padded_image_needs_one_side_of_the_network_input(size: tuple[int, int], accepted: bool) -> None:
    spec = GRAY.model_copy(update={"height": 224, "width": 224, "fit": "pad", "frame": (256, 256)})
    least = "at least a width of 224 or a height of 224 pixels and 32 on the other side"
    with nullcontext() if accepted else pytest.raises(UnusableImageError, match=least):
        check(image(film(*size)), spec, 1)


def test_the_size_as_sent_is_checked() -> None:
    small = Image(pixels=Pillow.fromarray(film(30, 30)), format="jpeg", width=240, height=240)
    check(small, GRAY)


@pytest.mark.parametrize("spec", [GRAY, RGB], ids=["gray", "rgb"])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_constant_images_are_rejected(spec: Input, level: int) -> None:
    for pixels in (np.full((64, 64), level, np.uint8), np.full((64, 64, 3), level, np.uint8)):
        with pytest.raises(UnusableImageError, match=r"no contrast: its gray levels span 0.0% of full scale"):
            check(image(pixels), spec)


def test_unscaled_12_bits_in_16_are_rejected() -> None:
    values = film(top=4095, kind=np.uint16)
    stream = BytesIO()
    Pillow.fromarray(values).save(stream, "PNG")
    with pytest.raises(UnusableImageError, match=r"span [0-9.]+% of full scale.*\(12 of 16\)"):
        check(decode(stream.getvalue()), GRAY)


def test_colour_images_are_rejected_by_gray_models() -> None:
    with pytest.raises(UnusableImageError, match=r"is a colour image.*this model needs a grayscale"):
        check(image(picture()), GRAY)
    check(image(picture()), RGB)


def test_coloured_letter_on_a_film_passes() -> None:
    whole = Pillow.fromarray(film(400, 480)).convert("RGB")
    ImageDraw.Draw(whole).rectangle((10, 10, 70, 90), fill=(255, 0, 0))
    check(image(whole), GRAY)


@pytest.mark.skipif(not SHARED.exists(), reason=f"no real images at {SHARED}")
@pytest.mark.parametrize("folder", ["chest_xray_original", "chest_xray_224/val", "brain_tumor"])
def test_real_films_and_slices_pass(folder: str) -> None:
    files = sorted((SHARED / folder).glob("*/*.jp*g"))[::7][:150]
    assert files
    for file in files:
        check(decode(file.read_bytes(), at_least=(320, 224)), GRAY)


def test_equal_channels_are_noted_where_they_should_be_several_sequences() -> None:
    sequences = ("pre-contrast", "FLAIR", "post-contrast")
    gray, colour = np.stack([film()] * 3, axis=2), picture()
    (note,) = notes(image(gray), sequences)
    assert note == "The 3 channels are equal: pre-contrast, FLAIR and post-contrast cannot be told apart."
    assert notes(image(film()), sequences) == (note,)
    gray[5, 5, 0] ^= 1
    assert notes(image(gray), sequences) == ("2 channels are equal: FLAIR and post-contrast cannot be told apart.",)
    gray[5, 5, 1] ^= 2
    assert notes(image(gray), sequences) == notes(image(colour), sequences) == ()
    assert notes(image(film()), None) == ()
