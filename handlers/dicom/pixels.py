"""Decodes the only frame of a DICOM object: checks its attributes, then turns coded bytes into samples.

`handlers.dicom.frames` separates several frames before.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from typing import Any, Final

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from pydicom import uid
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import convert_color_space

from handlers.dicom import lookup_table
from handlers.dicom.budgeted_stream import BudgetedStream
from handlers.dicom.dataset import DicomObject
from handlers.errors import UnreadableImageError, UnsupportedMediaTypeError, UnusableImageError
from handlers.formats import codestream
from handlers.formats.image import Limits
from handlers.formats.intensity import to_pillow

Samples = NDArray[Any]

_GRAY: Final = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
_COLOR: Final = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_PIXEL_REPRESENTATIONS: Final = (None, "OB", "OW", "OB or OW", "UN")
_SEGMENTATION_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.66.4"
_ALTERNATIVES: Final = "send it as Explicit VR Little Endian (uncompressed), JPEG 2000, JPEG-LS or RLE"
_OVERSHOOT: Final = 16
"""Part of the range of BitsStored by which lossy coding may exceed it; what exceeds it by more is not noise."""
_CONTRADICTION: Final = "the DICOM object and its coded pixels contradict each other; export the object again"


def read_frame(source: DicomObject, limits: Limits) -> Samples:
    """Decode the frame to (rows, columns), or (rows, columns, 3) in RGB, with sign and depth as stored.

    Every check that needs no decoding comes first.
    """
    check_kind(source)
    rows, columns = _check_size(source, limits)
    _check_samples(source)
    if source.syntax not in SYNTAXES:
        raise UnsupportedMediaTypeError(
            f"The DICOM transfer syntax {_syntax_name(source.syntax)} is not supported; {_ALTERNATIVES}."
        )
    samples = SYNTAXES[source.syntax](source)
    if samples.shape[:2] != (rows, columns):
        raise UnreadableImageError(f"The decoded pixels do not have Rows {rows} and Columns {columns}.")
    if source.get("PhotometricInterpretation") == "PALETTE COLOR":
        return _apply_palettes(samples, source)
    return samples


def color_image(samples: Samples, source: DicomObject) -> Pillow.Image:
    """Convert RGB samples to an 8-bit image; deeper ones are scaled down."""
    if samples.dtype != np.uint8:
        samples = samples.astype(np.float32)
        samples *= np.float32(255 / (2 ** _integer(source, "BitsStored") - 1))
        np.clip(samples, 0, 255, out=samples)
    return to_pillow(samples)


def is_segmentation(source: DicomObject) -> bool:
    """Whether an object has masks (PS3.3 A.51)."""
    return bool(source.get("Modality") == "SEG" or source.get("SOPClassUID") == _SEGMENTATION_STORAGE)


def check_kind(source: DicomObject) -> None:
    """Reject objects that are not pictures: PS3.3 A.51 (segmentations), A.75 (parametric maps)."""
    if is_segmentation(source):
        raise UnusableImageError("The DICOM object is a segmentation, not an image; send the segmented image.")
    if "FloatPixelData" in source or "DoubleFloatPixelData" in source:
        raise UnusableImageError("The DICOM object has float pixels (a parametric map); send its source image.")
    if "PixelData" not in source:
        raise UnusableImageError("The DICOM object has no Pixel Data (7FE0,0010); send an object with an image.")
    if getattr(source.dataset.get_item("PixelData"), "VR", None) not in _PIXEL_REPRESENTATIONS:
        # pydicom would convert a text, with a character set that may take minutes.
        raise UnreadableImageError(
            "The Pixel Data (7FE0,0010) of the DICOM object must have value representation OB or OW; export it again."
        )


def _check_size(source: DicomObject, limits: Limits) -> tuple[int, int]:
    rows, columns = _integer(source, "Rows"), _integer(source, "Columns")
    frames = int(source.number("NumberOfFrames", 1) or 1)
    if rows < 1 or columns < 1:
        raise UnusableImageError(f"The DICOM object has Rows {rows} and Columns {columns}; both must be above 0.")
    if frames < 1:
        raise UnusableImageError(f"The DICOM object has NumberOfFrames {frames}; it must be 1 or more.")
    if frames != 1:  # its number of frames was not found in time
        raise UnusableImageError(
            f"The DICOM object has {frames} frames, but its NumberOfFrames (0028,0008) is beyond its first 4 MB, or "
            "after too many elements; remove large or private elements before it, or send the frames as single objects."
        )
    limits.claim(columns, rows)
    return rows, columns


def _check_samples(source: DicomObject) -> None:
    photometric = source.get("PhotometricInterpretation")
    count = _integer(source, "SamplesPerPixel")
    if photometric not in (_GRAY if count == 1 else _COLOR) or count not in {1, 3}:
        # An unknown value is not repeated: the attribute may hold anything.
        name = photometric if photometric in _GRAY + _COLOR else "unknown or missing"
        raise UnusableImageError(
            f"The DICOM object has SamplesPerPixel {count} and PhotometricInterpretation {name}; "
            f"supported are 1 with {', '.join(_GRAY)} and 3 with {', '.join(_COLOR)}."
        )
    source.get("PlanarConfiguration")  # pydicom would convert it whatever its length
    allocated, stored = _integer(source, "BitsAllocated"), _integer(source, "BitsStored")
    if allocated == 1:
        raise UnusableImageError("The DICOM object has BitsAllocated 1: its pixels are a mask, not an image.")
    if allocated not in {8, 16, 32} or not 1 <= stored <= allocated:
        raise UnusableImageError(
            f"The DICOM object has BitsAllocated {allocated} and BitsStored {stored}; supported are 8, 16 and 32 "
            "allocated bits with at most as many stored."
        )
    if source.get("HighBit", stored - 1) != stored - 1:
        raise UnusableImageError(
            f"The DICOM object has HighBit {source.get('HighBit')} and BitsStored {stored}; HighBit must be one less."
        )
    if source.get("PixelRepresentation", 0) not in {0, 1}:
        raise UnusableImageError("The DICOM object has an invalid PixelRepresentation; it must be 0 or 1.")
    if count == 3 and source.get("PixelRepresentation", 0) == 1:
        raise UnusableImageError("The DICOM object has PixelRepresentation 1 (signed); colours must be unsigned, 0.")
    if allocated > 8 and photometric in {"YBR_FULL", "YBR_FULL_422"} and source.syntax != uid.JPEGBaseline8Bit:
        raise UnusableImageError(
            f"The DICOM object has PhotometricInterpretation {photometric} and BitsAllocated {allocated}; "
            "send it as RGB, or with 8 bits."
        )


def _integer(source: DicomObject, keyword: str) -> int:
    value = source.get(keyword)
    if not isinstance(value, int):
        raise UnusableImageError(f"The DICOM object has no {keyword}, which decoding its pixels needs.")
    return int(value)


def _syntax_name(syntax: uid.UID) -> str:
    return f"{syntax.name} ({syntax})" if syntax.name != syntax else "with a private or unknown UID"


def is_native(source: DicomObject) -> bool:
    """Whether the pixels are not compressed."""
    return SYNTAXES.get(source.syntax) is _native


def native_length(source: DicomObject) -> int:
    """Return the bytes of an uncompressed frame."""
    factors = (_integer(source, keyword) for keyword in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated"))
    length = math.prod(factors) // 8
    return length // 3 * 2 if source.get("PhotometricInterpretation") == "YBR_FULL_422" else length


def _native(source: DicomObject) -> Samples:
    """Read uncompressed pixels (PS3.5 section 8.2); clears unused bits and converts YBR to RGB."""
    if getattr(source.dataset.get_item("PixelData"), "length", 0) == 0xFFFFFFFF:
        raise UnusableImageError(
            "The pixels of the DICOM object are compressed, but it has no Transfer Syntax UID (0002,0010); "
            "send the complete file with its meta information."
        )
    _check_length(source)
    samples, _ = get_decoder(source.syntax).as_array(source.dataset, index=0)
    return samples


def _check_length(source: DicomObject) -> None:
    """Reject pixel data longer than one frame and its padding, which pydicom would cut off.

    The padding is one byte (PS3.5 section 8.2); up to three are accepted, because some exporters pad to four.
    """
    needed, length = native_length(source), len(source.table("PixelData"))
    if length > needed + 3:
        raise UnreadableImageError(
            f"The Pixel Data (7FE0,0010) of the DICOM object has {length} bytes, but its Rows, Columns, "
            f"SamplesPerPixel and BitsAllocated need {needed} for one frame, and it declares no more; export "
            "the object again."
        )


def _stored_values(samples: Samples, source: DicomObject, header: codestream.Codestream) -> Samples:
    """Return the values that BitsStored and PixelRepresentation declare, of samples as a codestream has them.

    Encoders write the depth of the container or of BitsStored, and signed values as unsigned ones where the format has
    no sign: JPEG and JPEG-LS. The bits above BitsStored may be overlays (PS3.5 section 8.1.1).
    """
    signed, stored = source.get("PixelRepresentation", 0) == 1, _integer(source, "BitsStored")
    precision = header.precision
    if samples.dtype.kind == "i" and not signed and samples.min() < 0:
        raise UnreadableImageError(
            f"PixelRepresentation is 0 (unsigned), but the coded pixels have negative values: {_CONTRADICTION}."
        )
    if samples.dtype.kind == "u" and signed and precision < stored and int(samples.max()) >> precision - 1:
        raise UnusableImageError(
            f"PixelRepresentation is 1 (signed) and BitsStored {stored}, but the coded pixels have {precision} bits "
            "without sign, which may be negative or not; send the object with lossless compression and sign."
        )
    values = _low_bits(samples, min(precision, 8 * samples.itemsize), signed=signed)
    if precision <= stored:
        return values
    if source.syntax in _LOSSLESS and header.lossless:
        return _low_bits(values, stored, signed=signed)
    low, high = (-(1 << stored - 1), (1 << stored - 1) - 1) if signed else (0, (1 << stored) - 1)
    overshoot = max(low - int(values.min()), int(values.max()) - high)
    if overshoot > (1 << stored) // _OVERSHOOT:
        raise UnusableImageError(
            f"BitsStored is {stored}, but the lossily coded pixels range from {values.min()} to {values.max()}; "
            "send the object with lossless or without compression."
        )
    return np.clip(values, low, high)


def _low_bits(samples: Samples, bits: int, *, signed: bool) -> Samples:
    """Return the value of the lowest bits, in two's complement if they are signed."""
    shift = 8 * samples.itemsize - bits
    values = samples.view(f"{'i' if signed else 'u'}{samples.itemsize}")
    return (values << shift) >> shift if shift else values


