"""Lists the images of a job: a folder, an S3 prefix, a manifest (CSV, Parquet), or a DICOMDIR."""

from __future__ import annotations

import io
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from radserve.batch.objects import open_objects
from radserve.errors import BatchError
from radserve.image_files import is_image, walk

if TYPE_CHECKING:
    from collections.abc import Iterable

_MANIFESTS: Final = (".csv", ".parquet")
_DICOMDIR: Final = "DICOMDIR"


def find(source: str, column: str = "path") -> list[str]:
    """Return paths or s3:// URLs of all images, sorted, without duplicates.

    Parameters
    ----------
    source
        A folder or s3:// prefix (with its subfolders), a manifest (`NAME.csv`, `NAME.parquet`, also on S3), or a file
        named DICOMDIR.
    column
        Column of the manifest that has paths or s3:// URLs. Relative ones start in the manifest's folder.

    Raises
    ------
    BatchError
        The source is missing, invalid or lists no image.
    """
    path = PurePosixPath(source)
    if path.suffix.lower() in _MANIFESTS:
        names = _manifest(source, column)
    elif source.startswith("s3://"):
        objects = open_objects(source)
        names = [f"{objects.url}/{name}" for name, _ in objects.sizes("") if _is_listed(name)]
    elif path.name == _DICOMDIR:
        names = _dicomdir(Path(source).absolute())
    elif Path(source).is_dir():
        names = [name for name in walk(Path(source).absolute()) if is_image(name)]
    else:
        raise BatchError(
            f"{source}: no such folder. Use a folder, s3://BUCKET/PREFIX, NAME.csv, NAME.parquet or DICOMDIR."
        )
    if not names:
        raise BatchError(f"{source}: no image found.")
    return sorted(set(names))


def _is_listed(name: str) -> bool:
    """Return whether an object is an image that is in no hidden folder."""
    return is_image(name) and not any(part.startswith(".") for part in PurePosixPath(name).parts)


def _manifest(source: str, column: str) -> list[str]:
    import pyarrow as pa
    from pyarrow import csv, parquet

    folder, _, name = source.rpartition("/") if "/" in source else (".", "", source)
    base = folder if folder.startswith("s3://") else str(Path(folder or "/").absolute())
    content = open_objects(base).read(name)
    if content is None:
        raise BatchError(f"{source}: file not found.")
    try:
        if name.lower().endswith(".csv"):
            options = csv.ConvertOptions(include_columns=[column], column_types={column: pa.string()})
            table = csv.read_csv(io.BytesIO(content), convert_options=options)
        else:
            table = parquet.read_table(io.BytesIO(content), columns=[column])
        values = table.column(column).to_pylist()
    except (KeyError, pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise BatchError(
            f"{source}: no column {column!r} that can be read ({error}). Name it with --column."
        ) from error
    if not all(isinstance(value, str) and value for value in values):
        raise BatchError(f"{source}: column {column!r} has an empty cell, or one that is not text.")
    return list(_absolute(values, base))


def _absolute(values: Iterable[str], base: str) -> Iterable[str]:
    for value in values:
        absolute = value.startswith(("s3://", "/"))
        yield value if absolute else f"{base}/{value.removeprefix('./')}"


def _dicomdir(path: Path) -> list[str]:
    """Return the files that the image records of a DICOMDIR name (PS3.3, annex F)."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        records = pydicom.dcmread(path).DirectoryRecordSequence
        parts = [record.ReferencedFileID for record in records if "ReferencedFileID" in record]
    except (AttributeError, InvalidDicomError, OSError) as error:
        raise BatchError(f"{path}: not a DICOMDIR that can be read ({error}).") from error
    names = [[part] if isinstance(part, str) else list(part) for part in parts]
    if any(part in ("..", "") or "/" in part for name in names for part in name):
        raise BatchError(f"{path}: names a file outside of its folder.")
    return [str(path.parent.joinpath(*name)) for name in names]
