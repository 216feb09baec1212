from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from handlers import recipe as recipes

from .conftest import ARCHIVE, ROOT


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    return below | {key: _over(below[key], value) if isinstance(value, dict) else value for key, value in above.items()}


@pytest.mark.parametrize("path", sorted(ROOT.glob("archives/*/original.yaml")), ids=lambda path: path.parent.name)
def test_the_original_values_make_a_valid_recipe(path: Path) -> None:
    shipped, original = (
        yaml.safe_load(file.read_text(encoding="utf-8")) for file in (path.with_name("archive.yaml"), path)
    )
    made = recipes.parse(_over(shipped, original), str(path))
    assert made.calibration.temperature == 1
    assert made.decision is None or made.decision.threshold == 0.5


def test_the_original_chest_statistics_are_those_of_its_checkpoints() -> None:
    shipped, original = (
        yaml.safe_load((ARCHIVE / name).read_text(encoding="utf-8")) for name in ("archive.yaml", "original.yaml")
    )
    made = recipes.parse(_over(shipped, original), "original.yaml")
    assert made.input.mean == pytest.approx([0.4954160] * 3)
    assert made.input.std == pytest.approx([0.0564721] * 3)
    assert made.labels == ("normal", "pneumonia")
