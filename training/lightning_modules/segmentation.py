"""What Lightning needs to know to train a segmentation."""

from __future__ import annotations

import torch
from monai.losses.dice import DiceFocalLoss
from torch import nn

from training.lightning_modules.base import Task
from training.settings import Settings


class Segmentation(Task):
    """A network that gives one logit a pixel; watches the volumetric Dice, averaged over patients.

    Parameters
    ----------
    groups
        Patient of each validation slice, in their order.
    """

    watched = "dice"

    def __init__(self, network: nn.Module, settings: Settings, groups: tuple[str, ...]) -> None:
        super().__init__(network, settings)
        # Dice over the batch: one over each slice is not defined where a slice has no tumour.
        self.criterion = DiceFocalLoss(sigmoid=True, gamma=2.0, batch=True)
        names = sorted(set(groups))
        self.owners = torch.tensor([names.index(group) for group in groups])
        self.counts: list[torch.Tensor] = []

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See `Task.loss`."""
        loss: torch.Tensor = self.criterion(logits, targets)
        return loss

    def watch(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See `Task.watch`."""
        found, truth = (logits >= 0).flatten(1), targets.flatten(1) > 0
        self.counts.append(torch.stack([(found & truth).sum(1), found.sum(1) + truth.sum(1)], dim=1).cpu())
        return self.loss(logits, targets)

    def watched_value(self) -> torch.Tensor:
        """See `Task.watched_value`."""
        counts = torch.cat(self.counts).double()
        self.counts.clear()
        sums = torch.zeros(int(self.owners.max()) + 1, 2, dtype=torch.float64).index_add(0, self.owners, counts)
        dice = torch.where(sums[:, 1] > 0, 2 * sums[:, 0] / sums[:, 1].clamp(min=1), 1.0)
        return dice.mean().float()
