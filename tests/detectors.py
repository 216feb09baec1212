"""The chest model with a detector that knows one film, its sample: exact outcomes, whatever the fitted detectors do."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image as Pillow
from safetensors.torch import save

from handlers.domain import evidence, pose
from handlers.domain.detector import Tensors
from radserve.build.source import Source, find_sources
from tests.handlers.images import saved
from tests.repack import NAME
from tests.server import ROOT

Pixels = NDArray[np.uint8]
FILM: Pixels = np.asarray(Pillow.open(ROOT / "archives" / NAME / "sample.png").convert("L"))
_UNUSUAL, _UNLIKE = 0.5, 2.0
"""Euclidean distances of thumbnails in [0, 1]: of a film that is 13 gray levels brighter .8, of noise about 5."""
_ODDS = 20.0


def encoded(pixels: Pixels) -> bytes:
    """Return a film as a file other than the archive's sample, which is exempt."""
    return saved(pixels, "PNG", dpi=(72, 72))


NORMAL = encoded(FILM)
UNUSUAL = encoded(np.minimum(FILM, 255 - 13) + np.uint8(13))
OTHER = encoded(np.random.default_rng(0).integers(0, 256, FILM.shape, dtype=np.uint8))
TURNED = {f"rotated_{90 * quarters}": encoded(np.rot90(FILM, -quarters)) for quarters in (1, 2, 3)}
INVERTED = encoded(255 - FILM)


def source(folder: Path) -> Source:
    """Return the chest model's recipe with the detector, in a copy of its folder."""
    archives = folder / "archives"
    shutil.copytree(ROOT / "archives" / NAME, archives / NAME)
    path = archives / NAME / "archive.yaml"
    data = save(dict(_tensors()))
    (archives / NAME / "detector.safetensors").write_bytes(data)
    section = {
        "file": "detector.safetensors",
        "sha256": hashlib.sha256(data).hexdigest(),
        "method": "Distance from the sample.",
        "parts": ["thumbnail"],
        "marked": _UNUSUAL,
        "refused": _UNLIKE,
        "fitted": "By hand.",
        "split": "0" * 64,
    }
    recipe = yaml.safe_load(path.read_text(encoding="utf-8")) | {"detector": section}
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    (found,) = find_sources(archives, [NAME])
    return found


def _tensors() -> Tensors:
    gray = torch.from_numpy(np.asarray(Pillow.fromarray(FILM).resize((160, 112)), dtype=np.float32) / 255)
    known = evidence.thumbnail(gray).flatten()
    axes = torch.eye(known.numel())
    return {
        "thumbnail.mean": known,
        "thumbnail.scale": torch.ones_like(known),
        "thumbnail.basis": axes,
        "thumbnail.whitening": axes.clone(),
        "thumbnail.centres": torch.zeros(1, known.numel()),
        "limit.thumbnail.distance": torch.tensor(1.0),
        "limit.thumbnail.residual": torch.tensor(1.0),
        "percentiles": torch.linspace(0, 1, 101),
        **_poses(gray),
    }


def _poses(gray: torch.Tensor) -> Tensors:
    """Return a network that passes light and dark areas on, and weights them as the film in its poses has them."""
    weights: dict[str, torch.Tensor] = {}
    before = 1
    for layer, width in enumerate(pose.WIDTHS):
        kernel = torch.zeros(width, before, 3, 3)
        for channel in range(2):
            kernel[channel, 0 if layer == 0 else channel, 1, 1] = -1.0 if (layer, channel) == (0, 1) else 1.0
        weights |= {f"conv{layer}.weight": kernel, f"conv{layer}.bias": torch.zeros(width)}
        before = width
    upright = evidence.thumbnail(gray, pose.SIDE)
    turned = [torch.rot90(upright, -quarters) for quarters in (1, 2, 3)]
    views = pose.views(torch.stack([upright, *turned, 1 - upright]))
    size = pose.WIDTHS[-1] * (pose.SIDE // 2 ** len(pose.WIDTHS)) ** 2
    features = pose.logits(views, weights | {"head.weight": torch.eye(size), "head.bias": torch.zeros(size)})
    weights |= {"head.weight": _ODDS * torch.linalg.pinv(features).T, "head.bias": torch.zeros(len(pose.POSES))}
    weights["accepted"] = torch.tensor([True, False, False, False, False])
    limits = {f"limit.pose.{name}": torch.tensor(1.0) for name in pose.POSES[1:]}
    return {f"pose.{name}": value.contiguous() for name, value in weights.items()} | limits
