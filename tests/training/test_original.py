from pathlib import Path
from typing import Any

import pytest
import yaml

from handlers import recipe as recipes

from .conftest import ARCHIVE, ROOT


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return base | {
        key: _merge(base[key], value) if isinstance(value, dict) else value for key, value in changes.items()
    }


@pytest.mark.parametrize("path", sorted(ROOT.glob("archives/*/original.yaml")), ids=lambda path: path.parent.name)
def test_the_original_values_give_a_valid_recipe(path: Path) -> None:
    shipped, original = (
        yaml.safe_load(file.read_text(encoding="utf-8")) for file in (path.with_name("archive.yaml"), path)
    )
    recipe = recipes.parse(_merge(shipped, original), str(path))
    assert recipe.calibration.temperature == 1
    assert recipe.decision is None or recipe.decision.threshold == 0.5


def test_the_original_chest_statistics_are_documented() -> None:
    shipped, original = (
        yaml.safe_load((ARCHIVE / name).read_text(encoding="utf-8")) for name in ("archive.yaml", "original.yaml")
    )
    recipe = recipes.parse(_merge(shipped, original), "original.yaml")
    assert recipe.input.mean == pytest.approx([0.4954160] * 3)
    assert recipe.input.std == pytest.approx([0.0564721] * 3)
    assert recipe.labels == ("normal", "pneumonia")
