"""Lightning modules: loss, optimizer and validation of each task."""

import torch

from handlers.recipe import Recipe
from training import networks
from training.datasets.training_data import TrainingData
from training.lightning_modules.base import Task
from training.settings import Settings


def create(recipe: Recipe, settings: Settings, data: TrainingData) -> Task:
    """Create the Lightning module of a recipe's task, around a network with random weights."""
    network = networks.for_recipe(recipe)
    if recipe.task == "segmentation":
        # MONAI takes seconds to import.
        from training.lightning_modules.segmentation import Segmentation

        return Segmentation(network, settings, data.validation.groups)
    from training.lightning_modules.classification import Classification

    return Classification(network, settings, torch.bincount(data.train.targets, minlength=len(recipe.labels)))
