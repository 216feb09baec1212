"""What Lightning needs to know to train a classifier."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torchmetrics import MeanMetric
from torchmetrics.classification import BinaryAUROC

from training.batches import Batch
from training.settings import Settings


class Classification(lightning.LightningModule):
    """A network with a softmax over two labels, its loss, its optimizer and what is watched.

    Parameters
    ----------
    counts
        Training images of each label. The loss weighs the labels equally, so that the network's
        probabilities are those at equal prevalence and do not carry this data set's into practice.
    """

    def __init__(self, network: nn.Module, settings: Settings, counts: torch.Tensor) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.settings = settings
        self.register_buffer("weights", counts.sum() / (len(counts) * counts.float()), persistent=False)
        self.weights: torch.Tensor
        self.auroc = BinaryAUROC()
        self.loss = MeanMetric()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Let dropout depend on the step alone, so that a resumed run repeats an uninterrupted one."""
        del batch, batch_idx
        torch.manual_seed(self.settings.seed * 1_000_003 + self.global_step)

    def training_step(self, batch: Batch, _: int) -> torch.Tensor:
        """Loss of one batch."""
        images, targets = batch
        loss = cross_entropy(
            self.network(images)["logits"].float(), targets, self.weights, label_smoothing=self.settings.label_smoothing
        )
        self.log("train_loss", loss, prog_bar=True, on_step=False, on_epoch=True, batch_size=len(images))
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        """Watch loss and AUROC, on the averaged weights."""
        images, targets = batch
        logits = self.network(images)["logits"].float()
        self.loss.update(cross_entropy(logits, targets, self.weights), weight=len(images))
        self.auroc.update(logits[:, 1] - logits[:, 0], targets[:, 1].int())

    def on_validation_epoch_end(self) -> None:
        """Log both, and the score that decides which epoch is kept.

        That is the AUROC to three digits (finer differences are one pair of patients) and, among
        equals, the lower loss.
        """
        auroc, loss = self.auroc.compute(), self.loss.compute()
        score = torch.round(auroc, decimals=3) - 1e-4 * loss.clamp(max=5)
        self.log_dict({"auroc": auroc, "loss": loss}, prog_bar=True)
        self.log("score", score)
        self.auroc.reset()
        self.loss.reset()

    def configure_optimizers(self) -> torch.optim.lr_scheduler.OneCycleLR | dict[str, object]:  # type: ignore[override]
        """AdamW over one cycle of the learning rate; biases and norms do not decay."""
        decayed = [value for value in self.network.parameters() if value.dim() > 1]
        free = [value for value in self.network.parameters() if value.dim() <= 1]
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": free, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.settings.learning_rate, total_steps=steps, pct_start=0.2
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
