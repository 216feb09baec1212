import numpy as np
import pytest

from handlers.errors import UnusableImageError
from handlers.formats import intensity


@pytest.mark.parametrize(("bits", "mode"), [(8, "L"), (12, "F"), (16, "F")])
def test_full_scale_is_white(bits: int, mode: str) -> None:
    image = intensity.from_integer(np.array([[0, 2**bits - 1]], np.uint16), bits)
    assert image.mode == mode
    assert image.getextrema() == (0, 255)


@pytest.mark.parametrize(("values", "bits"), [([0, 256], 8), ([-1, 0], 8), ([0, 4096], 12)])
def test_integers_outside_of_the_range_are_rejected(values: list[int], bits: int) -> None:
    with pytest.raises(UnusableImageError, match=rf"{values[0]} to {values[1]}; with {bits} bits"):
        intensity.from_integer(np.array([values]), bits)


def test_deep_colour_is_rounded_to_bytes() -> None:
    image = intensity.from_integer(np.full((2, 3, 3), 40_000, np.uint16), 16)
    assert (image.mode, image.getpixel((0, 0))) == ("RGB", (156, 156, 156))


@pytest.mark.parametrize(("values", "expected"), [([0, 0.5, 1], [0, 127.5, 255]), ([0, 2, 250], [0, 2, 250])])
def test_floats(values: list[float], expected: list[float]) -> None:
    image = intensity.from_float(np.array([values]))
    assert image.mode == "F"
    np.testing.assert_allclose(np.asarray(image)[0], expected)


@pytest.mark.parametrize("values", [[-0.1, 1], [0, 255.5], [0, np.nan], [0, np.inf], [-np.inf, 0], [0, 1e300]])
def test_floats_outside_of_the_range_are_rejected(values: list[float]) -> None:
    with pytest.raises(UnusableImageError, match=r"scale them|not finite"):
        intensity.from_float(np.array([values]))
