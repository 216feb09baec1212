"""Chest film network of system S3: five convolutions and two linear layers."""

from typing import Final

import torch
from torch import nn
from torch.nn.functional import max_pool2d, relu

_CHANNELS: Final = (3, 16, 32, 64, 128, 256)


class ChestXrayCnn(nn.Module):
    """Takes films of 3 x 112 x 160; 8,264,066 parameters with two labels."""

    def __init__(self, outputs: int = 2) -> None:
        super().__init__()
        self.conv_01, self.norm_01 = _block(1)
        self.conv_02, self.norm_02 = _block(2)
        self.conv_03, self.norm_03 = _block(3)
        self.conv_04, self.norm_04 = _block(4)
        self.conv_05, self.norm_05 = _block(5)
        self.dropout = nn.Dropout(0.5)
        self.fc_01 = nn.Linear(256 * 3 * 5, 2048)
        self.fc_02 = nn.Linear(2048, outputs)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return `logits` and `features`, (N, 256, 7, 10)."""
        x = max_pool2d(relu(self.norm_01(self.conv_01(x))), 2)
        x = max_pool2d(relu(self.norm_02(self.conv_02(x))), 2)
        x = max_pool2d(relu(self.norm_03(self.conv_03(x))), 2)
        x = max_pool2d(relu(self.norm_04(self.conv_04(x))), 2)
        features = relu(self.norm_05(self.conv_05(x)))
        x = self.dropout(max_pool2d(features, 2).flatten(1))
        x = self.dropout(relu(self.fc_01(x)))
        return {"logits": self.fc_02(x), "features": features}


def _block(number: int) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    return (
        nn.Conv2d(_CHANNELS[number - 1], _CHANNELS[number], kernel_size=3, padding=1),
        nn.BatchNorm2d(_CHANNELS[number]),
    )
