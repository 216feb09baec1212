"""Masks in the geometry of the image as sent: a turned, mirrored or shifted one fits none of these."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from handlers import recipe as recipes
from handlers.errors import InternalError
from handlers.formats.image import Image
from handlers.geometry import Geometry
from handlers.mask import Box, Mask, segment
from handlers.preprocess import preprocess
from handlers.recipe import Recipe
from tests.spots import HEIGHT, STEEP, WIDTH, Flags, agreement, figure, painted, spots_recipe


def recipe(decision: dict[str, Any] | None = None, temperature: float = 1.0, **spec: Any) -> Recipe:
    data = spots_recipe(**spec)
    data["decision"] |= decision or {}
    data["calibration"]["temperature"] = temperature
    return recipes.parse(data, source="test")


def seen(pixels: NDArray[np.uint8], made: Recipe) -> NDArray[np.float32]:
    """What the network of `tests.spots` says of a picture, here without the network."""
    height, width = pixels.shape
    image = Image(pixels=Pillow.fromarray(pixels), format="png", width=width, height=height)
    logits: NDArray[np.float32] = preprocess(image, made.input).mean(axis=0, keepdims=True) * np.float32(STEEP / 4)
    return logits


def masked(pixels: NDArray[np.uint8], made: Recipe) -> Mask:
    height, width = pixels.shape
    return segment(seen(pixels, made), made, Geometry.of(width, height, made.input))


def test_an_image_of_the_inputs_size_gets_the_networks_own_pixels() -> None:
    rng = np.random.default_rng(0)
    wanted = rng.random((HEIGHT, WIDTH)) < 0.3
    np.testing.assert_array_equal(masked(painted(wanted), recipe()).marked, wanted)


SIZES = [(64, 96), (128, 192), (640, 960), (48, 72), (300, 200), (64, 64), (97, 251), (250, 60)]


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("spec", [{}, {"fit": "pad"}], ids=["stretch", "pad"])
def test_a_mask_comes_back_upright_and_in_its_place(height: int, width: int, spec: dict[str, Any]) -> None:
    wanted = figure(height, width)
    found = masked(painted(wanted), recipe(**spec)).marked
    fit = agreement(found, wanted)
    assert fit > 0.8
    for wrong in mistakes(wanted):
        assert agreement(found, wrong) < fit - 0.1


def mistakes(wanted: Flags) -> list[Flags]:
    height, width = wanted.shape
    turned = Pillow.fromarray(wanted.T).resize((width, height), Pillow.Resampling.NEAREST)
    shifts = [(height // 16 + 1, 0), (-(height // 16) - 1, 0), (0, width // 16 + 1), (0, -(width // 16) - 1)]
    moved = [np.roll(wanted, shift, axis=(0, 1)) for shift in shifts]
    return [np.asarray(turned), wanted[::-1], wanted[:, ::-1], wanted[::-1, ::-1], *moved]


@pytest.mark.parametrize(("height", "width"), [(80, 120), (160, 240), (120, 80)])
def test_outside_of_a_cut_out_nothing_is_marked_and_inside_it_is_in_its_place(height: int, width: int) -> None:
    made = recipe(frame=(80, 120))
    found = masked(np.full((height, width), 235, np.uint8), made)
    wanted = Box(round(width * 0.1), round(height * 0.1), round(width * 0.8), round(height * 0.8))
    assert found.box is not None
    for part in ("left", "top", "width", "height"):
        assert abs(getattr(found.box, part) - getattr(wanted, part)) <= 1, part
    assert found.pixels == pytest.approx(found.box.width * found.box.height)


def test_the_padding_around_an_image_is_not_part_of_its_mask() -> None:
    made = recipe(fit="pad")
    whole = segment(np.full((1, HEIGHT, WIDTH), 9, np.float32), made, Geometry.of(40, 80, made.input))
    assert whole.marked.shape == (80, 40)
    assert whole.fraction == 1


def test_probabilities_are_interpolated_not_decisions() -> None:
    """Between a pixel of probability 0.9 and one of 0.3 the threshold 0.5 is passed at two thirds of the way."""
    made = recipe(height=32, width=32)
    logits = np.full((1, 32, 32), np.log(0.3 / 0.7), np.float32)
    logits[0, :, :16] = np.log(0.9 / 0.1)
    found = segment(logits, made, Geometry.of(32 * 30, 32, made.input)).marked
    edge = int(found[0].sum())
    assert abs(edge - (15.5 + 2 / 3) * 30) <= 1


def test_the_threshold_itself_is_positive() -> None:
    made = recipe()
    assert segment(np.zeros((1, HEIGHT, WIDTH), np.float32), made, Geometry.of(WIDTH, HEIGHT, made.input)).fraction == 1
    below = np.full((1, HEIGHT, WIDTH), -1e-3, np.float32)
    assert segment(below, made, Geometry.of(WIDTH, HEIGHT, made.input)).box is None


def test_the_temperature_divides_logits_before_the_threshold() -> None:
    logits = np.full((1, HEIGHT, WIDTH), 2.0, np.float32)  # probability 0.88; at temperature 4: 0.62
    for temperature, wanted in ((1.0, 1.0), (4.0, 0.0)):
        made = recipe({"threshold": 0.7}, temperature)
        assert segment(logits, made, Geometry.of(WIDTH, HEIGHT, made.input)).fraction == wanted


@pytest.mark.parametrize(("smallest", "marked"), [(11, True), (12, True), (13, False)])
def test_a_mask_is_emptied_by_its_pixels_in_the_networks_geometry(smallest: int, marked: bool) -> None:
    made = recipe({"smallest": smallest})
    logits = np.full((1, HEIGHT, WIDTH), -9, np.float32)
    logits[0, 10:13, 20:24] = 9
    for width, height in ((WIDTH, HEIGHT), (4 * WIDTH, 4 * HEIGHT)):
        assert (segment(logits, made, Geometry.of(width, height, made.input)).box is not None) == marked


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_no_number_gives_no_mask(value: float) -> None:
    made = recipe()
    logits = np.zeros((1, HEIGHT, WIDTH), np.float32)
    logits[0, 3, 4] = value
    with pytest.raises(InternalError, match="invalid number"):
        segment(logits, made, Geometry.of(WIDTH, HEIGHT, made.input))


def test_a_map_of_another_shape_gives_no_mask() -> None:
    made = recipe()
    with pytest.raises(InternalError):
        segment(np.zeros((1, WIDTH, HEIGHT), np.float32), made, Geometry.of(WIDTH, HEIGHT, made.input))


def test_extreme_logits_overflow_nowhere() -> None:
    made = recipe()
    logits = np.full((1, HEIGHT, WIDTH), -3e38, np.float32)
    logits[0, :2] = 3e38
    assert segment(logits, made, Geometry.of(WIDTH, HEIGHT, made.input)).pixels == 2 * WIDTH


def test_figures_of_a_mask() -> None:
    marked = np.zeros((10, 20), dtype=np.bool_)
    assert (Mask(marked).pixels, Mask(marked).fraction, Mask(marked).box) == (0, 0.0, None)
    marked[2:5, 7] = True
    marked[4, 7:12] = True
    found = Mask(marked)
    assert (found.pixels, found.fraction, found.box) == (7, 7 / 200, Box(left=7, top=2, width=5, height=3))
    np.testing.assert_array_equal(found.gray, marked * np.uint8(255))
