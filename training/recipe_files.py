"""Writes recipes to files."""

from pathlib import Path
from typing import Final

import yaml

from handlers import recipe as recipes
from handlers.recipe import Recipe

HEADER: Final = """\
# Describes the model, its input and its output.
# `radserve train {name} --install` rewrites input.mean, input.std, decision, calibration, uncertainty, second_pass,
# weights, detector and trained_on; `radserve fit-detector` rewrites detector, `radserve calibrate` decision,
# calibration, uncertainty and second_pass.
"""


def write(recipe: Recipe, path: Path, comment: str = "") -> None:
    """Write a recipe without the keys that were left at their defaults, below lines of YAML comment.

    Raises `RecipeError` if it is invalid; values that were changed with `model_copy` are validated only here.
    """
    values = recipe.model_dump(mode="json", exclude_unset=True)
    recipes.parse(values, source=str(path))
    text = yaml.safe_dump(values, sort_keys=False, width=100, default_flow_style=None, allow_unicode=True)
    path.write_text(comment + text, encoding="utf-8")
