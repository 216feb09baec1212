"""Lists the images of a job: a folder, an S3 prefix, a manifest (CSV, Parquet), or a DICOMDIR."""

from __future__ import annotations

import io
import os
import stat
from collections import deque
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, NoReturn
from urllib.parse import unquote

from radserve.batch.objects import open_objects
from radserve.errors import BatchError, ShardError
from radserve.image_files import is_image

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_S3: Final = "s3://"
_MANIFESTS: Final = (".csv", ".parquet")
_DICOMDIR: Final = "DICOMDIR"


def absolute(source: str) -> str:
    """Return a folder or file as a normalised absolute path, and a URL without the last slash."""
    if "://" in source:
        return source if source.endswith("//") else source.rstrip("/")
    return os.path.normpath(Path(source).absolute())


def is_manifest(source: str) -> bool:
    """Return whether an input is a table that has the names of the images."""
    return PurePosixPath(source).suffix.lower() in _MANIFESTS and not Path(source).is_dir()


def require_outside(output: str, source: str) -> None:
    """Raise BatchError if the results would be written among the images; both are absolute."""
    if source.startswith(_S3) or output.startswith(_S3):
        inside = f"{output}/".startswith(f"{source}/") and not is_manifest(source)
    else:
        inside = Path(source).is_dir() and Path(output).resolve().is_relative_to(Path(source).resolve())
    if inside:
        raise BatchError(f"{output}: OUTPUT is inside of INPUT; choose a folder or prefix outside of {source}.")


def require_reachable(source: str, names: Sequence[str], unreadable: Sequence[str]) -> None:
    """Raise ShardError if images seem to be unreadable because a folder or mount is missing.

    Parameters
    ----------
    source
        The input of the job.
    names, unreadable
        All images of a shard, and those that cannot be read.
    """
    is_table = PurePosixPath(source).suffix.lower() in _MANIFESTS or PurePosixPath(source).name == _DICOMDIR
    if unreadable and not is_table and not source.startswith(_S3) and _is_empty(Path(source)):
        raise ShardError(f"{source}: missing or empty; mount or restore it.")
    if len(unreadable) == len(names) and all(map(_is_lost, unreadable)):
        raise ShardError(
            f"None of its {len(names)} images can be read, such as {names[0]}; check mounts and permissions."
        )


def _is_lost(name: str) -> bool:
    """Return whether an unreadable file is there, or its folder is missing or empty, like one that is not mounted."""
    target = Path(os.path.realpath(name.replace("\0", "")))
    return "://" not in name and (target.is_file() or _is_empty(target.parent))


