"""Plots of results with matplotlib."""

from io import BytesIO
from typing import TYPE_CHECKING, Any

from radserve.errors import InvalidCallError

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import NDArray


def new_axes() -> "Axes":
    """Return the axes of a new figure; raises InvalidCallError without matplotlib."""
    try:
        import matplotlib.pyplot as plt
    except ModuleNotFoundError as error:
        raise InvalidCallError("matplotlib is not installed; install it: pip install matplotlib") from error
    return plt.subplots()[1]


def draw(
    axes: "Axes",
    image: bytes | None,
    repair: str | None,
    overlay: "NDArray[np.uint8] | None",
    size: tuple[int, int],
    title: str,
) -> "Axes":
    """Draw an image with an overlay of the same size (width, height), which is transparent where it is 0."""
    import numpy as np

    width, height = size
    pixels = None if image is None else _pixels(image, repair)
    if pixels is None or pixels.shape[:2] != (height, width):
        pixels = np.zeros((height, width), dtype=np.uint8)
    axes.imshow(pixels, cmap="gray")
    if overlay is not None:
        axes.imshow(np.ma.masked_equal(overlay, 0), cmap="viridis", vmin=0, vmax=255, alpha=0.5)
    axes.set_title(title, fontsize="medium")
    axes.set_axis_off()
    return axes


def _pixels(image: bytes, repair: str | None) -> Any:
    """Return the pixels as the server analysed them, or None if Pillow (a dependency of matplotlib) cannot read it."""
    import numpy as np
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        pixels = np.asarray(ImageOps.exif_transpose(Image.open(BytesIO(image))))
    except (UnidentifiedImageError, OSError, ValueError):
        return None
    if repair == "invert":
        return pixels.max(initial=0) - pixels if pixels.dtype != np.uint8 else 255 - pixels
    turns = {"rotate-90": -1, "rotate-180": 2, "rotate-270": 1}.get(repair or "", 0)
    return np.rot90(pixels, turns)
