"""Sections of a model card that have modules of their own."""

import json
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from handlers import recipe as recipes
from handlers.recipe import Recipe
from tests.training.cards.test_card import ARCHIVES, _report
from training.cards import files
from training.cards.card import card

NON_COMMERCIAL = {"glioma-unet", "glioma-attention-unet"}
UNCLEAR = {path.name for kind in ("brain-*", "cifar10-*") for path in ARCHIVES.glob(kind)}


@pytest.mark.parametrize("path", sorted(ARCHIVES.glob("*/CARD.md")), ids=lambda path: path.parent.name)
def test_the_front_matter_of_a_shipped_card_is_metadata_of_hugging_face(path: Path) -> None:
    data = ModelCard.load(path, ignore_metadata_errors=False).data
    recipe = recipes.load(path.parent / "archive.yaml")
    assert data.pipeline_tag == ("image-segmentation" if recipe.task == "segmentation" else "image-classification")
    results = [] if data.eval_results is None else data.eval_results
    report = json.loads((path.parent / "metrics.json").read_bytes())
    assert bool(results) == (not report["demonstration"])
    assert all(0 <= result.metric_value <= 1 for result in results if not result.metric_type.startswith("hd95"))
    name = path.parent.name
    assert ("non-commercial" in data.tags) == (name in NON_COMMERCIAL)
    expected = "cc-by-nc-sa-4.0" if name in NON_COMMERCIAL else "unknown" if name in UNCLEAR else "apache-2.0"
    assert data.license == expected


@pytest.mark.parametrize("path", sorted(ARCHIVES.glob("*/CARD.md")), ids=lambda path: path.parent.name)
def test_the_licence_is_said_plainly_where_it_restricts_or_is_unclear(path: Path) -> None:
    section = path.read_text(encoding="utf-8").partition("## Licence")[2]
    assert ("**Not for commercial use.**" in section) == (path.parent.name in NON_COMMERCIAL)
    assert ("states no clear licence.**" in section) == (path.parent.name in UNCLEAR)


def test_known_failures_are_listed(recipe: Recipe) -> None:
    failing = recipe.model_copy(update={"known_failures": ("Small ones.", "Large ones.")})
    assert "## Known failures\n\n- Small ones.\n- Large ones.\n" in card(failing, None, "chest_xray")
    without = recipe.model_copy(update={"known_failures": ()})
    assert "Known failures" not in card(without, None, "chest_xray")


def test_a_demonstration_and_a_measurement_of_other_data_are_no_results_of_the_model(recipe: Recipe) -> None:
    for changes in ({"demonstration": True}, {"part": "all"}):
        text = card(recipe, _report(recipe, "chest_xray", **changes), "chest_xray")
        assert "model-index" not in yaml.safe_load(text.split("---\n")[1])


def test_the_shipped_cards_equal_the_regenerated_ones(tmp_path: Path) -> None:
    for path in sorted(ARCHIVES.glob("*/CARD.md")):
        assert path.read_text(encoding="utf-8") == files.render(path.parent), f"{path}: run 'radserve cards'"


def test_cards_are_written_for_the_models_with_training_settings(tmp_path: Path) -> None:
    for name, file in (("lenet", "training.yaml"), ("own", "torchserve.yaml")):
        folder = tmp_path / name
        folder.mkdir()
        for each in ("archive.yaml", file):
            (folder / each).write_bytes((ARCHIVES / "cifar10-lenet" / each).read_bytes())
    assert list(files.write(tmp_path)) == [tmp_path / "lenet" / "CARD.md"]
    assert "Imported weights; not measured" in (tmp_path / "lenet" / "CARD.md").read_text()
