"""Site profiles in a worker."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, create_model

from handlers import distribution, profile, recipe, worker
from handlers.classification import Classification
from handlers.errors import ProgramError, RecipeError
from handlers.profile import SiteProfile, VerifiedProfile
from handlers.recipe import Recipe
from tests.conftest import brightness_recipe
from tests.handlers.batch import ask, context
from tests.handlers.test_pipeline import film


def site_profile(**changes: Any) -> SiteProfile:
    """Return a profile of `Brightness`, changed."""
    valid = {
        "site": "st-marys",
        "model": "brightness",
        "version": "1.0.0",
        "archive": "a" * 64,
        "calibration": {"temperature": 1.0, "bias": -1.5, "prevalence": 0.5, "fitted": "on the site"},
        "decision": {"positive": "bright", "threshold": 0.9, "chosen": "on the site", "sensitivity": 0.9},
        "uncertainty": {
            "level": 0.9,
            "quantiles": {"dark": 0.1, "bright": 0.2},
            "fitted": "on the site",
            "split": "0" * 64,
        },
        "sample": "120 images",
    }
    return SiteProfile.model_validate(valid | changes)


def test_a_profile_replaces_its_sections_only(brightness: Recipe) -> None:
    applied = site_profile().apply(brightness)
    assert (applied.calibration.bias, applied.decision) == (-1.5, site_profile().decision)
    assert applied.uncertainty == site_profile().uncertainty
    sections = {"calibration": None, "decision": None, "uncertainty": None}
    assert applied.model_copy(update=sections) == brightness.model_copy(update=sections)


def test_a_profile_of_other_labels_is_rejected(brightness: Recipe) -> None:
    decision = site_profile().decision.model_copy(update={"positive": "cat"})
    with pytest.raises(RecipeError, match=r"profile of st-marys: .*'cat'"):
        site_profile(decision=decision).apply(brightness)


def test_a_worker_reads_the_profile_of_its_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert profile.for_worker("brightness", "1.0.0", "a" * 64) is None
    path = tmp_path / "profiles.json"
    verified = VerifiedProfile(site_profile(), "b" * 64)
    profile.write(path, [verified])
    monkeypatch.setenv(worker.PROFILES, str(path))
    assert profile.for_worker("brightness", "1.0.0", "a" * 64) == verified
    assert profile.for_worker("brightness", "1.1.0", "a" * 64) is None
    for archive in ("c" * 64, None):
        with pytest.raises(ProgramError, match="is for archive aaa"):
            profile.for_worker("brightness", "1.0.0", archive)


LIMITS = {"marked": 1.2, "fitted": "on the site"}
DETECTOR = {
    "file": "detector.safetensors",
    "sha256": "0" * 64,
    "method": "by hand",
    "parts": ["thumbnail"],
    "marked": 1.0,
    "refused": 1.5,
    "fitted": "by hand",
    "split": "0" * 64,
}


def test_a_profile_replaces_the_limit_of_unusual_images_and_keeps_the_rest() -> None:
    fitted = recipe.parse(brightness_recipe() | {"detector": DETECTOR}, "here.yaml")
    applied = site_profile(detector=LIMITS).apply(fitted).detector
    assert applied == recipe.Detector.model_validate(DETECTOR | {"marked": 1.2})
    assert site_profile().apply(fitted).detector == fitted.detector


@pytest.mark.parametrize("marked", [0.9, 1.6])
def test_a_limit_outside_of_those_of_the_recipe_is_rejected(marked: float) -> None:
    fitted = recipe.parse(brightness_recipe() | {"detector": DETECTOR}, "here.yaml")
    with pytest.raises(RecipeError, match=rf"detector\.marked has value {marked}; brightness permits 1\.0 to 1\.5"):
        site_profile(detector=LIMITS | {"marked": marked}).apply(fitted)


def test_an_archive_of_the_previous_release_accepts_a_profile_that_was_signed_for_it(tmp_path: Path) -> None:
    path = tmp_path / "profiles.json"
    profile.write(path, [VerifiedProfile(site_profile(), "b" * 64)])
    known = {name: field for name, field in SiteProfile.model_fields.items() if name != "detector"}
    fields: dict[str, Any] = {name: (field.annotation, field) for name, field in known.items()}
    earlier: type[BaseModel] = create_model("Earlier", __config__=SiteProfile.model_config, **fields)
    earlier.model_validate(json.loads(path.read_bytes())["brightness/1.0.0"]["profile"])


def test_limits_for_a_model_without_a_detector_are_rejected(brightness: Recipe) -> None:
    with pytest.raises(RecipeError, match="has limits of a detector, but brightness has none"):
        site_profile(detector=LIMITS).apply(brightness)


def test_a_site_profile_is_applied_after_the_sample_is_verified_and_named_in_every_response(
    brightness_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = {"archives": [{"name": "brightness", "version": "1.0.0", "sha256": "a" * 64}]}
    (tmp_path / "index.json").write_text(json.dumps(index))
    profile.write(tmp_path / "profiles.json", [VerifiedProfile(site_profile(), "b" * 64)])
    monkeypatch.setenv(worker.INDEX, str(tmp_path / "index.json"))
    has_profile = list[bool]()
    monkeypatch.setattr(distribution, "load", lambda *_, **options: has_profile.append(options["has_profile"]))
    plain = Classification()
    plain.initialize(context(brightness_archive, []))
    monkeypatch.setenv(worker.PROFILES, str(tmp_path / "profiles.json"))
    sited = Classification()
    sited.initialize(context(brightness_archive, []))
    assert has_profile == [False, True]
    ((_, _, before),) = ask(plain, (film(), {}))
    ((_, _, after), (_, _, explained)) = ask(sited, (film(), {}), (film(), {"explain": "True"}))
    assert "profile" not in before
    assert after["profile"] == explained["profile"] == {"name": "st-marys", "sha256": "b" * 64}
    assert (after["threshold"], after["prevalence"], after["certainty"]["level"]) == (0.9, 0.5, 0.9)
    gap = 2 * np.log(before["probabilities"]["bright"] / before["probabilities"]["dark"]) - 1.5
    assert after["probabilities"]["bright"] == pytest.approx(1 / (1 + np.exp(-gap)), abs=1e-5)
