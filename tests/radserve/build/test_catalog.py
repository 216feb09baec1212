"""Tests of radserve.build.catalog."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from handlers import recipe
from handlers.certainty import certainty
from radserve.build import catalog
from radserve.build.model_store import Entry
from radserve.errors import ArchiveError
from tests.conftest import ROOT, brightness_recipe

SCORE = {"value": 0.9, "ci95": [0.8, 0.95]}
SPLIT = {"validation": {"images": 5, "groups": 2, "labels": {"dark": 2, "bright": 3}}}
DISPLAY = {"name": "Photograph: bright", "group": "Photographs", "purpose": "Finds bright ones."}
DISPLAY |= {"scope": "any photograph", "not_for": "films"}


def write_mar(folder: Path, **members: str) -> Path:
    path = folder / "x.mar"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name.replace("_", "."), text)
    return path


def entry(version: str = "1.0.0") -> Entry:
    return Entry(name="brightness", version=version, file="x.mar", sha256="a" * 64, size=1, inputs="b" * 64)


def test_a_version_is_described_by_its_recipe_index_entry_and_metrics(tmp_path: Path) -> None:
    brightness = recipe.parse(brightness_recipe() | {"display": DISPLAY}, "test")
    archive = write_mar(tmp_path, metrics_json=json.dumps({"validation": {"auroc": SCORE}, "split": SPLIT}))
    reference = {"name": "st-marys", "sha256": "c" * 64}
    description = catalog.version(entry(), brightness, archive, 25.0, profile=reference)
    assert description == {
        "version": "1.0.0",
        "sha256": "a" * 64,
        "share": 25.0,
        "task": "classification",
        "title": "Bright or dark",
        "display": DISPLAY | {"finding": None, "photographs": False},
        "labels": brightness.labels,
        "positive": "bright",
        "threshold": 0.6,
        "prevalence": None,
        "profile": reference,
        "explains": True,
        "input": {"color": "gray", "height": 16, "width": 24},
        "scope": (),
        "domain": None,
        "trained_on": "nothing",
        "licence": "Apache-2.0",
        "warning": None,
        "uncertain": None,
        "figures": {"auroc": SCORE},
        "held_out": {"images": 5, "labels": {"dark": 2, "bright": 3}},
        "rejections": None,
    }
    json.dumps(description)


def test_versions_are_sorted_by_share_and_models_by_name() -> None:
    document = catalog.catalog(
        [
            ("chest", {"version": "1.0.0", "share": 10.0}),
            ("chest", {"version": "1.1.0", "share": 90.0}),
            ("brain", {"version": "1.0.0", "share": 100.0}),
        ]
    )
    names = [(model["name"], [item["version"] for item in model["versions"]]) for model in document["models"]]
    assert names == [("brain", ["1.0.0"]), ("chest", ["1.1.0", "1.0.0"])]
    assert catalog.catalog([]) == {"models": []}


@pytest.mark.parametrize(
    ("metrics", "scores", "images"),
    [
        ({}, {}, None),
        ({"demonstration": True, "validation": {"auroc": SCORE}, "split": SPLIT}, {}, None),
        ({"validation": {"auroc": SCORE, "images": 20, "curve": {"x": [1]}}}, {"auroc": SCORE}, None),
        ({"validation": {}, "split": SPLIT}, {}, 5),
    ],
)
def test_figures_are_scores_with_intervals_unless_the_run_is_a_demonstration(
    tmp_path: Path, metrics: dict[str, Any], scores: dict[str, Any], images: int | None
) -> None:
    brightness = recipe.parse(brightness_recipe(), "test")
    description = catalog.version(entry(), brightness, write_mar(tmp_path, metrics_json=json.dumps(metrics)), 100.0)
    assert description["figures"] == scores
    assert (description["held_out"] or {}).get("images") == images


@pytest.mark.parametrize(("sha256", "rejections"), [("d" * 64, {"images": 784, "rejected": 14}), ("e" * 64, None)])
def test_rejections_are_those_of_the_detector_that_was_measured(
    tmp_path: Path, sha256: str, rejections: dict[str, int] | None
) -> None:
    chest = recipe.load(ROOT / "archives" / "chest-xray-cnn" / "archive.yaml")
    assert chest.detector
    chest = chest.model_copy(update={"detector": chest.detector.model_copy(update={"sha256": "d" * 64})})
    kinds = {"held out": {"images": 784, "refused": 14, "marked": 28}, "noise": {"images": 100, "refused": 100}}
    metrics = json.dumps({"refusals": {"detector_sha256": sha256, "kinds": kinds}})
    described = catalog.version(entry(), chest, write_mar(tmp_path, metrics_json=metrics), 100.0)
    assert described["rejections"] == rejections


def test_a_version_without_metrics_has_no_figures(tmp_path: Path) -> None:
    description = catalog.version(entry(), recipe.parse(brightness_recipe(), "test"), write_mar(tmp_path, x=""), 100.0)
    assert (description["figures"], description["held_out"]) == ({}, None)


@pytest.mark.parametrize("margin", [0, 0.3])
@pytest.mark.parametrize("quantiles", [(0.15, 0.27), (0.64, 0.59), (0.9, 0.9), (0.6, 0.4)])
def test_exactly_the_results_within_the_uncertain_probabilities_are_uncertain(
    quantiles: tuple[float, float], margin: float
) -> None:
    named = dict(zip(("dark", "bright"), quantiles, strict=True))
    sets = {"level": 0.9, "quantiles": named, "margin": margin, "fitted": "x", "split": "0" * 64}
    brightness = recipe.parse(brightness_recipe() | {"uncertainty": sets}, "test")
    assert brightness.decision is not None
    assert brightness.uncertainty is not None
    low, high = catalog.uncertain(brightness) or (1.0, 0.0)
    for step in range(1000):
        share = (step + 0.5) / 1000
        label = "bright" if share >= brightness.decision.threshold else "dark"
        probabilities = {"dark": 1 - share, "bright": share}
        status = certainty(label, probabilities, brightness.decision, brightness.uncertainty).status
        assert (status == "uncertain") is (low <= share < high), share


def test_the_card_comes_from_the_archive_and_may_be_missing(tmp_path: Path) -> None:
    assert catalog.card(write_mar(tmp_path, CARD_md="# Brightness")) == b"# Brightness"
    assert catalog.card(write_mar(tmp_path)) is None


@pytest.mark.parametrize("folder", sorted(path.parent for path in (ROOT / "archives").glob("*/archive.yaml")))
def test_every_model_has_figures_unless_it_is_a_demonstration(folder: Path, tmp_path: Path) -> None:
    metrics = (folder / "metrics.json").read_text(encoding="utf-8")
    description = catalog.version(
        entry(), recipe.load(folder / "archive.yaml"), write_mar(tmp_path, metrics_json=metrics), 100.0
    )
    assert bool(description["figures"]) is not json.loads(metrics)["demonstration"]
    assert (description["held_out"] is None) is json.loads(metrics)["demonstration"]


def test_every_model_has_a_display_name_of_its_own() -> None:
    recipes = [recipe.load(path) for path in sorted((ROOT / "archives").glob("*/archive.yaml"))]
    names = [item.display.name for item in recipes if item.display]
    assert len(set(names)) == len(recipes)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_a_card_that_inflates_or_is_too_long_is_not_read(tmp_path: Path, compression: int) -> None:
    archive = tmp_path / "bomb.mar"
    with zipfile.ZipFile(archive, "w", compression) as packed:
        packed.writestr("CARD.md", "x" * 2_000_000)
    with pytest.raises(ArchiveError, match=r"compressed|more than"):
        catalog.card(archive)
