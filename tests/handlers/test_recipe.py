"""Recipes: errors name key and value."""

from pathlib import Path
from typing import Any

import pytest

from handlers.errors import RecipeError
from handlers.recipe import load, parse
from tests.conftest import ROOT, brightness_recipe


def change(path: str, value: Any) -> dict[str, Any]:
    data: Any = brightness_recipe()
    *parents, key = path.split(".")
    inner = data
    for parent in parents:
        inner = inner[parent]
    inner[key] = value
    return dict(data)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", "Chest X-Ray"),
        ("version", "latest"),
        ("task", "detection"),
        ("labels", ["one"]),
        ("labels", ["same", "same"]),
        ("input.height", 0),
        ("input.color", "grey"),
        ("input.std", [0.0, 1.0, 1.0]),
        ("input.mean", [0.5]),
        ("input.mean", [float("nan")] * 3),
        ("decision.threshold", 1.5),
        ("decision.positive", "neither"),
        ("calibration.temperature", 0),
        ("weights.sha256", "abc"),
        ("colour", "gray"),
        ("input.sizes", 3),
    ],
)
def test_an_invalid_value_is_reported_with_key_and_value(path: str, value: Any) -> None:
    with pytest.raises(RecipeError) as raised:
        parse(change(path, value), source="here.yaml")
    text = str(raised.value)
    assert text.startswith("here.yaml: ")
    assert path.rpartition(".")[2] in text
    assert str(value).strip("[]'")[:3] in text


def test_a_detector_without_layers_does_not_depend_on_weights() -> None:
    section: dict[str, object] = {"file": "d", "sha256": "0" * 64, "method": "x", "fitted": "x", "split": "0" * 64}
    section |= {"parts": ["shape"], "marked": 1.0, "refused": 2.0, "weights_sha256": "0" * 64}
    with pytest.raises(RecipeError, match="weights_sha256 needs layers"):
        parse(brightness_recipe() | {"detector": section}, source="here.yaml")


def test_a_missing_key_is_named() -> None:
    data = brightness_recipe()
    del data["calibration"]
    with pytest.raises(RecipeError, match="key 'calibration' is missing"):
        parse(data, source="here.yaml")


def test_a_missing_or_invalid_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="recipe not found"):
        load(tmp_path / "archive.yaml")
    (tmp_path / "archive.yaml").write_text("a: [")
    with pytest.raises(RecipeError, match="invalid YAML"):
        load(tmp_path / "archive.yaml")
    (tmp_path / "archive.yaml").write_text("just text")
    with pytest.raises(RecipeError, match="should be a valid dictionary"):
        load(tmp_path / "archive.yaml")


@pytest.mark.parametrize("path", sorted((ROOT / "archives").glob("*/archive.yaml")), ids=lambda path: path.parent.name)
def test_every_shipped_recipe_is_valid(path: Path) -> None:
    assert load(path).name == path.parent.name


def test_the_positive_label_of_a_segmentation_is_the_second_whose_probability_the_mask_shows() -> None:
    data: Any = brightness_recipe() | {"task": "segmentation", "activation": "sigmoid"}
    first, second = data["labels"]
    data["decision"] = {"positive": second, "threshold": 0.5, "chosen": "by hand"}
    assert parse(data, source="here").decision is not None
    data["decision"] = data["decision"] | {"positive": first}
    with pytest.raises(RecipeError, match=f"must be the second label, '{second}'"):
        parse(data, source="here")


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse(brightness_recipe(), source="here").version = "2.0.0"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"method": "lime"}, "key 'explanation.method' has value 'lime'"),
        ({"method": "attention-relevance"}, "side has value None; attention-relevance requires it"),
        ({"method": "grad-cam", "side": 14}, "side has value 14; .* others do not accept it"),
        ({"method": "attention-relevance", "side": 0}, "key 'explanation.side' has value 0"),
    ],
)
def test_an_invalid_explanation_is_reported(value: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse(change("explanation", value), source="here.yaml")


def test_a_segmentation_accepts_no_explanation() -> None:
    data = change("explanation", {"method": "grad-cam"}) | {"task": "segmentation", "activation": "sigmoid"}
    with pytest.raises(RecipeError, match="task segmentation does not accept an explanation"):
        parse(data, source="here.yaml")
