"""The engine of a model is chosen from measured times."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from handlers import recipe as recipes
from radserve.build import runtime
from radserve.cli.main import app
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("torch", "onnx", "expected"),
    [
        ((6.0, 26.0), (4.0, 22.0), "onnxruntime"),
        ((6.0, 26.0), (6.0, 26.0), "torch"),
        ((10.0, 100.0), (9.1, 91.0), "torch"),  # too small a gain
        ((10.0, 100.0), (5.0, 190.0), "torch"),  # a gain at one size, a loss at the other
        ((10.0, 100.0), (8.9, 89.0), "onnxruntime"),
    ],
)
def test_onnx_runtime_is_chosen_where_it_is_clearly_faster(
    torch: tuple[float, float], onnx: tuple[float, float], expected: str
) -> None:
    assert runtime.fastest({"torch": torch, "onnxruntime": onnx}) == expected


def test_the_choice_and_its_figures_are_installed_in_recipe_and_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "_SECONDS", 0.05)
    shutil.copytree(ROOT / "archives" / "cifar10-lenet", tmp_path / "cifar10-lenet")
    arguments = ["choose-runtime", "cifar10-lenet", "--archives", str(tmp_path), "--install"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    recipe = recipes.load(tmp_path / "cifar10-lenet" / "archive.yaml")
    assert set(recipe.runtime.milliseconds) == {"torch", "onnxruntime"}
    assert recipe.runtime.measured is not None
    for one, eight in recipe.runtime.milliseconds.values():
        assert 0 < one < eight
        assert f"batch of 1: {one} ms, of 8: {eight} ms" in result.output
        assert str(eight) in (tmp_path / "cifar10-lenet" / "CARD.md").read_text()
    original = recipes.load(ROOT / "archives" / "cifar10-lenet" / "archive.yaml")
    assert recipe.model_copy(update={"runtime": original.runtime}) == original
