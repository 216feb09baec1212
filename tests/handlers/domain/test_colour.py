"""The colours and scales of an image."""

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from handlers.domain import colour, evidence

GENERATOR = torch.Generator().manual_seed(1)
BLOTS = torch.nn.functional.interpolate(torch.rand(1, 3, 6, 6, generator=GENERATOR), (48, 48), mode="bicubic")[0]
PHOTO = BLOTS.clamp(0, 1)


def encoded(image: torch.Tensor, quality: int) -> torch.Tensor:
    """Return an image after a JPEG encoding."""
    out = io.BytesIO()
    pixels = (image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    Pillow.fromarray(pixels).save(out, "JPEG", quality=quality)
    with Pillow.open(out) as opened:
        return torch.from_numpy(np.asarray(opened).astype(np.float32) / 255).permute(2, 0, 1)


def test_a_gray_image_is_far_from_a_colourful_one_whatever_its_brightness() -> None:
    gray = PHOTO.mean(0, keepdim=True).expand(3, -1, -1)
    assert (colour.colours(gray) - colour.colours(PHOTO)).max() < -5
    torch.testing.assert_close(colour.colours(gray), colour.colours(gray / 2))


@pytest.mark.parametrize("describe", [colour.colours, colour.bands])
def test_another_encoding_changes_less_than_another_image(describe: Callable[[torch.Tensor], torch.Tensor]) -> None:
    noise = torch.rand(PHOTO.shape, generator=torch.Generator().manual_seed(2))
    own = describe(PHOTO)
    assert (describe(encoded(PHOTO, 75)) - own).norm() < (describe(noise) - own).norm() / 5


def test_stripes_have_contrast_across_themselves() -> None:
    stripes = (torch.arange(48) // 4 % 2).float().expand(3, 48, 48)
    across, down = colour.bands(stripes)[0], colour.bands(stripes)[6]
    assert across > down + 3


def test_an_image_of_one_channel_is_a_gray_one() -> None:
    gray = PHOTO.mean(0, keepdim=True)
    parts, wide = (evidence.collect(None, image, ("colour", "bands")) for image in (gray, gray.expand(3, -1, -1)))
    assert all(torch.equal(parts[name], wide[name]) for name in wide)
