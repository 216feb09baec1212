"""What Lightning needs to know to train a classifier."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torchmetrics import Metric
from torchmetrics.classification import BinaryAUROC, MulticlassAccuracy

from training.lightning_modules.base import Task
from training.settings import Settings


class Classification(Task):
    """A network with a softmax over its labels, or a sigmoid for the second of two.

    Watches the AUROC of two labels, the accuracy of more.

    Parameters
    ----------
    counts
        Training images of each label. The loss weighs the labels equally, so that the network's
        probabilities are those at equal prevalence and do not carry this data set's into practice.
    """

    def __init__(self, network: nn.Module, settings: Settings, counts: torch.Tensor) -> None:
        super().__init__(network, settings)
        self.register_buffer("weights", counts.sum() / (len(counts) * counts.float()), persistent=False)
        self.weights: torch.Tensor
        self.binary = len(counts) == 2
        self.watched = "auroc" if self.binary else "accuracy"
        self.figure: Metric = BinaryAUROC() if self.binary else MulticlassAccuracy(len(counts), average="micro")

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See `Task.loss`."""
        return cross_entropy(both(logits), targets, self.weights, label_smoothing=self.settings.label_smoothing)

    def watch(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See `Task.watch`."""
        logits, truth = both(logits), targets.argmax(1)
        self.figure.update(logits[:, 1] - logits[:, 0] if self.binary else logits, truth)
        return cross_entropy(logits, targets, self.weights)

    def watched_value(self) -> torch.Tensor:
        """See `Task.watched_value`."""
        value: torch.Tensor = self.figure.compute()
        self.figure.reset()
        return value


def both(logits: torch.Tensor) -> torch.Tensor:
    """Give the softmax's logits; one logit z under a sigmoid is the pair (0, z) under a softmax.

    Parameters
    ----------
    logits
        Shape (N, outputs).
    """
    return torch.cat([torch.zeros_like(logits), logits], dim=1) if logits.shape[1] == 1 else logits
