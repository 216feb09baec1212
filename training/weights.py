"""Weights files: safetensors, in half precision if trained here, with the keys of the network."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from handlers.recipe import Recipe
from training import networks
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


def of_model(recipe: Recipe, folder: Path) -> nn.Module:
    """Load the network of the model in a folder; `RunError` if its weights are missing or of another checksum."""
    path = folder / recipe.weights.file
    if not path.is_file():
        source = recipe.weights.source or f"radserve train {recipe.name} --data DIR --install"
        raise RunError(f"{path}: not found. Create it with '{source}'.")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if sha256 != recipe.weights.sha256:
        raise RunError(f"{path}: has sha256 {sha256}, the recipe's key 'weights.sha256' is {recipe.weights.sha256}.")
    return load(networks.for_recipe(recipe), path)


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
