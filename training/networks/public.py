"""Networks of torchvision and MONAI, with the heads and outputs that are served."""

from __future__ import annotations

from typing import Final

import torch
from torch import nn

FILTERS: Final = 32
"""Channels at full depth; each level below has twice as many."""
UNET_DROPOUT: Final = 0.0197
"""What the original system's search found best."""


class BrainTumorVgg16(nn.Module):
    """torchvision's `vgg16_bn`; 134,277,186 parameters with two labels, its own keys.

    Parameters
    ----------
    outputs
        Number of logits.
    """

    def __init__(self, outputs: int = 2) -> None:
        super().__init__()
        from torchvision.models import vgg16_bn

        made = vgg16_bn(num_classes=outputs)
        self.features, self.avgpool, self.classifier = made.features, made.avgpool, made.classifier

    @property
    def head(self) -> nn.Module:
        """The layer that gives the logits."""
        last: nn.Module = self.classifier[-1]
        return last

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Run the network on (N, 3, 224, 224).

        Returns
        -------
        `logits`, (N, outputs), and `features`, (N, 512, 14, 14), before the last pool.
        """
        features = self.features[:-1](x)
        pooled = self.avgpool(self.features[-1](features))
        return {"logits": self.classifier(pooled.flatten(1)), "features": features}


class ChestXrayResnet50(nn.Module):
    """torchvision's `resnet50` under the head of system S4; 24,099,649 parameters with one logit.

    Parameters
    ----------
    outputs
        Number of logits.
    """

    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        from torchvision.models import resnet50

        self.trunk = resnet50()
        self.trunk.fc = nn.Identity()
        self.dense1, self.dense2 = _dense(2048, 256), _dense(256, 256)
        self.out = nn.Linear(256, outputs)

    @property
    def head(self) -> nn.Module:
        """The layer that gives the logits."""
        return self.out

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Run the network on (N, 3, 224, 224).

        Returns
        -------
        `logits`, (N, outputs), and `features`, (N, 2048, 7, 7), before the average pool.
        """
        trunk = self.trunk
        x = trunk.maxpool(trunk.relu(trunk.bn1(trunk.conv1(x))))
        features = trunk.layer4(trunk.layer3(trunk.layer2(trunk.layer1(x))))
        pooled = trunk.avgpool(features).flatten(1)
        return {"logits": self.out(self.dense2(self.dense1(pooled))), "features": features}


class GliomaUnet(nn.Module):
    """MONAI's residual `UNet`; 6,495,868 parameters.

    Parameters
    ----------
    outputs
        Number of logit maps.
    """

    WRAPPED = "model."
    """Stands here before MONAI's own keys, which are those of the original system's checkpoints."""

    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        from monai.networks.nets.unet import UNet

        self.model = UNet(
            spatial_dims=2,
            in_channels=3,
            out_channels=outputs,
            channels=_channels(),
            strides=(2, 2, 2, 2),
            num_res_units=2,
            dropout=UNET_DROPOUT,
        )

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Run the network on (N, 3, height, width), multiples of 16; `logits` has the same height and width."""
        return {"logits": self.model(x)}


class GliomaAttentionUnet(nn.Module):
    """MONAI's `AttentionUnet`; 7,940,321 parameters.

    Parameters
    ----------
    outputs
        Number of logit maps.
    """

    WRAPPED = "model."
    """Stands here before MONAI's own keys, which are those of the original system's checkpoints."""

    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        from monai.networks.nets.attentionunet import AttentionUnet

        self.model = AttentionUnet(
            spatial_dims=2,
            in_channels=3,
            out_channels=outputs,
            channels=_channels(),
            strides=(2, 2, 2, 2),
            dropout=UNET_DROPOUT,
        )

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Run the network on (N, 3, height, width), multiples of 16; `logits` has the same height and width."""
        return {"logits": self.model(x)}


def _channels() -> tuple[int, ...]:
    return tuple(FILTERS * 2**level for level in range(5))


def _dense(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU(), nn.Dropout(0.3))
