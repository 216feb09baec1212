"""Maps images to a network's input, and maps of that input back to the image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from handlers.recipe import Input


@dataclass(frozen=True)
class Geometry:
    """Mapping from an image of `width` x `height` pixels, as sent, to a network's input, and back.

    The image is resized to `inner` (width, height). The input is the `window` (width, height) at its centre,
    black beyond the image.
    """

    width: int
    height: int
    inner: tuple[int, int]
    window: tuple[int, int]

    @classmethod
    def of(cls, width: int, height: int, spec: Input) -> "Geometry":
        """Return the geometry of an image of this size for a recipe's input."""
        window = (spec.width, spec.height)
        frame = window if spec.frame is None else (spec.frame[1], spec.frame[0])
        inner = frame
        if spec.fit == "pad":
            scale = min(frame[0] / width, frame[1] / height)
            inner = (max(1, round(width * scale)), max(1, round(height * scale)))
        return cls(width, height, inner, window)

    def apply(self, pixels: Pillow.Image, resample: Pillow.Resampling) -> Pillow.Image:
        """Map pixels, of the image as sent or scaled down by a decoder, to the window."""
        small = pixels.resize(self.inner, resample)
        if self.inner == self.window:
            return small
        left, top = self._offset  # crop() fills with black outside of the image
        return small.crop((left, top, left + self.window[0], top + self.window[1]))

    def back(self, values: NDArray[np.float32], outside: float) -> NDArray[np.float32]:
        """Map values (height, width) of the window back to the image; `outside` is the value beyond the window."""
        left, top = self._offset
        whole = np.full((self.inner[1], self.inner[0]), outside, dtype=np.float32)
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + self.window[0], self.inner[0]), min(top + self.window[1], self.inner[1])
        whole[y0:y1, x0:x1] = values[y0 - top : y1 - top, x0 - left : x1 - left]
        if self.inner == (self.width, self.height):
            return whole
        image = Pillow.fromarray(whole).resize((self.width, self.height), Pillow.Resampling.BILINEAR)
        return np.asarray(image)

    @property
    def _offset(self) -> tuple[int, int]:
        """(left, top) of the window in the resized image; negative where the window is larger."""
        return (self.inner[0] - self.window[0]) // 2, (self.inner[1] - self.window[1]) // 2
