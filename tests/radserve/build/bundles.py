"""A tiny MONAI bundle, as MONAI's own bundles are laid out."""

import json
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets.densenet import DenseNet
from monai.networks.nets.unet import UNet

UNET: dict[str, Any] = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]}
DENSE: dict[str, Any] = {
    "spatial_dims": 2,
    "in_channels": 3,
    "out_channels": 2,
    "init_features": 8,
    "growth_rate": 4,
    "block_config": [2, 2],
}
SEGMENTATION_STEPS: list[dict[str, Any]] = [
    {"_target_": "LoadImaged", "keys": "image", "reader": "PILReader"},
    {"_target_": "EnsureChannelFirstd", "keys": "image"},
    {
        "_target_": "Resized",
        "keys": "image",
        "spatial_size": "@spatial_size",
        "mode": "bilinear",
        "anti_aliasing": True,
    },
    {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": 0, "a_max": 255, "b_min": -1, "b_max": 1},
    {"_target_": "EnsureTyped", "keys": "image"},
]
CLASSIFICATION_STEPS: list[dict[str, Any]] = [
    {"_target_": "LoadImaged", "keys": "image", "reader": "PILReader", "reverse_indexing": False},
    {"_target_": "EnsureChannelFirstd", "keys": "image", "channel_dim": -1},
    {"_target_": "Resized", "keys": "image", "spatial_size": [48, 64], "mode": "bilinear", "anti_aliasing": True},
    {
        "_target_": "NormalizeIntensityd",
        "keys": "image",
        "subtrahend": [120, 110, 100],
        "divisor": [60, 50, 40],
        "channel_wise": True,
    },
]


def segmentation() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return configuration and metadata of a bundle that outlines an island on gray images, 64 wide and 32 high."""
    config = {
        "imports": ["$import torch"],
        "device": "$torch.device('cpu')",
        "spatial_size": [64, 32],
        "network_def": {"_target_": "UNet", **UNET},
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": SEGMENTATION_STEPS},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
                {"_target_": "SaveImaged", "_disabled_": True, "keys": "pred"},
            ],
        },
    }
    return config, _metadata(1, {"format": "segmentation", "channel_def": {"0": "background", "1": "island"}})


def classification() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return configuration and metadata of a bundle that classifies colour images, 64 wide and 48 high."""
    config = {
        "network_def": {"_target_": "monai.networks.nets.DenseNet", **DENSE},
        "preprocessing": {"_target_": "Compose", "transforms": CLASSIFICATION_STEPS},
        "postprocessing": [{"_target_": "Activationsd", "keys": "pred", "softmax": True}],
    }
    return config, _metadata(3, {"format": "classes", "channel_def": {"1": "benign", "0": "malign"}})


def _metadata(channels: int, output: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": "0.4.2",
        "description": "Draws or names islands",
        "data_source": "drawn by the test",
        "intended_use": "This is an example",
        "network_data_format": {
            "inputs": {"image": {"type": "image", "modality": "MR", "num_channels": channels}},
            "outputs": {"pred": output | {"num_channels": 2}},
        },
    }


def write(folder: Path, config: dict[str, Any], metadata: dict[str, Any]) -> Path:
    """Write a bundle with random weights."""
    for name in ("configs", "models"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    torch.manual_seed(0)
    network = UNet(**UNET) if "UNet" in config["network_def"]["_target_"] else DenseNet(**DENSE)
    torch.save({"model": network.state_dict()}, folder / "models" / "model.pt")
    return folder


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Replace the configuration of a bundle."""
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
