"""Finds the images that a command line names."""

import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from radserve.cli.terminal import counted, safe
from radserve.errors import InvalidCallError
from radserve.image_files import SUFFIXES, is_image, walk

STDIN: Final = "-"
_NAMED: Final = 3  # ignored files that a note names


@dataclass(frozen=True)
class Source:
    """One image to send: its name in the report, and the folder on the command line that contains it, if any."""

    name: str
    folder: Path | None = None

    def content(self, limit: int) -> bytes:
        """Read at most `limit` + 1 bytes of the image."""
        if self.name == STDIN:
            return sys.stdin.buffer.read(limit + 1)
        with Path(self.name).open("rb") as file:
            return file.read(limit + 1)

    def sha256(self) -> str | None:
        """Return the checksum of the file, which may be too large to be read at once; None for standard input."""
        if self.name == STDIN:
            return None
        with Path(self.name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def frames(self) -> int:
        """Return how many frames a DICOM file declares; 0 without pydicom."""
        try:
            from pydicom import dcmread
        except ModuleNotFoundError:
            return 0
        file = dcmread(self.name, force=True, stop_before_pixels=True, specific_tags=["NumberOfFrames"])
        return int(file.get("NumberOfFrames") or 1)

    @property
    def stem(self) -> Path:
        """Path relative to the folder, without the suffix of an image; names pictures of it in another folder."""
        if self.name == STDIN:
            return Path("stdin")
        path = Path(self.name)
        path = path.relative_to(self.folder) if self.folder else Path(path.name)
        return path.with_suffix("") if path.suffix.lower() in SUFFIXES else path


@dataclass(frozen=True)
class Inputs:
    """Images in order, and notes about ignored files."""

    sources: tuple[Source, ...]
    notes: tuple[str, ...] = ()


def find(arguments: Sequence[str]) -> Inputs:
    """Find the images in files, folders and `-`; no file is opened.

    A named file is always an image. In folders, recursively, images are files with the suffix of an image, without a
    suffix, or with a number as suffix, since DICOM files are often named by UIDs. Hidden files, links to folders and
    the index DICOMDIR are ignored.
    """
    if arguments.count(STDIN) > 1:
        raise InvalidCallError("'-' (standard input) can be given only once.")
    sources: list[Source] = []
    notes: list[str] = []
    for argument in arguments:
        path = Path(argument)
        if argument == STDIN or (path.exists() and not path.is_dir()):
            sources.append(Source(argument))
        elif path.is_dir():
            names = list(walk(path))
            images = [Source(name, path) for name in names if is_image(name)]
            sources += images
            if len(images) < len(names) or not images:
                others = [os.path.relpath(name, path) for name in names if not is_image(name)]
                notes.append(f"{argument}: {counted(len(images), 'image')}; {_ignored(others)}.")
        else:
            raise InvalidCallError(f"{argument}: no such file or folder.")
    if not sources:
        raise InvalidCallError(
            f"{', '.join(arguments)}: no image found. In folders, images have no suffix, a number as suffix, or one of "
            f"{' '.join(sorted(SUFFIXES))}."
        )
    return Inputs(tuple(sources), tuple(notes))


def _ignored(names: Sequence[str]) -> str:
    """Describe the ignored files of a folder."""
    if not names:
        return "no other files"
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    listed = ", ".join(safe(name).plain for name in names[:_NAMED])
    return f"{counted(len(names), 'other file')} ignored: {listed}{more}"
