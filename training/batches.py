"""Batches of augmented, normalised images; each depends on seed, epoch and place only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import lightning
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from handlers import preprocess
from handlers.recipe import Input
from training.augment import expose, mix, move
from training.settings import Augmentation, Settings

Batch = tuple[torch.Tensor, torch.Tensor]
"""Network input (N, channels, height, width), and the truth: shares of the labels (N, labels), or masks
(N, 1, height, width) of 0 and 1; both float."""


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
    masks
        uint8, shape (N, 1, height, width), 0 and 1; None where only labels are known.
    """

    pixels: torch.Tensor
    targets: torch.Tensor
    groups: tuple[str, ...]
    masks: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Draw:
    """One batch to come: which images, and the seed of their changes."""

    places: torch.Tensor
    seed: int


class SamplingPlan(Sampler[Draw]):
    """The batches of an epoch; another order each epoch, the same one each time that epoch is run.

    Parameters
    ----------
    targets
        Labels of the images.
    batch
        Images a batch. What does not fill one waits for another epoch.
    steps
        Most batches an epoch.
    even
        Whether an epoch has no more images of any label than of the rarest; another choice each epoch.
    """

    def __init__(
        self, targets: torch.Tensor, batch: int, seed: int, *, steps: int | None = None, even: bool = False
    ) -> None:
        counts = torch.bincount(targets)
        self._targets, self._least = targets, int(counts[counts > 0].min()) if even else len(targets)
        self._count = int(counts.clamp(max=self._least).sum())
        self._batch, self._seed = min(batch, self._count), seed
        self._steps = steps
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch, a resumed one included."""
        self._epoch = epoch

    def __len__(self) -> int:
        whole = self._count // self._batch
        return whole if self._steps is None else min(whole, self._steps)

    def __iter__(self) -> Iterator[Draw]:
        draw = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        order = torch.randperm(len(self._targets), generator=draw)
        if self._count < len(order):
            labels = self._targets[order]
            rank = torch.zeros_like(order)
            for label in range(int(labels.max()) + 1):
                rank[labels == label] = torch.arange(int((labels == label).sum()))
            order = order[rank < self._least]
        for start in range(0, len(self) * self._batch, self._batch):
            seed = int(torch.randint(2**62, (1,), generator=draw))
            yield Draw(order[start : start + self._batch], seed)


class Augmented(Dataset[Batch]):
    """Whole batches of training images, changed by the seed of their draw."""

    def __init__(self, images: Images, spec: Input, labels: int, how: Augmentation) -> None:
        self._images, self._spec, self._labels, self._how = images, spec, labels, how

    def __getitem__(self, draw: Draw) -> Batch:
        random = torch.Generator().manual_seed(draw.seed)
        masks = None if self._images.masks is None else self._images.masks[draw.places]
        values, masks = move(self._images.pixels[draw.places].float() / 255, self._how, random, masks)
        values = expose(values, self._how, random)
        if masks is not None:
            return normalised(values, self._spec), masks.float()
        targets = torch.nn.functional.one_hot(self._images.targets[draw.places], self._labels).float()
        values, targets = mix(values, targets, self._how, random)
        return normalised(values, self._spec), targets


class Plain(Dataset[Batch]):
    """Whole batches of images as the server would see them."""

    def __init__(self, images: Images, spec: Input, labels: int) -> None:
        self._images, self._spec, self._labels = images, spec, labels

    def __getitem__(self, draw: Draw) -> Batch:
        values = self._images.pixels[draw.places].float() / 255
        if self._images.masks is not None:
            return normalised(values, self._spec), self._images.masks[draw.places].float()
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


class DataModule(lightning.LightningDataModule):
    """Both sides of a data set, as Lightning asks for them.

    Parameters
    ----------
    labels
        Number of the recipe's labels.
    """

    def __init__(self, train: Images, validation: Images, spec: Input, labels: int, settings: Settings) -> None:
        super().__init__()
        self._sides, self._spec, self._labels, self._settings = (train, validation), spec, labels, settings

    def train_dataloader(self) -> DataLoader[Batch]:
        """Give augmented batches."""
        return training(self._sides[0], self._spec, self._labels, self._settings)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Give every validation image once, unchanged."""
        return plain(self._sides[1], self._spec, self._labels, self._settings.batch * 2)


def training(images: Images, spec: Input, labels: int, settings: Settings) -> DataLoader[Batch]:
    """Endless variety: augmented batches of an epoch.

    Classes are balanced by the loss where labels are learnt, and by the choice of images where masks are.
    """
    even = images.masks is not None
    plan = SamplingPlan(images.targets, settings.batch, settings.seed, steps=settings.steps, even=even)
    return DataLoader(Augmented(images, spec, labels, settings.augmentation), sampler=plan, batch_size=None)


def plain(images: Images, spec: Input, labels: int, batch: int = 128) -> DataLoader[Batch]:
    """Every image once, unchanged."""
    return DataLoader(Plain(images, spec, labels), sampler=InOrder(len(images), batch), batch_size=None)
