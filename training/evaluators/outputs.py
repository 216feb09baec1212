"""What a network says of images in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from handlers.recipe import Input
from training import batches
from training.batches import Images


def logits(network: nn.Module, images: Images, spec: Input, labels: int) -> NDArray[np.float32]:
    """Run a network over images as the server would see them, in single precision.

    Returns
    -------
    Shape (N, outputs), or (N, outputs, height, width) of a segmentation.
    """
    network.eval()
    # Masks keep a number a pixel: smaller batches need less memory at a time.
    size = 128 if images.masks is None else 16
    with torch.inference_mode():
        found = [network(values)["logits"] for values, _ in batches.plain(images, spec, labels, size)]
    return torch.cat(found).numpy()


def both(found: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Give the softmax's logits; one logit z under a sigmoid is the pair (0, z) under a softmax."""
    wide = found.astype(np.float64)
    return np.concatenate([np.zeros_like(wide), wide], axis=1) if wide.shape[1] == 1 else wide


def probabilities(found: NDArray[np.floating[Any]], temperature: float) -> NDArray[np.float64]:
    """Give each label's probability at a temperature; the same as `handlers.decision` for one image.

    Parameters
    ----------
    found
        Logits, shape (N, outputs).
    """
    scaled = both(found) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares
