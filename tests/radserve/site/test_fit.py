"""Fit of a site profile, and `radserve calibrate --site`."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from handlers import pipeline, worker
from handlers.domain import detector
from handlers.domain.assessment import Assessment
from handlers.recipe import Recipe
from handlers.torchserve_handler import SAMPLE_PREDICTION, TorchServeHandler
from radserve.build import model_store
from radserve.cli.main import app
from radserve.errors import ArchiveError, SiteProfileError, StoreError
from radserve.site import fit, signed_profile
from radserve.site.fit import Options
from radserve.store import signature
from training import recalibration

SITE = Options(site="st-marys")


def test_a_profile_improves_the_decision_for_the_patients_of_the_site(site_store: Path, site_images: Path) -> None:
    profile = fit.fit(site_store, "brightness", site_images, SITE)
    (entry,) = model_store.read(site_store).archives
    assert (profile.site, profile.model, profile.version, profile.archive) == (
        "st-marys",
        "brightness",
        "1.0.0",
        entry.sha256,
    )
    assert profile.sample == "120 of 120 images (60 patients) of st-marys"
    assert profile.calibration.bias < 0  # the images are brighter than the model expects
    specificity = profile.changes["specificity"]
    assert specificity.before is not None
    assert specificity.after is not None
    assert specificity.difference is not None
    assert specificity.difference[0] == pytest.approx(specificity.after[0] - specificity.before[0], abs=2e-4)
    assert specificity.difference[1] > 0
    for name in ("accuracy_certain", "uncertain", "coverage of dark"):  # as shipped, there are no prediction sets
        assert profile.changes[name].before is None
        assert profile.changes[name].after is not None


def test_the_report_counts_what_second_passes_make_uncertain(
    site_store: Path, second_pass_store: Path, site_images: Path
) -> None:
    shares = []
    for store in (site_store, second_pass_store):
        change = fit.fit(store, "brightness", site_images, SITE).changes["uncertain"]
        assert change.after is not None
        shares.append(change.after[0])
    assert shares[1] > shares[0] + 0.2


def test_a_fit_is_repeatable(site_store: Path, site_images: Path) -> None:
    first, second = (fit.fit(site_store, "brightness", site_images, SITE) for _ in range(2))
    assert first == second


def test_rejected_images_do_not_count(site_store: Path, site_images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    shutil.copytree(site_images, folder)
    for number, path in enumerate(sorted(folder.rglob("*.png"))[:21]):
        path.write_bytes(b"no image %d" % number)
    with pytest.raises(SiteProfileError, match=r"39 bright\. A profile needs"):
        fit.fit(site_store, "brightness", folder, SITE)


class _Detector:
    """Gives the images of the site these scores; 1 is the median of the held-out ones."""

    outputs = ()

    def __init__(self, recipe: Recipe, scores: Sequence[float]) -> None:
        self.section = recipe.detector
        self._scores = iter(scores)

    def assess(self, *_: object) -> Assessment:
        return Assessment("normal", next(self._scores), 1.5, 100.0, None)

    def percentile(self, score: float) -> float:
        return 50.0 * score


@pytest.mark.parametrize("mode", ["strict", "off"])
def test_the_limit_of_unusual_images_rises_and_unlike_images_are_left_out(
    detector_store: Path, site_images: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv(worker.DOMAIN, mode)
    scores = [2.2] * 5 + [9.0] * 4 + np.linspace(0.8, 1.9, 111).tolist()
    monkeypatch.setattr(detector, "load", lambda _, recipe: _Detector(recipe, scores))
    profile = fit.fit(detector_store, "brightness", site_images, SITE)
    assert profile.sample.startswith("111 of 120 images")
    assert profile.detector is not None
    assert profile.detector.marked == pytest.approx(1.4, abs=0.02)  # the median, as 1.0 is of the held-out images
    unlike, unusual = profile.changes["unlike_images"], profile.changes["unusual_images"]
    assert unlike.before is not None
    assert unusual.difference is not None
    assert unlike.before[0] == pytest.approx(9 / 120, abs=1e-4)
    assert unusual.difference[0] < 0


def test_a_model_without_a_detector_has_no_limits(site_store: Path, site_images: Path) -> None:
    profile = fit.fit(site_store, "brightness", site_images, SITE)
    assert profile.detector is None
    assert "unlike_images" not in profile.changes


def test_a_failure_of_the_model_is_no_rejection(
    site_store: Path, site_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> list[object]:
        raise MemoryError

    monkeypatch.setattr(pipeline, "preprocess", fail)
    monkeypatch.setattr(TorchServeHandler, "predict_sample", lambda self, folder: [stored_sample(self, folder)])
    with pytest.raises(SiteProfileError, match=r"\.png: The server is short of memory"):
        fit.fit(site_store, "brightness", site_images, SITE)


def stored_sample(_: object, folder: Path) -> dict[str, object]:
    document: dict[str, object] = json.loads((folder / SAMPLE_PREDICTION).read_bytes())
    return document


def test_a_level_needs_patients(site_store: Path, site_images: Path) -> None:
    with pytest.raises(SiteProfileError, match=r"at a level of 0\.97, every label needs images of 42 patients"):
        fit.fit(site_store, "brightness", site_images, Options(site="st-marys", level=0.97))


def test_sets_that_always_contain_a_label_are_refused(
    site_store: Path, site_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recalibration, "is_measurable", lambda *_: True)
    with pytest.raises(SiteProfileError, match="every prediction set would contain 'dark'"):
        fit.fit(site_store, "brightness", site_images, Options(site="st-marys", level=0.99))


def test_an_archive_of_another_release_is_refused(
    site_store: Path, site_images: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "__init__.py").write_text("changed")
    monkeypatch.setattr("handlers.__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(ArchiveError, match=r"handlers/__init__\.py differs from the installed one"):
        fit.fit(site_store, "brightness", site_images, SITE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--site-name", "St Mary's"], "--site-name"),
        (["--site-name", "x", "--level", "0"], "--level 0: must be between 0 and 1"),
        (["--site-name", "x", "--level", "1.5"], "--level 1.5: must be between 0 and 1"),
        (["--site-name", "x", "--out", "missing/x.json"], "--out missing/x.json: its folder does not exist"),
    ],
)
def test_options_of_a_site_are_checked_first(options: list[str], message: str, tmp_path: Path) -> None:
    arguments = ["calibrate", "brightness", "--site", str(tmp_path), "--signing-key", "none", *options]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, SiteProfileError)
    assert message in str(result.exception)


def test_an_unknown_model_is_rejected(site_store: Path, site_images: Path) -> None:
    with pytest.raises(SiteProfileError, match="has no archive of chest"):
        fit.fit(site_store, "chest", site_images, SITE)


def test_the_command_writes_a_signed_profile_and_reports_what_changes(
    site_store: Path, site_images: Path, tmp_path: Path
) -> None:
    key, out = tmp_path / "key", tmp_path / "profile.json"
    signature.generate(key)
    signature.generate(tmp_path / "other")
    command = ["calibrate", "brightness", "--site", str(site_images), "--site-name", "st-marys", "--out", str(out)]
    result = CliRunner().invoke(app, [*command, "--signing-key", str(key), "--model-store", str(site_store)])
    assert result.exit_code == 0, result.output
    assert "specificity" in result.output
    assert "120 of 120 images (60" in result.output
    (loaded,) = signed_profile.load([out], f"{key}.pub")
    assert loaded.profile == fit.fit(site_store, "brightness", site_images, SITE)
    with pytest.raises(StoreError, match="not trusted"):
        signed_profile.load([out], tmp_path / "other.pub")
    with pytest.raises(SiteProfileError, match="--profile-key is missing"):
        signed_profile.load([out], None)
    out.write_bytes(signature.seal(b"{}", signature.read_signing_key(key), signed_profile.PAYLOAD_TYPE))
    with pytest.raises(SiteProfileError, match="key 'site' is missing"):
        signed_profile.load([out], f"{key}.pub")


def test_the_index_of_a_store_is_not_a_profile(tmp_path: Path) -> None:
    key, file = tmp_path / "key", tmp_path / "index.json"
    signature.generate(key)
    file.write_bytes(signature.seal(b"{}", signature.read_signing_key(key)))
    with pytest.raises(StoreError, match=r"payload type 'application/vnd\.radserve\.store-index"):
        signed_profile.load([file], f"{key}.pub")


@pytest.mark.parametrize("options", [[], ["--data", "x", "--site", "y"]])
def test_the_command_needs_data_or_a_site(options: list[str]) -> None:
    result = CliRunner().invoke(app, ["calibrate", "brightness", *options])
    assert result.exit_code == 2
    assert "--data or --site" in result.output
