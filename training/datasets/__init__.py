"""Data sets, by the name in the `data` key of `training.yaml`."""

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
    """List the examples of a data set; `DataError` if the folder does not contain it."""
    if name not in DATA_SETS:
        raise SettingsError(f"data: unknown data set {name!r}. Available: {', '.join(sorted(DATA_SETS))}.")
    return DATA_SETS[name](folder)
