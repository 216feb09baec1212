"""Reads images: bytes, files, NumPy arrays, Pillow images and pydicom datasets become the bytes of one file."""

import hashlib
import os
import sys
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from radserve.errors import InvalidCallError, RejectedRequestError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image as PillowImage
    from pydicom import Dataset

_PNG_MODES: Final = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B"})
"""Modes of Pillow whose pixels a PNG keeps unchanged."""
_SHAPES: Final = "(H, W), (H, W, 1), (H, W, 3), (1, H, W) or (3, H, W)"
_TYPES: Final = "uint8 (0 to 255), uint16 (0 to 65535), bool, or floats in [0, 1]"
_ORIENTATION: Final = 0x0112  # tag of EXIF


class BinaryFile(Protocol):
    """File object that is open for reading in binary mode."""

    def read(self, size: int = -1, /) -> bytes:
        """Read at most `size` bytes."""


Source: TypeAlias = (
    "bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryFile | NDArray[np.generic] | PillowImage | Dataset"
)
"""One image; see `read`."""


@dataclass(frozen=True)
class EncodedImage:
    """Bytes to send as one image, and the file that they come from, if they do."""

    content: bytes
    path: Path | None = None

    @cached_property
    def sha256(self) -> str:
        """Checksum, by which a result is matched with its image."""
        return hashlib.sha256(self.content).hexdigest()


def read(source: Source, limit: int, limited_by: str = "max_bytes of the client") -> EncodedImage:
    """Read or encode an image, without loss.

    Parameters
    ----------
    source
        Content of a file (`bytes`), path of a file (`pathlib.Path` or `str`), or a file object in binary mode: sent
        unchanged. A NumPy array of shape (H, W), (H, W, 1), (H, W, 3), (1, H, W) or (3, H, W) with uint8, uint16, bool,
        or floats from 0 to 1: sent as .npy. A Pillow image of mode 1, L, LA, P, RGB, RGBA or I;16: sent as PNG, turned
        upright if its EXIF data say so. A pydicom dataset with file meta information: sent as DICOM.
    limit
        Maximum number of bytes.
    limited_by
        What sets the limit, for the message of the error.

    Raises
    ------
    InvalidCallError
        The source has another type, dtype, shape or mode, or names no readable file.
    RejectedRequestError
        The image is larger than `limit` (status 413).
    """
    image = _read(source, limit)
    if len(image.content) > limit:
        raise RejectedRequestError(413, "Content too large", f"The image has more than {limit} bytes ({limited_by}).")
    return image


def path_of(source: Source) -> Path | None:
    """Return the path that a source is, if it is one."""
    return Path(source) if isinstance(source, str | os.PathLike) else None


def _read(source: Any, limit: int) -> EncodedImage:
    if isinstance(source, bytes):
        return EncodedImage(source)
    if isinstance(source, bytearray | memoryview):
        return EncodedImage(bytes(source))
    if (path := path_of(source)) is not None:
        return EncodedImage(_file(path, limit), path)
    if _is_instance(source, "numpy", "ndarray"):
        return EncodedImage(_npy(source))
    if _is_instance(source, "PIL.Image", "Image"):
        return EncodedImage(_png(source))
    if _is_instance(source, "pydicom.dataset", "Dataset"):
        return EncodedImage(_dicom(source))
    if hasattr(source, "read"):
        content = source.read(limit + 1)
        if not isinstance(content, bytes):
            raise InvalidCallError("The file object is open in text mode; open it in binary mode ('rb').")
        return EncodedImage(content)
    raise InvalidCallError(
        f"An image cannot be a {type(source).__name__}; pass bytes, a path, a binary file object, a NumPy array, a "
        "Pillow image or a pydicom dataset."
    )


def _is_instance(source: object, module: str, name: str) -> bool:
    """Return whether an object has a type of a package that need not be installed: its own module is loaded."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(source, getattr(loaded, name))


def _file(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except (OSError, ValueError) as error:  # ValueError: a null character
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        name = str(path)
        shown = name if len(name) <= 200 else f"{name[:200]}..."
        raise InvalidCallError(
            f"Cannot read the file {shown!r}: {reason}. A str or Path names a file; pass the content of one as bytes."
        ) from error


def _npy(array: "NDArray[np.generic]") -> bytes:
    kind, bits = array.dtype.kind, 8 * array.dtype.itemsize
    if kind not in "buf" or (kind == "u" and bits > 16):
        raise InvalidCallError(f"The array has dtype {array.dtype}; convert it to {_TYPES}.")
    match array.shape:
        case (height, width) | (height, width, 1 | 3) | (1 | 3, height, width) if height > 0 and width > 0:
            pass
        case _:
            raise InvalidCallError(f"The array has shape {array.shape}; pass one image of shape {_SHAPES}.")
    if kind == "f" and not (array.min() >= 0 and array.max() <= 1):  # false for NaN, too
        raise InvalidCallError("The array has floats that are not in [0, 1]; scale them, or pass uint8 or uint16.")
    import numpy as np

    stream = BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _png(image: "PillowImage") -> bytes:
    if image.mode not in _PNG_MODES:
        raise InvalidCallError(
            f"The image has mode {image.mode}, which a PNG cannot hold without loss; convert it to L, RGB or I;16."
        )
    if image.getexif().get(_ORIENTATION, 1) != 1:
        from PIL import ImageOps

        image = ImageOps.exif_transpose(image)
    stream = BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def _dicom(dataset: "Dataset") -> bytes:
    stream = BytesIO()
    try:
        dataset.save_as(stream, enforce_file_format=True)
    # What pydicom raises depends on what the dataset lacks, and on which element has an invalid value.
    except (AttributeError, KeyError, NotImplementedError, TypeError, ValueError) as error:
        raise InvalidCallError(
            f"The dataset cannot be written as a DICOM file ({error}). Set its file meta information, such as "
            "TransferSyntaxUID, or pass the path of its file."
        ) from error
    return stream.getvalue()
