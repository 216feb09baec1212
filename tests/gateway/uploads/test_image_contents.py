"""Tests of gateway.uploads.image_contents and gateway.uploads.single_images."""

import tracemalloc
import zipfile
from io import BytesIO

import pytest

from gateway.errors import UnsupportedMediaTypeError
from gateway.uploads import image_contents, single_images
from gateway.uploads.image_contents import ImageContent
from gateway.uploads.request_body import RequestBody


def zipped(*members: tuple[str, bytes]) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def read(content: bytes) -> list[ImageContent]:
    return list(image_contents.read(RequestBody(content, "application/octet-stream")))


def test_files_that_the_server_skips_are_not_images_and_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_contents, "_MAX_BYTES", 10)
    hidden = [(name, bytes(9)) for name in (".DS_Store", "__MACOSX/a.png", "b/.c", "Thumbs.db", "folder/")]
    assert read(zipped(*hidden, ("a.png", b"image"))) == [ImageContent(b"image", "a.png")]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_damaged_file_of_a_zip_keeps_its_place() -> None:
    content = zipped(("a.png", b"first image"), ("a.png", b"second image"))
    damaged = content.replace(b"first image", b"other image")  # its checksum is wrong
    assert read(damaged) == [ImageContent(None, "a.png"), ImageContent(b"second image", "a.png")]


def test_a_body_that_only_begins_like_a_zip_is_one_image() -> None:
    """The preamble of a DICOM file may contain anything."""
    content = b"PK" + bytes(126) + b"DICM"
    assert read(content) == [ImageContent(content)]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_python_unpacks_without_a_limit_are_rejected_without_unpacking(method: int) -> None:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("a.png", bytes(50_000_000))
    body = RequestBody(buffer.getvalue().replace((50_000_000).to_bytes(4, "little"), (200).to_bytes(4, "little")), "")
    images = single_images.split(body)
    assert images is not None
    tracemalloc.start()
    try:
        with pytest.raises(UnsupportedMediaTypeError, match="unsupported compression method; use deflate"):
            images[0].build()
        assert list(image_contents.read(body)) == [ImageContent(None, "a.png")]
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
