"""Smallest segmentation model: marks bright pixels. Its archive, and images with a known mask."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image as Pillow

import handlers
from handlers import recipe
from radserve.build import mar
from radserve.build import model_store as store_index
from radserve.build.export import export
from radserve.build.model_store import Entry

HEIGHT, WIDTH = 64, 96
"""Input size of the network; not square, so that a transposed mask does not fit."""
STEEP = 100.0
"""Logit per unit of distance from middle gray."""

Flags = NDArray[np.bool_]


class Spots(torch.nn.Module):
    """Returns a logit per pixel: its distance from middle gray."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 1, 1, bias=False)
        self.conv.weight.data = torch.full((1, 3, 1, 1), STEEP / 4 / 3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.conv(x)}


def spots_recipe(**spec: Any) -> dict[str, Any]:
    """Return the recipe as data; `spec` changes its input."""
    return {
        "name": "spots",
        "version": "1.0.0",
        "task": "segmentation",
        "title": "Bright spots",
        "network": "spots",
        "labels": ["nothing", "spot"],
        "input": {
            "color": "rgb",
            "channels": 3,
            "height": HEIGHT,
            "width": WIDTH,
            "mean": [0.5, 0.5, 0.5],
            "std": [0.25, 0.25, 0.25],
        }
        | spec,
        "activation": "sigmoid",
        "decision": {"positive": "spot", "threshold": 0.5, "chosen": "by hand"},
        "calibration": {"temperature": 1.0, "fitted": "by hand"},
        "weights": {"file": "weights.safetensors", "sha256": "0" * 64},
        "sample": "sample.png",
        "trained_on": "nothing",
        "licence": "Apache-2.0",
    }


def figure(height: int, width: int) -> Flags:
    """Return an off-centre letter F: every rotation, reflection and shift differs from it."""
    rows, columns = np.mgrid[0:height, 0:width]
    y, x = (rows + 0.5) / height, (columns + 0.5) / width
    stem = (x > 0.2) & (x < 0.36) & (y > 0.15) & (y < 0.85)
    top = (x > 0.2) & (x < 0.85) & (y > 0.15) & (y < 0.34)
    middle = (x > 0.2) & (x < 0.6) & (y > 0.45) & (y < 0.6)
    return np.asarray(stem | top | middle)


def painted(mask: Flags, dark: int = 20, bright: int = 235) -> NDArray[np.uint8]:
    """Return a gray image that is bright inside the mask."""
    return np.where(mask, bright, dark).astype(np.uint8)


def agreement(mask: Flags, expected: Flags) -> float:
    """Return the intersection over union."""
    assert mask.shape == expected.shape
    return float((mask & expected).sum() / (mask | expected).sum())


def unpacked(folder: Path, **spec: Any) -> Path:
    """Create the unpacked archive, as in the model_dir of a worker."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "archive.yaml").write_text(yaml.safe_dump(spots_recipe(**spec)), encoding="utf-8")
    read = recipe.load(folder / "archive.yaml").input
    export(Spots().eval(), (3, read.height, read.width), folder / "program.pt2")
    sample = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
    sample[8:24, 16:40] = True
    Pillow.fromarray(painted(sample)).save(folder / "sample.png")
    # Computed by hand, without the code under test: 16 x 24 of 64 x 96 pixels.
    (folder / "sample.json").write_text(json.dumps({"label": "spot", "fraction": 0.0625}), encoding="utf-8")
    return folder


def packed(store: Path, scratch: Path) -> None:
    """Build the archive into a model store."""
    stage = unpacked(scratch / "stage")
    package = Path(handlers.__file__).parent
    shutil.copytree(package, stage / "handlers", ignore=shutil.ignore_patterns("__pycache__"))
    settings = {"batchSize": 4, "maxBatchDelay": 1, "responseTimeout": 60, "startupTimeout": 120}
    (stage / "model-config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    read = recipe.load(stage / "archive.yaml")
    store.mkdir(parents=True, exist_ok=True)
    path = store / "spots-1.0.0.mar"
    mar.pack(stage, read, path)
    entry = Entry(
        name="spots",
        version="1.0.0",
        file=path.name,
        sha256=store_index.sha256(path),
        size=path.stat().st_size,
        inputs="0" * 64,
    )
    store_index.write(store, store_index.read(store).put(entry))
