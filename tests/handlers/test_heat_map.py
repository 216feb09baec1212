"""Heat maps: formulas checked by hand, placement checked by pixel."""

import numpy as np
import pytest
from PIL import Image as Pillow

from handlers import heat_map
from handlers.errors import InternalError
from handlers.geometry import Geometry
from handlers.recipe import Input


def spec(height: int, width: int, **changes: object) -> Input:
    return Input.model_validate(
        {"color": "gray", "channels": 1, "height": height, "width": width, "mean": [0.5], "std": [0.5]} | changes
    )


def test_grad_cam_is_the_positive_part_of_gradient_weighted_features() -> None:
    features = np.array([[[1.0, 2.0], [3.0, 4.0]], [[4.0, 0.0], [1.0, 0.0]]], dtype=np.float32)
    gradients = np.array([[[0.0, 4.0], [0.0, 0.0]], [[-2.0, -2.0], [0.0, -4.0]]], dtype=np.float32)
    expected = [[0, 2], [1, 4]]  # 1 * first - 2 * second, no less than 0
    np.testing.assert_allclose(heat_map.grad_cam(features, gradients), expected)


def test_features_that_the_score_does_not_depend_on_are_not_marked() -> None:
    features = np.full((2, 3, 5), 9, dtype=np.float32)
    gradients = np.zeros((2, 3, 5), dtype=np.float32)
    gradients[0, 0, 1] = gradients[1, 1, 3] = 1  # the score does not depend on the last row and three columns
    relevance_map = heat_map.grad_cam(features, gradients)
    np.testing.assert_array_equal(relevance_map > 0, np.outer([1, 1, 0], [0, 1, 0, 1, 0]))


def test_attention_relevance_sums_gradient_weighted_attention_over_queries() -> None:
    attention = np.array([[[0.9, 0.1], [0.4, 0.6]], [[0.5, 0.5], [0.2, 0.8]]], dtype=np.float32)
    gradients = np.array([[[1.0, -9.0], [2.0, 1.0]], [[-1.0, 2.0], [0.0, 1.0]]], dtype=np.float32)
    expected = [(0.9 + 0.8 + 0 + 0) / 2, (0 + 0.6 + 1 + 0.8) / 2]  # of each column: rows summed, heads averaged
    np.testing.assert_allclose(heat_map.attention_relevance(attention, gradients), expected, rtol=1e-6)


def test_a_token_covers_consecutive_pixels() -> None:
    spread = heat_map.spread(np.arange(8.0), 4)
    np.testing.assert_array_equal(spread, [[0, 0, 1, 1], [2, 2, 3, 3], [4, 4, 5, 5], [6, 6, 7, 7]])
    over_rows = heat_map.spread(np.arange(2.0), 4)
    np.testing.assert_array_equal(over_rows, [[0] * 4, [0] * 4, [1] * 4, [1] * 4])


def test_a_number_of_tokens_that_does_not_divide_the_map_is_an_error() -> None:
    with pytest.raises(InternalError, match=r"explanation\.side has value 10, .* the model's 49 tokens"):
        heat_map.spread(np.ones(49), 10)


def test_relevance_is_divided_by_its_maximum_unless_zero() -> None:
    np.testing.assert_allclose(heat_map.normalise(np.array([[0.0, 3.0, 6.0]])), [[0, 0.5, 1]])
    np.testing.assert_array_equal(heat_map.normalise(np.zeros((2, 2))), np.zeros((2, 2)))


def test_a_map_of_the_images_size_is_not_resized() -> None:
    levels = np.linspace(0, 1, 48).reshape(6, 8)
    placed = heat_map.place(levels, Geometry.of(8, 6, spec(6, 8)))
    np.testing.assert_array_equal(np.asarray(placed), np.rint(levels * 255))


@pytest.mark.parametrize(
    ("width", "height", "geometry", "cell", "box"),
    [
        (90, 30, {}, (0, 0), (0, 0, 30, 10)),  # stretched: a third of each side
        (90, 30, {}, (2, 1), (30, 20, 60, 30)),
        (90, 30, {"fit": "pad"}, (1, 2), (60, 0, 90, 30)),  # the upper and lower third are padding
        (30, 90, {"fit": "pad"}, (2, 1), (0, 60, 30, 90)),
        (90, 180, {"frame": [36, 36]}, (0, 2), (50, 60, 60, 80)),  # the network sees 12 of 36: the middle third
    ],
)
def test_relevance_is_placed_where_the_network_saw_it(
    width: int, height: int, geometry: dict[str, object], cell: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    relevance = np.zeros((3, 3))
    relevance[cell] = 1
    placed = np.asarray(heat_map.place(relevance, Geometry.of(width, height, spec(12, 12, **geometry))))
    assert placed.shape == (height, width)
    left, top, right, bottom = box
    rows, columns = np.nonzero(placed == placed.max())
    assert left <= columns.min() <= columns.max() < right
    assert top <= rows.min() <= rows.max() < bottom


def test_relevance_of_the_padding_marks_no_pixel_of_the_image() -> None:
    relevance = np.zeros((12, 12))
    relevance[0] = 1
    placed = heat_map.place(relevance, Geometry.of(90, 30, spec(12, 12, fit="pad")))
    assert placed.getbbox() is None


def test_areas_outside_of_the_networks_input_are_not_marked() -> None:
    placed = np.asarray(heat_map.place(np.ones((2, 2)), Geometry.of(72, 72, spec(12, 12, frame=[36, 36]))))
    assert placed[36, 36] == 255
    assert not placed[:20].any()
    assert not placed[:, 52:].any()


def test_the_overlay_is_more_opaque_where_more_relevant() -> None:
    picture = Pillow.new("RGB", (3, 1), (100, 100, 100))
    levels = Pillow.fromarray(np.array([[0, 128, 255]], dtype=np.uint8))
    pixels = np.asarray(heat_map.overlay(picture, levels)).astype(int)
    np.testing.assert_array_equal(pixels[0, 0], [100] * 3)
    half, full = (np.abs(pixels[0, place] - 100).max() for place in (1, 2))
    assert 0 < half < full
    assert np.ptp(pixels[0, 2]) > 50  # a colour, which no film has
    assert list(levels.tobytes()) == [0, 128, 255]


def test_more_relevance_is_lighter() -> None:
    palette = np.frombuffer(heat_map._palette(), dtype=np.uint8).reshape(256, 3)
    light = palette @ np.array([0.2126, 0.7152, 0.0722])  # Rec. ITU-R BT.709
    assert (np.diff(light[::2]) > 0).all()
