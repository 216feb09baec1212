"""The data sets, by the name that a training configuration's `data` key gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from training.data import chest_xray
from training.data.example import Example
from training.errors import SettingsError

__all__ = ["Example", "find"]

_DATA_SETS: Final[dict[str, Callable[[Path], tuple[Example, ...]]]] = {
    "chest_xray": chest_xray.find,
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
    if name not in _DATA_SETS:
        raise SettingsError(f"data has value {name!r}; known are {', '.join(sorted(_DATA_SETS))}.")
    return _DATA_SETS[name](folder)
