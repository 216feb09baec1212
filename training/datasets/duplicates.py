"""Duplicates among images: identical files, and near duplicates that look alike."""

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

SIMILAR: Final = 0.99
"""Minimum correlation of the thumbnails of near duplicates. On Br35H, this value splits none of the 785 groups that
were identified by other means and joins some of them, so a split by these groups is conservative."""
_SIDE: Final = 16


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


def join(examples: Sequence[Example]) -> tuple[Example, ...]:
    """Merge all groups that share a file; `DataError` if identical files have different labels."""
    parent = {example.group: example.group for example in examples}
    for same in copies(examples):
        if conflict := label_conflict(same):
            raise DataError(f"{conflict} Remove the wrong ones.")
        roots = {_root(parent, example.group) for example in same}
        parent |= dict.fromkeys(roots, min(roots))
    return tuple(replace(example, group=_root(parent, example.group)) for example in examples)


def _root(parent: dict[str, str], group: str) -> str:
    while parent[group] != group:
        group = parent[group]
    return group


def similar_groups(paths: Sequence[Path], threshold: float = SIMILAR) -> tuple[str, ...]:
    """Group images that look alike, directly or through others; a group has the name of its first member."""
    thumbnails = np.stack([_thumbnail(path) for path in paths])
    similar = coo_matrix(thumbnails @ thumbnails.T >= threshold)
    _, indices = connected_components(similar, directed=False)
    first: dict[int, str] = {}
    for path, index in zip(paths, indices.tolist(), strict=True):
        first.setdefault(index, f"{path.parent.name}/{path.name}")
    return tuple(first[index] for index in indices.tolist())


def _thumbnail(path: Path) -> NDArray[np.float64]:
    """Scale an image to a gray square with mean 0 and norm 1, independent of brightness and contrast."""
    try:
        with Pillow.open(path) as image:
            small = image.convert("L").resize((_SIDE, _SIDE), Pillow.Resampling.BOX)
    except (OSError, SyntaxError) as error:
        raise DataError(f"{path}: cannot be read as an image: {error} Repair or remove the file.") from error
    values = np.asarray(small, dtype=np.float64).ravel()
    values -= values.mean()
    norm = float(np.linalg.norm(values))
    return values / norm if norm else values
