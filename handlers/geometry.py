"""Where an image's pixels come to lie in a network's input, and the way back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from handlers.recipe import Input


@dataclass(frozen=True)
class Geometry:
    """The map from an image of `width` x `height` to a network's input, and back.

    The image is resized to `inner` (width, height); the input is the `window` (width, height) around its
    middle, black where that reaches beyond the image.

    Attributes
    ----------
    width, height
        Of the image as sent, in pixels.
    """

    width: int
    height: int
    inner: tuple[int, int]
    window: tuple[int, int]

    @classmethod
    def of(cls, width: int, height: int, spec: Input) -> Geometry:
        """Make the geometry of an image of this size under a recipe's input."""
        window = (spec.width, spec.height)
        frame = window if spec.frame is None else (spec.frame[1], spec.frame[0])
        inner = frame
        if spec.fit == "pad":
            scale = min(frame[0] / width, frame[1] / height)
            inner = (max(1, round(width * scale)), max(1, round(height * scale)))
        return cls(width, height, inner, window)

    def apply(self, pixels: Pillow.Image, resample: Pillow.Resampling) -> Pillow.Image:
        """Bring pixels (of the image as sent, or scaled down by a decoder) to the window."""
        small = pixels.resize(self.inner, resample)
        if self.inner == self.window:
            return small
        # Outside of the image, crop fills with black.
        left, top = self._offset
        return small.crop((left, top, left + self.window[0], top + self.window[1]))

    def back(self, values: NDArray[np.float32], outside: float) -> NDArray[np.float32]:
        """Bring a map in the window's geometry back to the image's.

        Parameters
        ----------
        values
            Shape (window height, window width).
        outside
            Stands where the network saw nothing of the image.

        Returns
        -------
        Shape (height, width).
        """
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
        """Place of the window's corner in the resized image; negative where black lies around it."""
        return (self.inner[0] - self.window[0]) // 2, (self.inner[1] - self.window[1]) // 2
