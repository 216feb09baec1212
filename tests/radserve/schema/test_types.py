from typing import Any

import pytest
from pydantic import TypeAdapter

from handlers import recipe
from radserve.schema import types


@pytest.mark.parametrize(
    ("ours", "recipes"),
    [(types.ModelName, recipe.Name), (types.Version, recipe.Version), (types.Sha256, recipe.Sha256)],
)
def test_names_and_versions_have_the_format_that_recipes_require(ours: Any, recipes: Any) -> None:
    constraints = {key: value for key, value in TypeAdapter(ours).json_schema().items() if key != "examples"}
    assert "pattern" in constraints
    assert constraints == TypeAdapter(recipes).json_schema()
