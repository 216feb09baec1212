"""CIFAR-10 networks of system S1; they take photographs of 3 x 32 x 32."""

from typing import Final

import torch
from torch import nn
from torch.nn.functional import max_pool2d, relu

VGG: Final[dict[str, tuple[tuple[int, ...], ...]]] = {
    "vgg11": ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    "vgg13": ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512)),
    "vgg16": ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3),
    "vgg19": ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4),
}
"""Channels of the convolutions between pools (Simonyan and Zisserman 2015, table 1)."""


class LeNet(nn.Module):
    """Two convolutions and three linear layers; 256,830 parameters with ten labels."""

    def __init__(self, outputs: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, kernel_size=5)
        self.conv2 = nn.Conv2d(32, 64, kernel_size=5)
        self.fc1 = nn.Linear(64 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, outputs)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return `logits` and `features`, (N, 64, 10, 10)."""
        x = max_pool2d(relu(self.conv1(x)), 2)
        features = relu(self.conv2(x))
        x = max_pool2d(features, 2).flatten(1)
        return {"logits": self.fc3(relu(self.fc2(relu(self.fc1(x))))), "features": features}


class Vgg(nn.Module):
    """VGG of a `kind` in `VGG`, with batch normalisation and one linear layer; `vgg11` has 9,231,114 parameters."""

    def __init__(self, outputs: int = 10, kind: str = "vgg11") -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for block in VGG[kind]:
            for channels in block:
                layers += [nn.Conv2d(before, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
                before = channels
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(512, outputs)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return `logits` and `features`, (N, 512, 4, 4), before the last block, whose 2 x 2 pixels explain little."""
        features = self.features[: self._last_block](x)
        logits = self.classifier(self.features[self._last_block :](features).flatten(1))
        return {"logits": logits, "features": features}

    @property
    def _last_block(self) -> int:
        """Index of the pool before the last block."""
        pools = [index for index, layer in enumerate(self.features) if isinstance(layer, nn.MaxPool2d)]
        return pools[-2]
