"""Brain MRI slices with and without a tumour (Br35H, Hamada 2020), in the layout of the public download.

The set shows about half of its slices more than once, resized, compressed anew or turned: a split by
file puts the same slice on both sides. `groups.csv` (columns `file`, `group`) says which files belong
together; without it, slices that look alike do (`training.datasets.near_duplicates`).
"""

from __future__ import annotations

import csv
import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from training.datasets import near_duplicates
from training.datasets.duplicates import join
from training.datasets.example import Example
from training.errors import DataError

GROUPS: Final = "groups.csv"
_CLASSES: Final = {"no": "no tumour", "yes": "tumour"}
_SUFFIXES: Final = frozenset({".jpeg", ".jpg", ".png"})
_log = logging.getLogger(__name__)


def find(folder: Path) -> tuple[Example, ...]:
    """List the slices below a folder, in a fixed order.

    Parameters
    ----------
    folder
        Holds `yes`, `no` and perhaps `groups.csv`.

    Raises
    ------
    DataError
        If slices are missing, a slice has no group, or one slice has both labels.
    """
    found = [(path, label) for name, label in _CLASSES.items() for path in _slices(folder / name)]
    if not found:
        raise DataError(f"{folder}: holds no slice ({', '.join(sorted(_SUFFIXES))}) in yes or no.")
    found.sort()
    groups = _groups(folder, [path for path, _ in found])
    return join([_example(path, label, folder, groups) for path, label in found])


def _slices(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; slices lie in yes and no.")
    return [path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")]


def _groups(folder: Path, slices: Sequence[Path]) -> Mapping[str, str]:
    path = folder / GROUPS
    if not path.exists():
        _log.info("%s: missing; slices that look alike are put into one group", path)
        alike = near_duplicates.groups(slices)
        return {_name(each, folder): group for each, group in zip(slices, alike, strict=True)}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {row["file"]: row["group"] for row in csv.DictReader(file)}
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file with the columns file and group: {error!r}") from error


def _example(path: Path, label: str, folder: Path, groups: Mapping[str, str]) -> Example:
    name = _name(path, folder)
    if name not in groups:
        raise DataError(f"{folder / GROUPS}: does not name {name}; add it, or remove the file.")
    return Example(name, path, label, groups[name], hashlib.sha256(path.read_bytes()).hexdigest())


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
