"""Generates small images of every format for the tests of the decoders."""

from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image as Pillow
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import get_encoder

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
"""Real images outside of the checkout; tests that need them are skipped without them."""

HTJ2K = Path(__file__).parent / "htj2k"
"""High-throughput JPEG 2000 codestreams of 48x40 generated pixels; another encoder wrote them."""

Pixels = NDArray[Any]


def film(height: int = 40, width: int = 48, top: int = 255, kind: Any = np.uint8) -> Pixels:
    """Return a deterministic gray picture with edges, a gradient and grain; its four corners differ."""
    rows, columns = np.mgrid[0:height, 0:width]
    values = 0.55 * columns / width + 0.3 * rows / height + 0.1 * ((rows // 8 + columns // 8) % 2)
    values += 0.05 * np.random.default_rng(1).random((height, width))
    values[: height // 4, : width // 4] = 1
    values[0, 0] = 0
    return np.asarray(np.rint(values / values.max() * top), dtype=kind)


def picture(height: int = 40, width: int = 48) -> Pixels:
    """Return a deterministic colour picture."""
    gray = film(height, width)
    return np.stack([gray, gray[::-1], gray[:, ::-1]], axis=-1)


def saved(pixels: Pixels | Pillow.Image, form: str, **options: Any) -> bytes:
    """Encode an array or image with Pillow."""
    stream = BytesIO()
    image = pixels if isinstance(pixels, Pillow.Image) else Pillow.fromarray(pixels)
    image.save(stream, form, **options)
    return stream.getvalue()


def tiff(pixels: Pixels, **options: Any) -> bytes:
    """Encode an array with tifffile; gray unless it has three samples per pixel."""
    stream = BytesIO()
    planes = 0 if options.get("planarconfig") == "separate" else -1
    color = pixels.ndim == 3 and pixels.shape[planes] >= 3
    tifffile.imwrite(stream, pixels, **{"photometric": "rgb" if color else "minisblack", "metadata": None} | options)
    return stream.getvalue()


def npy(array: Pixels) -> bytes:
    """Encode an array with NumPy."""
    stream = BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def dicom_dataset(pixels: Pixels, **attributes: Any) -> Dataset:
    """Return a data set that describes the pixels, without pixel data; `attributes` override."""
    color = pixels.ndim == 3
    dataset = Dataset()
    dataset.SOPClassUID = uid.SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = "1.2.826.0.1.3680043.8.498.1"
    dataset.Modality = "DX"
    dataset.PatientName = "SECRET^PERSON"
    dataset.PatientID = "SECRET-4711"
    dataset.SamplesPerPixel = 3 if color else 1
    dataset.PhotometricInterpretation = "RGB" if color else "MONOCHROME2"
    if color:
        dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def dicom(
    pixels: Pixels, syntax: uid.UID = uid.ExplicitVRLittleEndian, *, coded: bytes | None = None, **attributes: Any
) -> bytes:
    """Return a DICOM file of the pixels in a transfer syntax, or with `coded` as its only frame."""
    dataset = dicom_dataset(pixels, **attributes)
    if "PixelData" not in attributes:
        if syntax.is_encapsulated:
            frame = code(pixels, dataset, syntax) if coded is None else coded
            dataset.PixelData = encapsulate([frame])
            dataset["PixelData"].VR = "OB"
        else:
            data = pixels.astype(pixels.dtype.newbyteorder("<" if syntax.is_little_endian else ">")).tobytes()
            dataset.PixelData = data + b"\0" * (len(data) % 2)
            dataset["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"
    return written(dataset, syntax)


def written(dataset: Dataset, syntax: uid.UID = uid.ExplicitVRLittleEndian) -> bytes:
    """Return a data set as a file with preamble and meta information."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def code(pixels: Pixels, dataset: Dataset, syntax: uid.UID) -> bytes:
    """Encode one frame."""
    match syntax:
        case uid.JPEGBaseline8Bit | uid.JPEGExtended12Bit:
            return saved(pixels, "JPEG", quality=95)
        case uid.JPEGLSLossless | uid.JPEGLSNearLossless:
            unsigned = pixels.view(f"u{pixels.dtype.itemsize}")
            return bytes(imagecodecs.jpegls_encode(unsigned, level=0 if syntax == uid.JPEGLSLossless else 2))
        case uid.JPEG2000Lossless | uid.JPEG2000:
            return jpeg2000(pixels, dataset.BitsStored)
        case uid.JPEGLossless | uid.JPEGLosslessSV1:
            return jpeg_lossless(
                pixels.view(f"u{pixels.dtype.itemsize}"), predictor=7 if syntax == uid.JPEGLossless else 1
            )
    options = {
        "rows": dataset.Rows,
        "columns": dataset.Columns,
        "samples_per_pixel": dataset.SamplesPerPixel,
        "photometric_interpretation": dataset.PhotometricInterpretation,
        "bits_allocated": dataset.BitsAllocated,
        "bits_stored": dataset.BitsStored,
        "pixel_representation": dataset.PixelRepresentation,
        "number_of_frames": 1,
        "planar_configuration": 0,
    }
    return get_encoder(syntax).encode(pixels, **options)


def jpeg2000(pixels: Pixels, precision: int | None = None) -> bytes:
    """Encode losslessly as JPEG 2000."""
    color = pixels.ndim == 3
    return bytes(
        imagecodecs.jpeg2k_encode(
            pixels, level=0, codecformat="j2k", bitspersample=precision, reversible=True, mct=color
        )
    )


def jpeg_lossless(pixels: Pixels, precision: int | None = None, predictor: int = 1) -> bytes:
    """Encode as JPEG lossless (process 14)."""
    bits = precision or 8 * pixels.itemsize
    return bytes(imagecodecs.jpeg8_encode(pixels, lossless=True, bitspersample=bits, predictor=predictor))


def jpeg_12(pixels: Pixels) -> bytes:
    """Encode lossily with 12 bits."""
    return bytes(imagecodecs.jpeg8_encode(pixels, level=95, bitspersample=12))


def _palettes() -> dict[str, Any]:
    """Return the attributes of a palette of 256 colours (PS3.3 C.7.6.3.1.5)."""
    levels = np.arange(256, dtype="<u2") * 257
    tables = {"Red": levels, "Green": levels[::-1], "Blue": levels // 2}
    fields: dict[str, Any] = {f"{name}PaletteColorLookupTableDescriptor": [256, 0, 16] for name in tables}
    return fields | {f"{name}PaletteColorLookupTableData": table.tobytes() for name, table in tables.items()}


def seeds() -> dict[str, bytes]:
    """Return one valid file of every supported kind, by name."""
    gray, color = film(), picture()
    deep, signed = film(top=4095, kind=np.uint16), film(top=2000, kind=np.int16) - np.int16(1000)
    alpha = np.concatenate([color, gray[..., None]], axis=-1)
    files = {
        "jpeg": saved(gray, "JPEG"),
        "jpeg-rgb": saved(color, "JPEG"),
        "jpeg-progressive": saved(color, "JPEG", progressive=True),
        "jpeg-cmyk": saved(Pillow.fromarray(color).convert("CMYK"), "JPEG"),
        "png": saved(gray, "PNG"),
        "png-16": saved(deep, "PNG"),
        "png-alpha": saved(alpha, "PNG"),
        "png-palette": saved(Pillow.fromarray(color).quantize(16), "PNG"),
        "png-1": saved(Pillow.fromarray(gray).convert("1"), "PNG"),
        "tiff": saved(gray, "TIFF"),
        "tiff-16-lzw": saved(deep, "TIFF", compression="tiff_lzw"),
        "tiff-float-deflate": saved(gray.astype(np.float32) / 255, "TIFF", compression="tiff_deflate"),
        "tiff-rgb-jpeg": saved(color, "TIFF", compression="jpeg"),
        "tiff-packbits": saved(color, "TIFF", compression="packbits"),
        "tiff-group4": saved(Pillow.fromarray(gray).convert("1"), "TIFF", compression="group4"),
        "tiff-big": saved(deep, "TIFF", big_tiff=True),
        "tiff-palette": saved(Pillow.fromarray(color).quantize(16), "TIFF"),
        "tiff-float-predictor": tiff(gray.astype(np.float32) / 255, compression="zlib", predictor=3),
        "tiff-predictor-tiles": tiff(deep, compression="lzw", predictor=2, tile=(16, 16)),
        "tiff-planes": tiff(color.transpose(2, 0, 1), planarconfig="separate", compression="packbits"),
        "tiff-alpha-deflate": saved(alpha, "TIFF", compression="tiff_adobe_deflate"),
        "bmp": saved(gray, "BMP"),
        "bmp-rgb": saved(color, "BMP"),
        "webp": saved(color, "WEBP"),
        "webp-lossless": saved(alpha, "WEBP", lossless=True),
        "npy": npy(gray),
        "npy-float": npy(color / 255),
        "dicom-window": dicom(deep, BitsStored=12, HighBit=11, WindowCenter=2000, WindowWidth=3000),
        "dicom-signed-implicit": dicom(signed, uid.ImplicitVRLittleEndian, RescaleSlope=2, RescaleIntercept=-10),
        "dicom-big-endian": dicom(deep, uid.ExplicitVRBigEndian, BitsStored=12, HighBit=11),
        "dicom-deflated": dicom(gray, uid.DeflatedExplicitVRLittleEndian),
        "dicom-rgb": dicom(color),
    }
    for name, syntax in {
        "rle": uid.RLELossless,
        "jpeg-ls": uid.JPEGLSLossless,
        "jpeg-ls-near": uid.JPEGLSNearLossless,
        "jpeg-2000": uid.JPEG2000Lossless,
        "jpeg-lossless": uid.JPEGLosslessSV1,
    }.items():
        files[f"dicom-{name}"] = dicom(deep, syntax, BitsStored=12, HighBit=11)
        files[f"dicom-{name}-rgb"] = dicom(color, syntax)
    for name, pixels in {"htj2k": gray, "htj2k-rgb": color}.items():
        files[f"dicom-{name}"] = dicom(pixels, uid.HTJ2KLossless, coded=(HTJ2K / f"{name}.j2c").read_bytes())
    files["dicom-jpeg-12"] = dicom(deep, uid.JPEGExtended12Bit, coded=jpeg_12(deep), BitsStored=12, HighBit=11)
    files["dicom-palette"] = dicom(gray, PhotometricInterpretation="PALETTE COLOR", **_palettes())
    files["dicom-jpeg"] = dicom(gray, uid.JPEGBaseline8Bit)
    files["dicom-jpeg-rgb"] = dicom(color, uid.JPEGBaseline8Bit, PhotometricInterpretation="YBR_FULL_422")
    return files
