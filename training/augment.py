"""Random changes to whole batches of images: what varies between them and means nothing.

Mirroring is off unless settings ask for it: in a film the heart lies left, and a mirrored one shows
another patient (situs inversus). What also differs between the classes of the public sets without
being illness is made to vary most: sharpness (the original size of the file), contrast, and the black
border.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import torch
from torch.nn.functional import affine_grid, conv2d, grid_sample, interpolate, pad

from training.settings import Augmentation

_AXES: Final = {"horizontal": -1, "vertical": -2}


def move(
    images: torch.Tensor, how: Augmentation, draw: torch.Generator, masks: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Shift, turn, scale, shear and mirror every image, and its mask in the same way.

    Parameters
    ----------
    images
        Float, shape (N, C, H, W), in [0, 1].
    draw
        Where all randomness comes from.
    masks
        uint8, shape (N, 1, H, W), 0 and 1.

    Returns
    -------
    New images and masks of the same shapes.
    """
    flips: dict[str, torch.Tensor] = {axis: torch.rand(len(images), 1, 1, 1, generator=draw) < 0.5 for axis in how.flip}
    images = _mirror(images, flips)
    grid, outside = _grid(images, how, draw)
    moved = grid_sample(images, grid, mode="bilinear", padding_mode=outside, align_corners=False)
    if masks is None:
        return moved, None
    masks = _mirror(masks, flips)
    soft = grid_sample(masks.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return moved, (soft >= 0.5).byte()


def expose(images: torch.Tensor, how: Augmentation, draw: torch.Generator) -> torch.Tensor:
    """Change how sharp, bright, hard and grainy every image is, and cover parts; what is where stays.

    Returns
    -------
    New images, same shape, in [0, 1].
    """
    images = _sequences(images, how, draw)
    images = _focus(images, how, draw)
    images = _expose(images, how, draw)
    images = images + how.noise * _uniform(images, draw, 0, 1) * torch.randn(images.shape, generator=draw)
    for _ in range(2):
        images = _erase(images, how, draw)
    return images.clamp(0, 1)


def mix(
    images: torch.Tensor, targets: torch.Tensor, how: Augmentation, draw: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Blend every image and its target with another of the batch (mixup, Zhang et al. 2018).

    Parameters
    ----------
    targets
        Shape (N, labels), shares of the labels.
    """
    if how.mixup == 0:
        return images, targets
    # The larger of a Beta(a, a) pair, from two Gamma(a, 1) draws.
    parts = torch._standard_gamma(torch.full((2, len(images)), how.mixup), generator=draw)  # noqa: SLF001
    share = (parts.amax(0) / parts.sum(0).clamp_min(1e-9)).clamp_min(0.5)
    other = torch.randperm(len(images), generator=draw)
    wide = share[:, None, None, None]
    mixed = wide * images + (1 - wide) * images[other]
    return mixed, share[:, None] * targets + (1 - share[:, None]) * targets[other]


def _uniform(images: torch.Tensor, draw: torch.Generator, low: float, high: float) -> torch.Tensor:
    """One number an image, shape (N, 1, 1, 1)."""
    return low + (high - low) * torch.rand(len(images), 1, 1, 1, generator=draw)


def _mirror(images: torch.Tensor, flips: Mapping[str, torch.Tensor]) -> torch.Tensor:
    for axis, chosen in flips.items():
        images = torch.where(chosen, images.flip(_AXES[axis]), images)
    return images


def _grid(images: torch.Tensor, how: Augmentation, draw: torch.Generator) -> tuple[torch.Tensor, str]:
    height, width = images.shape[-2:]

    def number(low: float, high: float) -> torch.Tensor:
        return _uniform(images, draw, low, high).flatten()

    angle = number(-1, 1) * math.radians(how.rotation)
    zoom = torch.exp(number(math.log(how.zoom[0]), math.log(how.zoom[1])))
    aspect = torch.exp(number(-how.aspect / 2, how.aspect / 2))
    shear = number(-how.shear, how.shear)
    ratio = height / width
    # From places in the output to places in the input, in units of half the size.
    rows = [
        torch.stack(
            [angle.cos() / (zoom * aspect), (shear - angle.sin()) * ratio / zoom, number(-1, 1) * 2 * how.shift]
        ),
        torch.stack([angle.sin() / ratio / zoom, angle.cos() * aspect / zoom, number(-1, 1) * 2 * how.shift]),
    ]
    grid = affine_grid(torch.stack(rows).permute(2, 0, 1), list(images.shape), align_corners=False)
    # What lies outside is black on some films and continues on others.
    outside = "zeros" if torch.rand(1, generator=draw) < 0.5 else "border"
    return grid, outside


def _focus(images: torch.Tensor, how: Augmentation, draw: torch.Generator) -> torch.Tensor:
    """Blur one half and sharpen the other, each by its own amount."""
    if how.blur == 0 and how.sharpen == 0:
        return images
    radius = max(1, math.ceil(2 * how.blur))
    places = torch.arange(-radius, radius + 1, dtype=images.dtype)
    # One width a batch, one amount an image: a single convolution serves all.
    width = 0.5 + max(how.blur - 0.5, 0) * torch.rand(1, generator=draw)
    kernel = torch.exp(-0.5 * (places / width) ** 2)
    kernel = (kernel / kernel.sum())[None, None, None].expand(images.shape[1], 1, 1, -1)
    soft = conv2d(pad(images, (radius, radius, 0, 0), mode="replicate"), kernel, groups=images.shape[1])
    soft = conv2d(pad(soft, (0, 0, radius, radius), mode="replicate"), kernel.mT, groups=images.shape[1])
    amount = _uniform(images, draw, -1 if how.blur else 0, 1)
    amount = torch.where(amount > 0, amount * how.sharpen, amount)
    return images + amount * (images - soft)


def _sequences(images: torch.Tensor, how: Augmentation, draw: torch.Generator) -> torch.Tensor:
    """Change every channel on its own: each is a recording of its own, with its own gain, or is not there."""
    count, channels = images.shape[:2]
    if how.missing:
        absent = torch.rand(count, channels, 1, 1, generator=draw) < how.missing
        images = torch.where(absent, images[:, channels // 2, None], images)
    if how.bias:
        coarse = (torch.rand(count, channels, 3, 3, generator=draw) * 2 - 1) * how.bias
        images = images * torch.exp(interpolate(coarse, images.shape[-2:], mode="bicubic", align_corners=True))
    if how.tone:
        power = torch.rand(count, channels, 1, 1, generator=draw) * 2 - 1
        images = images.clamp(1e-3, 1) ** torch.exp(power * how.tone)
    return images


def _expose(images: torch.Tensor, how: Augmentation, draw: torch.Generator) -> torch.Tensor:
    images = images.clamp(1e-3, 1) ** torch.exp(_uniform(images, draw, -how.gamma, how.gamma))
    factor = torch.exp(_uniform(images, draw, -how.contrast, how.contrast))
    middle = images.mean((-3, -2, -1), keepdim=True)
    images = (images - middle) * factor + middle + _uniform(images, draw, -how.brightness, how.brightness)
    if how.shading:
        coarse = torch.rand(len(images), 1, 3, 4, generator=draw) * 2 - 1
        field = interpolate(coarse, images.shape[-2:], mode="bilinear", align_corners=True)
        images = images + how.shading * _uniform(images, draw, 0, 1) * field
    return images


def _erase(images: torch.Tensor, how: Augmentation, draw: torch.Generator) -> torch.Tensor:
    """Lay a gray rectangle over some: letters, tubes and plates must not decide."""
    inside = torch.ones(len(images), 1, 1, 1, dtype=torch.bool)
    for axis in (-2, -1):
        shape = [1] * 4
        shape[axis] = -1
        places = torch.linspace(0, 1, images.shape[axis]).view(shape)
        middle, half = _uniform(images, draw, 0, 1), _uniform(images, draw, 0.03, 0.15)
        inside = inside & ((places - middle).abs() < half)
    chosen = _uniform(images, draw, 0, 1) < how.erase
    return torch.where(inside & chosen, _uniform(images, draw, 0, 1), images)
