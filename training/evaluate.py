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


def logits(network: nn.Module, images: Images, spec: Input, labels: int) -> NDArray[np.float64]:
    """Run a network over images as the server would see them, in single precision.

    Returns
    -------
    Shape (N, outputs).
    """
    network.eval()
    with torch.inference_mode():
        found = [network(values)["logits"] for values, _ in batches.plain(images, spec, labels)]
    return torch.cat(found).double().numpy()


def probabilities(logits: NDArray[np.floating[Any]], temperature: float) -> NDArray[np.float64]:
    """Softmax at a temperature; the same as `handlers.decision` for one image."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares
