"""The files that a command line means."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from radserve.errors import InvalidCallError

STDIN: Final = "-"
SUFFIXES: Final = frozenset(
    ".bmp .dcm .dic .dicom .ima .jfif .jpe .jpeg .jpg .npy .png .tif .tiff .webp".split()  # noqa: SIM905  # one line
)


@dataclass(frozen=True)
class Source:
    """One image to be asked about.

    Attributes
    ----------
    name
        The name that its answer will carry.
    folder
        The folder that was named, where the image was found in one.
    """

    name: str
    folder: Path | None = None

    def content(self, limit: int) -> bytes:
        """Read the image, but no more of it than one byte above the limit.

        Raises
        ------
        OSError
            If it cannot be read.
        """
        if self.name == STDIN:
            return sys.stdin.buffer.read(limit + 1)
        with Path(self.name).open("rb") as file:
            return file.read(limit + 1)

    @property
    def place(self) -> Path:
        """Relative path, without the suffix of an image, for what is made of it in another folder."""
        if self.name == STDIN:
            return Path("stdin")
        path = Path(self.name)
        path = path.relative_to(self.folder) if self.folder else Path(path.name)
        return path.with_suffix("") if path.suffix.lower() in SUFFIXES else path


@dataclass(frozen=True)
class Inputs:
    """The sources in order, and what a person should know about those that are none."""

    sources: tuple[Source, ...]
    notes: tuple[str, ...] = ()


def find(arguments: Sequence[str]) -> Inputs:
    """Find the images that files, folders and `-` mean; nothing is opened.

    A file that is named is always meant. Of a folder, and the folders in it, those files are
    whose suffix is that of an image, is none, or is a number (DICOM files are often named by UIDs);
    hidden files and links to folders are passed over, and so is DICOMDIR, which is an index.

    Raises
    ------
    WrongCall
        If an argument does not exist or cannot be listed, or all of them mean nothing.
    """
    if arguments.count(STDIN) > 1:
        raise InvalidCallError("'-' (standard input) may be given once only.")
    sources: list[Source] = []
    notes: list[str] = []
    for argument in arguments:
        path = Path(argument)
        if argument == STDIN or (path.exists() and not path.is_dir()):
            sources.append(Source(argument))
        elif path.is_dir():
            meant, others = _walk(path)
            sources += meant
            if others or not meant:
                notes.append(f"{argument}: taken as images: {len(meant)}, other files passed over: {others}.")
        else:
            raise InvalidCallError(f"{argument}: no such file or folder.")
    if not sources:
        known = " ".join(sorted(SUFFIXES))
        raise InvalidCallError(
            f"{', '.join(arguments)}: no image found; of a folder, files with {known} or no suffix count."
        )
    return Inputs(tuple(sources), tuple(notes))


def _walk(folder: Path) -> tuple[list[Source], int]:
    names = list(_names(folder))
    meant = [Source(name, folder) for name in names if _is_meant(Path(name))]
    return meant, len(names) - len(meant)


def _names(folder: Path) -> Iterator[str]:
    for where, folders, files in os.walk(folder, onerror=_fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(where) / name
            if not name.startswith(".") and path.is_file():
                yield str(path)


def _is_meant(path: Path) -> bool:
    suffix = path.suffix.lower()
    return path.name != "DICOMDIR" and (not suffix or suffix in SUFFIXES or suffix[1:].isdigit())


def _fail(error: OSError) -> NoReturn:
    raise InvalidCallError(f"{error.filename}: cannot be listed ({error.strerror}).") from error
