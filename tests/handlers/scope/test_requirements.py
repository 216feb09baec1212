"""What a model's scope, its operator and the client require of an image, in the responses of a worker."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from handlers import worker
from handlers.classification import Classification
from handlers.errors import ScopeError
from tests.handlers import images
from tests.handlers.batch import B64, ask, context
from tests.handlers.images import dicom
from tests.handlers.test_pipeline import film

CHILDREN = {"age": {"at_least": 1, "below": 6}, "view": ["PA", "AP"]}


@pytest.fixture
def scoped(brightness_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Classification:
    """Return a service for a model with a scope, whose operator requires the age."""
    folder = tmp_path / "scoped"
    shutil.copytree(brightness_archive, folder)
    recipe = yaml.safe_load((folder / "archive.yaml").read_text())
    (folder / "archive.yaml").write_text(yaml.safe_dump(recipe | {"scope": CHILDREN}))
    monkeypatch.setenv(worker.REQUIRE, "brightness:age,other:view")
    handler = Classification()
    handler.initialize(context(folder, []))
    return handler


def test_unchecked_and_assured_attributes_are_part_of_every_prediction(scoped: Classification) -> None:
    slice_ = dicom(images.film(), Modality="DX", PatientAge="003Y")
    explain = {"explain": "True"}
    assured = {"X-Assurances": "age=5, view=PA"}
    answers = ask(scoped, (slice_, {}), (film(), assured), (slice_, explain), (film(), assured | explain))
    assert [status for status, _, _ in answers] == [200] * 4
    for read, sent in (answers[:2], answers[2:]):
        assert (read[2]["checked"], read[2]["unchecked"], "assurances" in read[2]) == (["age"], ["view"], False)
        assert (sent[2]["checked"], sent[2]["unchecked"]) == ([], [])
        assert sent[2]["assurances"] == {"age": 5, "view": "PA"}


def test_a_missing_required_attribute_is_named_with_the_remedy(
    scoped: Classification, brightness_archive: Path
) -> None:
    sample = (brightness_archive / "sample.png").read_bytes()
    missing, own = ask(scoped, (film(), {"X-Assurances": "view=PA"}), (sample, {}))
    assert (missing[0], missing[2]["title"]) == (422, "Missing attribute")
    assert "age (age of the patient)" in missing[2]["detail"]
    assert '"X-Assurances: age=..."' in missing[2]["detail"]
    assert own[0] == 200  # the test of readiness sends it


def test_out_of_scope_contradicting_and_invalid_assurances(scoped: Classification) -> None:
    child = dicom(images.film(), Modality="DX", PatientAge="003Y")
    answers = ask(
        scoped,
        (film(), {"X-Assurances": "age=61"}),
        (dicom(images.film(), PatientAge="061Y"), {}),
        (child, {"X-Assurances": "age=5"}),
        (film(), {"X-Assurances": "age=SECRET"}),
    )
    assert [(status, document["title"]) for status, _, document in answers] == [
        (422, "Out of scope"),
        (422, "Out of scope"),
        (422, "Out of scope"),
        (400, "Bad request"),
    ]
    assert "contradicts PatientAge" in answers[2][2]["detail"]
    assert "SECRET" not in answers[3][2]["detail"]


def test_json_bodies_have_assurances_for_all_images_and_for_each(scoped: Classification) -> None:
    alone = {"image": B64, "assurances": {"age": 5}}
    several = {
        "assurances": {"age": 5},
        "instances": [{"b64": B64}, {"b64": B64, "assurances": {"view": "PA"}}, {"b64": B64, "assurances": {"age": 4}}],
    }
    (_, _, one), (_, _, many) = ask(scoped, (json.dumps(alone).encode(), {}), (several, {}))
    assert (one["assurances"], one["unchecked"]) == ({"age": 5}, ["view"])
    first, second, third = many["predictions"]
    assert (first["assurances"], second["assurances"]) == ({"age": 5}, {"age": 5, "view": "PA"})
    assert third["status"] == 400
    assert "assurances of age differ" in third["detail"]


def test_invalid_requirements_stop_the_worker(brightness_archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(worker.REQUIRE, "height")
    with pytest.raises(ScopeError, match="Unknown attribute 'height'"):
        Classification().initialize(context(brightness_archive, []))


def test_a_stated_prevalence_is_in_the_response(brightness_archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "assumed"
    shutil.copytree(brightness_archive, folder)
    recipe = yaml.safe_load((folder / "archive.yaml").read_text())
    calibration = recipe["calibration"] | {"prevalence": 0.5}
    (folder / "archive.yaml").write_text(yaml.safe_dump(recipe | {"calibration": calibration}))
    handler = Classification()
    handler.initialize(context(folder, []))
    header = {"X-Assurances": "prevalence=0.1"}
    plain, stated, invalid = ask(handler, (film(), {}), (film(), header), (film(), {"X-Assurances": "prevalence=1"}))
    assert (plain[2]["prevalence"], stated[2]["prevalence"], invalid[0]) == (0.5, 0.1, 400)
    odds = [item[2]["probabilities"]["bright"] / item[2]["probabilities"]["dark"] for item in (plain, stated)]
    assert odds[1] == pytest.approx(odds[0] / 9)
    assert (stated[2]["label"], stated[2]["positive"]) == (plain[2]["label"], plain[2]["positive"])
