from __future__ import annotations

from typing import Any

import pytest
import yaml

from handlers import recipe as recipes

from .conftest import ARCHIVE


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    return below | {key: _over(below[key], value) if isinstance(value, dict) else value for key, value in above.items()}


def test_the_original_values_make_a_valid_recipe() -> None:
    shipped, original = (
        yaml.safe_load((ARCHIVE / name).read_text(encoding="utf-8")) for name in ("archive.yaml", "original.yaml")
    )
    made = recipes.parse(_over(shipped, original), "original.yaml")
    assert made.input.mean == pytest.approx([0.4954160] * 3)
    assert made.input.std == pytest.approx([0.0564721] * 3)
    assert made.labels == ("normal", "pneumonia")
