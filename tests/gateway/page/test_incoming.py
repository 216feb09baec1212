"""What is dropped becomes files: folders are read, zip files unpacked, in order and within limits."""

import base64
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.gateway.page.conftest import Opener
from tests.gateways import Gateway

pytestmark = pytest.mark.e2e

READ = """async ({ files, limits }) => {
    const { LIMITS, pathOf, problemOf, readIncoming } = await import("/js/incoming.js");
    const decode = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const made = files.map(([name, text]) => new File([decode(text)], name));
    try {
        const read = await readIncoming(made, { ...LIMITS, ...limits });
        const describe = async (file) => [pathOf(file), await file.text(), problemOf(file)?.message ?? null];
        return await Promise.all(read.map(describe));
    } catch (error) {
        return error.message;
    }
}"""
ON_DROP = """() => {
    window.dropped = new Promise((resolve) => document.addEventListener("drop", async ({ dataTransfer }) => {
        const { pathOf, readIncoming } = await window.incoming;
        resolve((await readIncoming(dataTransfer)).map(pathOf));
    }, { capture: true }));
}"""


@pytest.fixture
def page(opened: Opener, static_gateway: Gateway) -> Page:
    return opened(static_gateway.url, ready=False)


def archive(*entries: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", method) as made:
        for name, content in entries:
            made.writestr(name, content)
    return stream.getvalue()


def read(page: Page, *files: tuple[str, bytes], **limits: int) -> Any:
    """Return path, text and problem of each file that is read, or the problem of all."""
    encoded = [(name, base64.b64encode(content).decode()) for name, content in files]
    return page.evaluate(READ, {"files": encoded, "limits": limits})


def test_zip_files_are_unpacked_in_place_and_in_their_order(page: Page) -> None:
    entries = (
        ("b/2.png", b"two" * 1000),
        ("b/", b""),
        ("a/10.png", b""),
        ("__MACOSX/b/1.png", b"x"),
        ("b/ä.png", b"x"),
    )
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        packed = archive(*entries, method=method)
        assert read(page, ("first.png", b"1"), ("study.zip", packed), ("last.png", b"3")) == [
            ["first.png", "1", None],
            ["study.zip/b/2.png", "two" * 1000, None],
            ["study.zip/a/10.png", "", None],
            ["study.zip/b/ä.png", "x", None],
            ["last.png", "3", None],
        ]


def test_a_zip_file_that_cannot_be_unpacked_stays_in_the_list_with_its_reason(page: Page) -> None:
    good = archive(("1.png", b"content " * 200), ("2.png", b"other"))
    encrypted = bytearray(good)
    for at in (good.index(b"PK\1\2"), good.rindex(b"PK\1\2")):
        encrypted[at + 8] |= 1
    for content, reason in (
        (good[:-30], "damaged or incomplete"),
        (b"PK\3\4 and so on", "damaged or incomplete"),
        (b"PK\3\4" + good[40:], "damaged or incomplete"),
        (bytes(encrypted), "encrypted"),
        (good[:-12] + b"\xff" * 8 + good[-4:], "ZIP64"),
        (archive(), "no images in this zip file"),
        (archive(("a/.DS_Store", b"x")), "no images in this zip file"),
    ):
        first, *others = read(page, ("study.zip", content), ("3.png", b"3"))
        assert first[0].startswith("study.zip")
        assert reason in first[2]
        assert others[-1] == ["3.png", "3", None]


def test_a_damaged_file_in_a_zip_file_does_not_affect_the_others(page: Page) -> None:
    stored = archive(("1.png", b"one"), ("2.png", b"two"), method=zipfile.ZIP_STORED)
    small = bytearray(archive(("bomb.png", b"0" * 1_000_000), ("2.png", b"two")))
    small[small.index(b"PK\1\2") + 24 : small.index(b"PK\1\2") + 28] = (1000).to_bytes(4, "little")
    for content, name in ((stored.replace(b"one", b"0ne"), "1.png"), (bytes(small), "bomb.png")):
        result = read(page, ("study.zip", content))
        assert result[0][:2] == [f"study.zip/{name}", ""]
        assert "damaged" in result[0][2]
        assert result[1:] == [["study.zip/2.png", "two", None]]


def test_one_file_that_cannot_be_unpacked_does_not_affect_the_others(page: Page) -> None:
    good = archive(("1.png", b"one"), ("2.png", b"two"))
    at = good.index(b"PK\1\2")
    for offset, value, reason in ((8, 1, "encrypted"), (10, 14, "compressed in a way")):
        content = bytearray(good)
        content[at + offset] = value
        first, second = read(page, ("study.zip", bytes(content)))
        assert reason in first[2]
        assert second == ["study.zip/2.png", "two", None]


def test_names_that_are_no_utf_8_have_the_code_page_of_dos(page: Page) -> None:
    names = bytes(range(128, 256)).replace(b"\x81", b"") + "Schädel".encode("cp437")
    content = archive(("x" * len(names), b"1")).replace(b"x" * len(names), names)
    assert read(page, ("study.zip", content))[0][0] == f"study.zip/{names.decode('cp437')}"


def test_limits_hold_for_each_file_and_for_all(page: Page) -> None:
    packed = archive(("1.png", b"x" * 3_000_000), ("2.png", b"y" * 1_000_000))
    one = read(page, ("study.zip", packed), file=2_000_000)
    assert one[0][:2] == ["study.zip/1.png", ""]
    assert "larger than 2 MB" in one[0][2]
    assert len(one[1][1]) == 1_000_000
    both = read(page, ("a.zip", packed), ("b.zip", packed), unpacked=5_000_000)
    assert [path for path, _, _ in both] == ["a.zip/1.png", "a.zip/2.png", "b.zip"]
    assert "unpacks to more than" in both[2][2]
    many = read(page, ("study.zip", packed), files=1)
    assert "more than 1 files" in many[0][2]
    assert "more than 2 files" in read(page, ("1", b""), ("2", b""), ("3", b""), files=2)


def test_dropped_folders_are_read_in_the_order_of_their_names(page: Page, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    (folder / "front").mkdir(parents=True)
    for number in range(1, 131):
        (folder / "front" / f"{number}.png").write_bytes(b"x")
    for name in ("a.png", ".DS_Store", "DICOMDIR"):
        (folder / name).write_bytes(b"x")
    (folder / "z.zip").write_bytes(archive(("1.png", b"x")))
    (tmp_path / "alone.png").write_bytes(b"x")
    page.evaluate("() => { window.incoming = import('/js/incoming.js'); return window.incoming.then(() => null); }")
    page.evaluate(ON_DROP)
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(folder), str(tmp_path / "alone.png")], "dragOperationsMask": 1}
    for event in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": event, "x": 100, "y": 300, "data": data})
    assert page.evaluate("window.dropped") == [
        "study/a.png",
        *(f"study/front/{number}.png" for number in range(1, 131)),
        "study/z.zip/1.png",
        "alone.png",
    ]
