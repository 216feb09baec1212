"""Batches of normalised images; augmented ones depend only on seed, epoch and position."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate, one_hot
from torch.utils.data import DataLoader, Dataset, Sampler, TensorDataset

from handlers import preprocess
from handlers.recipe import Input
from training.augment import expose, mix, move
from training.errors import SettingsError
from training.letters import Layers
from training.settings import Augmentation, Settings

Batch = tuple[torch.Tensor, torch.Tensor]
"""Network input (N, channels, height, width), and the truth: shares of the labels (N, labels), or masks
(N, 1, height, width) of 0 and 1; both float."""


@dataclass(frozen=True)
class Images:
    """A part of a data set in memory."""

    pixels: torch.Tensor  # uint8, shape (N, 1 or channels, height, width)
    targets: torch.Tensor  # int64, shape (N,): index of the label in the recipe
    groups: tuple[str, ...]  # patient of each image
    masks: torch.Tensor | None = None  # uint8, shape (N, 1, height, width), 0 and 1; None for a classification

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, indices: NDArray[np.intp]) -> Self:
        """Return some of the images."""
        groups = tuple(self.groups[index] for index in indices)
        masks = None if self.masks is None else self.masks[indices]
        return replace(self, pixels=self.pixels[indices], targets=self.targets[indices], groups=groups, masks=masks)

    def counts(self, labels: Sequence[str]) -> dict[str, Any]:
        """Return the numbers of images, of groups, and of images of each label, for `metrics.json`."""
        numbers = Counter(self.targets.tolist())
        of_labels = {label: numbers[index] for index, label in enumerate(labels)}
        return {"images": len(self), "groups": len(set(self.groups)), "labels": of_labels}


def scaled(images: Images, scale: float) -> Images:
    """Shrink images and masks to a share of their height and width."""

    def shrink(values: torch.Tensor) -> torch.Tensor:
        size = [round(scale * length) for length in values.shape[-2:]]
        return interpolate(values.float(), size, mode="bilinear", antialias=True)

    if scale == 1:
        return images
    masks = None if images.masks is None else (shrink(images.masks) >= 0.5).byte()
    return replace(images, pixels=shrink(images.pixels).round().byte(), masks=masks)


@dataclass(frozen=True)
class Draw:
    """Indices of the images of a batch, and the seed of their augmentation."""

    indices: torch.Tensor
    seed: int


class SamplingPlan(Sampler[Draw]):
    """Random batches of an epoch; each epoch has another order, which is the same whenever that epoch is run.

    An epoch has at most `steps` batches; an incomplete last one is dropped. `even` limits each label to as many images
    as the rarest one has, with another selection in each epoch.
    """

    def __init__(
        self, targets: torch.Tensor, batch: int, seed: int, *, steps: int | None = None, even: bool = False
    ) -> None:
        counts = torch.bincount(targets)
        self._targets, self._limit = targets, int(counts[counts > 0].min()) if even else len(targets)
        self._count = int(counts.clamp(max=self._limit).sum())
        self._batch, self._seed = min(batch, self._count), seed
        self._steps = steps
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; Lightning calls this before each epoch, also when it resumes."""
        self._epoch = epoch

    def __len__(self) -> int:
        batches = self._count // self._batch
        return batches if self._steps is None else min(batches, self._steps)

    def __iter__(self) -> Iterator[Draw]:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        order = torch.randperm(len(self._targets), generator=generator)
        if self._count < len(order):
            labels = self._targets[order]
            rank = torch.zeros_like(order)
            for label in range(int(labels.max()) + 1):
                rank[labels == label] = torch.arange(int((labels == label).sum()))
            order = order[rank < self._limit]
        for start in range(0, len(self) * self._batch, self._batch):
            seed = int(torch.randint(2**62, (1,), generator=generator))
            yield Draw(order[start : start + self._batch], seed)


class Augmented(Dataset[Batch]):
    """Batches of augmented training images; of `views` of each, one after another."""

    def __init__(self, images: Images, spec: Input, labels: int, augmentation: Augmentation, views: int = 1) -> None:
        self._images, self._spec, self._labels, self._augmentation = images, spec, labels, augmentation
        self._views = views
        self._layers = _layers(images) if augmentation.letters else None

    def __getitem__(self, draw: Draw) -> Batch:
        images, generator = self._images, torch.Generator().manual_seed(draw.seed)
        indices = draw.indices.repeat(self._views)
        masks = None if images.masks is None else images.masks[indices]
        values = images.pixels[indices].float() / 255
        if self._layers is not None:
            values = self._layers.exchange(indices, values, self._augmentation.letters, generator)
        values, masks = move(values, self._augmentation, generator, masks)
        values = expose(values, self._augmentation, generator)
        if masks is not None:
            return normalise(values, self._spec), masks.float()
        targets = one_hot(images.targets[indices], self._labels).float()
        values, targets = mix(values, targets, self._augmentation, generator)
        return normalise(values, self._spec), targets


def _layers(images: Images) -> Layers:
    channels = images.pixels.shape[1]
    if channels != 1:
        raise SettingsError(f"augmentation.letters: is for films; these images have {channels} channels. Set it to 0.")
    return Layers.of(images.pixels)


def normalise(values: torch.Tensor, spec: Input) -> torch.Tensor:
    """Normalise a batch in [0, 1] like the server."""
    normalised = preprocess.normalise(values.numpy(), spec)
    return torch.from_numpy(normalised).contiguous(memory_format=torch.channels_last)


def training(images: Images, spec: Input, labels: int, settings: Settings) -> DataLoader[Batch]:
    """Load the augmented batches of an epoch; only those of a segmentation are balanced, others by the loss."""
    even = images.masks is not None
    if even and settings.consistency:
        raise SettingsError("consistency: is for classifications, not for masks. Omit the setting.")
    plan = SamplingPlan(images.targets, settings.batch, settings.seed, steps=settings.steps, even=even)
    views = 2 if settings.consistency else 1
    return DataLoader(Augmented(images, spec, labels, settings.augmentation, views), sampler=plan, batch_size=None)


def plain(images: Images, spec: Input, labels: int, batch: int = 128) -> DataLoader[Batch]:
    """Load every image once, in order, without augmentation."""
    truth = one_hot(images.targets, labels) if images.masks is None else images.masks

    def collate(items: list[Batch]) -> Batch:
        values, targets = (torch.stack(part).float() for part in zip(*items, strict=True))
        return normalise(values / 255, spec), targets

    return DataLoader[Any](TensorDataset(images.pixels, truth), batch, collate_fn=collate)
