"""Raw samples, as the original CIFAR-10 client sends them."""

from collections.abc import Callable

import numpy as np
import pytest

from handlers.errors import BadRequestError
from handlers.formats.raw import RawSamples, decode
from handlers.recipe import Input


def spec(**changes: object) -> Input:
    fields = {"color": "rgb", "channels": 3, "height": 32, "width": 40, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    return Input.model_validate(fields | {"raw": True} | changes)


def test_channels_come_first_then_rows_then_columns() -> None:
    samples = np.random.default_rng(0).integers(0, 256, (3, 32, 40), dtype=np.uint8)
    image = decode(RawSamples(samples.tobytes()), spec())
    np.testing.assert_array_equal(np.asarray(image.pixels), samples.transpose(1, 2, 0))
    assert (image.format, image.width, image.height, image.pixels.mode) == ("raw", 40, 32, "RGB")


def test_one_channel_is_gray() -> None:
    samples = np.random.default_rng(0).integers(0, 256, (32, 40), dtype=np.uint8)
    image = decode(RawSamples(samples.tobytes()), spec(color="gray", channels=1, mean=(0.5,), std=(0.5,)))
    assert image.pixels.mode == "L"
    np.testing.assert_array_equal(np.asarray(image.pixels), samples)


@pytest.mark.parametrize("change", [lambda n: n - 1, lambda n: n + 1, lambda n: 0, lambda n: 2 * n])
def test_a_wrong_number_of_bytes_is_reported(change: Callable[[int], int]) -> None:
    sent = change(3840)
    with pytest.raises(BadRequestError, match=f"has {sent} bytes; this model needs 3840"):
        decode(RawSamples(bytes(sent)), spec())


def test_a_recipe_without_raw_accepts_no_raw_samples() -> None:
    with pytest.raises(BadRequestError, match="accepts no raw samples"):
        decode(RawSamples(bytes(3840)), spec(raw=False))
