import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from training import letters
from training.letters import Layers

Film = NDArray[np.float64]


def _film() -> Film:
    """Draw a bright body on black."""
    rows, columns = np.mgrid[0:112, 0:160]
    return np.where(np.hypot((rows - 60) / 70, (columns - 80) / 60) < 1, 0.6, 0.02)


def _with_letter(film: Film, place: tuple[int, int]) -> Film:
    picture = Image.fromarray((film * 255).astype(np.uint8))
    ImageDraw.Draw(picture).text(place, "R", fill=230, font_size=11)
    return np.asarray(picture) / 255


@pytest.mark.parametrize("place", [(4, 5), (5, 50), (145, 10), (60, 1)])
def test_a_letter_at_an_edge_is_erased_and_nothing_else(place: tuple[int, int]) -> None:
    film = _film()
    marked = _with_letter(film, place)
    letter = np.abs(marked - film) > 0.1
    mask = letters.find(marked)
    assert mask[letter].all()
    erased = letters.erase(marked, mask)
    assert np.abs(erased - film)[letter].max() < 0.1
    assert np.array_equal(erased[~mask], marked[~mask])


def test_the_middle_of_a_film_has_no_letters() -> None:
    assert not letters.find(_with_letter(_film(), (75, 50)))[30:90, 40:120].any()


def test_a_pasted_letter_is_that_of_the_donor() -> None:
    film, donor = np.full((112, 160), 0.1), _with_letter(_film(), (4, 5))
    mask = letters.find(donor)
    pasted = letters.paste(film, donor, mask)
    assert pasted[mask].max() > 0.7
    assert np.array_equal(pasted[~mask], film[~mask])


def _pixels(*films: Film) -> torch.Tensor:
    return torch.from_numpy(np.stack(films) * 255).round().byte()[:, None]


def test_films_and_their_letters_add_up() -> None:
    pixels = _pixels(_film(), _with_letter(_film(), (4, 5)))
    layers = Layers.of(pixels)
    assert torch.equal(layers.films + layers.letters, pixels)
    assert layers.letters[1].amax() > 100
    assert not layers.letters[0].any()


def test_exchanged_letters_are_those_of_any_film_of_the_batch() -> None:
    """Half of the films have a letter before and after, but not the same ones."""
    plain, marked = _film(), _with_letter(_film(), (4, 5))
    pixels = _pixels(*[plain, marked] * 32)
    layers, indices = Layers.of(pixels), torch.arange(64)
    changed = layers.exchange(indices, pixels / 255, 1, torch.Generator().manual_seed(1))
    has_letter = changed[:, 0, 4:20, 4:12].amax((1, 2)) > 0.7
    assert has_letter.sum() == 32
    assert 8 < has_letter[::2].sum() < 24
    assert torch.equal(changed[..., 40:], pixels[..., 40:] / 255)


def test_a_probability_of_zero_keeps_the_letters() -> None:
    pixels = _pixels(_film(), _with_letter(_film(), (4, 5)))
    changed = Layers.of(pixels).exchange(torch.arange(2), pixels / 255, 0, torch.Generator())
    assert torch.equal(changed, pixels / 255)
