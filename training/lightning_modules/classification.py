"""Lightning module of classifications."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torchmetrics import Metric
from torchmetrics.classification import BinaryAUROC, MulticlassAccuracy

from training.lightning_modules.base import Task
from training.settings import Settings


class Classification(Task):
    """A network with a softmax over its labels, or a sigmoid for the second of two.

    The validation metric is the AUROC for two labels, the accuracy for more. The loss weights the labels equally, by
    their `counts` among the training images, so that the probabilities are those at equal prevalence and do not depend
    on the prevalence in this data set.
    """

    def __init__(self, network: nn.Module, settings: Settings, counts: torch.Tensor) -> None:
        super().__init__(network, settings)
        self.register_buffer("weights", counts.sum() / (len(counts) * counts.float()), persistent=False)
        self.weights: torch.Tensor
        self.binary = len(counts) == 2
        self.watched = "auroc" if self.binary else "accuracy"
        self.metric: Metric = BinaryAUROC() if self.binary else MulticlassAccuracy(len(counts), average="micro")

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See `Task.loss`."""
        loss = cross_entropy(both(logits), targets, self.weights, label_smoothing=self.settings.label_smoothing)
        if not self.settings.consistency:
            return loss
        first, second = both(logits).softmax(1).chunk(2)  # see `training.batches.Augmented`
        return loss + self.settings.consistency * (first - second).square().sum(1).mean()

    def update_metric(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See `Task.update_metric`."""
        logits, truth = both(logits), targets.argmax(1)
        self.metric.update(logits[:, 1] - logits[:, 0] if self.binary else logits, truth)
        return cross_entropy(logits, targets, self.weights)

    def compute_metric(self) -> torch.Tensor:
        """See `Task.compute_metric`."""
        value: torch.Tensor = self.metric.compute()
        self.metric.reset()
        return value


def both(logits: torch.Tensor) -> torch.Tensor:
    """Return the logits of a softmax, (N, labels); one logit z of a sigmoid equals the pair (0, z)."""
    return torch.cat([torch.zeros_like(logits), logits], dim=1) if logits.shape[1] == 1 else logits
