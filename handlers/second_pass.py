"""Second pass of a dark image: a brightened copy without its dark margins, which the network labels as well."""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch.nn.functional import interpolate, max_pool2d

from handlers.domain import evidence
from handlers.formats.image import Image
from handlers.preprocess import at_least
from handlers.recipe import Input, SecondPass
from handlers.suitability import MIN_SIDE

_WHITE: Final = 0.995
"""Quantile of the gray levels that becomes white."""
_BACKGROUND: Final = 0.1
"""Share of that quantile up to which a pixel is background ..."""
_EMPTY: Final = 0.02
"""... and share of other pixels up to which a row or column is a margin."""
_START: Final = 0.95
"""Quantile from which the subject is sought: letters and scale bars cover less than 5 %."""
_CELLS: Final = 64
"""Side of the thumbnail in which the subject is one connected area."""


def brightness(tensor: NDArray[np.float32], spec: Input) -> float:
    """Return the mean times the 90 % quantile of the gray levels in [0, 1] of a network's input.

    It is the inverse of the detector's evidence `level`, and at least 0.0001.
    """
    return 1 / float(evidence.level(evidence.luminance(evidence.intensities(tensor, spec))))


def is_due(tensor: NDArray[np.float32], spec: Input, section: SecondPass | None) -> bool:
    """Whether an image, given as the network's input, is dark enough for a second pass."""
    return section is not None and brightness(tensor, spec) < section.darker_than


def copy(image: Image, spec: Input) -> Image:
    """Return the subject of an image without dark margins, brightened so that its 99.5 % quantile is white.

    The subject is the largest connected area above the background, so that a bright letter or scale bar beside it
    changes neither crop nor brightness; what else lies within the crop turns black. Where fewer than `MIN_SIDE` rows or
    columns would be left, the margins stay. A large image is reduced first, to no less than a decoder may reduce it.
    """
    pixels = image.pixels.convert("L") if spec.color == "gray" and image.pixels.mode == "RGB" else image.pixels
    pixels = pixels.reduce(max(1, min(side // least for side, least in zip(pixels.size, at_least(spec), strict=True))))
    values = np.asarray(pixels, dtype=np.float32)
    gray = values if values.ndim == 2 else np.asarray(pixels.convert("L"), dtype=np.float32)
    subject = _subject(gray)
    white = _quantile(gray * subject, _WHITE)
    rows, columns = _box(gray * subject > _BACKGROUND * white)
    inside = subject[rows, columns].reshape(*gray[rows, columns].shape, *(1,) * (values.ndim - 2))
    bright = (values[rows, columns] * inside * (255 / white)).clip(0, 255)
    changed = Pillow.fromarray(bright if pixels.mode == "F" else bright.round().astype(np.uint8))
    return Image(changed, image.format, changed.width, changed.height)


def _subject(gray: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the mask of the subject in gray values (height, width), with a rim of a cell."""
    small = evidence.thumbnail(torch.tensor(gray), _CELLS)
    white, cells = _quantile(gray, _START), torch.ones_like(small)
    for _ in range(2):  # the second time, with the subject's own white
        cells = max_pool2d(_largest(small > _BACKGROUND * white)[None], 3, stride=1, padding=1)[0]
        mask = interpolate(cells[None, None], gray.shape)[0, 0].numpy() > 0
        white = _quantile(gray * mask, _WHITE)
    return mask


def _largest(mask: torch.Tensor) -> torch.Tensor:
    """Return the largest connected area of a mask as ones; all ones for an empty mask."""
    area, grown = torch.zeros(mask.shape), (torch.arange(mask.numel()).reshape(mask.shape) + 1.0) * mask
    while not torch.equal(area, grown):
        area, grown = grown, max_pool2d(grown[None], 3, stride=1, padding=1)[0] * mask
    sizes = torch.bincount(area.flatten().long())
    return torch.ones(mask.shape) if len(sizes) == 1 else (area == sizes[1:].argmax() + 1).float()


def _quantile(values: NDArray[np.float32], share: float) -> float:
    return max(float(np.quantile(values, share)), 1)


def _box(subject: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the rows and columns within the margins of a mask (height, width)."""
    lines = [np.flatnonzero(subject.mean(axis) > _EMPTY) for axis in (1, 0)]
    if min(map(len, lines)) < MIN_SIDE:
        return slice(None), slice(None)
    rows, columns = (slice(int(line[0]), int(line[-1]) + 1) for line in lines)
    return rows, columns
