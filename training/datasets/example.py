"""One labelled image of a data set."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from training.errors import DataError

SUFFIXES: Final = frozenset({".jpeg", ".jpg", ".png"})  # suffixes of image files in most data sets


@dataclass(frozen=True)
class Example:
    """One image with its label and group; pixels are read on demand."""

    name: str  # path relative to the data set's folder, with `/`; identifies the example on every machine
    path: Path  # the file, or the archive that contains it
    label: str  # one of the recipe's labels
    group: str  # patient or near-duplicate group; a group is never split
    sha256: str  # of the image's bytes
    mask: Path | None = None  # mask file of a segmentation, with the size of the image; pixels above 0 are positive
    span: tuple[int, int] | None = None  # (offset, length) in bytes, if the image is a part of the file
    # (channels, height, width), if the bytes are unencoded pixels in this order
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


def image_files(folder: Path, classes: str) -> list[Path]:
    """List the images in the folder of one of the classes, in any order, without hidden files."""
    if not folder.is_dir():
        raise DataError(f"{folder}: folder not found. The images are expected in {classes}.")
    return [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]


def sha256(data: bytes) -> str:
    """Hash bytes."""
    return hashlib.sha256(data).hexdigest()


def _npy(data: bytes, shape: tuple[int, int, int]) -> bytes:
    pixels = np.frombuffer(data, dtype=np.uint8).reshape(shape).transpose(1, 2, 0)
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(pixels), allow_pickle=False)
    return buffer.getvalue()
