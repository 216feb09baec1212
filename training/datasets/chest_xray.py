"""Chest films of children (Kermany et al. 2018, doi:10.17632/rscbjbr9sj), in the layout of the public download."""

import re
from pathlib import Path
from typing import Final

from training.datasets.duplicates import join
from training.datasets.example import SUFFIXES, Example, image_files, sha256
from training.errors import DataError

_CLASSES: Final = {"NORMAL": "normal", "PNEUMONIA": "pneumonia"}
_PARTS: Final = ("train", "val")
"""The published validation part has only 16 films, so both parts are pooled and split by patient."""
_PNEUMONIA: Final = re.compile(r"person(\d+)_(bacteria|virus)_\d+")
_NORMAL: Final = re.compile(r"((?:NORMAL2-)?IM-\d+)-\d+")


def find(folder: Path) -> tuple[Example, ...]:
    """List the films of a folder in a fixed order.

    The folder contains `train` and `val` with `NORMAL` and `PNEUMONIA` in them, or the two class folders directly.
    """
    examples = [_example(path, name, folder) for path, name in files(folder)]
    return join(sorted(examples, key=lambda example: example.name))


def files(folder: Path) -> list[tuple[Path, str]]:
    """List the files of a folder and the names of their classes, without reading them."""
    if not folder.is_dir():
        raise DataError(f"{folder}: folder not found. Give the one that contains train/NORMAL and train/PNEUMONIA.")
    parts = [folder / part for part in _PARTS if (folder / part).is_dir()] or [folder]
    classes = [(part, name) for part in parts for name in _CLASSES]
    films = [(path, name) for part, name in classes for path in image_files(part / name, "NORMAL and PNEUMONIA")]
    if not films:
        raise DataError(f"{folder}: contains no films ({', '.join(sorted(SUFFIXES))}) in NORMAL or PNEUMONIA.")
    return films


def patient(stem: str) -> str:
    """Return the patient of a film from its file name; numbers of bacterial and viral films are independent."""
    if match := _PNEUMONIA.match(stem):
        return f"{match[2]}-{match[1]}"
    if match := _NORMAL.match(stem):
        return match[1]
    raise DataError(
        f"{stem}: unknown file name, so the patient is unknown. Expected person<N>_<bacteria|virus>_<N> or "
        "[NORMAL2-]IM-<N>-<N>."
    )


def _example(path: Path, name: str, folder: Path) -> Example:
    relative = path.relative_to(folder).as_posix()
    return Example(relative, path, _CLASSES[name], patient(path.stem), sha256(path.read_bytes()))
