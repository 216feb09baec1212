"""Files of the page over HTTP."""

import asyncio
import json
import os
import re
from pathlib import Path

import httpx
import pytest
from PIL import Image as Pillow
from starlette.applications import Starlette

from gateway.static_files import FOLDER, PageFiles
from tests.gateway.application import running_client, services
from tests.gateway.fake_backend import FakeBackend

FILES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file())


def get(path: str, **headers: str) -> httpx.Response:
    async def send() -> httpx.Response:
        async with running_client(services(FakeBackend())) as client:
            return await client.get(path, headers=headers)

    return asyncio.run(send())


def test_page_is_revalidated() -> None:
    for path in ("/", "/js/main.js", "/css/base.css", "/manifest.webmanifest", "/sw.js"):
        first = get(path)
        assert (first.status_code, first.headers["cache-control"]) == (200, "no-cache")
        assert "default-src 'none'" in first.headers["content-security-policy"]
        again = get(path, **{"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
        assert get(path, **{"If-None-Match": '"other"'}).status_code == 200


def test_etag_depends_on_content(tmp_path: Path) -> None:
    async def tag(content: str) -> str:
        (tmp_path / "main.js").write_text(content)
        os.utime(tmp_path / "main.js", (0, 0))
        app = Starlette()
        app.mount("/", PageFiles(tmp_path))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
            return str((await client.get("/main.js")).headers["etag"])

    assert asyncio.run(tag("let a = 1;")) != asyncio.run(tag("let a = 2;"))


@pytest.mark.parametrize(
    ("path", "media"),
    [
        ("/", "text/html"),
        ("/js/main.js", "text/javascript"),
        ("/sw.js", "text/javascript"),
        ("/manifest.webmanifest", "application/manifest+json"),
        ("/icons/icon.svg", "image/svg+xml"),
        ("/icons/icon-192.png", "image/png"),
    ],
)
def test_files_have_correct_media_types(path: str, media: str) -> None:
    # Browsers reject modules of another type.
    assert get(path).headers["content-type"].partition(";")[0] in (
        media,
        media.replace("text/java", "application/java"),
    )


def test_files_outside_folder_return_404() -> None:
    for path in ("/../page.py", "/..%2fpage.py", "/js/../../app.py", "/.git/config"):
        assert get(path).status_code == 404


def test_service_worker_lists_every_file() -> None:
    listed = set(re.findall(r'"([\w/.-]+\.\w+)"', (FOLDER / "sw.js").read_text()))
    assert listed <= set(FILES)
    assert {name for name in FILES if name.endswith((".js", ".css")) and name != "sw.js"} <= listed


def test_icons_match_manifest() -> None:
    manifest = json.loads((FOLDER / "manifest.webmanifest").read_text())
    for icon in manifest["icons"]:
        path = FOLDER / icon["src"]
        assert path.is_file()
        if icon["type"] == "image/png":
            with Pillow.open(path) as opened:
                assert "x".join(map(str, opened.size)) == icon["sizes"]
    assert {icon.get("purpose") for icon in manifest["icons"]} == {None, "maskable"}


def test_page_has_no_external_or_inline_code() -> None:
    page = (FOLDER / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)
    for name in FILES:
        if name.endswith((".html", ".css", ".js", ".webmanifest")):
            text = (FOLDER / name).read_text().replace("http://www.w3.org/2000/svg", "")  # an XML namespace
            assert not re.findall(r"(?:https?:)?//[\w.-]+\.[a-z]{2,}", text), name
