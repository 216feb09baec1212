"""Data sets, by the name in the `data` key of `training.yaml`."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from training.datasets import brain_tumor, chest_xray, cifar10, lgg_mri
from training.datasets.example import Example
from training.errors import SettingsError

__all__ = ["Example", "check", "find"]

DATA_SETS: Final[dict[str, tuple[Callable[[Path], object], Callable[[Path], tuple[Example, ...]]]]] = {
    "brain_tumor": (brain_tumor.files, brain_tumor.find),
    "chest_xray": (chest_xray.files, chest_xray.find),
    "cifar10": (cifar10.files, cifar10.find),
    "lgg_mri": (lgg_mri.files, lgg_mri.find),
}
"""Name -> functions that list the files of a folder, without reading them, and its examples."""


def find(name: str, folder: Path) -> tuple[Example, ...]:
    """List the examples of a data set; `DataError` if the folder does not contain it."""
    _, examples = _data_set(name)
    return examples(folder)


def check(name: str, folder: Path) -> None:
    """Raise `DataError` if a folder does not have the layout of a data set; reads no image, and imports no torch."""
    files, _ = _data_set(name)
    files(folder)


def _data_set(name: str) -> tuple[Callable[[Path], object], Callable[[Path], tuple[Example, ...]]]:
    if name not in DATA_SETS:
        raise SettingsError(f"data: unknown data set {name!r}. Available: {', '.join(sorted(DATA_SETS))}.")
    return DATA_SETS[name]
