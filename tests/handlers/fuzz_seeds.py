"""Valid files of every format that the handlers read, to damage, and bombs: small files that declare many pixels."""

import base64
import gzip
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from math import isqrt

import numpy as np
import tifffile
from PIL import Image as Pillow
from pydicom import uid

from handlers.request_body import parse_headers
from tests.handlers import images
from tests.handlers.images import dicom, film, jpeg_12, saved, tiff

_META = 132
"""Position of the meta information of a DICOM file."""


@dataclass(frozen=True)
class Seed:
    """A body, the headers of its request, and what is done to a damaged copy, so that the damage reaches a decoder."""

    name: str
    content: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    finish: Callable[[bytes], bytes] = bytes


def seeds() -> list[Seed]:
    """Return files and bodies; those named `+...` are damaged inside of a checksum or a compression."""
    files = images.seeds()
    listed = [Seed(name, content) for name, content in files.items()]
    listed += [Seed(f"{name}+crc", files[name], finish=_with_crcs) for name in ("png", "png-16", "png-palette")]
    prefix, inner = _split_deflated(files["dicom-deflated"])
    listed.append(Seed("dicom-deflated+inner", inner, finish=lambda content: prefix + _deflate(content)))
    document = json.dumps({"instances": [{"b64": base64.b64encode(files["png"]).decode()}] * 2}).encode()
    listed.append(Seed("json", document))
    codings: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
    for coding, compress in codings.items():
        headers = parse_headers({"Content-Encoding": coding})
        listed.append(Seed(coding, compress(files["jpeg"]), headers))
        listed.append(Seed(f"{coding}+inner", document, headers, finish=compress))
    listed.append(Seed("zip", zipped(files["jpeg"], files["dicom-rle"])))
    listed.append(Seed("zip+inner", files["dicom-jpeg-ls"], finish=zipped))
    return listed


def bombs(pixels: int) -> list[Seed]:
    """Return a file of each codec that compresses blank pixels, with as many pixels as given; and worse ones."""
    side = isqrt(pixels)
    gray = np.zeros((side, side), np.uint8)
    deep, color = gray.astype(np.uint16), np.zeros((side, side, 3), np.uint8)
    files = {
        "png": saved(gray, "PNG"),
        "png-16": saved(deep, "PNG"),
        "png-alpha": saved(np.zeros((side, side, 4), np.uint8), "PNG"),
        "webp": saved(color, "WEBP", quality=1),
        "webp-lossless": saved(np.zeros((side, side, 4), np.uint8), "WEBP", lossless=True),
        "jpeg-progressive": saved(color, "JPEG", progressive=True),
        "tiff-lzw": saved(deep, "TIFF", compression="tiff_lzw"),
        "tiff-deflate-float": saved(gray.astype(np.float32), "TIFF", compression="tiff_deflate"),
        "tiff-packbits": saved(color, "TIFF", compression="packbits"),
        "tiff-group4": saved(Pillow.fromarray(gray).convert("1"), "TIFF", compression="group4"),
        "tiff-predictor-float": tiff(gray.astype(np.float32), compression="zlib", predictor=3),
        "tiff-alpha-16": tiff(
            np.zeros((side, side, 4), np.uint16), compression="zlib", extrasamples=["unassalpha"], predictor=2
        ),
        "tiff-double": tiff(gray.astype(np.float64), compression="zlib"),
        "tiff-tile": tiff_tile(100, 16384),
        "tiff-strip": tiff_strip(100, 1 << 28),
        "tiff-samples": tiff_samples(512, 60),
        "tiff-counts": tiff_counts(1000, 8 << 20),
        "tiff-strips": tiff_strips(200_000),
        "jpeg-scans": jpeg_scans(color, 500_000),
        "dicom-rle": dicom(gray, uid.RLELossless),
        "dicom-rle-16": dicom(deep, uid.RLELossless),
        "dicom-rle-32": dicom(gray.astype(np.uint32), uid.RLELossless, coded=_rle(4, side * side)),
        "dicom-rle-rgb": dicom(color, uid.RLELossless),
        "dicom-rle-long": dicom(film(), uid.RLELossless, coded=_rle(1, 1 << 27)),
        "dicom-jpeg-ls": dicom(deep, uid.JPEGLSLossless),
        "dicom-jpeg-ls-rgb": dicom(color, uid.JPEGLSLossless),
        "dicom-jpeg-2000": dicom(gray, uid.JPEG2000Lossless),
        "dicom-jpeg-2000-16": dicom(deep, uid.JPEG2000Lossless),
        "dicom-jpeg-2000-rgb": dicom(color, uid.JPEG2000Lossless),
        "dicom-jpeg-lossless": dicom(deep, uid.JPEGLosslessSV1),
        "dicom-jpeg-lossless-rgb": dicom(color, uid.JPEGLosslessSV1),
        "dicom-jpeg-12": dicom(deep, uid.JPEGExtended12Bit, coded=jpeg_12(deep)),
        "dicom-jpeg": dicom(color, uid.JPEGBaseline8Bit, PhotometricInterpretation="YBR_FULL_422"),
        "dicom-deflated": dicom(deep, uid.DeflatedExplicitVRLittleEndian),
        "dicom-deflated-long": _long_deflated(1 << 30),
    }
    files["zip"] = zipped(*[files["png"]] * 8)
    files["zip-long"] = zipped(bytes(1 << 26))
    return [Seed(f"bomb-{name}", content) for name, content in files.items()]


def zipped(*contents: bytes) -> bytes:
    """Return a zip of files."""
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for index, content in enumerate(contents):
            archive.writestr(f"slice_{index}", content)
    return stream.getvalue()


