"""Base class of the Lightning modules: optimizer, schedule, and reproducible dropout."""

from abc import abstractmethod
from typing import Any

import lightning
import torch
from torch import nn
from torchmetrics import MeanMetric

from training.batches import Batch
from training.settings import Settings


class Task(lightning.LightningModule):
    """A network with its loss and validation metric."""

    watched: str  # the metric that selects the best epoch; higher is better

    def __init__(self, network: nn.Module, settings: Settings) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.settings = settings
        self.validation_loss = MeanMetric()
        if settings.dropout is not None:
            for layer in network.modules():
                if isinstance(layer, nn.Dropout):
                    layer.p = settings.dropout

    @abstractmethod
    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the training loss, in single precision."""

    @abstractmethod
    def update_metric(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Add a validation batch to the metric, and return its loss."""

    @abstractmethod
    def compute_metric(self) -> torch.Tensor:
        """Return the metric over all batches since the last call, and reset it."""

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout by step, so that a resumed run equals an uninterrupted one."""
        del batch, batch_idx
        torch.manual_seed(self.settings.seed * 1_000_003 + self.global_step)

    def training_step(self, batch: Batch, _: int) -> torch.Tensor:
        """Return the loss of a batch."""
        images, targets = batch
        loss = self.loss(self.network(images)["logits"].float(), targets)
        self.log("train_loss", loss, prog_bar=True, on_step=False, on_epoch=True, batch_size=len(images))
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        """Update loss and metric, with the averaged weights."""
        images, targets = batch
        loss = self.update_metric(self.network(images)["logits"].float(), targets)
        self.validation_loss.update(loss, weight=len(images))

    def on_validation_epoch_end(self) -> None:
        """Log loss, metric, and the score that selects the best epoch.

        The score is the metric to three digits (smaller differences are a single pair of patients), and among equals
        prefers the lower loss.
        """
        value, loss = self.compute_metric(), self.validation_loss.compute()
        self.validation_loss.reset()
        self.log_dict({self.watched: value, "loss": loss}, prog_bar=True)
        self.log("score", torch.round(value, decimals=3) - 1e-4 * loss.clamp(max=5))

    def configure_optimizers(self) -> torch.optim.lr_scheduler.OneCycleLR | dict[str, object]:  # type: ignore[override]
        """Use AdamW with a one-cycle learning rate; biases and norms have no weight decay."""
        decayed = [value for value in self.network.parameters() if value.dim() > 1]
        free = [value for value in self.network.parameters() if value.dim() <= 1]
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": free, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.settings.learning_rate, total_steps=steps, pct_start=0.2
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
