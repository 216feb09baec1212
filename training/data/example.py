"""One labelled image of a data set, before it is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Example:
    """One image, what it shows and whom it must not be separated from.

    Attributes
    ----------
    name
        Path below the data set's folder, with `/`; identifies the example on every machine.
    path
        The file.
    label
        One of the recipe's labels.
    group
        Patient, or near-duplicate group: everything of one group is on one side of a split.
    sha256
        Of the file.
    """

    name: str
    path: Path
    label: str
    group: str
    sha256: str
