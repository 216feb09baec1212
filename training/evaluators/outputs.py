"""Outputs of a network for images in memory."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import nn

from handlers.recipe import Calibration, Input
from training import batches
from training.batches import Images


def logits(network: nn.Module, images: Images, spec: Input, labels: int) -> NDArray[np.float32]:
    """Run a network, in single precision, on images preprocessed as by the server.

    Returns shape (N, outputs), or (N, outputs, height, width) for a segmentation.
    """
    network.eval()
    # A segmentation keeps activations of full size, so it needs smaller batches.
    size = 128 if images.masks is None else 16
    with torch.inference_mode():
        chunks = [network(values)["logits"] for values, _ in batches.plain(images, spec, labels, size)]
    return torch.cat(chunks).numpy()


def both(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the logits of a softmax; one logit z of a sigmoid equals the pair (0, z)."""
    wide = logits.astype(np.float64)
    return np.concatenate([np.zeros_like(wide), wide], axis=1) if wide.shape[1] == 1 else wide


def probabilities(logits: NDArray[np.floating[Any]], temperature: float) -> NDArray[np.float64]:
    """Return the probability of each label, as `handlers.threshold` does; `logits` have the shape (N, outputs)."""
    shares: NDArray[np.float64] = softmax(both(logits) / temperature, axis=1)
    return shares


def calibrated(logits: NDArray[np.floating[Any]], calibration: Calibration) -> NDArray[np.float64]:
    """Return the probability of each of two labels; see `probabilities`."""
    return probabilities(both(logits) + np.array([0, calibration.bias]), calibration.temperature)
