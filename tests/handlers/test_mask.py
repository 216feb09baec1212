"""Masks in the geometry of the image as sent: rotated, mirrored or shifted ones fail."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from handlers import recipe as recipes
from handlers.errors import InternalError
from handlers.formats.image import Image
from handlers.geometry import Geometry
from handlers.mask import Mask, segment
from handlers.preprocess import preprocess
from handlers.recipe import Recipe
from tests.spots import HEIGHT, STEEP, WIDTH, Flags, agreement, figure, painted, spots_recipe


def recipe(decision: dict[str, Any] | None = None, temperature: float = 1.0, **spec: Any) -> Recipe:
    data = spots_recipe(**spec)
    data["decision"] |= decision or {}
    data["calibration"]["temperature"] = temperature
    return recipes.parse(data, source="test")


def seen(pixels: NDArray[np.uint8], model_recipe: Recipe) -> NDArray[np.float32]:
    """Return the logits of the network of `tests.spots` without the network."""
    height, width = pixels.shape
    image = Image(pixels=Pillow.fromarray(pixels), format="png", width=width, height=height)
    logits: NDArray[np.float32] = preprocess(image, model_recipe.input).mean(axis=0, keepdims=True) * np.float32(
        STEEP / 4
    )
    return logits


def masked(pixels: NDArray[np.uint8], model_recipe: Recipe) -> Mask:
    height, width = pixels.shape
    return segment(seen(pixels, model_recipe), model_recipe, Geometry.of(width, height, model_recipe.input))


def test_a_mask_of_the_inputs_size_is_not_resized() -> None:
    rng = np.random.default_rng(0)
    expected = rng.random((HEIGHT, WIDTH)) < 0.3
    np.testing.assert_array_equal(masked(painted(expected), recipe()).marked, expected)


SIZES = [(64, 96), (128, 192), (640, 960), (48, 72), (300, 200), (64, 64), (97, 251), (250, 60)]


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("spec", [{}, {"fit": "pad"}], ids=["stretch", "pad"])
def test_a_mask_is_upright_and_in_place(height: int, width: int, spec: dict[str, Any]) -> None:
    expected = figure(height, width)
    mask = masked(painted(expected), recipe(**spec)).marked
    fit = agreement(mask, expected)
    assert fit > 0.8
    for wrong in mistakes(expected):
        assert agreement(mask, wrong) < fit - 0.1


def mistakes(expected: Flags) -> list[Flags]:
    height, width = expected.shape
    turned = Pillow.fromarray(expected.T).resize((width, height), Pillow.Resampling.NEAREST)
    shifts = [(height // 16 + 1, 0), (-(height // 16) - 1, 0), (0, width // 16 + 1), (0, -(width // 16) - 1)]
    moved = [np.roll(expected, shift, axis=(0, 1)) for shift in shifts]
    return [np.asarray(turned), expected[::-1], expected[:, ::-1], expected[::-1, ::-1], *moved]


@pytest.mark.parametrize(("height", "width"), [(80, 120), (160, 240), (120, 80)])
def test_areas_outside_of_a_crop_are_not_marked(height: int, width: int) -> None:
    model_recipe = recipe(frame=(80, 120))
    mask = masked(np.full((height, width), 235, np.uint8), model_recipe)
    assert mask.box is not None
    expected = {"left": width * 0.1, "top": height * 0.1, "width": width * 0.8, "height": height * 0.8}
    assert mask.box == pytest.approx(expected, abs=1.5)
    assert mask.pixels == pytest.approx(mask.box["width"] * mask.box["height"])


def test_the_padding_around_an_image_is_not_part_of_its_mask() -> None:
    model_recipe = recipe(fit="pad")
    whole = segment(np.full((1, HEIGHT, WIDTH), 9, np.float32), model_recipe, Geometry.of(40, 80, model_recipe.input))
    assert whole.marked.shape == (80, 40)
    assert whole.fraction == 1


def test_probabilities_are_interpolated_not_decisions() -> None:
    """Between pixels of probability 0.9 and 0.3 the threshold 0.5 is crossed at two thirds of the distance."""
    model_recipe = recipe(height=32, width=32)
    logits = np.full((1, 32, 32), np.log(0.3 / 0.7), np.float32)
    logits[0, :, :16] = np.log(0.9 / 0.1)
    mask = segment(logits, model_recipe, Geometry.of(32 * 30, 32, model_recipe.input)).marked
    edge = int(mask[0].sum())
    assert abs(edge - (15.5 + 2 / 3) * 30) <= 1


def test_the_threshold_itself_is_positive() -> None:
    model_recipe = recipe()
    assert (
        segment(
            np.zeros((1, HEIGHT, WIDTH), np.float32), model_recipe, Geometry.of(WIDTH, HEIGHT, model_recipe.input)
        ).fraction
        == 1
    )
    below = np.full((1, HEIGHT, WIDTH), -1e-3, np.float32)
    assert segment(below, model_recipe, Geometry.of(WIDTH, HEIGHT, model_recipe.input)).box is None


def test_the_temperature_divides_logits_before_the_threshold() -> None:
    logits = np.full((1, HEIGHT, WIDTH), 2.0, np.float32)  # probability 0.88; at temperature 4: 0.62
    for temperature, expected in ((1.0, 1.0), (4.0, 0.0)):
        model_recipe = recipe({"threshold": 0.7}, temperature)
        assert segment(logits, model_recipe, Geometry.of(WIDTH, HEIGHT, model_recipe.input)).fraction == expected


@pytest.mark.parametrize(("smallest", "marked"), [(11, True), (12, True), (13, False)])
def test_a_mask_is_emptied_by_its_pixels_in_the_networks_geometry(smallest: int, marked: bool) -> None:
    model_recipe = recipe({"smallest": smallest})
    logits = np.full((1, HEIGHT, WIDTH), -9, np.float32)
    logits[0, 10:13, 20:24] = 9
    for width, height in ((WIDTH, HEIGHT), (4 * WIDTH, 4 * HEIGHT)):
        assert (segment(logits, model_recipe, Geometry.of(width, height, model_recipe.input)).box is not None) == marked


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_invalid_logits_are_an_internal_error(value: float) -> None:
    model_recipe = recipe()
    logits = np.zeros((1, HEIGHT, WIDTH), np.float32)
    logits[0, 3, 4] = value
    with pytest.raises(InternalError, match="invalid number"):
        segment(logits, model_recipe, Geometry.of(WIDTH, HEIGHT, model_recipe.input))


def test_logits_of_another_shape_are_an_internal_error() -> None:
    model_recipe = recipe()
    with pytest.raises(InternalError):
        segment(np.zeros((1, WIDTH, HEIGHT), np.float32), model_recipe, Geometry.of(WIDTH, HEIGHT, model_recipe.input))


def test_extreme_logits_do_not_overflow() -> None:
    model_recipe = recipe()
    logits = np.full((1, HEIGHT, WIDTH), -3e38, np.float32)
    logits[0, :2] = 3e38
    assert segment(logits, model_recipe, Geometry.of(WIDTH, HEIGHT, model_recipe.input)).pixels == 2 * WIDTH


def test_pixels_fraction_and_box_of_a_mask() -> None:
    marked = np.zeros((10, 20), dtype=np.bool_)
    assert (Mask(marked).pixels, Mask(marked).fraction, Mask(marked).box) == (0, 0.0, None)
    marked[2:5, 7] = True
    marked[4, 7:12] = True
    mask = Mask(marked)
    assert (mask.pixels, mask.fraction, mask.box) == (7, 7 / 200, {"left": 7, "top": 2, "width": 5, "height": 3})
    np.testing.assert_array_equal(mask.gray, marked * np.uint8(255))