def _is_empty(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except OSError:
        return True


def find(source: str, column: str = "path") -> list[str]:
    """Return paths or s3:// URLs of all images, sorted, without duplicates.

    Parameters
    ----------
    source
        A folder or s3:// prefix (with its subfolders), a manifest (`NAME.csv`, `NAME.parquet`, also on S3), or a file
        named DICOMDIR; see `absolute`.
    column
        Column of the manifest that has paths or s3:// URLs. Relative ones start in the manifest's folder.

    Raises
    ------
    BatchError
        The source is missing, invalid or lists no image.
    """
    if is_manifest(source):
        names = _manifest(source, column)
    elif source.startswith(_S3):
        objects = open_objects(source)
        names = [f"{objects.url}/{name}" for name, _ in objects.sizes("") if _is_listed(name)]
    elif Path(source).is_dir():
        names = [name for name in _walk(source) if is_image(name)]
    elif PurePosixPath(source).name == _DICOMDIR:
        names = _dicomdir(Path(source))
    else:
        raise BatchError(
            f"{source}: no such folder. Use a folder, s3://BUCKET/PREFIX, NAME.csv, NAME.parquet or DICOMDIR."
        )
    if not names:
        raise BatchError(f"{source}: no image found.")
    return sorted(set(names))


def _walk(root: str) -> Iterator[str]:
    """Yield the files in a folder and its subfolders, except hidden ones, and the links to nothing.

    Linked folders come last, each real folder once; a link to a folder that contains `root` is not followed.
    """
    queue, visited = deque([root]), set()
    while queue:
        for parent, folders, files in os.walk(queue.popleft(), onerror=_fail):
            real = Path(parent).resolve()
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            if real in visited or (parent != root and Path(root).resolve().is_relative_to(real)):
                folders.clear()
                continue
            visited.add(real)
            queue += [path for name in folders if Path(path := f"{parent}/{name}").is_symlink()]
            yield from (f"{parent}/{name}" for name in files if not name.startswith(".") and _is_file(parent, name))


def _is_file(parent: str, name: str) -> bool:
    """Return whether an entry is a file, or cannot be examined: then its row says why."""
    try:
        return stat.S_ISREG(Path(parent, name).stat().st_mode)
    except OSError:
        return True


def _fail(error: OSError) -> NoReturn:
    raise BatchError(f"{error.filename}: cannot list the folder ({error.strerror}).") from error


def _is_listed(name: str) -> bool:
    """Return whether an object is an image that is in no hidden folder."""
    return is_image(name) and not any(part.startswith(".") for part in PurePosixPath(name).parts)


def _manifest(source: str, column: str) -> list[str]:
    import pyarrow as pa
    from pyarrow import csv, parquet

    folder, _, name = source.rpartition("/") if "/" in source else (".", "", source)
    base = folder or "/"
    content = open_objects(base).read(name)
    if content is None:
        raise BatchError(f"{source}: file not found.")
    try:
        if name.lower().endswith(".csv"):
            options = csv.ConvertOptions(include_columns=[column], column_types={column: pa.string()})
            read = csv.ReadOptions(use_threads=False)  # whose threads could abort the end of the process
            table = csv.read_csv(io.BytesIO(content), read_options=read, convert_options=options)
        else:
            with parquet.ParquetFile(io.BytesIO(content), pre_buffer=False) as file:
                table = file.read([column], use_threads=False)
        values = table.column(column).to_pylist()
    except (KeyError, OSError, pa.ArrowException) as error:
        raise BatchError(
            f"{source}: no column {column!r} that can be read ({error}). Name it with --column."
        ) from error
    if not all(isinstance(value, str) and value for value in values):
        raise BatchError(f"{source}: column {column!r} has an empty cell, or one that is not text.")
    return [_absolute(value, base) for value in values]


def _absolute(value: str, base: str) -> str:
    """Return a cell as path or URL; one with another scheme stays, and its row says that it cannot be read."""
    scheme, separator, rest = value.partition("://")
    if separator and scheme.lower() == "s3":
        return f"{_S3}{rest}"
    if separator and scheme.lower() == "file" and rest.startswith("/"):
        return os.path.normpath(unquote(rest))
    if separator:
        return value
    if base.startswith(_S3) and not value.startswith("/"):
        return f"{base}/{value.removeprefix('./')}"
    return os.path.normpath(f"{base}/{value}" if not value.startswith("/") else value)


def _dicomdir(path: Path) -> list[str]:
    """Return the files that the image records of a DICOMDIR name (PS3.3, annex F)."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        records = pydicom.dcmread(path).DirectoryRecordSequence
        images = [record for record in records if record.get("DirectoryRecordType") == "IMAGE"]
        parts = [record.ReferencedFileID for record in images if "ReferencedFileID" in record]
    except (AttributeError, InvalidDicomError, OSError) as error:
        raise BatchError(f"{path}: not a DICOMDIR that can be read ({error}).") from error
    names = [[part] if isinstance(part, str) else list(part) for part in parts]
    if any(part in ("..", "") or "/" in part for name in names for part in name):
        raise BatchError(f"{path}: names a file outside of its folder.")
    return [str(path.parent.joinpath(*name)) for name in names]
