"""Describes a data set and the split that training would make: `radserve data describe`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console

from training import datasets
from training.datasets import Example, cifar10, description, inventory, split
from training.datasets.description import Description
from training.errors import DataError
from training.settings import Settings

_LAYOUTS: Final = {
    "brain_tumor": ("yes", "no"),
    "chest_xray": ("NORMAL", "PNEUMONIA"),
    "cifar10": tuple(cifar10.CLASSES),
}
"""Subfolders that identify a data set, directly or in `train`."""


def describe(name: str, examples: Sequence[Example], settings: Settings) -> Description:
    """Describe the examples of a data set with the split of these settings."""
    try:
        sides = split.by_group(examples, settings.validation, settings.seed)
    except DataError as error:
        return description.describe(name, examples, None, (f"The data set cannot be split: {error}",))
    return description.describe(name, examples, sides)


def main(kind: str | None, folder: Path, picture: Path | None, validation: float, seed: int) -> int:
    """Print a description, and draw samples if there is a path for them; return exit code 1 if there are problems."""
    name = kind or kind_of(folder)
    examples = datasets.find(name, folder)
    result = describe(name, examples, Settings(data=name, validation=validation, seed=seed))
    Console().print(inventory.table(result))
    if picture is not None:
        inventory.samples(examples, picture)
    return 1 if result.problems else 0


def kind_of(folder: Path) -> str:
    """Detect the name of a data set from the layout of its folder."""
    if folder.is_file():
        return "cifar10"
    if (folder / "kaggle_3m").is_dir() or any(folder.glob("TCGA_*")):
        return "lgg_mri"
    for name, subfolders in _LAYOUTS.items():
        if any(all((top / part).is_dir() for part in subfolders) for top in (folder, folder / "train")):
            return name
    raise DataError(f"{folder}: unknown layout. Name the data set with --kind.")
