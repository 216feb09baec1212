"""Tells by its name which file of a folder is an image."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final, NoReturn

from radserve.errors import InvalidCallError

SUFFIXES: Final = frozenset(
    ".bmp .dcm .dic .dicom .ima .jfif .jpe .jpeg .jpg .npy .png .tif .tiff .webp".split()  # noqa: SIM905 - one line
)


def is_image(name: str) -> bool:
    """Return whether a file has the suffix of an image, none, or a number: DICOM files are often named by UIDs."""
    path = PurePosixPath(name)
    suffix = path.suffix.lower()
    return path.name != "DICOMDIR" and (not suffix or suffix in SUFFIXES or suffix[1:].isdigit())


def walk(folder: Path) -> Iterator[str]:
    """Yield the paths of the files in a folder and its subfolders, except hidden ones and links to folders."""
    for parent, folders, files in os.walk(folder, onerror=_fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(parent) / name
            if not name.startswith(".") and path.is_file():
                yield str(path)


def _fail(error: OSError) -> NoReturn:
    raise InvalidCallError(f"{error.filename}: cannot list the folder ({error.strerror}).") from error
