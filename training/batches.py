"""Batches of augmented, normalised images; each depends on seed, epoch and place only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from handlers import preprocess
from handlers.recipe import Input
from training.augment import augment, mix
from training.settings import Augmentation

Batch = tuple[torch.Tensor, torch.Tensor]
"""Network input (N, channels, height, width), and shares of the labels (N, labels)."""


@dataclass(frozen=True)
class Images:
    """A part of a data set in memory.

    Attributes
    ----------
    pixels
        uint8, shape (N, 1 or channels, height, width).
    targets
        int64, shape (N,): the place of the label in the recipe.
    groups
        Patient of each.
    """

    pixels: torch.Tensor
    targets: torch.Tensor
    groups: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Draw:
    """One batch to come: which images, and the seed of their changes."""

    places: torch.Tensor
    seed: int


class Plan(Sampler[Draw]):
    """The batches of an epoch; another order each epoch, the same one each time that epoch is run.

    Parameters
    ----------
    count
        Number of images. What does not fill a batch waits for another epoch.
    """

    def __init__(self, count: int, batch: int, seed: int) -> None:
        self._count, self._batch, self._seed = count, min(batch, count), seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch, a resumed one included."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._count // self._batch

    def __iter__(self) -> Iterator[Draw]:
        draw = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        order = torch.randperm(self._count, generator=draw)
        for start in range(0, len(self) * self._batch, self._batch):
            seed = int(torch.randint(2**62, (1,), generator=draw))
            yield Draw(order[start : start + self._batch], seed)


class Augmented(Dataset[Batch]):
    """Whole batches of training images, changed by the seed of their draw."""

    def __init__(self, images: Images, spec: Input, labels: int, how: Augmentation) -> None:
        self._images, self._spec, self._labels, self._how = images, spec, labels, how

    def __getitem__(self, draw: Draw) -> Batch:
        random = torch.Generator().manual_seed(draw.seed)
        values = augment(self._images.pixels[draw.places].float() / 255, self._how, random)
        targets = torch.nn.functional.one_hot(self._images.targets[draw.places], self._labels).float()
        values, targets = mix(values, targets, self._how, random)
        return normalised(values, self._spec), targets


class Plain(Dataset[Batch]):
    """Whole batches of images as the server would see them."""

    def __init__(self, images: Images, spec: Input, labels: int) -> None:
        self._images, self._spec, self._labels = images, spec, labels

    def __getitem__(self, draw: Draw) -> Batch:
        values = self._images.pixels[draw.places].float() / 255
        targets = torch.nn.functional.one_hot(self._images.targets[draw.places], self._labels).float()
        return normalised(values, self._spec), targets


class InOrder(Sampler[Draw]):
    """All images once, in their order."""

    def __init__(self, count: int, batch: int) -> None:
        self._count, self._batch = count, batch

    def __len__(self) -> int:
        return len(range(0, self._count, self._batch))

    def __iter__(self) -> Iterator[Draw]:
        for start in range(0, self._count, self._batch):
            yield Draw(torch.arange(start, min(start + self._batch, self._count)), 0)


def normalised(values: torch.Tensor, spec: Input) -> torch.Tensor:
    """Apply the server's own normalisation to a batch in [0, 1]."""
    ready = preprocess.normalise(values.numpy(), spec)
    return torch.from_numpy(ready).contiguous(memory_format=torch.channels_last)


def training(images: Images, spec: Input, labels: int, batch: int, seed: int, how: Augmentation) -> DataLoader[Batch]:
    """Endless variety: augmented batches of an epoch."""
    plan = Plan(len(images), batch, seed)
    return DataLoader(Augmented(images, spec, labels, how), sampler=plan, batch_size=None)


def plain(images: Images, spec: Input, labels: int, batch: int = 128) -> DataLoader[Batch]:
    """Every image once, unchanged."""
    return DataLoader(Plain(images, spec, labels), sampler=InOrder(len(images), batch), batch_size=None)
