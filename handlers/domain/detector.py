"""Measures how far an image is from the training images of a model.

Mahalanobis distances of several kinds of evidence (Lee et al. 2018, "A Simple Unified Framework for Detecting
Out-of-Distribution Samples and Adversarial Attacks"), each completed by the distance from the principal subspace, and
the odds of a pose other than upright. The score is the largest of them, each relative to the held-out images.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch.nn.functional import interpolate

from handlers.domain import evidence, pose
from handlers.domain.assessment import Assessment, Reason, Status
from handlers.domain.evidence import Vector
from handlers.errors import DetectorError
from handlers.recipe import Detector as Section
from handlers.recipe import Input, Recipe

MOMENTS: Final = "moments"
"""Output of the program: mean and standard deviation of each channel of the recipe's layers, (N, numbers)."""
PART: Final = ("mean", "scale", "basis", "whitening", "centres")
"""Tensors of a part in the file: `features.mean`."""
_WORST: Final = 1e6
"""Score of an image without a finite distance."""
Tensors = Mapping[str, torch.Tensor]
_DARKNESS: Final = "level.distance"
_POSES: Final[tuple[Reason, ...]] = ("rotated_90", "rotated_180", "rotated_270", "inverted")


@dataclass(frozen=True)
class Part:
    """Distribution of one kind of evidence: a Gaussian for each label, with one covariance, in a principal subspace."""

    mean: torch.Tensor  # (numbers,)
    scale: torch.Tensor  # (numbers,), standard deviation
    basis: torch.Tensor  # (components, numbers), orthonormal rows
    whitening: torch.Tensor  # (components, components): gives the components of a label the unit covariance
    centres: torch.Tensor  # (labels, components), whitened

    def distances(self, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the Mahalanobis distances of vectors (N, numbers) to the nearest label, and from the subspace."""
        standard = (vectors - self.mean) / self.scale
        inside = standard @ self.basis.T
        nearest = (inside @ self.whitening.T - self.centres[:, None]).norm(dim=2).amin(0)
        return nearest, (standard - inside @ self.basis).norm(dim=1)


@dataclass(frozen=True)
class Metric:
    """All distances of an image."""

    parts: Mapping[str, Part]
    pose: Tensors

    @classmethod
    def of(cls, tensors: Tensors, names: tuple[str, ...]) -> "Metric":
        """Return the metric of a file's tensors."""
        parts = {name: Part(*(tensors[f"{name}.{key}"].float() for key in PART)) for name in names}
        return cls(parts, below("pose", tensors))

    def __call__(self, values: Mapping[str, torch.Tensor], thumbnails: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the distances (N,) by name, from the vectors (N, numbers) of the parts and from pose thumbnails."""
        poses = {f"pose.{name}": value for name, value in pose.odds(thumbnails, self.pose).items()}
        return poses | self.measure({name: values[name] for name in self.parts})

    def measure(self, values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the distances (N,) of the parts that `values` has, by name."""
        distances = {}
        for name, vectors in values.items():
            part = self.parts[name]
            distances[f"{name}.distance"], outside = part.distances(vectors)
            if len(part.basis) < len(part.mean):  # else there is nothing outside of the subspace
                distances[f"{name}.residual"] = outside
        return distances


@dataclass(frozen=True)
class Detector:
    """A fitted detector."""

    section: Section
    spec: Input
    metric: Metric
    limits: Mapping[str, float]  # of each distance, among the held-out images
    percentiles: Vector  # of the held-out scores, from 0 to 100
    site: str | None = None  # whose profile has the section's limit of unusual images

    @classmethod
    def create(cls, section: Section, spec: Input, tensors: Tensors) -> "Detector":
        """Return the detector of a recipe and its file's tensors; `KeyError` if one is missing."""
        limits = {name: float(value) for name, value in below("limit", tensors).items()}
        return cls(section, spec, Metric.of(tensors, section.parts), limits, tensors["percentiles"].numpy())

    @property
    def outputs(self) -> tuple[str, ...]:
        """Outputs of the program that `assess` needs."""
        return (MOMENTS,) if self.section.layers else ()

    def assess(self, outputs: Mapping[str, Vector], tensor: Vector) -> Assessment:
        """Assess an image from its rows of `outputs` and from the network's input (channels, height, width)."""
        with torch.inference_mode():  # each operation on a small tensor costs less
            return self._assess(outputs, evidence.intensities(tensor, self.spec))

    def _assess(self, outputs: Mapping[str, Vector], image: torch.Tensor) -> Assessment:
        relative = {name: value / self.limits[name] for name, value in self.distances(outputs, image).items()}
        score = max(relative.values()) if all(map(math.isfinite, relative.values())) else _WORST
        status = self._status(score)
        reason = None if status == "normal" else self._reason(image, relative)
        return Assessment(status, score, self.section.refused, self.percentile(score), reason, site=self.site)

    def percentile(self, score: float) -> float:
        """Return the share of the held-out images with a lower score, 0 to 100."""
        return float(np.interp(score, self.percentiles, self._shares))

    @cached_property
    def _shares(self) -> NDArray[np.float64]:
        return np.linspace(0, 100, len(self.percentiles))

    def distances(self, outputs: Mapping[str, Vector], image: torch.Tensor) -> dict[str, float]:
        """Return every distance of one image (channels, height, width) in [0, 1], by name."""
        parts = evidence.collect(outputs.get(MOMENTS), image, self.metric.parts)
        values = {name: vector[None] for name, vector in parts.items()}
        distances = self.metric(values, evidence.thumbnail(evidence.luminance(image), pose.SIDE)[None])
        return {name: float(value) for name, value in distances.items()}

    def _status(self, score: float) -> Status:
        if score < self.section.marked:
            return "normal"
        return "unusual" if score < self.section.refused else "unlike"

    def _reason(self, image: torch.Tensor, relative: Mapping[str, float]) -> Reason | None:
        """Return the likeliest pose, if the image would be accepted without it, else `dark` or `other_image`.

        The network of poses names one for every image, so all evidence of the image without the pose must be accepted.
        Where upside-down images are normal, no quarter turn can be told from the other: None.
        """
        likely = max(_POSES, key=lambda name: relative.get(f"pose.{name}", 0))
        if relative.get(f"pose.{likely}", 0) < self.section.marked or not self._alike(_upright(image, likely)):
            others = [value for name, value in relative.items() if name != _DARKNESS]
            return "dark" if all(value < self.section.marked for value in others) else "other_image"
        is_definite = likely == "inverted" or "pose.rotated_180" in relative
        return likely if is_definite else None

    def _alike(self, image: torch.Tensor) -> bool:
        """Whether all evidence of an image is accepted, but that of the network, which would have to run again."""
        parts = evidence.collect(None, image, self.metric.parts)
        distances = self.metric.measure({name: vector[None] for name, vector in parts.items()})
        return all(float(value) < self.limits[name] * self.section.refused for name, value in distances.items())


def _upright(image: torch.Tensor, name: Reason) -> torch.Tensor:
    """Return an image (channels, height, width) without a pose, in the same size."""
    upright = pose.undo(image, name)
    return interpolate(upright[None], image.shape[1:], mode="bilinear", antialias=True)[0]


def below(prefix: str, tensors: Tensors) -> dict[str, torch.Tensor]:
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
        return Detector.create(section, recipe.input, load_tensors(data))
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise DetectorError(f"{path}: not a readable detector ({error!r}); build the archive again.") from error
