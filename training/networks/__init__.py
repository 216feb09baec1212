"""The networks, by the name that a recipe's `network` key gives.

Needs torch only: the archive builder imports it. Every network takes (N, channels, height, width) and
returns a dict of tensors with N rows each, `logits` among them; `head` is the layer that gives these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from torch import nn

from training.errors import NetworkError
from training.networks.chest_xray_cnn import ChestXrayCnn

_NETWORKS: Final[dict[str, Callable[[int], nn.Module]]] = {
    "chest_xray_cnn": ChestXrayCnn,
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
