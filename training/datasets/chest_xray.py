"""Chest films of children (Kermany et al. 2018, doi:10.17632/rscbjbr9sj), in the layout of the public download."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

from training.datasets.duplicates import join
from training.datasets.example import Example
from training.errors import DataError

_CLASSES: Final = {"NORMAL": "normal", "PNEUMONIA": "pneumonia"}
_PARTS: Final = ("train", "val")
"""The published validation part has 16 films; both are one pool here, split anew by patient."""
_SUFFIXES: Final = frozenset({".jpeg", ".jpg", ".png"})
_PNEUMONIA: Final = re.compile(r"person(\d+)_(bacteria|virus)_\d+")
_NORMAL: Final = re.compile(r"((?:NORMAL2-)?IM-\d+)-\d+")


def find(folder: Path) -> tuple[Example, ...]:
    """List the films below a folder, in a fixed order.

    Parameters
    ----------
    folder
        Holds `train` and `val` with `NORMAL` and `PNEUMONIA` in them, or the two class folders directly.

    Raises
    ------
    DataError
        If films are missing, have unknown names, or one film has both labels.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder. Give the one that holds train/NORMAL, train/PNEUMONIA.")
    parts = [folder / part for part in _PARTS if (folder / part).is_dir()] or [folder]
    found = [_example(path, name, folder) for part in parts for name in _CLASSES for path in _films(part / name)]
    if not found:
        raise DataError(f"{folder}: holds no film ({', '.join(sorted(_SUFFIXES))}) in NORMAL or PNEUMONIA.")
    return join(sorted(found, key=lambda example: example.name))


def patient(stem: str) -> str:
    """Whom a film shows, by its file name without the suffix.

    The person numbers of the bacterial and the viral films count separately.

    Raises
    ------
    DataError
        If the name is not of the published form.
    """
    if match := _PNEUMONIA.match(stem):
        return f"{match[2]}-{match[1]}"
    if match := _NORMAL.match(stem):
        return match[1]
    raise DataError(
        f"{stem}: the name does not tell the patient; person<N>_<bacteria|virus>_<N> and [NORMAL2-]IM-<N>-<N> do."
    )


def _films(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; films lie in NORMAL and PNEUMONIA.")
    return [path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")]


def _example(path: Path, name: str, folder: Path) -> Example:
    return Example(
        name=path.relative_to(folder).as_posix(),
        path=path,
        label=_CLASSES[name],
        group=patient(path.stem),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )
