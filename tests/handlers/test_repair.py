"""Repairs against NumPy, on pictures whose rotations all differ."""

from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from handlers import repair
from handlers.errors import BadRequestError
from handlers.formats.image import Image
from handlers.repair import Repair
from handlers.scope.statement import Statement
from tests.handlers.images import film, picture

DEEP = np.asarray(film(top=4095, kind=np.uint16), dtype=np.float32) * np.float32(255 / 4095)
PICTURES = {"L": film(), "RGB": picture(), "F": DEEP}
QUARTERS = {Repair.ROTATE_90: 1, Repair.ROTATE_180: 2, Repair.ROTATE_270: 3}


def image(pixels: np.ndarray[Any, Any], *statements: Statement) -> Image:
    """Return an image of 2 x 0.5 mm pixels that a decoder scaled down to a half."""
    height, width = pixels.shape[:2]
    return Image(Pillow.fromarray(pixels), "png", 2 * width, 2 * height, spacing=(2.0, 0.5), statements=statements)


@pytest.mark.parametrize("mode", PICTURES)
@pytest.mark.parametrize("rotation", QUARTERS)
def test_a_rotation_is_clockwise_and_lossless(mode: str, rotation: Repair) -> None:
    pixels = PICTURES[mode]
    turned = repair.apply(image(pixels), rotation)
    assert turned.pixels.mode == mode
    np.testing.assert_array_equal(np.asarray(turned.pixels), np.rot90(pixels, -QUARTERS[rotation]))


@pytest.mark.parametrize("rotation", QUARTERS)
def test_width_and_spacing_follow_the_rotation(rotation: Repair) -> None:
    original = image(film(40, 48))
    turned = repair.apply(original, rotation)
    swapped = rotation in (Repair.ROTATE_90, Repair.ROTATE_270)
    assert (turned.width, turned.height) == ((80, 96) if swapped else (96, 80))
    assert turned.spacing == ((0.5, 2.0) if swapped else (2.0, 0.5))


@pytest.mark.parametrize("mode", PICTURES)
def test_inversion_mirrors_the_intensities(mode: str) -> None:
    pixels = PICTURES[mode]
    inverted = repair.apply(image(pixels), Repair.INVERT)
    np.testing.assert_allclose(np.asarray(inverted.pixels), 255 - pixels.astype(np.float32), atol=1e-4)
    twice = repair.apply(inverted, Repair.INVERT)
    np.testing.assert_allclose(np.asarray(twice.pixels), pixels, atol=1e-4)
    assert (inverted.width, inverted.height, inverted.spacing) == (96, 80, (2.0, 0.5))


def test_an_image_is_unchanged_without_a_request() -> None:
    original = image(film())
    assert repair.apply(original, None) is original


@pytest.mark.parametrize(
    ("rotation", "directions"),
    [(Repair.ROTATE_90, "HL"), (Repair.ROTATE_180, "RH"), (Repair.ROTATE_270, "FR"), (Repair.INVERT, "LF")],
)
def test_a_stated_orientation_turns_with_the_image(rotation: Repair, directions: str) -> None:
    stated = image(film(), Statement("orientation", "LF", "PatientOrientation"))
    (statement,) = repair.apply(stated, rotation).statements
    assert (statement.value, statement.source) == (directions, "PatientOrientation")


@pytest.mark.parametrize(("requested", "value"), [(Repair.INVERT, "normal"), (Repair.ROTATE_90, "inverted")])
def test_a_stated_polarity_is_that_of_the_repaired_image(requested: Repair, value: str) -> None:
    stated = image(film(), Statement("polarity", "inverted"), Statement("orientation", "other"))
    assert [statement.value for statement in repair.apply(stated, requested).statements] == [value, "other"]


@pytest.mark.parametrize("value", ["rotate-91", "ROTATE-90", "several", 90, ["invert"], {}, False, ""])
def test_an_unknown_repair_is_rejected_with_the_known_ones(value: object) -> None:
    with pytest.raises(BadRequestError, match="Send one of rotate-90, rotate-180, rotate-270, invert"):
        repair.parse(value)


def test_two_different_repairs_are_rejected() -> None:
    assert repair.merge(None, None) is None
    assert repair.merge(Repair.INVERT, None) is repair.merge(None, Repair.INVERT) is Repair.INVERT
    assert repair.merge(Repair.INVERT, Repair.INVERT) is Repair.INVERT
    with pytest.raises(BadRequestError, match="two repairs, rotate-90 and invert"):
        repair.merge(Repair.ROTATE_90, Repair.INVERT)
