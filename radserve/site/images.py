"""Labelled images of a site: a folder with one subfolder for each label, or a CSV file."""

import csv
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from radserve.errors import SiteProfileError

MIN_IMAGES: Final = 100
MIN_PER_LABEL: Final = 20
_COLUMNS: Final = ("file", "label", "patient")


@dataclass(frozen=True)
class LabelledImage:
    """An image file, its label, and the patient whose images stay together."""

    path: Path
    label: str
    patient: str


def find(source: Path, labels: Sequence[str]) -> list[LabelledImage]:
    """List the images of `source`: SOURCE/LABEL/[PATIENT/]FILE, or a CSV file with file, label and patient.

    Folders inside that of a patient belong to the patient. Without a folder for the patient, each file is a patient.
    Copies of an image are left out. Raises SiteProfileError for an unknown label, a missing file, or an image of two
    patients or labels: it would be measured with values that were fitted on it.
    """
    unique: dict[str, LabelledImage] = {}
    for image in _from_csv(source) if source.is_file() else _from_folder(source, labels):
        if image.label not in labels:
            raise SiteProfileError(f"{image.path}: unknown label {image.label!r}; the model's are {', '.join(labels)}.")
        try:
            digest = hashlib.sha256(image.path.read_bytes()).hexdigest()
        except OSError as error:
            raise SiteProfileError(f"{image.path}: {error.strerror}.") from error
        other = unique.setdefault(digest, image)
        if (other.label, other.patient) != (image.label, image.patient):
            raise SiteProfileError(
                f"{image.path}: the same image as {other.path}, with another label or patient; correct one of them."
            )
    return list(unique.values())


def require_enough(usable: Sequence[str], labels: Sequence[str], source: Path) -> None:
    """Raise SiteProfileError for too few usable images, whose labels are `usable`."""
    counts = Counter(usable)
    if len(usable) < MIN_IMAGES or min(counts[label] for label in labels) < MIN_PER_LABEL:
        amounts = ", ".join(f"{counts[label]} {label}" for label in labels)
        raise SiteProfileError(
            f"{source}: {amounts}. A profile needs {MIN_IMAGES} usable images, and {MIN_PER_LABEL} of each label: add "
            "images."
        )


def _from_folder(folder: Path, labels: Sequence[str]) -> Iterator[LabelledImage]:
    if not folder.is_dir():
        raise SiteProfileError(f"{folder}: no such file or folder.")
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith(".") and path.name not in labels:
            raise SiteProfileError(f"{path}: unknown label {path.name!r}; the model's are {', '.join(labels)}.")
    for label in labels:
        for path in sorted((folder / label).rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                parents = path.relative_to(folder / label).parts[:-1]
                yield LabelledImage(path, label, parents[0] if parents else f"{label}/{path.name}")


def _from_csv(file: Path) -> Iterator[LabelledImage]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            if not set(_COLUMNS) <= set(reader.fieldnames or ()):
                raise SiteProfileError(f"{file}: the first line must name the columns {', '.join(_COLUMNS)}.")
            for row in reader:
                path, label, patient = (row[name] or "" for name in _COLUMNS)
                if not path or not patient:
                    raise SiteProfileError(f"{file}, line {reader.line_num}: file or patient is missing.")
                yield LabelledImage(file.parent / path, label, patient)
    except (OSError, UnicodeDecodeError) as error:
        raise SiteProfileError(f"{file}: not readable as UTF-8 text: {error}.") from error
