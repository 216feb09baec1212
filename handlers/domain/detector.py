"""Measures how far an image is from the training images of a model.

Mahalanobis distances of several kinds of evidence (Lee et al. 2018, "A Simple Unified Framework for Detecting
Out-of-Distribution Samples and Adversarial Attacks"), each completed by the distance from the principal subspace, and
the odds of a pose other than upright. The score is the largest of them, each relative to the held-out images.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from handlers.domain import evidence, pose
from handlers.domain.assessment import Assessment, Reason, Status
from handlers.domain.evidence import Vector
from handlers.errors import DetectorError
from handlers.recipe import Detector as Section
from handlers.recipe import Input, Recipe

MOMENTS: Final = "moments"
"""Output of the program: mean and standard deviation of each channel of the recipe's layers, (N, numbers)."""
Tensors = Mapping[str, torch.Tensor]
_POSES: Final[tuple[Reason, ...]] = ("rotated_90", "rotated_180", "rotated_270", "inverted")


@dataclass(frozen=True)
class Part:
    """Distribution of one kind of evidence: a Gaussian for each label, with one covariance, in a principal subspace."""

    mean: torch.Tensor  # (numbers,)
    scale: torch.Tensor  # (numbers,), standard deviation
    basis: torch.Tensor  # (components, numbers), orthonormal rows
    whitening: torch.Tensor  # (components, components): within a label, white @ components has the unit covariance
    centres: torch.Tensor  # (labels, components), whitened

    def distances(self, vector: torch.Tensor) -> tuple[float, float]:
        """Return the Mahalanobis distance to the nearest label, and that from the subspace."""
        standard = (vector - self.mean) / self.scale
        inside = self.basis @ standard
        nearest = (self.whitening @ inside - self.centres).square().sum(1).min()
        outside = (standard - self.basis.T @ inside).square().sum()
        return float(nearest.sqrt()), float(outside.sqrt())


@dataclass(frozen=True)
class Detector:
    """A fitted detector."""

    section: Section
    spec: Input
    tensors: Tensors  # as in the file
    _parts: dict[str, Part] = field(init=False, repr=False)
    _pose: dict[str, torch.Tensor] = field(init=False, repr=False)
    _limits: dict[str, float] = field(init=False, repr=False)  # of each distance, among the held-out images

    def __post_init__(self) -> None:
        names = ("mean", "scale", "basis", "whitening", "centres")
        tensors = {name: value.float() if value.is_floating_point() else value for name, value in self.tensors.items()}
        parts = {name: Part(*(tensors[f"{name}.{key}"] for key in names)) for name in self.section.parts}
        limits = {name: float(value) for name, value in _below("limit", tensors).items()}
        object.__setattr__(self, "_parts", parts)
        object.__setattr__(self, "_pose", _below("pose", tensors))
        object.__setattr__(self, "_limits", limits)

    def assess(self, moments: Vector, tensor: Vector) -> Assessment:
        """Assess an image from its row of `MOMENTS` and from the network's input (channels, height, width)."""
        gray = evidence.luminance(tensor, self.spec)
        distances = self.distances(moments, gray)
        relative = {name: value / self._limits[name] for name, value in distances.items()}
        score = max(relative.values())
        status = self._status(score)
        percentiles = self.tensors["percentiles"].numpy()
        percentile = float(np.interp(score, percentiles, np.linspace(0, 100, len(percentiles))))
        return Assessment(status, score, percentile, None if status == "normal" else self._reason(gray, relative))

    def distances(self, moments: Vector, gray: torch.Tensor) -> dict[str, float]:
        """Return every distance, by name, before it is compared with the held-out images."""
        distances = {f"pose.{name}": value for name, value in pose.odds(gray, self._pose).items()}
        for name, vector in evidence.collect(moments, gray).items():
            if name in self._parts:
                inside, outside = self._parts[name].distances(torch.from_numpy(vector))
                distances |= {f"{name}.distance": inside, f"{name}.residual": outside}
        return distances

    def _status(self, score: float) -> Status:
        if score < self.section.marked:
            return "normal"
        return "unusual" if score < self.section.refused else "unlike"

    def _reason(self, gray: torch.Tensor, relative: Mapping[str, float]) -> Reason:
        """Return the likeliest pose, if the image would be a normal one without it, else that it is another image."""
        likely = max(_POSES, key=lambda name: relative.get(f"pose.{name}", 0))
        if relative.get(f"pose.{likely}", 0) < self.section.marked:
            return "other_image"
        part = self._parts.get("thumbnail")
        if part is None:
            return likely
        small = pose.undo(evidence.thumbnail(gray), likely).flatten()
        values = zip(("distance", "residual"), part.distances(small), strict=True)
        alike = all(value < self._limits[f"thumbnail.{name}"] * self.section.refused for name, value in values)
        return likely if alike else "other_image"


def _below(prefix: str, tensors: Tensors) -> dict[str, torch.Tensor]:
    """Return the tensors whose names start with a prefix, without it."""
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def load(folder: Path, recipe: Recipe) -> Detector | None:
    """Load the detector of an unpacked archive, if it has one; raises `DetectorError` if it is damaged."""
    section = recipe.detector
    if section is None:
        return None
    path = folder / section.file
    try:
        data = path.read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 != section.sha256:
            raise DetectorError(f"{path}: has sha256 {sha256}, the recipe's key 'detector.sha256' is {section.sha256}.")
        return Detector(section, recipe.input, load_file(path))
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise DetectorError(f"{path}: not a readable detector ({error!r}); build the archive again.") from error
