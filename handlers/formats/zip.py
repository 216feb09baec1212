"""Unpacks a zip of images in memory, within limits and in natural order of the file names."""

import re
import zipfile
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from handlers.errors import BadRequestError, ContentTooLargeError, RequestError, UnsupportedMediaTypeError

_MAGIC: Final = (b"PK\x03\x04", b"PK\x05\x06")
"""A first entry; the end of an empty zip (APPNOTE 6.3.10, sections 4.3.7 and 4.3.16)."""
_DIRECTORY_ENTRY: Final = b"PK\x01\x02"
"""First bytes of each entry of the directory (section 4.3.12)."""
_ENTRIES_PER_IMAGE: Final = 4
"""Most entries, folders and hidden files included, for each image that the limit allows."""
_MAX_NAME: Final = 1024
"""Longest path of a file: sorting splits it into its numbers, which take a hundred times its bytes."""
_ENCRYPTED: Final = 0x1
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_HIDDEN: Final = ("Thumbs.db", "desktop.ini")
_DAMAGED: Final = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, LookupError, OverflowError),
    NotImplementedError,  # of a feature that zipfile lacks, such as patched data
)
"""What zipfile raises depends on the damaged bytes."""
_DIGITS: Final = re.compile("([0-9]+)")


@dataclass(frozen=True)
class Entry:
    """One file of a zip; its content is an error where it cannot be unpacked."""

    name: str
    content: bytes | RequestError


def recognises(data: bytes) -> bool:
    """Whether the first bytes are those of a zip."""
    return data.startswith(_MAGIC)


def read(data: bytes, max_files: int, max_total: int, max_each: int) -> tuple[Entry, ...]:
    """Unpack at most `max_files` files of a zip in natural order (slice_2 before slice_10).

    The bytes of all files together are limited to `max_total`, those of each to `max_each`. Folders and hidden files
    (`.DS_Store`, `__MACOSX/...`) are skipped.
    """
    # Counted before parsing: a body of the largest size can list a million empty entries.
    if data.count(_DIRECTORY_ENTRY) > _ENTRIES_PER_IMAGE * max_files:
        raise ContentTooLargeError(
            f"The zip has more than {_ENTRIES_PER_IMAGE * max_files} entries; the limit is {max_files} images."
        )
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            return tuple(
                Entry(info.filename, _content(archive, info, max_each))
                for info in _files(archive, max_files, max_total)
            )
    except RequestError:
        raise
    except _DAMAGED as error:
        raise BadRequestError("The zip is damaged or incomplete; create it again.") from error


def _files(archive: zipfile.ZipFile, max_files: int, max_total: int) -> list[zipfile.ZipInfo]:
    files = [info for info in archive.infolist() if not _is_skipped(info)]
    if not files:
        raise BadRequestError("The zip has no files; add the images.")
    if len(files) > max_files:
        raise ContentTooLargeError(f"The zip has {len(files)} files; the limit is {max_files} images.")
    size = sum(info.file_size for info in files)
    if size > max_total:
        raise ContentTooLargeError(f"The zip unpacks to {size} bytes; the limit is {max_total}.")
    if any(info.flag_bits & _ENCRYPTED for info in files):
        raise BadRequestError("The zip is encrypted; create it without a password.")
    if any(len(info.filename) > _MAX_NAME for info in files):
        raise BadRequestError(f"A file name in the zip has more than {_MAX_NAME} characters; shorten it.")
    return sorted(files, key=_natural)


def _is_skipped(info: zipfile.ZipInfo) -> bool:
    *folders, name = info.filename.split("/")
    return info.is_dir() or "__MACOSX" in folders or name.startswith(".") or name in _HIDDEN


def _natural(info: zipfile.ZipInfo) -> tuple[list[str | int], str]:
    """Return a sort key: text and numbers in turn; names that differ in leading zeros only are sorted as text."""
    pieces: list[str | int] = [*_DIGITS.split(info.filename)]
    pieces[1::2] = map(int, pieces[1::2])
    return pieces, info.filename


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo, max_each: int) -> bytes | RequestError:
    if info.compress_type not in _METHODS:
        return UnsupportedMediaTypeError("This zip entry has an unsupported compression method; use deflate.")
    if info.file_size > max_each:
        return ContentTooLargeError(f"This zip entry has {info.file_size} bytes; the limit is {max_each}.")
    try:
        with archive.open(info) as stream:
            # Bounded: read() alone would unpack all data, then cut them to the declared size.
            return stream.read(info.file_size)
    except _DAMAGED as error:  # returned, not raised: the other entries are still analysed
        failure = BadRequestError("This zip entry is damaged; create the zip again.")
        failure.__cause__ = error
        return failure
