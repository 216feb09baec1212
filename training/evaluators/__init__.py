"""Evaluators: calibrate and measure a trained network on one part of a split.

Each kind of model output has an evaluator. Evaluators work on logits, so the network runs only once.
"""

from handlers.recipe import Recipe
from training.evaluators.binary import BinaryEvaluator
from training.evaluators.evaluator import Evaluator
from training.evaluators.multiclass import MulticlassEvaluator
from training.evaluators.segmentation import SegmentationEvaluator


def for_recipe(recipe: Recipe) -> Evaluator:
    """Return the evaluator for the output of a recipe's network."""
    if recipe.task == "segmentation":
        return SegmentationEvaluator()
    return MulticlassEvaluator() if recipe.decision is None else BinaryEvaluator()
