"""Weights as they are shipped: safetensors in half precision, under the network's own keys."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from training.errors import RunError


def save(state: Mapping[str, torch.Tensor], path: Path) -> str:
    """Write weights; floating point is rounded to half precision.

    Returns
    -------
    The file's sha256.
    """
    half = {
        key: (value.half() if value.is_floating_point() else value).cpu().contiguous() for key, value in state.items()
    }
    save_file(half, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load(network: nn.Module, path: Path) -> nn.Module:
    """Put shipped weights into a network, for evaluation in single precision."""
    network.load_state_dict(load_file(path))
    return network.eval()


def from_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], int]:
    """Take the averaged weights out of a checkpoint.

    Returns
    -------
    The network's state, and the epoch (from 1) that it is of.

    Raises
    ------
    RunError
        If there is no such checkpoint.
    """
    if not path.is_file():
        raise RunError(f"{path}: missing; the run has not finished an epoch.")
    stored = torch.load(path, map_location="cpu", weights_only=True)
    prefix = "network."
    state = {key.removeprefix(prefix): value for key, value in stored["state_dict"].items() if key.startswith(prefix)}
    return state, int(stored["epoch"]) + 1
