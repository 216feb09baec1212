"""`radserve data describe`: look at a data set before anything is trained on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console

from training import datasets
from training.datasets import Example, cifar10, inventory, split
from training.datasets.description import Description, of
from training.errors import DataError
from training.settings import Settings

_LAYOUTS: Final = {
    "brain_tumor": ("yes", "no"),
    "chest_xray": ("NORMAL", "PNEUMONIA"),
    "cifar10": tuple(cifar10.CLASSES),
}
"""Folders, all of which the data set has, directly or in `train`."""


def describe(name: str, folder: Path, settings: Settings) -> Description:
    """Look at every file of a data set, and at the split that these settings make.

    Parameters
    ----------
    name
        Of the data set, as in `training.datasets`.

    Raises
    ------
    SettingsError
        If no data set has this name.
    DataError
        If the folder does not hold it: a layout, name, mask or label that it must not have.
    """
    return _described(name, datasets.find(name, folder), settings)


def main(kind: str | None, folder: Path, picture: Path | None, validation: float, seed: int) -> int:
    """Print a description, and draw samples where a path for them is given.

    Parameters
    ----------
    kind
        Name of the data set; told by the layout without it.

    Returns
    -------
    The exit code: 1 where there are problems.

    Raises
    ------
    DataError
        As `describe`, and if the layout does not tell which data set it is.
    """
    name = kind or kind_of(folder)
    examples = datasets.find(name, folder)
    found = _described(name, examples, Settings(data=name, validation=validation, seed=seed))
    Console().print(inventory.table(found))
    if picture is not None:
        inventory.samples(examples, picture)
    return 1 if found.problems else 0


def kind_of(folder: Path) -> str:
    """Tell by its layout which data set a folder holds.

    Raises
    ------
    DataError
        If it looks like none.
    """
    if folder.is_file():
        return "cifar10"
    if (folder / "kaggle_3m").is_dir() or any(folder.glob("TCGA_*")):
        return "lgg_mri"
    for name, wanted in _LAYOUTS.items():
        if any(all((top / part).is_dir() for part in wanted) for top in (folder, folder / "train")):
            return name
    raise DataError(f"{folder}: its layout is that of no known data set; say which it is with --kind.")


def _described(name: str, examples: Sequence[Example], settings: Settings) -> Description:
    try:
        sides = split.by_group(examples, settings.validation, settings.seed)
    except DataError as error:
        return of(name, examples, None, (f"No split can be made: {error}",))
    return of(name, examples, sides)