def tiff_tile(side: int, tile: int) -> bytes:
    """Return a deflated gray TIFF whose only tile is larger than the image (TIFF 6.0, section 15)."""
    return _tiff(side, {322: tile, 323: tile, 324: None}, zlib.compress(bytes(tile * tile)), counts=325)


def tiff_strip(side: int, size: int) -> bytes:
    """Return a deflated gray TIFF whose only strip inflates to more bytes than the image has."""
    return _tiff(side, {278: 0xFFFFFFFF, 273: None}, zlib.compress(bytes(size)), counts=279)


def tiff_samples(tile: int, samples: int) -> bytes:
    """Return a TIFF of one pixel, whose tile has many double-precision samples for each of its pixels."""
    pixel = tiff(
        np.zeros((1, 1, samples), np.float64), tile=(16, 16), compression="zlib", photometric="minisblack",
        planarconfig="contig", extrasamples=["unspecified"] * (samples - 1),
    )  # fmt: skip
    body = zlib.compress(bytes(tile * tile * samples * 8))
    for tag, value in ((322, tile), (323, tile), (324, len(pixel)), (325, len(body))):
        pixel = changed(pixel, tag, value)
    return pixel + body


def tiff_counts(strips: int, size: int) -> bytes:
    """Return an uncompressed TIFF, one pixel wide, each of whose strips claims to be as long as any file."""
    head = tiff(np.zeros((strips, 1), np.uint8), rowsperstrip=1)
    with tifffile.TiffFile(BytesIO(head)) as file:
        tags = file.pages[0].tags  # type: ignore[union-attr]
        entries = {number: tags[number].offset for number in (273, 279)}
    lists = struct.pack(f"<{2 * strips}I", *[8] * strips, *[0xFFFFFFFF] * strips)
    copy = bytearray(head)
    for index, (number, at) in enumerate(entries.items()):
        copy[at : at + 12] = struct.pack("<HHII", number, 4, strips, len(head) + 4 * strips * index)
    return bytes(copy) + lists + bytes(size)


def tiff_strips(count: int) -> bytes:
    """Return an uncompressed palette TIFF of ten rows with many strips, all of them the same."""
    image = saved(Pillow.fromarray(np.zeros((10, 10), np.uint8)).quantize(2), "TIFF")
    entry = image.index(struct.pack("<HHI", 273, 4, 1))
    listed = struct.pack("<HHII", 273, 3, count, len(image))
    return image[:entry] + listed + image[entry + 12 :] + struct.pack("<H", 8) * count


def jpeg_scans(pixels: images.Pixels, count: int) -> bytes:
    """Return a sequential JPEG of three components with many scans of the first one (T.81, B.2.3)."""
    coded = saved(pixels, "JPEG")
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
    return coded[: coded.index(b"\xff\xda")] + scan * count + b"\xff\xd9"


def changed(data: bytes, tag: int, value: int) -> bytes:
    """Return a TIFF in Intel's byte order with another value of a tag."""
    with tifffile.TiffFile(BytesIO(data)) as file:
        entry = file.pages[0].tags[tag]  # type: ignore[union-attr]
    size = 2 if entry.dtype == tifffile.DATATYPE.SHORT else 4
    return data[: entry.valueoffset] + value.to_bytes(size, "little") + data[entry.valueoffset + size :]


def _tiff(side: int, tags: Mapping[int, int | None], data: bytes, counts: int) -> bytes:
    """Return a TIFF with data after the header, and a directory; the tag with None is the position of the data."""
    fields = {256: side, 257: side, 258: 8, 259: 8, 262: 1, 277: 1, counts: len(data)}
    fields |= {tag: 8 if value is None else value for tag, value in tags.items()}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, fields[tag]) for tag in sorted(fields))
    return struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + struct.pack("<H", len(fields)) + entries + bytes(4)


def _with_crcs(png: bytes) -> bytes:
    """Return a damaged PNG with valid checksums, as far as its chunks are intact (PNG specification, section 5)."""
    copy, position = bytearray(png), 8
    while position + 12 <= len(copy):
        end = position + 8 + int.from_bytes(copy[position : position + 4])
        if end + 4 > len(copy):
            break
        copy[end : end + 4] = zlib.crc32(copy[position + 4 : end]).to_bytes(4)
        position = end + 4
    return bytes(copy)


def _split_deflated(content: bytes) -> tuple[bytes, bytes]:
    """Return a file's meta information and its inflated data set."""
    (length,) = struct.unpack_from("<I", content, _META + 8)  # value of the group's length (PS3.10 section 7.1)
    start = _META + 12 + length
    return content[:start], zlib.decompress(content[start:], -zlib.MAX_WBITS)


def _deflate(content: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(content) + compressor.flush()


def _long_deflated(size: int) -> bytes:
    """Return a deflated data set that inflates to more bytes than its pixels need."""
    prefix, inner = _split_deflated(dicom(film(), uid.DeflatedExplicitVRLittleEndian))
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    blocks = (compressor.compress(bytes(1 << 24)) for _ in range(size >> 24))
    return prefix + compressor.compress(inner) + b"".join(blocks) + compressor.flush()


def _rle(segments: int, size: int) -> bytes:
    """Return an RLE frame whose segments have as many blank bytes as given, a multiple of 128 (PS3.5 annex G)."""
    segment = b"\x81\x00" * (size // 128)
    offsets = [64 + index * len(segment) for index in range(segments)]
    return struct.pack("<16I", segments, *offsets, *[0] * (15 - segments)) + segment * segments
