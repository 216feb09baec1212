"""The networks, by the name that a recipe's `network` key gives.

Needs torch, and for some torchvision or MONAI: the archive builder imports it. Every network takes
(N, channels, height, width) and returns a dict of tensors with N rows each, `logits` among them; a
classifier's `head` is the layer that gives these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from torch import nn

from training.errors import NetworkError
from training.networks import brain_tumor, cifar10, public
from training.networks.chest_xray_cnn import ChestXrayCnn

_NETWORKS: Final[dict[str, Callable[[int], nn.Module]]] = {
    "brain_tumor_attention": brain_tumor.BrainTumorAttention,
    "brain_tumor_cnn": brain_tumor.BrainTumorCnn,
    "brain_tumor_cnn_attention": brain_tumor.BrainTumorCnnAttention,
    "brain_tumor_vgg16": public.BrainTumorVgg16,
    "chest_xray_cnn": ChestXrayCnn,
    "chest_xray_resnet50": public.ChestXrayResnet50,
    "cifar10_lenet": cifar10.LeNet,
    "cifar10_vgg11": cifar10.Vgg,
    "glioma_attention_unet": public.GliomaAttentionUnet,
    "glioma_unet": public.GliomaUnet,
}


def create(name: str, outputs: int) -> nn.Module:
    """Make an untrained network.

    Parameters
    ----------
    name
        As in the recipe's `network` key.
    outputs
        Number of logits.

    Raises
    ------
    NetworkError
        If no network has this name.
    """
    if name not in _NETWORKS:
        raise NetworkError(f"network has value {name!r}; known are {', '.join(sorted(_NETWORKS))}.")
    return _NETWORKS[name](outputs)
