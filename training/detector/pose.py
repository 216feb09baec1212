"""Trains the network that recognises poses."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from handlers.domain import pose
from handlers.domain.pose import POSES, SIDE, UPRIGHT, WIDTHS
from training import augment
from training.metrics.proportion import wilson
from training.settings import Augmentation

_STEPS: Final = 1000
_BATCH: Final = 128
_RATE: Final = 3e-3
_DECAY: Final = 0.02
_ROTATION: Final = 15
"""Largest rotation, in degrees, of an image that still counts as upright."""
SEEN: Final = 0.03
"""Share of the held-out groups that appear to have a pose, from which on the training images have it too."""


def train(thumbnails: torch.Tensor, augmentation: Augmentation, seed: int) -> dict[str, torch.Tensor]:
    """Train on upright thumbnails (N, side, side) in [0, 1] and on copies of them in every pose."""
    generator = torch.Generator().manual_seed(seed)
    config = _gentle(augmentation)
    weights = _initial(generator)
    optimizer = torch.optim.AdamW(weights.values(), _RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=_STEPS)
    for _ in range(_STEPS):
        rows = torch.randint(len(thumbnails), (_BATCH,), generator=generator)
        upright, _masks = augment.move(thumbnails[rows][:, None], config, generator)
        targets = torch.randint(len(POSES), (_BATCH,), generator=generator)
        pairs = zip(upright[:, 0], targets.tolist(), strict=True)
        views = torch.stack([give(gray, POSES[target]) for gray, target in pairs])
        views = augment.expose(views[:, None], config, generator)[:, 0]
        loss = cross_entropy(pose.logits(pose.views(views), weights), targets, label_smoothing=0.01)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    return {name: value.detach() for name, value in weights.items()}


def likeliest(thumbnails: torch.Tensor, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the index in `POSES` of the likeliest pose of thumbnails (N, side, side)."""
    return pose.logits(pose.views(thumbnails), weights).argmax(1)


def accepted(poses: torch.Tensor, groups: Sequence[str]) -> torch.Tensor:
    """Return for each of `POSES` whether upright images have it: `SEEN` of the groups, as the interval's lower end.

    `poses` are the likeliest ones of held-out upright images (N,). Every group weighs the same: many copies of one
    image that is mistaken for a turned one are no evidence.
    """
    sizes = Counter(groups)
    parts = torch.tensor([1 / sizes[group] for group in groups])
    counts = torch.bincount(poses, parts, minlength=len(POSES)).tolist()
    shares = torch.tensor([wilson(count, len(sizes))[0] for count in counts])
    return (shares >= SEEN) | (torch.arange(len(POSES)) == POSES.index(UPRIGHT))


def _gentle(config: Augmentation) -> Augmentation:
    """Leave out of the training's augmentation what hides a pose, or means another size than that of a thumbnail."""
    flip = tuple(axis for axis in config.flip if axis == "horizontal")
    rotation = min(config.rotation, _ROTATION)
    return config.model_copy(update={"blur": 0, "sharpen": 0, "flip": flip, "rotation": rotation})


def give(gray: torch.Tensor, name: str) -> torch.Tensor:
    """Give upright square gray values a pose."""
    if name == UPRIGHT:
        return gray
    inverse = {"rotated_90": "rotated_270", "rotated_270": "rotated_90"}.get(name, name)
    return pose.undo(gray, inverse)


def _initial(generator: torch.Generator) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = {}
    before = 1
    for layer, width in enumerate(WIDTHS):
        kernel = torch.randn(width, before, 3, 3, generator=generator) * (2 / (9 * before)) ** 0.5
        weights |= {f"conv{layer}.weight": kernel, f"conv{layer}.bias": torch.zeros(width)}
        before = width
    inputs = before * (SIDE // 2 ** len(WIDTHS)) ** 2
    head = torch.randn(len(POSES), inputs, generator=generator) * inputs**-0.5
    weights |= {"head.weight": head, "head.bias": torch.zeros(len(POSES))}
    return {name: nn.Parameter(value) for name, value in weights.items()}
