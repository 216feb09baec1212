"""CIFAR-10 (Krizhevsky 2009): photographs of 32 x 32 pixels with ten labels.

Reads the published binary version (`data_batch_<N>.bin`), or image files in `train/<class>/`, in a folder or a tar
file. The Python version is not read, because it is pickled. Which photographs show the same thing is unknown, so each
one is a group; identical ones are joined.
"""

import tarfile
from pathlib import Path, PurePosixPath
from typing import Final

from training.datasets.duplicates import join
from training.datasets.example import SUFFIXES, Example, sha256
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
_BATCH: Final = ".bin"
_SHAPE: Final = (3, 32, 32)
_RECORD: Final = 1 + 3 * 32 * 32


def find(folder: Path) -> tuple[Example, ...]:
    """List the photographs of the training part, in one of the layouts above, in a fixed order."""
    if folder.is_file():
        examples = _in_tar(folder)
    else:
        batches = files(folder)
        examples = [example for path in batches if path.suffix == _BATCH for example in _batch(path)]
        examples = examples or [_example(path, path, sha256(path.read_bytes())) for path in batches]
    if not examples:
        raise DataError(f"{folder}: contains no photographs in train/<class>.")
    return join(sorted(examples, key=lambda example: example.name))


def files(folder: Path) -> list[Path]:
    """List the batches or the images of a folder, or the tar file, without reading them."""
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise DataError(f"{folder}: folder or tar file not found.")
    paths = list(folder.glob(f"data_batch_*{_BATCH}")) or _in_folders(folder)
    if not paths:
        python = (folder / "data_batch_1").is_file()
        problem = "contains the pickled Python version; use the binary one" if python else "contains no photographs"
        raise DataError(f"{folder}: {problem}. Expected data_batch_<N>.bin, or images in train/<class>.")
    return paths


def _batch(path: Path) -> list[Example]:
    data = path.read_bytes()
    if not data or len(data) % _RECORD:
        raise DataError(f"{path}: has {len(data)} bytes, expected a multiple of {_RECORD}. Download it again.")
    return [_record(path, data, start) for start in range(0, len(data), _RECORD)]


def _record(path: Path, data: bytes, start: int) -> Example:
    number = data[start]
    if number >= len(CLASSES):
        raise DataError(f"{path}: invalid label {number} at byte {start}. Download it again.")
    name = f"{path.stem}/{start // _RECORD:05d}"
    span = (start + 1, _RECORD - 1)
    digest = sha256(data[start + 1 : start + _RECORD])
    return Example(name, path, list(CLASSES.values())[number], name, digest, span=span, raw=_SHAPE)


def _in_folders(folder: Path) -> list[Path]:
    top = folder / "train" if (folder / "train").is_dir() else folder
    return [path for name in CLASSES for path in (top / name).glob("*") if path.suffix.lower() in SUFFIXES]


def _in_tar(file: Path) -> list[Example]:
    examples = []
    try:
        with tarfile.open(file, "r:") as tar, file.open("rb") as raw:
            for member in [member for member in tar if _is_photograph(member)]:
                raw.seek(member.offset_data)
                span = (member.offset_data, member.size)
                examples.append(_example(PurePosixPath(member.name), file, sha256(raw.read(member.size)), span))
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"{file}: not an uncompressed tar file: {error}") from error
    return examples


def _is_photograph(member: tarfile.TarInfo) -> bool:
    path = PurePosixPath(member.name)
    known = path.parent.name in CLASSES and path.parent.parent.name == "train"
    return member.isfile() and known and path.suffix.lower() in SUFFIXES


def _example(path: PurePosixPath | Path, file: Path, digest: str, span: tuple[int, int] | None = None) -> Example:
    name = f"{path.parent.name}/{path.name}"
    return Example(name, file, CLASSES[path.parent.name], name, digest, span=span)
