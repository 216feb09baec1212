"""One labelled image of a data set, before it is read."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Example:
    """One image, what it shows and whom it must not be separated from.

    Attributes
    ----------
    name
        Path below the data set's folder, with `/`; identifies the example on every machine.
    path
        The file, or the archive that holds it.
    label
        One of the recipe's labels.
    group
        Patient, or near-duplicate group: everything of one group is on one side of a split.
    sha256
        Of the image's bytes.
    mask
        File with the truth of a segmentation, of the image's size; pixels above 0 belong to it.
    span
        (offset, length) in bytes, where the image is a part of the file.
    raw
        (channels, height, width) where the bytes are no encoded image but its pixels, in this order.
    """

    name: str
    path: Path
    label: str
    group: str
    sha256: str
    mask: Path | None = None
    span: tuple[int, int] | None = None
    raw: tuple[int, int, int] | None = None

    def read(self) -> bytes:
        """Read the encoded image; raw pixels are encoded as NPY."""
        if self.span is None:
            data = self.path.read_bytes()
        else:
            with self.path.open("rb") as file:
                file.seek(self.span[0])
                data = file.read(self.span[1])
        return data if self.raw is None else _npy(data, self.raw)


def _npy(data: bytes, shape: tuple[int, int, int]) -> bytes:
    pixels = np.frombuffer(data, dtype=np.uint8).reshape(shape).transpose(1, 2, 0)
    written = io.BytesIO()
    np.save(written, np.ascontiguousarray(pixels), allow_pickle=False)
    return written.getvalue()