def _to_rgb(samples: Samples, source: DicomObject) -> Samples:
    """Convert decoded YBR to RGB; JPEG 2000 has converted YBR_ICT and YBR_RCT already."""
    meaning = str(source.get("PhotometricInterpretation"))
    if samples.ndim == 3 and meaning in {"YBR_FULL", "YBR_FULL_422"}:
        return convert_color_space(samples, meaning, "RGB")
    return samples


def _read_header(source: DicomObject, kind: str) -> codestream.Codestream:
    """Compare the header of the coded frame, which decoders trust, with the attributes, which were checked."""
    # The fragments of the only frame are joined (PS3.5 A.4), within the budget of reads.
    header = codestream.read(get_frame(BudgetedStream(source.table("PixelData")), 0, number_of_frames=1))
    if header.kind != kind:
        raise UnreadableImageError(
            f"The coded pixels are {header.kind}, the transfer syntax is {_syntax_name(source.syntax)}: "
            f"{_CONTRADICTION}."
        )
    attributes = (source.get("Rows"), source.get("Columns"), source.get("SamplesPerPixel"))
    coded = (header.height, header.width, header.components)
    if coded != attributes:
        raise UnreadableImageError(
            f"Rows, Columns and SamplesPerPixel are {attributes}, in the coded pixels {coded}: {_CONTRADICTION}."
        )
    if header.precision > _integer(source, "BitsAllocated"):
        raise UnreadableImageError(
            f"The coded pixels have {header.precision} bits, more than BitsAllocated: {_CONTRADICTION}."
        )
    if not header.content:
        # OpenJPEG invents the missing part, libjpeg fills it with gray.
        raise UnreadableImageError(
            "The coded pixels are incomplete: the end marker is missing; export the object again."
        )
    return header


