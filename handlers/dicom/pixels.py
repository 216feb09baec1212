"""The one frame of a DICOM object: from coded bytes to samples."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any, Final

import jpeg_ls  # type: ignore[import-untyped]
import numpy as np
import openjpeg.utils
from numpy.typing import NDArray
from PIL import Image as Pillow
from pydicom import uid
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import convert_color_space
from rle.rle import decode_frame  # type: ignore[import-not-found]

from handlers.dicom import lookup_table
from handlers.dicom.dataset import Budget, Object
from handlers.errors import UnreadableImageError, UnsupportedMediaTypeError, UnusableImageError
from handlers.formats import codestream
from handlers.formats.codestream import Codestream
from handlers.formats.image import Limits
from handlers.formats.intensity import image

Samples = NDArray[Any]

_GRAY: Final = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
_COLOR: Final = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_SEGMENTATION: Final = "1.2.840.10008.5.1.4.1.1.66.4"
_SEND: Final = "send it as Explicit VR Little Endian (uncompressed), JPEG 2000, JPEG-LS or RLE"


def samples(source: Object, limits: Limits) -> Samples:
    """Decode the frame to shape (rows, columns) or, in RGB, (rows, columns, 3); sign and depth as stored.

    Everything that can be refused is refused before anything is decoded.
    """
    _check_kind(source)
    rows, columns = _check_size(source, limits)
    _check_samples(source)
    if source.syntax not in SYNTAXES:
        raise UnsupportedMediaTypeError(f"The DICOM transfer syntax {_named(source.syntax)} is not read; {_SEND}.")
    found = SYNTAXES[source.syntax](source)
    if found.shape[:2] != (rows, columns):
        raise UnreadableImageError(f"The pixels decode to another size than Rows {rows} and Columns {columns}.")
    if source.get("PhotometricInterpretation") == "PALETTE COLOR":
        return _painted(found, source)
    return found


def color(found: Samples, source: Object) -> Pillow.Image:
    """RGB samples as an 8-bit image; deeper ones are scaled down."""
    if found.dtype == np.uint8:
        return Pillow.fromarray(np.ascontiguousarray(found))
    bits = _integer(source, "BitsStored")
    values = found.astype(np.float32)
    values *= np.float32(255 / (2**bits - 1))
    return image(np.clip(values, 0, 255, out=values))


def _check_kind(source: Object) -> None:
    """Refuse what is no picture: PS3.3 A.51 (segmentations), A.75 (parametric maps)."""
    if source.get("Modality") == "SEG" or source.get("SOPClassUID") == _SEGMENTATION:
        raise UnusableImageError("The DICOM object is a segmentation, not an image; send the image that it segments.")
    if "FloatPixelData" in source.dataset or "DoubleFloatPixelData" in source.dataset:
        raise UnusableImageError(
            "The DICOM object holds float pixels (a parametric map); send the image it was made from."
        )
    if "PixelData" not in source.dataset:
        raise UnusableImageError("The DICOM object holds no Pixel Data (7FE0,0010); send one that holds an image.")


def _check_size(source: Object, limits: Limits) -> tuple[int, int]:
    rows, columns = _integer(source, "Rows"), _integer(source, "Columns")
    frames = int(source.get("NumberOfFrames", 1) or 1)
    if rows < 1 or columns < 1:
        raise UnusableImageError(f"The DICOM object has Rows {rows} and Columns {columns}; both must be above 0.")
    if frames != 1:
        raise UnusableImageError(f"The DICOM object holds {frames} frames; send one frame as an object of its own.")
    if rows * columns > limits.pixels:
        raise UnusableImageError(f"The DICOM object has {columns}x{rows} pixels; at most {limits.pixels} are read.")
    return rows, columns


def _check_samples(source: Object) -> None:
    meaning = source.get("PhotometricInterpretation")
    count = _integer(source, "SamplesPerPixel")
    if meaning not in (_GRAY if count == 1 else _COLOR) or count not in {1, 3}:
        known = ", ".join(_GRAY + _COLOR)
        named = meaning if meaning in _GRAY + _COLOR else "another value or none"
        raise UnusableImageError(
            f"The DICOM object has SamplesPerPixel {count} and as PhotometricInterpretation {named}; read are {known}."
        )
    allocated, stored = _integer(source, "BitsAllocated"), _integer(source, "BitsStored")
    if allocated == 1:
        raise UnusableImageError("The DICOM object has BitsAllocated 1: its pixels are a mask, not an image.")
    if allocated not in {8, 16, 32} or not 1 <= stored <= allocated:
        raise UnusableImageError(
            f"The DICOM object has BitsAllocated {allocated} and BitsStored {stored}; read are 8, 16 and 32, "
            f"with as many or fewer stored."
        )
    if source.get("HighBit", stored - 1) != stored - 1:
        raise UnusableImageError(
            f"The DICOM object has HighBit {source.get('HighBit')} and BitsStored {stored}; HighBit must be one less."
        )
    if source.get("PixelRepresentation", 0) not in {0, 1}:
        raise UnusableImageError("The DICOM object has a PixelRepresentation that is neither 0 nor 1.")


def _integer(source: Object, keyword: str) -> int:
    found = source.get(keyword)
    if not isinstance(found, int):
        raise UnusableImageError(f"The DICOM object has no {keyword}; without it the pixels cannot be read.")
    return int(found)


def _named(syntax: uid.UID) -> str:
    return f"{syntax.name} ({syntax})" if syntax.name != syntax else "of a private or unknown UID"


def _native(source: Object) -> Samples:
    """Uncompressed pixels (PS3.5 section 8.2), with unused bits cleared and YBR turned to RGB."""
    if getattr(source.dataset.get_item(0x7FE00010), "length", 0) == 0xFFFFFFFF:
        raise UnusableImageError(
            "The pixels of the DICOM object are compressed, and no Transfer Syntax UID (0002,0010) says how: "
            "send the whole file, with its meta information."
        )
    decoder = get_decoder(source.syntax)
    found, _ = decoder.as_array(source.dataset, index=0)
    return found


def _coded(source: Object) -> bytes:
    """Bytes of the only frame, from all its fragments (PS3.5 A.4)."""
    stream = Budget(source.table("PixelData"))
    return get_frame(stream, 0, number_of_frames=1)


def _header(source: Object, data: bytes, kind: str) -> Codestream:
    """Header of the codestream, which decoders believe, held against the object, which was checked."""
    header = codestream.read(data)
    if header.kind != kind:
        raise UnreadableImageError(f"The pixels are {header.kind}, the transfer syntax is {_named(source.syntax)}.")
    announced = (source.get("Rows"), source.get("Columns"), source.get("SamplesPerPixel"))
    found = (header.height, header.width, header.components)
    if found != announced:
        raise UnreadableImageError(
            f"Rows, Columns and SamplesPerPixel are {announced}, the coded pixels say {found}; export it anew."
        )
    if kind != "jpeg" and b"\xff\xd9" not in data[-4:]:
        # OpenJPEG invents what is cut off, CharLS 2 counts 2**31 bits past the end; libjpeg tells by itself.
        raise UnreadableImageError("The coded pixels are cut off: their end marker is missing.")
    return header


def _jpeg(source: Object) -> Samples:
    """JPEG baseline and the 8-bit extended process (PS3.5 section 8.2.1)."""
    data = _coded(source)
    header = _header(source, data, "jpeg")
    if header.precision != 8 or header.lossless:
        raise UnsupportedMediaTypeError(
            f"The DICOM transfer syntax {_named(source.syntax)} is read with 8 bits, not {header.precision}; {_SEND}."
        )
    picture = Pillow.open(BytesIO(data), formats=["JPEG"])
    if "progressive" in picture.info and codestream.too_many_scans(data):
        raise UnreadableImageError("The JPEG pixels come in more scans than any film; encode them anew.")
    said = "jfif" in picture.info or "adobe_transform" in picture.info or header.identifiers in {b"RGB", b"rgb"}
    if header.components == 3 and source.get("PhotometricInterpretation") == "RGB" and not said:
        # Without a marker libjpeg takes three components for YCbCr; asked for that, it converts nothing.
        picture.draft("YCbCr", picture.size)
    return np.asarray(picture)


def _jpeg2000(source: Object) -> Samples:
    """JPEG 2000, plain and high-throughput (PS3.5 sections 8.2.4 and 8.2.17); ICT and RCT come back as RGB."""
    data = _coded(source)
    header = _header(source, data, "jpeg2000")
    if header.precision > _integer(source, "BitsAllocated"):
        raise UnreadableImageError(
            f"The coded pixels have {header.precision} bits, more than BitsAllocated; export it anew."
        )
    found = openjpeg.utils.decode(data)
    found = _signed(found, source, header.precision)
    return _rgb(found, source)


def _jpeg_ls(source: Object) -> Samples:
    """JPEG-LS (PS3.5 section 8.2.3)."""
    data = _coded(source)
    header = _header(source, data, "jpeg-ls")
    buffer, info = jpeg_ls.decode_pixel_data(data)
    flat = np.frombuffer(buffer, np.uint8 if header.precision <= 8 else np.dtype("<u2"))
    found = _shaped(flat, source, planar=info["interleave_mode"] == 0)
    return _rgb(_signed(found, source, header.precision), source)


def _rle(source: Object) -> Samples:
    """RLE (PS3.5 annex G): the planes of the samples one after the other."""
    bits = _integer(source, "BitsAllocated")
    rows, columns = _integer(source, "Rows"), _integer(source, "Columns")
    flat = np.frombuffer(_unpacked(_coded(source), rows * columns, bits), np.dtype(f"<u{bits // 8}"))
    found = _shaped(flat, source, planar=True)
    return _rgb(_signed(found, source, _integer(source, "BitsStored")), source)


def _unpacked(data: bytes, pixels: int, bits: int) -> bytes:
    try:
        return bytes(decode_frame(data, pixels, bits, "<"))
    except BaseException as error:
        # A segment that is too long ends in a panic of the Rust code, which derives from BaseException alone.
        if type(error).__name__ != "PanicException":
            raise
        raise UnreadableImageError("The RLE segments of the DICOM object hold more than its pixels.") from error


def _shaped(flat: Samples, source: Object, *, planar: bool) -> Samples:
    rows, columns, count = (_integer(source, key) for key in ("Rows", "Columns", "SamplesPerPixel"))
    if count == 1:
        return flat.reshape(rows, columns)
    if planar:
        return flat.reshape(count, rows, columns).transpose(1, 2, 0)
    return flat.reshape(rows, columns, count)


def _signed(found: Samples, source: Object, bits: int) -> Samples:
    """Read the lowest `bits` bits with the object's sign: codecs have none, or another (PS3.5 section 8.2.4)."""
    width = 8 * found.dtype.itemsize
    signed = source.get("PixelRepresentation", 0) == 1
    wanted = np.dtype(f"{'i' if signed else 'u'}{found.dtype.itemsize}")
    if found.dtype == wanted and (signed is False or bits == width):
        return found
    return (found.astype(wanted, copy=False) << (width - bits)) >> (width - bits)


