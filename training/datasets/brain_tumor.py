"""Brain MRI slices with and without a tumour (Br35H, Hamada 2020), in the layout of the public download.

About half of the slices occur more than once (resized, recompressed or rotated), so a split by file would put the same
slice on both sides. `groups.csv` (columns `file`, `group`) lists which files belong together. Without it, slices that
look alike are grouped (`training.datasets.duplicates`).
"""

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from training.datasets import duplicates
from training.datasets.example import SUFFIXES, Example, image_files, sha256
from training.errors import DataError

GROUPS: Final = "groups.csv"
_CLASSES: Final = {"no": "no tumour", "yes": "tumour"}
_log = logging.getLogger(__name__)


def find(folder: Path) -> tuple[Example, ...]:
    """List the slices of a folder, which contains `yes`, `no` and optionally `groups.csv`, in a fixed order."""
    slices = files(folder)
    groups = _groups(folder, [path for path, _ in slices])
    return duplicates.join([_example(path, label, folder, groups) for path, label in slices])


def files(folder: Path) -> list[tuple[Path, str]]:
    """List the files and labels of a folder, without reading them."""
    slices = sorted(
        (path, label) for name, label in _CLASSES.items() for path in image_files(folder / name, "yes and no")
    )
    if not slices:
        raise DataError(f"{folder}: contains no slices ({', '.join(sorted(SUFFIXES))}) in yes or no.")
    return slices


def _groups(folder: Path, slices: Sequence[Path]) -> Mapping[str, str]:
    path = folder / GROUPS
    if not path.exists():
        _log.info("%s: not found; grouping slices that look alike", path)
        groups = duplicates.similar_groups(slices)
        return {_name(each, folder): group for each, group in zip(slices, groups, strict=True)}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {row["file"]: row["group"] for row in csv.DictReader(file)}
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: invalid; expected CSV with the columns file and group: {error!r}") from error


def _example(path: Path, label: str, folder: Path, groups: Mapping[str, str]) -> Example:
    name = _name(path, folder)
    if name not in groups:
        raise DataError(f"{folder / GROUPS}: does not list {name}. Add it, or delete the file.")
    return Example(name, path, label, groups[name], sha256(path.read_bytes()))


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
