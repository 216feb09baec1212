"""Measures what a chest model uses that is not the patient: letters, borders, sharpness, the area outside the body.

Such properties differ between the labels of the public data set, so a network can learn them instead of the disease
(Geirhos et al., "Shortcut learning in deep neural networks", Nature Machine Intelligence 2020). Every change keeps the
lungs, so the probability should not move.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn
from torch.nn.functional import interpolate

from handlers import heat_map
from handlers.recipe import Recipe
from training import batches, letters
from training.batches import Images
from training.evaluators import outputs
from training.evaluators.stress import blurred, cropped
from training.metrics import bootstrap

DATA: Final = "chest_xray"
"""Data set for which the changes are designed."""
MOVED: Final = 0.1
"""Change of a probability from which on a film counts as moved."""
_AIR: Final = 0.08
"""Gray value, on the scale [0, 1], below which a blurred pixel is outside of the body."""


def measure(recipe: Recipe, network: nn.Module, images: Images, seed: int) -> dict[str, Any]:
    """Return, for each change, the share of films whose probability moves by more than `MOVED`, with its interval.

    `relevance_outside_body` is the mean share of the Grad-CAM relevance for the predicted label outside of the body; it
    is left out for a network without the output `features`.
    """
    assert recipe.decision is not None
    index = recipe.labels.index(recipe.decision.positive)

    def probability(part: Images) -> NDArray[np.float64]:
        logits = outputs.logits(network, part, recipe.input, len(recipe.labels))
        return outputs.calibrated(logits, recipe.calibration)[:, index]

    original = probability(images)
    values, targets = images.pixels.float() / 255, images.targets
    measured: dict[str, NDArray[Any]] = {
        name: np.abs(probability(_with(images, change(values, targets))) - original) > MOVED
        for name, change in _CHANGES.items()
    }
    outside = _relevance_outside(recipe, network, images)
    if outside is not None:
        measured["relevance_outside_body"] = outside

    def statistic(indices: NDArray[np.intp]) -> dict[str, float]:
        return {name: float(value[indices].mean()) for name, value in measured.items()}

    return {name: value.to_json() for name, value in bootstrap.intervals(statistic, images.groups, seed).items()}


def body(values: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Return the mask of the body in a film (height, width) in [0, 1]: the largest area that is not black, filled."""
    labels, count = ndimage.label(ndimage.gaussian_filter(values, 2) > _AIR)
    if count == 0:
        return np.zeros(values.shape, dtype=bool)
    sizes = np.bincount(labels.ravel())[1:]
    filled: NDArray[np.bool_] = ndimage.binary_fill_holes(labels == 1 + sizes.argmax())
    return filled


def _relevance_outside(recipe: Recipe, network: nn.Module, images: Images) -> NDArray[np.float64] | None:
    """Return the share of the relevance outside of the body for each film; 0 where no pixel is relevant.

    None for a network without the output `features`.
    """
    shares = []
    rows = iter(images.pixels[:, 0].numpy() / 255)
    for batch, _ in batches.plain(images, recipe.input, len(recipe.labels), 32):
        values = network(batch)
        if "features" not in values:
            return None
        features, logits = values["features"], values["logits"]
        (gradients,) = torch.autograd.grad(logits.amax(1).sum(), features)
        for row in range(len(batch)):
            relevance = heat_map.grad_cam(features[row].detach().numpy(), gradients[row].numpy())
            film = next(rows)
            wide = interpolate(torch.from_numpy(relevance)[None, None], film.shape, mode="bilinear")[0, 0].numpy()
            shares.append(wide[~body(film)].sum() / wide.sum() if wide.any() else 0.0)
    return np.array(shares)


def _with(images: Images, values: torch.Tensor) -> Images:
    return replace(images, pixels=(values.clamp(0, 1) * 255).round().byte())


def _erased(values: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    films = values[:, 0].numpy()
    return torch.from_numpy(np.stack([letters.erase(film, letters.find(film)) for film in films]))[:, None]


def _exchanged(values: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Replace the letters of each film by those of a film with another label."""
    films = values[:, 0].numpy()
    masks = [letters.find(film) for film in films]
    results = []
    for row, (film, mask) in enumerate(zip(films, masks, strict=True)):
        donors = torch.nonzero(targets != targets[row]).flatten().tolist()
        donor = donors[row % len(donors)]
        results.append(letters.paste(letters.erase(film, mask), films[donor], masks[donor]))
    return torch.from_numpy(np.stack(results))[:, None]


def _sharpness_exchanged(values: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Give each film the median detail (sharpness and noise) of the films with another label."""
    smooth = blurred(values)
    detail = (values - smooth).flatten(1).std(1)
    wanted = torch.stack([detail[targets != label].median() for label in targets])
    factor = (wanted / detail.clamp_min(1e-6)).clamp(1 / 3, 3)
    return smooth + factor[:, None, None, None] * (values - smooth)


_CHANGES: Final[Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]] = {
    "letters_erased": _erased,
    "letters_of_the_other_label": _exchanged,
    "borders_cropped": lambda values, _: cropped(values, 20),
    "sharpness_of_the_other_label": _sharpness_exchanged,
}