def _rgb(found: Samples, source: Object) -> Samples:
    if str(source.get("PhotometricInterpretation")).startswith("YBR_FULL") and found.ndim == 3:
        return convert_color_space(found, "YBR_FULL", "RGB")
    return found


def _painted(found: Samples, source: Object) -> Samples:
    """PALETTE COLOR samples to RGB of as many bits as the palettes have (PS3.3 C.7.6.3.1.5)."""
    if "SegmentedRedPaletteColorLookupTableData" in source.dataset:
        raise UnusableImageError("The DICOM object has a segmented palette; send it as RGB.")
    tables = [
        lookup_table.read(source.dataset, f"{name}PaletteColorLookupTable", little_endian=source.little_endian)
        for name in ("Red", "Green", "Blue")
    ]
    first = int(found.min())
    inputs = np.arange(first, int(found.max()) + 1)
    if len(inputs) > 1 << 16:
        raise UnusableImageError("The DICOM object has palette indices of more than 16 bits.")
    levels = [np.rint(table(inputs) * (255 / (2**table.bits - 1))).astype(np.uint8) for table in tables]
    return np.stack([lookup_table.spread(level, found, first) for level in levels], axis=-1)


SYNTAXES: Final[dict[uid.UID, Callable[[Object], Samples]]] = {
    uid.ImplicitVRLittleEndian: _native,
    uid.ExplicitVRLittleEndian: _native,
    uid.ExplicitVRBigEndian: _native,
    uid.DeflatedExplicitVRLittleEndian: _native,
    uid.JPEGBaseline8Bit: _jpeg,
    uid.JPEGExtended12Bit: _jpeg,
    uid.JPEGLSLossless: _jpeg_ls,
    uid.JPEGLSNearLossless: _jpeg_ls,
    uid.JPEG2000Lossless: _jpeg2000,
    uid.JPEG2000: _jpeg2000,
    uid.HTJ2KLossless: _jpeg2000,
    uid.HTJ2KLosslessRPCL: _jpeg2000,
    uid.HTJ2K: _jpeg2000,
    uid.RLELossless: _rle,
}
"""Every transfer syntax that is read. Not read: JPEG lossless (processes 14), JPEG with 12 bits, MPEG and HEVC,
JPIP, SMPTE ST 2110, encapsulated uncompressed, deflated frames and private ones; no plug-in that may be
shipped decodes the first two (pylibjpeg-libjpeg is GPL), the others are no single frames."""
