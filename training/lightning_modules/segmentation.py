"""Lightning module of segmentations."""

import torch
from monai.losses.dice import DiceFocalLoss
from torch import nn

from training.lightning_modules.base import Task
from training.settings import Settings


class Segmentation(Task):
    """A network with one logit per pixel; the validation metric is the mean volumetric Dice of the patients.

    `groups` has the patient of each validation slice, in their order.
    """

    watched = "dice"

    def __init__(self, network: nn.Module, settings: Settings, groups: tuple[str, ...]) -> None:
        super().__init__(network, settings)
        # Dice over the batch, because the Dice of a slice without tumour is not defined.
        self.criterion = DiceFocalLoss(sigmoid=True, gamma=2.0, batch=True)
        names = sorted(set(groups))
        self.owners = torch.tensor([names.index(group) for group in groups])
        self.counts: list[torch.Tensor] = []

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See `Task.loss`."""
        loss: torch.Tensor = self.criterion(logits, targets)
        return loss

    def update_metric(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See `Task.update_metric`."""
        predicted, truth = (logits >= 0).flatten(1), targets.flatten(1) > 0
        counts = [(predicted & truth).sum(1), predicted.sum(1) + truth.sum(1)]
        self.counts.append(torch.stack(counts, dim=1).cpu())
        return self.loss(logits, targets)

    def compute_metric(self) -> torch.Tensor:
        """See `Task.compute_metric`."""
        counts = torch.cat(self.counts).double()
        self.counts.clear()
        sums = torch.zeros(int(self.owners.max()) + 1, 2, dtype=torch.float64).index_add(0, self.owners, counts)
        dice = torch.where(sums[:, 1] > 0, 2 * sums[:, 0] / sums[:, 1].clamp(min=1), 1.0)
        return dice.mean().float()
