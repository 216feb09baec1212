"""A zip of images: its entries in the order that a reader expects, none beyond the limits.

Nothing is written anywhere, so an entry's name is only told back.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from handlers.errors import BadRequestError, ContentTooLargeError, RequestError, UnsupportedMediaTypeError

_MAGIC: Final = (b"PK\x03\x04", b"PK\x05\x06")
"""A first entry; the end of an empty zip (APPNOTE 6.3.10, sections 4.3.7 and 4.3.16)."""
_LISTED: Final = b"PK\x01\x02"
"""Begins each entry of the directory (section 4.3.12)."""
_OTHERS: Final = 4
"""Most entries, for each image that may be there, of which the most are folders and hidden files."""
_ENCRYPTED: Final = 0x1
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_CLUTTER: Final = ("Thumbs.db", "desktop.ini")
"""What Windows hides."""
_DIGITS: Final = re.compile("([0-9]+)")


@dataclass(frozen=True)
class Entry:
    """One file of a zip; an error stands in the place of one that cannot be unpacked."""

    name: str
    content: bytes | RequestError


def recognises(data: bytes) -> bool:
    """Whether the first bytes are those of a zip."""
    return data.startswith(_MAGIC)


def read(data: bytes, most: int, together: int, each: int) -> tuple[Entry, ...]:
    """Unpack the files of a zip, numbers in their names in the order of numbers (slice_2 before slice_10).

    Folders and hidden files (`.DS_Store`, `__MACOSX/...`) are passed over.

    Parameters
    ----------
    most
        Number of files.
    together, each
        Bytes that all files, and each of them, may have when unpacked.

    Raises
    ------
    BadRequest
        If the zip is broken, encrypted or holds no file.
    ContentTooLarge
        If it holds more files or bytes.
    """
    # Counted before they are parsed: a body of the largest size lists a million empty entries.
    if data.count(_LISTED) > _OTHERS * most:
        raise ContentTooLargeError(
            f"The zip lists more than {_OTHERS * most} entries; at most {most} images are read at once."
        )
    try:
        with zipfile.ZipFile(BytesIO(data)) as opened:
            return tuple(_entry(opened, info, each) for info in _files(opened, most, together))
    except RequestError:
        raise
    # What zipfile raises on damaged directories depends on which bytes are wrong; the client learns that they are.
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, LookupError, OverflowError) as error:
        raise BadRequestError("The zip is broken or cut off; pack it anew.") from error


def _files(opened: zipfile.ZipFile, most: int, together: int) -> list[zipfile.ZipInfo]:
    files = sorted((info for info in opened.infolist() if not _is_passed_over(info)), key=_natural)
    if not files:
        raise BadRequestError("The zip holds no file; pack the images into it.")
    if len(files) > most:
        raise ContentTooLargeError(f"The zip holds {len(files)} files; at most {most} images are read at once.")
    size = sum(info.file_size for info in files)
    if size > together:
        raise ContentTooLargeError(f"The zip unpacks to {size} bytes; at most {together} are read at once.")
    if any(info.flag_bits & _ENCRYPTED for info in files):
        raise BadRequestError("The zip is encrypted; pack it without a password.")
    return files


def _is_passed_over(info: zipfile.ZipInfo) -> bool:
    *folders, name = info.filename.split("/")
    return info.is_dir() or "__MACOSX" in folders or name.startswith(".") or name in _CLUTTER


def _natural(info: zipfile.ZipInfo) -> list[tuple[int, str]]:
    """Sort key: numbers by their length, then their digits, which int() would limit."""
    pieces = _DIGITS.split(info.filename)
    keys = [(0, piece) for piece in pieces]
    keys[1::2] = [(len(piece.lstrip("0")), piece.lstrip("0")) for piece in pieces[1::2]]
    return [*keys, (0, info.filename)]


def _entry(opened: zipfile.ZipFile, info: zipfile.ZipInfo, each: int) -> Entry:
    return Entry(info.filename, _content(opened, info, each))


def _content(opened: zipfile.ZipFile, info: zipfile.ZipInfo, each: int) -> bytes | RequestError:
    if info.compress_type not in _METHODS:
        return UnsupportedMediaTypeError("This entry of the zip is compressed in a way that is not read; use deflate.")
    if info.file_size > each:
        return ContentTooLargeError(f"This entry of the zip has {info.file_size} bytes; at most {each} are read.")
    try:
        with opened.open(info) as stream:
            # Bounded: read() alone would unpack whatever the data holds, and cut it to the announced size afterwards.
            return stream.read(info.file_size)
    # The problem stands in the entry's own place: the other entries keep their answers.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError) as error:
        failure = BadRequestError("This entry of the zip is broken; pack it anew.")
        failure.__cause__ = error
        return failure
