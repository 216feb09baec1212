"""Raises the limit of unusual images for the images of a site.

It becomes the same quantile of the site's scores as the recipe's limit is of those of the held-out images. It is never
below the recipe's limit, because few images are weak evidence for a stricter one. The limit of unlike images stays: no
images of a site can show which images of other things a higher one would admit.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handlers.domain.detector import Detector
from handlers.profile import Change, DetectorLimits
from handlers.recipe import Detector as Section
from radserve.site import comparison
from training import recalibration
from training.batches import Images
from training.detector import calibration
from training.metrics.bootstrap import Statistic

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """Scores of a site's images, of any status, and the detector's limits as shipped."""

    section: Section
    share: float  # of the held-out images that are not unusual as shipped
    scores: Scores
    images: Images  # labels and patients


def measured(detector: Detector, scores: Scores, images: Images) -> Measured:
    """Return the scores of a site's images with the limits of a detector."""
    section = detector.section
    return Measured(section, detector.percentile(section.marked) / 100, scores, images)


def fit(measured: Measured) -> DetectorLimits:
    """Return the limit for all images of a site."""
    text = (
        f"the larger of the shipped limit and the {measured.share:.1%} quantile of {len(measured.scores)} images of "
        f"{len(set(measured.images.groups))} patients, at most the limit of unlike images"
    )
    return DetectorLimits(marked=round(_marked(measured, range(len(measured.scores))), 4), fitted=text)


def changes(measured: Measured, seed: int) -> dict[str, Change]:
    """Measure the share of unusual images as shipped, and by limits of other patients; and that of unlike images."""
    fold = recalibration.folds(measured.images, seed)
    parts = [_marked(measured, np.flatnonzero(fold != number)) for number in range(recalibration.FOLDS)]
    before = _statistic(measured, measured.section.marked)
    after = _statistic(measured, np.array([parts[number] for number in fold]))
    return comparison.compare(before, after, measured.images.groups, seed)


def _marked(measured: Measured, indices: Iterable[int]) -> float:
    rows = list(indices)
    groups = [measured.images.groups[row] for row in rows]
    (own,) = calibration.quantiles(measured.scores[rows], groups, [measured.share])
    return min(max(float(own), measured.section.marked), measured.section.refused)


def _statistic(measured: Measured, marked: Scores | float) -> Statistic:
    unlike = measured.scores >= measured.section.refused
    unusual = (measured.scores >= marked) & ~unlike

    def shares(indices: NDArray[np.intp]) -> Mapping[str, float]:
        return {"unlike_images": float(unlike[indices].mean()), "unusual_images": float(unusual[indices].mean())}

    return shares
