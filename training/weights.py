"""Weights files: safetensors, in half precision if trained here, with the keys of the network."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from training.errors import RunError


def save(state: Mapping[str, torch.Tensor], path: Path, *, half: bool = True) -> str:
    """Write weights, with floating point values in half or single precision; return the SHA-256 of the file."""
    kind = torch.float16 if half else torch.float32
    # Copies, because safetensors rejects tensors that share memory.
    converted = {
        key: value.to("cpu", kind if value.is_floating_point() else value.dtype, copy=True).contiguous()
        for key, value in state.items()
    }
    save_file(converted, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load(network: nn.Module, path: Path) -> nn.Module:
    """Load weights into a network, in evaluation mode and single precision."""
    network.load_state_dict(load_file(path))
    return network.eval()


def from_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], int]:
    """Read the averaged weights of a Lightning checkpoint: the network's state and its epoch, from 1."""
    if not path.is_file():
        raise RunError(f"{path}: not found; the run has not finished an epoch.")
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    prefix = "network."
    state = {
        key.removeprefix(prefix): value for key, value in checkpoint["state_dict"].items() if key.startswith(prefix)
    }
    return state, int(checkpoint["epoch"]) + 1
