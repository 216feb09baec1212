"""Letters and markers that are burned into chest films: finds, erases and pastes them.

A letter is a small detail that is brighter than its surroundings, at the left, right or upper edge of the film. Films
are float (height, width) in [0, 1], in the size of a network's input.
"""

from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

Film = NDArray[np.floating[Any]]
_LONGEST: Final = 22  # pixels at 112 x 160; letters have 4 to 12, a word up to 20
_WINDOW: Final = 15  # pixels; wider than the strokes of a letter
_CONTRAST: Final = 0.1  # least brightness above the surroundings
_SIDES: Final = 0.17  # width of the areas at the left and right that have letters, as a share of the width
_TOP: Final = 0.14  # the same at the top


@dataclass(frozen=True)
class Layers:
    """Films and their letters, separated; each uint8, shape (N, 1, height, width)."""

    films: torch.Tensor  # without letters
    letters: torch.Tensor  # brightness of the letters above their surroundings

    @classmethod
    def of(cls, pixels: torch.Tensor) -> Self:
        """Separate films (N, 1, height, width), uint8; takes about 3 ms for one of 112 x 160."""
        films, details = torch.empty_like(pixels), torch.empty_like(pixels)
        for row, film in enumerate(pixels[:, 0].numpy()):
            erased = erase(film / 255, find(film / 255))
            films[row, 0] = torch.from_numpy((erased * 255).round().astype(np.uint8))
            details[row, 0] = pixels[row, 0] - films[row, 0]
        return cls(films, details)

    def exchange(
        self, indices: torch.Tensor, values: torch.Tensor, probability: float, generator: torch.Generator
    ) -> torch.Tensor:
        """Erase the letters of some of the films `indices`, and paste those of other ones of them into some.

        `values` are these films, float (n, 1, height, width) in [0, 1]; the result is alike. Both happen with
        `probability`, independently. At 0.5, a letter is as often that of another film as of its own one, so it still
        tells something about the film; at 1, all letters are of other films, and tell nothing.
        """
        erased, pasted = torch.rand(2, len(indices), 1, 1, 1, generator=generator) < probability
        donors = indices[torch.randperm(len(indices), generator=generator)]
        values = torch.where(erased, self.films[indices].float() / 255, values)
        details: torch.Tensor = pasted * self.letters[donors].float() / 255
        return (values + details).clamp(0, 1)


def find(film: Film) -> NDArray[np.bool_]:
    """Return the mask of the letters in a film, and of other bright details of their size where letters are."""
    detail = (film - ndimage.grey_opening(film, _WINDOW) > _CONTRAST) & _places(film.shape)
    labels, _ = ndimage.label(detail, np.ones((3, 3)))
    mask = np.zeros(film.shape, dtype=bool)
    for number, window in enumerate(ndimage.find_objects(labels), 1):
        if max(side.stop - side.start for side in window) <= _LONGEST:
            mask[window] |= labels[window] == number
    dilated: NDArray[np.bool_] = ndimage.binary_dilation(mask, np.ones((3, 3)))
    return dilated


def erase(film: Film, mask: NDArray[np.bool_]) -> Film:
    """Replace letters by the brightness of their surroundings."""
    return np.where(mask, ndimage.grey_opening(film, _WINDOW), film)


def paste(film: Film, donor: Film, mask: NDArray[np.bool_]) -> Film:
    """Add the brightness of the donor's letters above their surroundings to the same places of a film."""
    return film + np.where(mask, donor - ndimage.grey_opening(donor, _WINDOW), 0)


def _places(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    height, width = shape
    places = np.zeros(shape, dtype=bool)
    places[: round(_TOP * height)] = True
    side = round(_SIDES * width)
    places[:, :side] = places[:, width - side :] = True
    return places
