"""Networks of torchvision and MONAI, adapted to the recipes' outputs."""

from typing import Any, Final

import torch
from torch import nn

FILTERS: Final = 32  # channels of the first level; they double at each level below
UNET_DROPOUT: Final = 0.0197  # result of the original system's hyperparameter search


class BrainTumorVgg16(nn.Module):
    """torchvision's `vgg16_bn` for slices of 3 x 224 x 224; 134,277,186 parameters with two labels."""

    def __init__(self, outputs: int = 2) -> None:
        super().__init__()
        from torchvision.models import vgg16_bn

        network = vgg16_bn(num_classes=outputs)
        self.features, self.avgpool, self.classifier = network.features, network.avgpool, network.classifier

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return `logits` and `features`, (N, 512, 14, 14)."""
        features = self.features[:-1](x)
        pooled = self.avgpool(self.features[-1](features))
        return {"logits": self.classifier(pooled.flatten(1)), "features": features}


class ChestXrayResnet50(nn.Module):
    """torchvision's `resnet50` with the head of system S4 for films of 3 x 224 x 224; 24,099,649 parameters."""

    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        from torchvision.models import resnet50

        self.trunk = resnet50()
        self.trunk.fc = nn.Identity()
        self.dense1, self.dense2 = _dense(2048, 256), _dense(256, 256)
        self.out = nn.Linear(256, outputs)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return `logits` and `features`, (N, 2048, 7, 7)."""
        trunk = self.trunk
        x = trunk.maxpool(trunk.relu(trunk.bn1(trunk.conv1(x))))
        features = trunk.layer4(trunk.layer3(trunk.layer2(trunk.layer1(x))))
        pooled = trunk.avgpool(features).flatten(1)
        return {"logits": self.out(self.dense2(self.dense1(pooled))), "features": features}


class _Unet(nn.Module):
    """A network of MONAI for images whose height and width are multiples of 16."""

    WRAPPED = "model."  # prefix of MONAI's own keys, which are those of the original system's checkpoints

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.model = network

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return `logits`, (N, outputs, height, width)."""
        return {"logits": self.model(x)}


class GliomaUnet(_Unet):
    """MONAI's residual `UNet`; 6,495,868 parameters with one output."""

    def __init__(self, outputs: int = 1) -> None:
        from monai.networks.nets.unet import UNet

        super().__init__(UNet(**_unet_options(outputs), num_res_units=2))


class GliomaAttentionUnet(_Unet):
    """MONAI's `AttentionUnet`; 7,940,321 parameters with one output."""

    def __init__(self, outputs: int = 1) -> None:
        from monai.networks.nets.attentionunet import AttentionUnet

        super().__init__(AttentionUnet(**_unet_options(outputs)))


def _unet_options(outputs: int) -> dict[str, Any]:
    return {
        "spatial_dims": 2,
        "in_channels": 3,
        "out_channels": outputs,
        "channels": tuple(FILTERS * 2**level for level in range(5)),
        "strides": (2, 2, 2, 2),
        "dropout": UNET_DROPOUT,
    }


def _dense(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU(), nn.Dropout(0.3))
