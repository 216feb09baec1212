"""Tests of radserve.build.catalog."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from handlers import recipe
from radserve.build import catalog
from radserve.build.model_store import Entry
from radserve.errors import ArchiveError
from tests.conftest import ROOT, brightness_recipe

SCORE = {"value": 0.9, "ci95": [0.8, 0.95]}


def write_mar(folder: Path, **members: str) -> Path:
    path = folder / "x.mar"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name.replace("_", "."), text)
    return path


def entry(version: str = "1.0.0") -> Entry:
    return Entry(name="brightness", version=version, file="x.mar", sha256="a" * 64, size=1, inputs="b" * 64)


def test_a_version_is_described_by_its_recipe_index_entry_and_metrics(tmp_path: Path) -> None:
    (tmp_path / "archive.yaml").write_text(yaml.safe_dump(brightness_recipe()), encoding="utf-8")
    brightness = recipe.load(tmp_path / "archive.yaml")
    archive = write_mar(tmp_path, metrics_json=json.dumps({"validation": {"auroc": SCORE}}))
    reference = {"name": "st-marys", "sha256": "c" * 64}
    description = catalog.version(entry(), brightness, archive, 25.0, profile=reference)
    assert description == {
        "version": "1.0.0",
        "sha256": "a" * 64,
        "share": 25.0,
        "task": "classification",
        "title": "Bright or dark",
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
        "figures": {"auroc": SCORE},
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
    ("metrics", "expected"),
    [
        (None, {}),
        ({}, {}),
        ({"demonstration": True, "validation": {"auroc": SCORE}}, {}),
        ({"demonstration": False, "validation": {"auroc": SCORE, "images": 20, "curve": {"x": [1]}}}, {"auroc": SCORE}),
    ],
)
def test_figures_are_scores_with_intervals_unless_the_run_is_a_demonstration(
    metrics: dict[str, Any] | None, expected: dict[str, Any]
) -> None:
    assert catalog.figures(None if metrics is None else json.dumps(metrics).encode()) == expected


def test_the_card_comes_from_the_archive_and_may_be_missing(tmp_path: Path) -> None:
    assert catalog.card(write_mar(tmp_path, CARD_md="# Brightness")) == b"# Brightness"
    assert catalog.card(write_mar(tmp_path)) is None


@pytest.mark.parametrize("folder", sorted(path.parent for path in (ROOT / "archives").glob("*/archive.yaml")))
def test_every_model_has_figures_unless_it_is_a_demonstration(folder: Path) -> None:
    metrics = (folder / "metrics.json").read_bytes()
    assert bool(catalog.figures(metrics)) is not json.loads(metrics)["demonstration"]


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_a_card_that_inflates_or_is_too_long_is_not_read(tmp_path: Path, compression: int) -> None:
    archive = tmp_path / "bomb.mar"
    with zipfile.ZipFile(archive, "w", compression) as packed:
        packed.writestr("CARD.md", "x" * 2_000_000)
    with pytest.raises(ArchiveError, match=r"compressed|more than"):
        catalog.card(archive)
