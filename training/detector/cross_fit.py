"""Fits the tensors of a detector, and measures images that a fit has not seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from handlers.domain.detector import PART, Metric
from training.detector import gaussian, pose
from training.detector.calibration import FOLDS, Distances
from training.detector.observations import Observations
from training.errors import RunError
from training.settings import Augmentation

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Sample:
    """Images to fit to; each is followed by its copies."""

    observations: Observations
    targets: torch.Tensor  # (N,), indices of their labels
    groups: tuple[str, ...]

    def rows(self, rows: torch.Tensor) -> "Sample":
        """Return the images at some indices."""
        groups = tuple(self.groups[row] for row in rows.tolist())
        return Sample(self.observations.rows(rows), self.targets[rows], groups)


@dataclass(frozen=True)
class Shape:
    """What a fit depends on besides the images."""

    components: Mapping[str, int]  # principal components by kind of evidence
    augmentation: Augmentation
    seed: int
    labels: int
    each: int  # an image and its copies


@dataclass(frozen=True)
class HeldOut:
    """Distances of images (N,) that a fit has not seen, and the poses that count as normal."""

    distances: Distances
    groups: tuple[str, ...]
    accepted: torch.Tensor  # see `pose.accepted`


def fit_to(sample: Sample, shape: Shape) -> Tensors:
    """Fit the distributions of the evidence, and train the recognition of poses on the images without copies."""
    tensors: Tensors = {}
    for name, components in shape.components.items():
        part = gaussian.fit(sample.observations.parts[name], sample.targets, shape.labels, components)
        tensors |= {f"{name}.{key}": getattr(part, key) for key in PART}
        tensors[f"{name}.basis"] = part.basis.half()  # exact, see `gaussian.fit`
    recognition = pose.train(sample.observations.thumbnails[:: shape.each], shape.augmentation, shape.seed)
    return tensors | {f"pose.{name}": value for name, value in recognition.items()}


def cross_fitted(sample: Sample, shape: Shape) -> HeldOut:
    """Measure each image by a fit to the other groups, in `FOLDS` parts, or one per group if there are fewer.

    Only for evidence that does not depend on the network, which has seen all of these images. `RunError` for one group.
    """
    names = sorted(set(sample.groups))
    count = min(FOLDS, len(names))
    if count < 2:
        raise RunError(
            "A detector without layers of the network needs training images of at least 2 patients or groups; "
            f"there is only {names[0]!r}. Train with more, or remove the key 'detector' from training.yaml."
        )
    fold = {name: index % count for index, name in enumerate(names)}
    folds = torch.tensor([fold[group] for group in sample.groups])
    pairs, order = [], []
    for number in range(count):
        inside, outside = (torch.nonzero(mask).flatten() for mask in (folds == number, folds != number))
        pairs.append((fit_to(sample.rows(outside), shape), sample.observations.rows(inside)))
        order += inside.tolist()
    return measured(pairs, [sample.groups[row] for row in order], tuple(shape.components))


def measured(pairs: Sequence[tuple[Tensors, Observations]], groups: Sequence[str], parts: tuple[str, ...]) -> HeldOut:
    """Measure images, each by a fit that has not seen it; `groups` are those of all images in their order."""
    poses = [pose.likeliest(seen.thumbnails, _recognition(tensors)) for tensors, seen in pairs]
    accepted = pose.accepted(torch.cat(poses), groups)
    distances = [measure(Metric.of(tensors | {"pose.accepted": accepted}, parts), seen) for tensors, seen in pairs]
    joined = {name: np.concatenate([each[name] for each in distances]) for name in distances[0]}
    return HeldOut(joined, tuple(groups), accepted)


def measure(metric: Metric, images: Observations) -> Distances:
    """Return the distances of images."""
    values = metric(images.parts, images.thumbnails)
    return {name: value.double().numpy() for name, value in values.items()}


def _recognition(tensors: Tensors) -> Tensors:
    return {name.removeprefix("pose."): value for name, value in tensors.items() if name.startswith("pose.")}
