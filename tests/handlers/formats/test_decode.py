import gzip
import subprocess
import sys

import pytest

from handlers.errors import (
    ContentTooLargeError,
    ServiceUnavailableError,
    UnreadableImageError,
    UnsupportedMediaTypeError,
)
from handlers.formats.decode import decode
from handlers.formats.image import Limits
from tests.handlers.images import film, saved


def test_empty() -> None:
    with pytest.raises(UnreadableImageError, match="image is empty"):
        decode(b"")


def test_too_long() -> None:
    with pytest.raises(ContentTooLargeError, match="has 11 bytes; the limit is 10"):
        decode(b"01234567890", Limits(bytes=10))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\0\0\0\x18ftypheic" + bytes(16), "HEIC and AVIF photographs cannot be read. Export"),
        (b"\0\0\0\x18ftypavis" + bytes(16), "HEIC and AVIF photographs cannot be read. Export"),
        (gzip.compress(saved(film(), "PNG")), "gzip files cannot be read. Unpack"),
        (b"PK\x03\x04...", "zip"),
        (b"PK\x05\x06...", "zip"),
        (b"%PDF-1.7", "PDF"),
        (saved(film(), "GIF"), "GIF"),
        (saved(film(), "JPEG2000"), "JPEG 2000 cannot be read outside of DICOM"),
        (b"SECRET text", "one of JPEG, PNG, TIFF, BMP, WebP, NPY and DICOM"),
    ],
)
def test_unsupported_types_are_named(data: bytes, message: str) -> None:
    with pytest.raises(UnsupportedMediaTypeError, match=message) as caught:
        decode(data)
    assert "SECRET" not in str(caught.value)


def test_running_out_of_memory_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    def starve(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("handlers.formats.raster._decode", starve)
    with pytest.raises(ServiceUnavailableError, match="memory"):
        decode(saved(film(), "PNG"))


def test_content_decides() -> None:
    assert decode(saved(film(), "BMP")).format == "bmp"


def test_pydicom_is_imported_with_the_first_object_only() -> None:
    program = (
        "import sys, handlers.formats.decode as d, handlers.errors as e\n"
        "try: d.decode(b'neither')\n"
        "except e.UnsupportedMediaTypeError: pass\n"
        "sys.exit(any(name in sys.modules for name in ('pydicom', 'imagecodecs', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
