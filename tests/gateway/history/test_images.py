"""Storage of images."""

import asyncio
import base64
import gzip
import hashlib
import json
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import HistoryError
from gateway.history import Result
from gateway.history.images import ImageStore, media_type
from gateway.uploads.request_body import RequestBody
from tests.gateway.history.results import NOW, result


def of(image: bytes, seconds: float = 0, **changes: Any) -> Result:
    """Return a result for an image, changed."""
    return result(seconds, **changes, image_sha256=hashlib.sha256(image).hexdigest())


def files(folder: Path) -> dict[str, list[str]]:
    return {path.name: sorted(file.name for file in path.iterdir()) for path in folder.iterdir()}


def document(value: object) -> RequestBody:
    """Return a JSON body with base64 images."""
    text = json.dumps(value, default=lambda image: base64.b64encode(image).decode())
    return RequestBody(text.encode(), "application/json")


ONE, OTHER = b"\x89PNG one", b"\x89PNG other"


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (RequestBody(ONE), [ONE]),
        (RequestBody(ONE, "image/png"), [ONE]),
        (RequestBody(gzip.compress(ONE), "image/png", "gzip"), [ONE]),
        (document({"image": ONE}), [ONE]),
        (document({"instances": [{"b64": ONE}, {"b64": OTHER}]}), [ONE, OTHER]),
        (RequestBody(gzip.compress(document({"image": OTHER}).content), "application/json", "gzip"), [OTHER]),
        (RequestBody(b"PK a zip", "application/zip"), []),
        (RequestBody(ONE, "image/png", "gzip"), [ONE]),
        (document(1), []),
        (document({"image": 1}), []),
        (document({"instances": [1, {}]}), []),
        (document({"image": "a"}), []),
        (RequestBody(b"{", "application/json"), []),
    ],
)
def test_images_of_body_are_stored_under_their_results(tmp_path: Path, body: RequestBody, kept: list[bytes]) -> None:
    images = ImageStore(tmp_path / "images")
    results = [of(ONE), of(OTHER)]

    async def work() -> None:
        assert await images.add(results, body) == len(kept)
        for item, image in zip(results, (ONE, OTHER), strict=True):
            assert await images.read(item.id) == (image if image in kept else None)

    asyncio.run(work())


def test_image_is_stored_once_and_deleted_with_last_result(tmp_path: Path) -> None:
    images = ImageStore(tmp_path)
    one, same = of(ONE, 1), of(ONE, 2)

    async def work() -> None:
        await images.add([one], RequestBody(ONE))
        await images.add([same], RequestBody(ONE))
        assert files(tmp_path) == {"sha256": [one.image_sha256], "results": sorted([one.id, same.id])}
        assert sum(path.stat().st_size for path in (tmp_path / "sha256").iterdir()) == len(ONE)
        await images.delete(one.id)
        assert await images.read(same.id) == ONE
        await images.delete(same.id)
        await images.delete(same.id)
        assert files(tmp_path) == {"sha256": [], "results": []}

    asyncio.run(work())


def test_expiry_deletes_only_own_files(tmp_path: Path) -> None:
    images = ImageStore(tmp_path)
    old, new = of(ONE, 3600), of(ONE)

    async def work() -> None:
        await images.expire(NOW)  # the folder does not exist yet
        await images.add([old, of(OTHER, 3600)], RequestBody(ONE))
        await images.add([new], RequestBody(ONE))
        (tmp_path / "results" / ".DS_Store").touch()
        for content in (tmp_path / "sha256").iterdir():
            os.utime(content, (0, time.time() - 7200))
        await images.expire(NOW - timedelta(minutes=30))
        assert files(tmp_path) == {"sha256": [new.image_sha256], "results": [".DS_Store", new.id]}
        await images.expire(NOW + timedelta(seconds=1))
        assert files(tmp_path) == {"sha256": [], "results": [".DS_Store"]}

    asyncio.run(work())


def test_concurrent_additions_and_deletions_lose_no_image(tmp_path: Path) -> None:
    images = ImageStore(tmp_path)

    async def one(number: int) -> None:
        for _ in range(10):
            gone, stays = of(ONE, number), of(ONE, number)
            await images.add([gone], RequestBody(ONE))
            await images.add([stays], RequestBody(ONE))
            await images.delete(gone.id)
            assert await images.read(stays.id) == ONE
            await images.delete(stays.id)

    async def work() -> None:
        await asyncio.gather(*(one(number) for number in range(8)))
        assert files(tmp_path)["results"] == []

    asyncio.run(work())


def test_images_are_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        asyncio.run(ImageStore(tmp_path / "images").add([of(ONE)], RequestBody(ONE)))
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "images").rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "images").iterdir()} == {0o700}


def test_unusable_folder_raises_history_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HistoryError, match="unavailable"):
        asyncio.run(ImageStore(tmp_path / "file").add([of(ONE)], RequestBody(ONE)))


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (ONE, "application/octet-stream"),
        (b"\x89PNG\r\n\x1a\n...", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"RIFF\x00\x00\x00\x00WEBP", "image/webp"),
        (bytes(128) + b"DICM", "application/dicom"),
        (b"<html>", "application/octet-stream"),
        (b"", "application/octet-stream"),
    ],
)
def test_media_type_follows_signature(content: bytes, kind: Any) -> None:
    assert media_type(content) == kind
