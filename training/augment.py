"""Random augmentation of batches of images.

Mirroring is off by default: in a film the heart is on the left, and a mirrored film shows a different condition (situs
inversus). Properties that differ between the classes of the public data sets but are unrelated to disease vary most:
sharpness (the original size of the file), contrast, and the black border.
"""

import math
from collections.abc import Mapping
from typing import Final

import torch
from torch.nn.functional import affine_grid, conv2d, grid_sample, interpolate, pad

from training.settings import Augmentation

_AXES: Final = {"horizontal": -1, "vertical": -2}


def move(
    images: torch.Tensor, config: Augmentation, generator: torch.Generator, masks: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Shift, rotate, scale, shear and mirror every image together with its mask.

    Images are float (N, C, H, W) in [0, 1], masks uint8 (N, 1, H, W), 0 and 1; the results are alike.
    """
    flips: dict[str, torch.Tensor] = {
        axis: torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5 for axis in config.flip
    }
    images = _mirror(images, flips)
    grid, padding = _grid(images, config, generator)
    moved = grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=False)
    if masks is None:
        return moved, None
    masks = _mirror(masks, flips)
    soft = grid_sample(masks.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return moved, (soft >= 0.5).byte()


def expose(images: torch.Tensor, config: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Change sharpness, brightness, contrast and noise of every image in [0, 1], and cover parts of it."""
    images = _sequences(images, config, generator)
    images = _focus(images, config, generator)
    images = _expose(images, config, generator)
    images = images + config.noise * _uniform(images, generator, 0, 1) * torch.randn(images.shape, generator=generator)
    for _ in range(2):
        images = _erase(images, config, generator)
    return images.clamp(0, 1)


def mix(
    images: torch.Tensor, targets: torch.Tensor, config: Augmentation, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Blend every image and its target with another one of the batch (mixup, Zhang et al. 2018).

    Targets are shares of the labels, shape (N, labels).
    """
    if config.mixup == 0:
        return images, targets
    # The larger of a Beta(a, a) pair, from two Gamma(a, 1) values.
    parts = torch._standard_gamma(torch.full((2, len(images)), config.mixup), generator=generator)  # noqa: SLF001
    share = (parts.amax(0) / parts.sum(0).clamp_min(1e-9)).clamp_min(0.5)
    other = torch.randperm(len(images), generator=generator)
    wide = share[:, None, None, None]
    mixed = wide * images + (1 - wide) * images[other]
    return mixed, share[:, None] * targets + (1 - share[:, None]) * targets[other]


def _uniform(images: torch.Tensor, generator: torch.Generator, low: float, high: float) -> torch.Tensor:
    """Draw one number per image, shape (N, 1, 1, 1)."""
    return low + (high - low) * torch.rand(len(images), 1, 1, 1, generator=generator)


def _mirror(images: torch.Tensor, flips: Mapping[str, torch.Tensor]) -> torch.Tensor:
    for axis, selected in flips.items():
        images = torch.where(selected, images.flip(_AXES[axis]), images)
    return images


def _grid(images: torch.Tensor, config: Augmentation, generator: torch.Generator) -> tuple[torch.Tensor, str]:
    height, width = images.shape[-2:]

    def number(low: float, high: float) -> torch.Tensor:
        return _uniform(images, generator, low, high).flatten()

    angle = number(-1, 1) * math.radians(config.rotation)
    zoom = torch.exp(number(math.log(config.zoom[0]), math.log(config.zoom[1])))
    aspect = torch.exp(number(-config.aspect / 2, config.aspect / 2))
    shear = number(-config.shear, config.shear)
    ratio = height / width
    # Maps output coordinates to input coordinates, in units of half the size.
    rows = [
        torch.stack(
            [angle.cos() / (zoom * aspect), (shear - angle.sin()) * ratio / zoom, number(-1, 1) * 2 * config.shift]
        ),
        torch.stack([angle.sin() / ratio / zoom, angle.cos() * aspect / zoom, number(-1, 1) * 2 * config.shift]),
    ]
    grid = affine_grid(torch.stack(rows).permute(2, 0, 1), list(images.shape), align_corners=False)
    # Outside the image, some films are black and others continue.
    padding = "zeros" if torch.rand(1, generator=generator) < 0.5 else "border"
    return grid, padding


def _focus(images: torch.Tensor, config: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Blur half of the images and sharpen the others, by random amounts."""
    if config.blur == 0 and config.sharpen == 0:
        return images
    radius = max(1, math.ceil(2 * config.blur))
    offsets = torch.arange(-radius, radius + 1, dtype=images.dtype)
    # One width per batch and one amount per image, so that a single convolution suffices.
    width = 0.5 + max(config.blur - 0.5, 0) * torch.rand(1, generator=generator)
    kernel = torch.exp(-0.5 * (offsets / width) ** 2)
    kernel = (kernel / kernel.sum())[None, None, None].expand(images.shape[1], 1, 1, -1)
    soft = conv2d(pad(images, (radius, radius, 0, 0), mode="replicate"), kernel, groups=images.shape[1])
    soft = conv2d(pad(soft, (0, 0, radius, radius), mode="replicate"), kernel.mT, groups=images.shape[1])
    amount = _uniform(images, generator, -1 if config.blur else 0, 1)
    amount = torch.where(amount > 0, amount * config.sharpen, amount)
    return images + amount * (images - soft)


def _sequences(images: torch.Tensor, config: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Change each channel independently: MRI sequences are separate recordings, and some are missing."""
    count, channels = images.shape[:2]
    if config.missing:
        absent = torch.rand(count, channels, 1, 1, generator=generator) < config.missing
        images = torch.where(absent, images[:, channels // 2, None], images)
    if config.bias:
        coarse = (torch.rand(count, channels, 3, 3, generator=generator) * 2 - 1) * config.bias
        images = images * torch.exp(interpolate(coarse, images.shape[-2:], mode="bicubic", align_corners=True))
    if config.tone:
        power = torch.rand(count, channels, 1, 1, generator=generator) * 2 - 1
        images = images.clamp(1e-3, 1) ** torch.exp(power * config.tone)
    return images


def _expose(images: torch.Tensor, config: Augmentation, generator: torch.Generator) -> torch.Tensor:
    images = images.clamp(1e-3, 1) ** torch.exp(_uniform(images, generator, -config.gamma, config.gamma))
    factor = torch.exp(_uniform(images, generator, -config.contrast, config.contrast))
    middle = images.mean((-3, -2, -1), keepdim=True)
    images = (images - middle) * factor + middle + _uniform(images, generator, -config.brightness, config.brightness)
    if config.shading:
        coarse = torch.rand(len(images), 1, 3, 4, generator=generator) * 2 - 1
        field = interpolate(coarse, images.shape[-2:], mode="bilinear", align_corners=True)
        images = images + config.shading * _uniform(images, generator, 0, 1) * field
    return images


def _erase(images: torch.Tensor, config: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Cover a rectangle of some images with gray, against a reliance on letters, tubes and plates."""
    inside = torch.ones(len(images), 1, 1, 1, dtype=torch.bool)
    for axis in (-2, -1):
        shape = [1] * 4
        shape[axis] = -1
        positions = torch.linspace(0, 1, images.shape[axis]).view(shape)
        middle, half = _uniform(images, generator, 0, 1), _uniform(images, generator, 0.03, 0.15)
        inside = inside & ((positions - middle).abs() < half)
    selected = _uniform(images, generator, 0, 1) < config.erase
    return torch.where(inside & selected, _uniform(images, generator, 0, 1), images)
