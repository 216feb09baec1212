"""Zips: valid, damaged and malicious ones."""

import struct
import tracemalloc
import zipfile
from contextlib import suppress
from io import BytesIO

import pytest

from handlers.errors import BadRequestError, ContentTooLargeError, RequestError, UnsupportedMediaTypeError
from handlers.formats.zip import Entry, read, recognises

MOST, TOGETHER, EACH = 5, 100_000, 50_000


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", method) as packed:
        for name, data in files.items():
            packed.writestr(name, data)
    return stream.getvalue()


def unpack(data: bytes) -> tuple[Entry, ...]:
    return read(data, MOST, TOGETHER, EACH)


def test_files_are_in_natural_order() -> None:
    names = ["slice_10.png", "slice_2.png", "slice_1.png", "slice_02.png", "a/slice_3.png"]
    files = {name: name.encode() for name in names}
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        entries = unpack(zipped(files, method))
        assert [entry.name for entry in entries] == [
            "a/slice_3.png",
            "slice_1.png",
            "slice_02.png",
            "slice_2.png",
            "slice_10.png",
        ]
        assert all(entry.content == entry.name.encode() for entry in entries)


def test_long_numbers_are_sorted_and_longer_names_rejected() -> None:
    long = "9" * 1020
    assert [entry.name for entry in unpack(zipped({f"{long}.png": b"", "1.png": b""}))] == ["1.png", f"{long}.png"]
    with pytest.raises(BadRequestError, match="more than 1024 characters"):
        unpack(zipped({f"{long}9.png": b"", "1.png": b""}))


def test_long_names_take_little_memory() -> None:
    data = zipped({f"{'a1' * 30_000}{number}": b"" for number in range(MOST)})
    tracemalloc.start()
    try:
        with pytest.raises(BadRequestError):
            unpack(data)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_folders_and_hidden_files_are_skipped() -> None:
    hidden = dict.fromkeys(("a/", "__MACOSX/a/._1.png", ".DS_Store", "a/.hidden", "Thumbs.db"), b"x")
    entries = unpack(zipped(hidden | {"a/1.png": b"one"}))
    assert entries == (Entry("a/1.png", b"one"),)


@pytest.mark.parametrize("files", [{}, {"a/": b""}, {".DS_Store": b"x"}])
def test_a_zip_without_files_is_rejected(files: dict[str, bytes]) -> None:
    data = zipped(files)
    assert recognises(data)
    with pytest.raises(BadRequestError, match="has no files"):
        unpack(data)


def test_a_name_outside_of_the_folder_is_only_repeated() -> None:
    (entry,) = unpack(zipped({"../../etc/passwd": b"data"}))
    assert entry == Entry("../../etc/passwd", b"data")


def test_too_many_files_are_rejected() -> None:
    with pytest.raises(ContentTooLargeError, match="has 6 files; the limit is 5"):
        unpack(zipped({str(number): b"" for number in range(6)}))


def test_a_directory_of_many_entries_is_rejected_before_parsing() -> None:
    with pytest.raises(ContentTooLargeError, match="has more than 20 entries"):
        unpack(zipped({f"{number}/": b"" for number in range(21)}))


def test_too_many_bytes_in_total_are_rejected() -> None:
    bomb = zipped({str(number): bytes(40_000) for number in range(3)})
    assert len(bomb) < 1000
    with pytest.raises(ContentTooLargeError, match="unpacks to 120000 bytes"):
        unpack(bomb)


def test_a_large_file_is_rejected_in_its_place() -> None:
    good, large = unpack(zipped({"1": b"good", "2": bytes(60_000)}))
    assert good.content == b"good"
    assert isinstance(large.content, ContentTooLargeError)


def test_a_bomb_that_lies_about_its_size_is_not_unpacked() -> None:
    data = bytearray(zipped({"1": bytes(200_000_000)}))
    for magic, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", data, data.index(magic) + place, 1000)
    tracemalloc.start()
    (entry,) = unpack(bytes(data))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(entry.content, BadRequestError)
    assert peak < 5_000_000


def test_an_encrypted_zip_is_rejected() -> None:
    data = bytearray(zipped({"1": b"x"}))
    for magic, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + place] |= 1
    with pytest.raises(BadRequestError, match="encrypted"):
        unpack(bytes(data))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_unsupported_compression_is_rejected_in_its_place(method: int) -> None:
    (entry,) = unpack(zipped({"1": b"x" * 100}, method))
    assert isinstance(entry.content, UnsupportedMediaTypeError)


def test_a_damaged_file_is_rejected_in_its_place() -> None:
    data = zipped({"1": b"good" * 30, "2": b"damaged" * 30}, zipfile.ZIP_STORED).replace(
        b"damaged" * 30, b"garbled" * 30
    )
    good, broken = unpack(data)
    assert good.content == b"good" * 30
    assert isinstance(broken.content, BadRequestError)


def test_a_file_beyond_the_largest_offset_is_rejected_in_its_place() -> None:
    data = zipped({"1": b"good", "2": b"far"})
    start = data.rindex(b"PK\x01\x02")
    entry, end = bytearray(data[start : data.index(b"PK\x05\x06")]), bytearray(data[data.index(b"PK\x05\x06") :])
    extra = struct.pack("<HHQ", 1, 8, 1 << 63)  # zip64: the offset of the entry
    struct.pack_into("<H", entry, 30, len(extra))
    struct.pack_into("<I", entry, 42, 0xFFFFFFFF)
    struct.pack_into("<I", end, 12, struct.unpack_from("<I", end, 12)[0] + len(extra))
    good, far = unpack(data[:start] + entry + extra + end)
    assert good.content == b"good"
    assert isinstance(far.content, BadRequestError)


def test_any_damage_raises_a_request_error_only() -> None:
    whole = zipped({"1": bytes(range(256)) * 3, "b/2": b"two"})
    for cut in range(4, len(whole)):
        with pytest.raises(BadRequestError):
            unpack(whole[:cut])
    for place in range(4, len(whole)):
        for value in (0, 0x7F, 0xFF):
            with suppress(RequestError):
                unpack(whole[:place] + bytes([value]) + whole[place + 1 :])
