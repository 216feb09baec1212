"""Labelled images of other sources: a folder per label, or masks; and attributes of the patients in a CSV file.

`attributes.csv` has the columns `file` (relative to the folder) and any of `patient`, `age` (years), `sex` and `view`.
Images of a patient are drawn together in confidence intervals; without that column, each image is a group.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from training.datasets.example import Example, sha256
from training.datasets.lgg_mri import read_mask
from training.errors import DataError

ATTRIBUTES: Final = "attributes.csv"
SUBGROUPS: Final[tuple[str, ...]] = ("age", "sex", "view")
_SUFFIXES: Final = frozenset({".bmp", ".dcm", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_AGES: Final = (1, 6, 18, 40, 65)  # first years of the age groups after the first
_OLDEST: Final = 150
_UNKNOWN: Final = "unknown"
_MASK: Final = "_mask"


@dataclass(frozen=True)
class Labelled:
    """Examples, and for each attribute in the CSV file the subgroup of each example."""

    examples: tuple[Example, ...]
    subgroups: Mapping[str, tuple[str, ...]]


def find(folder: Path, labels: Sequence[str]) -> Labelled:
    """List the images below the folders that are named like labels, in any case; `DataError` if one has no image."""
    if not folder.is_dir():
        raise DataError(f"{folder}: folder not found. Give one with a folder for each of {', '.join(labels)}.")
    rows = attributes(folder)
    folders = {path.name.lower(): path for path in folder.iterdir() if path.is_dir()}
    examples = []
    for label in labels:
        paths = sorted(folders.get(label.lower(), folder / label).rglob("*"))
        images = [path for path in paths if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")]
        if not images:
            raise DataError(f"{folder / label}: contains no image ({', '.join(sorted(_SUFFIXES))}).")
        examples += [_example(path, label, folder, rows) for path in images]
    return with_subgroups(tuple(examples), rows)


def find_masks(folder: Path, labels: tuple[str, str]) -> Labelled:
    """List the images below a folder, each with its mask `<image>_mask`; `labels` are negative and positive.

    Images in the same folder are slices of one patient, unless the CSV file names another. `DataError` lists images
    without a mask.
    """
    rows, top = attributes(folder), folder
    paths = [path for path in sorted(top.rglob("*")) if path.suffix.lower() in _SUFFIXES - {".dcm"}]
    files = {path.with_suffix(""): path for path in paths if not path.name.startswith(".")}
    pairs = [
        (path, files.get(stem.with_name(stem.name + _MASK)))
        for stem, path in files.items()
        if not stem.name.endswith(_MASK)
    ]
    missing = [path.relative_to(top).as_posix() for path, mask in pairs if mask is None]
    if missing or not pairs:
        raise DataError(f"{folder}: {len(missing)} of {len(pairs)} images lack <image>{_MASK}: {', '.join(missing)}.")
    examples = [_masked(path, mask, top, labels, rows) for path, mask in pairs if mask is not None]
    return with_subgroups(tuple(examples), rows)


def attributes(folder: Path) -> Mapping[str, Mapping[str, str]]:
    """Read the rows of `attributes.csv` by file; empty without that file."""
    path = folder / ATTRIBUTES
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {row["file"]: row for row in csv.DictReader(file)}
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: invalid; expected CSV with the column file: {error!r}") from error


def with_subgroups(examples: tuple[Example, ...], rows: Mapping[str, Mapping[str, str]]) -> Labelled:
    """Return examples with the subgroups that the rows state; `DataError` if a row names no example."""
    missing = rows.keys() - {example.name for example in examples}
    if missing:
        raise DataError(f"{ATTRIBUTES}: {len(missing)} rows name no image, among them {min(missing)}. Correct them.")
    columns = {key for row in rows.values() for key in row}
    subgroups = {
        key: tuple(_subgroup(key, rows.get(example.name, {}).get(key) or "") for example in examples)
        for key in SUBGROUPS
        if key in columns
    }
    return Labelled(examples, subgroups)


def _example(path: Path, label: str, folder: Path, rows: Mapping[str, Mapping[str, str]]) -> Example:
    name = path.relative_to(folder).as_posix()
    patient = rows.get(name, {}).get("patient") or name
    return Example(name, path, label, patient, sha256(path.read_bytes()))


def _masked(
    path: Path, mask: Path, folder: Path, labels: tuple[str, str], rows: Mapping[str, Mapping[str, str]]
) -> Example:
    relative = path.relative_to(folder)
    name = relative.as_posix()
    patient = rows.get(name, {}).get("patient") or relative.parent.as_posix()
    label = labels[read_mask(mask).getbbox() is not None]
    return Example(name, path, label, patient, sha256(path.read_bytes()), mask)


def _subgroup(attribute: str, value: str) -> str:
    if attribute != "age" or not value:
        return value.strip() or _UNKNOWN
    try:
        years = float(value)
    except ValueError:
        years = math.nan
    if not 0 <= years <= _OLDEST:  # true for NaN as well
        raise DataError(f"{ATTRIBUTES}: the age {value!r} is not a number of years, 0 to {_OLDEST}.")
    starts = [start for start in _AGES if years >= start]
    ends = [start for start in _AGES if years < start]
    if not starts:
        return f"below {ends[0]}"
    return f"{starts[-1]} to {ends[0] - 1}" if ends else f"{starts[-1]} and older"
