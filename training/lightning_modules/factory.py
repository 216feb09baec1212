"""Which Lightning module trains which recipe."""

from __future__ import annotations

import torch

from handlers.recipe import Recipe
from training import networks
from training.datasets.prepared import Prepared
from training.lightning_modules.base import Task
from training.settings import Settings


def create(recipe: Recipe, settings: Settings, prepared: Prepared) -> Task:
    """Make the module of a recipe's task around its untrained network."""
    network = networks.create(recipe.network, recipe.outputs)
    if recipe.task == "segmentation":
        # MONAI takes seconds to import, which only its users should pay.
        from training.lightning_modules.segmentation import Segmentation

        return Segmentation(network, settings, prepared.validation.groups)
    from training.lightning_modules.classification import Classification

    return Classification(network, settings, torch.bincount(prepared.train.targets, minlength=len(recipe.labels)))
