"""Recipes as files: written where a run or an import changes what a model is."""

from __future__ import annotations

from pathlib import Path

import yaml

from handlers import recipe as recipes
from handlers.recipe import Recipe


def write(recipe: Recipe, path: Path, comment: str = "") -> None:
    """Write a recipe as it was set: keys that were left to their defaults stay away.

    Parameters
    ----------
    comment
        Lines of YAML comment that stand above it.

    Raises
    ------
    RecipeError
        If it is no valid recipe; values that were changed after validation meet it here.
    """
    values = recipe.model_dump(mode="json", exclude_unset=True)
    recipes.parse(values, source=str(path))
    text = yaml.safe_dump(values, sort_keys=False, width=100, default_flow_style=None, allow_unicode=True)
    path.write_text(comment + text, encoding="utf-8")
