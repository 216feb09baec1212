"""Duplicates among images: identical files, and near duplicates that look alike."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from training.datasets.example import Example
from training.errors import DataError

_log = logging.getLogger(__name__)
SIMILAR: Final = 0.99
"""Minimum correlation of the thumbnails of near duplicates. On Br35H, this value splits none of the 785 groups that
were identified by other means, and joins no slices of different labels."""
_SIDE: Final = 16
_MIRRORS: Final = ((1, 1), (-1, 1), (1, -1), (-1, -1))
"""Steps along rows and columns: unchanged, upside down, left to right, and both (a rotation by 180 degrees). Br35H has
the same slices in all four; none of its slices is a copy of another rotated by 90 degrees."""


def copies(examples: Sequence[Example]) -> list[list[Example]]:
    """Group the examples by identical bytes; a group may have one member."""
    by_hash: defaultdict[str, list[Example]] = defaultdict(list)
    for example in examples:
        by_hash[example.sha256].append(example)
    return list(by_hash.values())


def label_conflict(same: Sequence[Example]) -> str | None:
    """Return a sentence if identical files have different labels."""
    if len({example.label for example in same}) == 1:
        return None
    names = ", ".join(f"{example.name} ({example.label})" for example in same)
    return f"Identical files have different labels: {names}."


def join(examples: Sequence[Example], alike: Sequence[Sequence[Example]] = ()) -> tuple[Example, ...]:
    """Merge all groups that share a file or a set of similar images; `DataError` if copies have different labels.

    Similar images may have different labels: neighbouring slices, for example.
    """
    parent = {example.group: example.group for example in examples}
    same_bytes: Sequence[Sequence[Example]] = copies(examples)
    for same in same_bytes:
        if conflict := label_conflict(same):
            raise DataError(f"{conflict} Remove the wrong ones.")
    for same in alike:
        if label_conflict(same):
            _log.warning("similar images have different labels: %s", ", ".join(example.name for example in same))
    for same in (*same_bytes, *alike):
        roots = {_root(parent, example.group) for example in same}
        parent |= dict.fromkeys(roots, min(roots))
    return tuple(replace(example, group=_root(parent, example.group)) for example in examples)


def _root(parent: dict[str, str], group: str) -> str:
    while parent[group] != group:
        group = parent[group]
    return group


def similar(examples: Sequence[Example], threshold: float = SIMILAR) -> list[list[Example]]:
    """Group the examples that look alike, mirrored or not, directly or through others; a group may have one member."""
    thumbnails = np.stack([_thumbnail(example.path) for example in examples])
    flat = thumbnails.reshape(len(examples), -1)
    correlations = [flat @ thumbnails[:, ::rows, ::columns].reshape(flat.shape).T for rows, columns in _MIRRORS]
    _, indices = connected_components(coo_matrix(np.max(correlations, axis=0) >= threshold), directed=False)
    groups: defaultdict[int, list[Example]] = defaultdict(list)
    for example, index in zip(examples, indices.tolist(), strict=True):
        groups[index].append(example)
    return list(groups.values())


def _thumbnail(path: Path) -> NDArray[np.float64]:
    """Scale an image to a gray square with mean 0 and norm 1, independent of brightness and contrast."""
    try:
        with Pillow.open(path) as image:
            small = image.convert("L").resize((_SIDE, _SIDE), Pillow.Resampling.BOX)
    except (OSError, SyntaxError) as error:
        raise DataError(f"{path}: cannot be read as an image: {error} Repair or remove the file.") from error
    values = np.asarray(small, dtype=np.float64)
    values -= values.mean()
    norm = float(np.linalg.norm(values))
    return values / norm if norm else values