def _jpeg(source: DicomObject) -> Samples:
    """Decode JPEG: baseline, extended and lossless (PS3.5 section 8.2.1)."""
    header = _read_header(source, "jpeg")
    codestream.check_length(header.width * header.height, header.content, lossless=header.lossless)
    if codestream.has_too_many_scans(header.content):
        raise UnreadableImageError("The JPEG pixels have more scans than any real image; encode them again.")
    if header.lossless:
        return _jpeg_lossless(source, header)
    if source.get("PixelRepresentation", 0) == 1:
        raise UnusableImageError(
            "PixelRepresentation is 1 (signed), but lossy JPEG is unsigned (PS3.5 section 8.2.1); "
            "send the object with lossless or without compression."
        )
    return _jpeg_8(source, header) if header.precision == 8 else _jpeg_12(source, header)


def _jpeg_8(source: DicomObject, header: codestream.Codestream) -> Samples:
    """Decode with Pillow: pydicom takes 2.5 times as long, and rejects 8 bits where BitsStored is not 8."""
    picture = Pillow.open(BytesIO(header.content), formats=["JPEG"])
    marked = "jfif" in picture.info or "adobe_transform" in picture.info or header.identifiers in {b"RGB", b"rgb"}
    if header.components == 3 and source.get("PhotometricInterpretation") == "RGB" and not marked:
        # libjpeg takes three unmarked components for YCbCr; requesting YCbCr output prevents any conversion.
        picture.draft("YCbCr", picture.size)
    return np.asarray(picture)


def _jpeg_12(source: DicomObject, header: codestream.Codestream) -> Samples:
    if header.components != 1:
        raise UnusableImageError("Colour JPEG of 12 bits is not supported; send it with 8 bits.")
    return _stored_values(imagecodecs.jpeg8_decode(header.content), source, header)


