"""The data sets, by the name that a training configuration's `data` key gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from training.datasets import brain_tumor, chest_xray, cifar10, lgg_mri
from training.datasets.example import Example
from training.errors import SettingsError

__all__ = ["Example", "find"]

DATA_SETS: Final[dict[str, Callable[[Path], tuple[Example, ...]]]] = {
    "brain_tumor": brain_tumor.find,
    "chest_xray": chest_xray.find,
    "cifar10": cifar10.find,
    "lgg_mri": lgg_mri.find,
}


def find(name: str, folder: Path) -> tuple[Example, ...]:
    """List the examples of a data set.

    Raises
    ------
    SettingsError
        If no data set has this name.
    DataError
        If the folder does not hold it.
    """
    if name not in DATA_SETS:
        raise SettingsError(f"data has value {name!r}; known are {', '.join(sorted(DATA_SETS))}.")
    return DATA_SETS[name](folder)
