"""Selects the evaluator for a recipe."""

from __future__ import annotations

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
