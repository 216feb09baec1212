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
from handlers.suitability import check
from tests.handlers.images import SHARED, film, picture

GRAY = Input(
    color="gray",
    channels=3,
    height=112,
    width=160,
    mean=(0.5,) * 3,
    std=(0.2,) * 3,
    dicom={"Modality": ("CR", "DX"), "BodyPartExamined": ("CHEST",)},
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
        ((31, 200), "200x31 pixels; each side needs at least 32"),
        ((32, 161), "161x32 pixels; one side may be at most 5"),
        ((2, 2), "2x2 pixels"),
    ],
)
def test_unsuitable_sizes_are_rejected(size: tuple[int, int], message: str) -> None:
    with pytest.raises(UnusableImageError, match=message):
        check(image(film(*size)), GRAY)


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


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"Modality": "CT"}, "Modality is 'CT'; this model reads CR, DX"),
        ({"Modality": "DX", "BodyPartExamined": "KNEE"}, "BodyPartExamined is 'KNEE'; this model reads CHEST"),
        ({"Modality": "MR^SECRET"}, "Modality is another value"),
    ],
)
def test_contradicting_attributes_are_rejected(attributes: dict[str, str], message: str) -> None:
    with pytest.raises(UnusableImageError, match=message) as caught:
        check(image(film(), attributes=attributes), GRAY)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("attributes", [{}, {"Modality": "DX"}, {"BodyPartExamined": "CHEST", "ViewPosition": "LL"}])
def test_matching_or_absent_attributes_pass(attributes: dict[str, str]) -> None:
    check(image(film(), attributes=attributes), GRAY)


@pytest.mark.skipif(not SHARED.exists(), reason=f"no real images at {SHARED}")
@pytest.mark.parametrize("folder", ["chest_xray_original", "chest_xray_224/val", "brain_tumor"])
def test_real_films_and_slices_pass(folder: str) -> None:
    files = sorted((SHARED / folder).glob("*/*.jp*g"))[::7][:150]
    assert files
    for file in files:
        check(decode(file.read_bytes(), at_least=(320, 224)), GRAY)
