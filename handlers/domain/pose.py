"""Recognises rotated and inverted images: a small network on a thumbnail."""

from collections.abc import Mapping
from typing import Final

import torch
from torch.nn.functional import conv2d, linear, max_pool2d, relu, softplus

POSES: Final = ("upright", "rotated_90", "rotated_180", "rotated_270", "inverted")
"""`rotated_N` is the clockwise rotation that the image has."""
SIDE: Final = 32
"""Side of the thumbnail."""
WIDTHS: Final = (8, 16, 24)
"""Channels of the convolutions."""


UPRIGHT: Final = POSES[0]
_QUARTERS: Final = {"rotated_90": 1, "rotated_180": 2, "rotated_270": 3}


def undo(image: torch.Tensor, name: str) -> torch.Tensor:
    """Return values (..., height, width) in [0, 1] as they were before they got this pose."""
    return 1 - image if name == "inverted" else torch.rot90(image, _QUARTERS[name], (-2, -1))


def views(thumbnails: torch.Tensor) -> torch.Tensor:
    """Give each of the thumbnails (N, side, side) the mean 0 and the standard deviation 1."""
    mean, std = (value[:, None, None] for value in (thumbnails.mean((1, 2)), thumbnails.std((1, 2))))
    return (thumbnails - mean) / (std + 1e-3)


def logits(views: torch.Tensor, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return a logit for each of `POSES` and each of the thumbnails (N, side, side)."""
    x = views[:, None]
    for layer in range(len(WIDTHS)):
        x = relu(conv2d(x, weights[f"conv{layer}.weight"], weights[f"conv{layer}.bias"], padding=1))
        x = max_pool2d(x, 2)
    return linear(x.flatten(1), weights["head.weight"], weights["head.bias"])


def odds(thumbnails: torch.Tensor, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the softened log odds (N,) of each other pose against the likeliest accepted one.

    Takes thumbnails (N, side, side) in [0, 1]. Accepted are `UPRIGHT` and the poses that training images have, the
    boolean tensor `accepted`.
    """
    values, accepted = logits(views(thumbnails), weights), weights["accepted"]
    against = softplus(values - values[:, accepted].amax(1, keepdim=True))
    return {name: against[:, index] for index, name in enumerate(POSES) if not accepted[index]}
