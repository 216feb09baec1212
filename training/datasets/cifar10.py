"""CIFAR-10 (Krizhevsky 2009): 32 x 32 photographs of ten things.

Read as published in the binary version (`data_batch_<N>.bin`), or as image files in `train/<class>/`, in
a folder or in a tar. The Python version is pickled and not read. Nothing says which photographs show
the same thing, so each is a group of its own, and equal ones are joined.
"""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path, PurePosixPath
from typing import Final

from training.datasets.duplicates import join
from training.datasets.example import Example
from training.errors import DataError

CLASSES: Final = {
    "airplane": "plane",
    "automobile": "car",
    "bird": "bird",
    "cat": "cat",
    "deer": "deer",
    "dog": "dog",
    "frog": "frog",
    "horse": "horse",
    "ship": "ship",
    "truck": "truck",
}
"""Published name -> label, in the order of the published numbers."""
_SUFFIXES: Final = frozenset({".jpeg", ".jpg", ".png"})
_SHAPE: Final = (3, 32, 32)
_RECORD: Final = 1 + 3 * 32 * 32


def find(folder: Path) -> tuple[Example, ...]:
    """List the photographs of the training part, in a fixed order.

    Parameters
    ----------
    folder
        Holds `data_batch_<N>.bin` or `train/<class>/`, or is a tar file with `train/<class>/` in it.

    Raises
    ------
    DataError
        If there is none, or a file is not what its name says.
    """
    if folder.is_file():
        examples = _in_tar(folder)
    elif folder.is_dir():
        examples = _in_batches(folder) or _in_folders(folder)
    else:
        raise DataError(f"{folder}: there is no such folder or tar file.")
    if not examples:
        told = "the Python version is pickled: take the binary one" if _is_python(folder) else "no photograph"
        raise DataError(f"{folder}: {told}; data_batch_<N>.bin or images in train/<class> are read.")
    return join(sorted(examples, key=lambda example: example.name))


def _is_python(folder: Path) -> bool:
    return (folder / "data_batch_1").is_file()


def _in_batches(folder: Path) -> list[Example]:
    return [example for path in folder.glob("data_batch_*.bin") for example in _batch(path)]


def _batch(path: Path) -> list[Example]:
    data = path.read_bytes()
    if not data or len(data) % _RECORD:
        raise DataError(f"{path}: has {len(data)} bytes, no multiple of the {_RECORD} of a record. Get it again.")
    return [_record(path, data, start) for start in range(0, len(data), _RECORD)]


def _record(path: Path, data: bytes, start: int) -> Example:
    number = data[start]
    if number >= len(CLASSES):
        raise DataError(f"{path}: names label {number} at byte {start}; there are {len(CLASSES)}. Get it again.")
    name = f"{path.stem}/{start // _RECORD:05d}"
    pixels = (start + 1, _RECORD - 1)
    sha256 = _sha256(data[start + 1 : start + _RECORD])
    return Example(name, path, list(CLASSES.values())[number], name, sha256, span=pixels, raw=_SHAPE)


def _in_folders(folder: Path) -> list[Example]:
    top = folder / "train" if (folder / "train").is_dir() else folder
    return [_file(path) for name in CLASSES for path in (top / name).glob("*") if path.suffix.lower() in _SUFFIXES]


def _file(path: Path) -> Example:
    name = f"{path.parent.name}/{path.name}"
    return Example(name, path, CLASSES[path.parent.name], name, _sha256(path.read_bytes()))


def _in_tar(file: Path) -> list[Example]:
    try:
        with tarfile.open(file, "r:") as tar, file.open("rb") as raw:
            members = [member for member in tar if _is_photograph(member)]
            examples = []
            for member in members:
                raw.seek(member.offset_data)
                examples.append(_member(file, member, _sha256(raw.read(member.size))))
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"{file}: not an uncompressed tar file: {error}") from error
    return examples


def _is_photograph(member: tarfile.TarInfo) -> bool:
    path = PurePosixPath(member.name)
    known = path.parent.name in CLASSES and path.parent.parent.name == "train"
    return member.isfile() and known and path.suffix.lower() in _SUFFIXES


def _member(file: Path, member: tarfile.TarInfo, sha256: str) -> Example:
    path = PurePosixPath(member.name)
    name = f"{path.parent.name}/{path.name}"
    return Example(name, file, CLASSES[path.parent.name], name, sha256, span=(member.offset_data, member.size))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
