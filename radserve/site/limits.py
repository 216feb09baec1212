"""Raises the limits of the detector for the images of a site, within bounds that images of other things give.

A limit becomes the same quantile of the site's scores as the recipe's limit is of those of the validation images. It is
never below the recipe's limit, because few images are weak evidence for a stricter one, and never above a bound, so
that no site makes the server accept images of other things.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from handlers.profile import Change, DetectorLimits
from handlers.recipe import Detector as Section
from radserve.site import comparison
from training import recalibration
from training.batches import Images
from training.detector import calibration

Scores = NDArray[np.float64]
MOST: Final = 1.25
"""Largest multiple of the shipped limit of unlike images. Measured with the shipped detectors: images of other organs
(100 each) have scores from 1.47 (chest films to brain-tumor-attention) and 1.51 (brain slices to chest-xray-cnn)
times the limit, drawn ones from 2.08."""
KEPT: Final = 0.95
"""Share of the images of other things that remain refused, for each kind of which as many are refused as shipped."""


@dataclass(frozen=True)
class Measured:
    """Scores of a site's images, of any status, and the bound of their limit."""

    section: Section
    scores: Scores
    images: Images  # labels and patients
    highest: float


def bound(section: Section, kinds: Mapping[str, Scores]) -> float:
    """Return the highest limit of unlike images, from the scores of images of other things by kind."""
    clear = [scores for scores in kinds.values() if np.mean(scores >= section.refused) >= KEPT]
    kept = [float(np.quantile(scores, 1 - KEPT, method="lower")) for scores in clear]
    return max(section.refused, min([MOST * section.refused, *kept]))


def fit(measured: Measured) -> DetectorLimits:
    """Return the limits of all images of a site."""
    marked, refused = _thresholds(measured, range(len(measured.scores)))
    shares = calibration.DEFAULT
    text = (
        f"{1 - shares.refused:.1%} and {1 - shares.marked:.1%} quantiles of {len(measured.scores)} images of "
        f"{len(set(measured.images.groups))} patients, from the shipped limit to {measured.highest:.4f}, which refuses "
        f"at least {KEPT:.0%} of each kind of other image and is at most {MOST:g} times the shipped limit"
    )
    return DetectorLimits(marked=round(marked, 4), refused=round(refused, 4), fitted=text)


def changes(measured: Measured, seed: int) -> dict[str, Change]:
    """Measure the shares of unlike and of unusual images as shipped, and by limits of other patients."""
    shipped = (measured.section.marked, measured.section.refused)
    fold = recalibration.folds(measured.images, seed)
    parts = [_thresholds(measured, np.flatnonzero(fold != number)) for number in range(recalibration.FOLDS)]
    marked, refused = np.array([parts[number] for number in fold]).T
    before, after = _statistic(measured.scores, *shipped), _statistic(measured.scores, marked, refused)
    return comparison.compare(before, after, measured.images.groups, seed)


def _thresholds(measured: Measured, indices: Iterable[int]) -> tuple[float, float]:
    rows = list(indices)
    groups = [measured.images.groups[row] for row in rows]
    marked, refused = calibration.thresholds(measured.scores[rows], groups)
    refused = min(max(refused, measured.section.refused), measured.highest)
    return min(max(marked, measured.section.marked), refused), refused


def _statistic(scores: Scores, marked: Scores | float, refused: Scores | float) -> comparison.Statistic:
    unlike, unusual = scores >= refused, (scores >= marked) & (scores < refused)

    def shares(indices: NDArray[np.intp]) -> Mapping[str, float]:
        return {"unlike_images": float(unlike[indices].mean()), "unusual_images": float(unusual[indices].mean())}

    return shares
