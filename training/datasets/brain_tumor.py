"""Brain MRI slices with and without a tumour (Br35H, Hamada 2020), in the layout of the public download.

Most slices occur more than once (resized, recompressed, mirrored or upside down; some of them 33 times), so a split by
file would put the same slice on both sides. Slices that look alike form a group (`training.datasets.duplicates`).
`groups.csv` (columns `file`, `group`), if it exists, lists further files that belong together.
"""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from training.datasets import duplicates
from training.datasets.example import SUFFIXES, Example, image_files, sha256
from training.errors import DataError

GROUPS: Final = "groups.csv"
_CLASSES: Final = {"no": "no tumour", "yes": "tumour"}


def find(folder: Path) -> tuple[Example, ...]:
    """List the slices of a folder, which contains `yes`, `no` and optionally `groups.csv`, in a fixed order."""
    groups = _groups(folder)
    examples = [_example(path, label, folder, groups) for path, label in files(folder)]
    return duplicates.join(examples, duplicates.similar(examples))


def files(folder: Path) -> list[tuple[Path, str]]:
    """List the files and labels of a folder, without reading them."""
    slices = sorted(
        (path, label) for name, label in _CLASSES.items() for path in image_files(folder / name, "yes and no")
    )
    if not slices:
        raise DataError(f"{folder}: contains no slices ({', '.join(sorted(SUFFIXES))}) in yes or no.")
    return slices


def _groups(folder: Path) -> Mapping[str, str] | None:
    path = folder / GROUPS
    if not path.exists():
        return None
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {row["file"]: row["group"] for row in csv.DictReader(file)}
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: invalid; expected CSV with the columns file and group: {error!r}") from error


def _example(path: Path, label: str, folder: Path, groups: Mapping[str, str] | None) -> Example:
    name = path.relative_to(folder).as_posix()
    if groups is not None and name not in groups:
        raise DataError(f"{folder / GROUPS}: does not list {name}. Add it, or delete the file.")
    return Example(name, path, label, name if groups is None else groups[name], sha256(path.read_bytes()))
