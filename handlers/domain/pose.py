"""Recognises rotated and inverted images: a small network on a thumbnail."""

from collections.abc import Mapping
from typing import Final

import torch
from torch.nn.functional import conv2d, linear, max_pool2d, relu, softplus

from handlers.domain.evidence import thumbnail

POSES: Final = ("upright", "rotated_90", "rotated_180", "rotated_270", "inverted")
"""`rotated_N` is the clockwise rotation that the image has."""
SIDE: Final = 32
"""Side of the thumbnail."""
WIDTHS: Final = (8, 16, 24)
"""Channels of the convolutions."""


UPRIGHT: Final = POSES[0]
_QUARTERS: Final = {"rotated_90": 1, "rotated_180": 2, "rotated_270": 3}


def undo(gray: torch.Tensor, name: str) -> torch.Tensor:
    """Return square gray values in [0, 1] as they were before they got this pose."""
    return 1 - gray if name == "inverted" else torch.rot90(gray, _QUARTERS[name])


def view(gray: torch.Tensor) -> torch.Tensor:
    """Return the thumbnail (side, side) of gray values (height, width), with mean 0 and standard deviation 1."""
    small = thumbnail(gray, SIDE)
    return (small - small.mean()) / (small.std() + 1e-3)


def logits(views: torch.Tensor, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return a logit for each of `POSES` and each of the thumbnails (N, side, side)."""
    x = views[:, None]
    for layer in range(len(WIDTHS)):
        x = relu(conv2d(x, weights[f"conv{layer}.weight"], weights[f"conv{layer}.bias"], padding=1))
        x = max_pool2d(x, 2)
    return linear(x.flatten(1), weights["head.weight"], weights["head.bias"])


def odds(gray: torch.Tensor, weights: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Return the softened log odds of each other pose against the likeliest accepted one, for gray values.

    Accepted are `UPRIGHT` and the poses that training images have, the boolean tensor `accepted`.
    """
    values, accepted = logits(view(gray)[None], weights)[0], weights["accepted"]
    against = softplus(values - values[accepted].max())
    return {name: float(against[index]) for index, name in enumerate(POSES) if not accepted[index]}
