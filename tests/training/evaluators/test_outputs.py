import numpy as np
import pytest
import torch

from handlers.recipe import Calibration, Recipe
from handlers.threshold import decide
from training import batches, networks
from training.batches import Images
from training.evaluators import outputs


def test_probabilities_equal_those_of_the_server(recipe: Recipe) -> None:
    logits = np.random.default_rng(0).normal(0, 3, (20, 2))
    variant = recipe.model_copy(update={"calibration": Calibration(temperature=1.7, fitted="by hand")})
    result = outputs.probabilities(logits, 1.7)
    for row, shares in zip(logits, result, strict=True):
        served = decide(row.astype(np.float32), variant).probabilities
        assert list(served.values()) == pytest.approx(shares.tolist(), abs=1e-6)


def test_batching_does_not_change_the_logits(recipe: Recipe) -> None:
    torch.manual_seed(0)
    network = networks.create(recipe.network, 2)
    images = Images(torch.randint(0, 256, (5, 1, 112, 160), dtype=torch.uint8), torch.zeros(5).long(), ())
    together = outputs.logits(network, images, recipe.input, 2)
    with torch.inference_mode():
        alone = [network(value[None])["logits"][0] for value in next(iter(batches.plain(images, recipe.input, 2)))[0]]
    np.testing.assert_allclose(together, torch.stack(alone).numpy(), atol=1e-5)
