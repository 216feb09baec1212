"""PNG pictures and outlines."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image as Pillow

from handlers.formats.image import Image
from handlers.png import OUTLINE, outlined, plain, png, to_rgb
from tests.handlers.images import film, picture
from tests.spots import figure


def image(pixels: Pillow.Image, width: int, height: int) -> Image:
    return Image(pixels=pixels, format="png", width=width, height=height)


@pytest.mark.parametrize("pixels", [film(), picture()])
def test_a_png_holds_the_pixels(pixels: np.ndarray) -> None:
    for given in (pixels, Pillow.fromarray(pixels)):
        read = Pillow.open(BytesIO(png(given)))
        assert read.format == "PNG"
        np.testing.assert_array_equal(np.asarray(read), pixels)


def test_to_rgb_copies_gray_colour_and_deep_gray() -> None:
    gray = film()
    for pixels in (Pillow.fromarray(gray), Pillow.fromarray(gray.astype(np.float32) + np.float32(0.4))):
        np.testing.assert_array_equal(np.asarray(to_rgb(image(pixels, 48, 40))), np.stack([gray] * 3, axis=-1))
    color = Pillow.fromarray(picture())
    drawn = to_rgb(image(color, 48, 40))
    drawn.paste((0, 0, 0), (0, 0, 48, 40))
    np.testing.assert_array_equal(np.asarray(color), picture())


def test_plain_keeps_gray() -> None:
    gray = film()
    for pixels in (Pillow.fromarray(gray), Pillow.fromarray(gray.astype(np.float32) + np.float32(0.4))):
        picture = plain(image(pixels, 48, 40))
        assert picture.mode == "L"
        np.testing.assert_array_equal(np.asarray(picture), gray)


def test_scaled_down_images_are_shown_in_full_size() -> None:
    small = Pillow.fromarray(film(40, 48))
    assert to_rgb(image(small, 96, 80)).size == (96, 80)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (511, 700), (1100, 1030)])
def test_an_outline_covers_only_the_edge_of_the_mask(height: int, width: int) -> None:
    mask, pixels = figure(height, width), film(height, width)
    drawn = np.asarray(outlined(image(Pillow.fromarray(pixels), width, height), mask))
    painted = (drawn == OUTLINE).all(axis=-1)
    np.testing.assert_array_equal(drawn[~painted], np.stack([pixels[~painted]] * 3, axis=-1))
    assert not (painted & ~mask).any()
    framed = np.pad(mask, 1)
    shifted = [framed[1 + y : 1 + y + height, 1 + x : 1 + x + width] for y in (-1, 0, 1) for x in (-1, 0, 1)]
    edge = mask & ~np.all(shifted, axis=0)
    assert (painted >= edge).all()
    if min(height, width) < 1024:
        np.testing.assert_array_equal(painted, edge)
    else:
        assert painted.sum() > 1.5 * edge.sum()


def test_a_mask_that_fills_the_image_is_outlined_at_the_border() -> None:
    drawn = np.asarray(outlined(image(Pillow.fromarray(film()), 48, 40), np.ones((40, 48), dtype=np.bool_)))
    painted = (drawn == OUTLINE).all(axis=-1)
    assert painted[0].all()
    assert painted[:, -1].all()
    assert not painted[1:-1, 1:-1].any()


def test_an_empty_mask_changes_nothing() -> None:
    whole = image(Pillow.fromarray(film()), 48, 40)
    drawn = outlined(whole, np.zeros((40, 48), dtype=np.bool_))
    np.testing.assert_array_equal(np.asarray(drawn), np.asarray(to_rgb(whole)))
