"""Fit of a site profile, and `radserve calibrate --site`."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from radserve.build import model_store
from radserve.cli.main import app
from radserve.errors import SiteProfileError, StoreError
from radserve.site import fit, signed_profile
from radserve.site.fit import Options
from radserve.store import signature

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
    assert profile.sample == "120 images of 60 patients of st-marys"
    assert profile.calibration.bias < 0  # the images are brighter than the model expects
    specificity = profile.changes["specificity"]
    assert specificity.before is not None
    assert specificity.after is not None
    assert specificity.difference is not None
    assert specificity.difference[0] == pytest.approx(specificity.after[0] - specificity.before[0], abs=2e-4)
    assert specificity.difference[1] > 0
    assert profile.changes["accuracy_certain"].before is None  # as shipped, no result is certain


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
    assert "120 images of 60 patients" in result.output
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