def _jpeg_lossless(source: DicomObject, header: codestream.Codestream) -> Samples:
    """Decode JPEG lossless, whose components have the meaning that the attributes declare."""
    # The same space on both sides prevents any conversion.
    space = "YCBCR" if header.components == 3 else None
    samples = imagecodecs.jpeg8_decode(header.content, colorspace=space, outcolorspace=space)
    return _to_rgb(_stored_values(samples, source, header), source)


def _jpeg2000(source: DicomObject) -> Samples:
    """Decode JPEG 2000, plain and high-throughput (PS3.5 sections 8.2.4 and 8.2.17)."""
    header = _read_header(source, "jpeg2000")
    return _to_rgb(_stored_values(imagecodecs.jpeg2k_decode(header.content), source, header), source)


def _jpeg_ls(source: DicomObject) -> Samples:
    """Decode JPEG-LS (PS3.5 section 8.2.3)."""
    header = _read_header(source, "jpeg-ls")
    try:
        samples = imagecodecs.jpegls_decode(header.content)
    except RuntimeError:
        # Some encoders write zeros between the coded data and the end marker, which CharLS rejects.
        shorter = header.content[:-2].rstrip(b"\0")
        if len(shorter) + 2 == len(header.content):
            raise
        samples = imagecodecs.jpegls_decode(shorter + header.content[-2:])
    return _to_rgb(_stored_values(samples, source, header), source)


def _rle(source: DicomObject) -> Samples:
    """Decode RLE (PS3.5 annex G); clears unused bits and converts YBR to RGB. A missing sign means unsigned."""
    options: dict[str, Any] = {
        "number_of_frames": 1,
        "planar_configuration": 0,
        "pixel_representation": source.get("PixelRepresentation", 0),
    }
    try:
        samples, _ = get_decoder(source.syntax).as_array(
            source.dataset, index=0, decoding_plugin="pylibjpeg", **options
        )
    except BaseException as error:
        # A segment that is too long causes a panic of the Rust code, which derives from BaseException alone.
        if type(error).__name__ != "PanicException":
            raise
        raise UnreadableImageError(
            "The RLE segments have more bytes than the image; export the object again."
        ) from error
    return samples


def _apply_palettes(samples: Samples, source: DicomObject) -> Samples:
    """Convert PALETTE COLOR samples to 8-bit RGB (PS3.3 C.7.6.3.1.5)."""
    if "SegmentedRedPaletteColorLookupTableData" in source:
        raise UnusableImageError("The DICOM object has a segmented palette, which is not supported; send it as RGB.")
    first, last = int(samples.min()), int(samples.max())
    if last - first >= 1 << 16:
        raise UnusableImageError("The DICOM object has palette indices of more than 16 bits.")
    prefixes = [f"{name}PaletteColorLookupTable" for name in ("Red", "Green", "Blue")]
    tables = [lookup_table.read(source, (first, last), prefix) for prefix in prefixes]
    depth = max(table.bits for table in tables)  # one of them may be dark
    inputs = np.arange(first, last + 1)
    levels = [np.rint(replace(table, bits=depth).levels(inputs)).astype(np.uint8) for table in tables]
    return np.stack([lookup_table.spread(level, samples, first) for level in levels], axis=-1)


SYNTAXES: Final[dict[uid.UID, Callable[[DicomObject], Samples]]] = {
    uid.ImplicitVRLittleEndian: _native,
    uid.ExplicitVRLittleEndian: _native,
    uid.ExplicitVRBigEndian: _native,
    uid.DeflatedExplicitVRLittleEndian: _native,
    uid.JPEGBaseline8Bit: _jpeg,
    uid.JPEGExtended12Bit: _jpeg,
    uid.JPEGLossless: _jpeg,
    uid.JPEGLosslessSV1: _jpeg,
    uid.JPEGLSLossless: _jpeg_ls,
    uid.JPEGLSNearLossless: _jpeg_ls,
    uid.JPEG2000Lossless: _jpeg2000,
    uid.JPEG2000: _jpeg2000,
    uid.HTJ2KLossless: _jpeg2000,
    uid.HTJ2KLosslessRPCL: _jpeg2000,
    uid.HTJ2K: _jpeg2000,
    uid.RLELossless: _rle,
}
"""Decoder of every supported transfer syntax. Not supported: MPEG, HEVC, JPIP, SMPTE ST 2110, encapsulated
uncompressed, deflated frames and private syntaxes, which do not hold single frames."""

_LOSSLESS: Final = frozenset(
    {
        uid.JPEGLossless,
        uid.JPEGLosslessSV1,
        uid.JPEGLSLossless,
        uid.JPEG2000Lossless,
        uid.HTJ2KLossless,
        uid.HTJ2KLosslessRPCL,
    }
)
