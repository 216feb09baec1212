"""The detector in the worker: modes, reasons, neighbours, damage."""

import json
import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image as Pillow
from PIL import ImageOps
from safetensors.torch import load_file

from handlers import profile, recipe, worker
from handlers.classification import Classification
from handlers.domain import detector
from handlers.errors import DetectorError
from handlers.formats import decode
from handlers.metrics import Meter
from handlers.preprocess import at_least, preprocess
from handlers.profile import VerifiedProfile
from radserve.build import builder
from tests.conftest import ROOT
from tests.handlers.batch import ask, context
from tests.handlers.domain.conftest import films
from tests.handlers.images import dicom
from tests.handlers.test_pipeline import film
from tests.handlers.test_profile import site_profile


def png(image: Pillow.Image) -> bytes:
    out = BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def noise() -> bytes:
    return png(Pillow.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96), dtype=np.uint8)))


def service(folder: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> Classification:
    monkeypatch.setenv(worker.DOMAIN, mode)
    handler = Classification()
    handler.load(folder, batch=4)
    return handler


def counted(meter: Meter) -> dict[str, float]:
    return {labels[0]: value for (name, labels), value in meter.series().items() if name == "radserve_domain_total"}


def test_an_image_like_the_training_images_is_normal(fitted_archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ((status, _, answer),) = ask(service(fitted_archive, monkeypatch, "strict"), (films()[7], {}))
    assert status == 200
    assert answer["domain"] | {"score": 0, "percentile": 0, "limit": 1} == {
        "mode": "strict",
        "status": "normal",
        "score": 0,
        "limit": 1,
        "percentile": 0,
        "reason": None,
    }
    assert 0 <= answer["domain"]["score"] < 1


def test_an_unlike_image_is_rejected_and_its_neighbours_are_not(
    fitted_archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = service(fitted_archive, monkeypatch, "strict")
    first, other, last = ask(handler, (films()[3], {}), (noise(), {}), (films()[5], {}))
    assert (first[0], other[0], last[0]) == (200, 422, 200)
    assert other[2]["title"] == "Unlike the training images"
    assert other[2]["domain"]["status"] == "unlike"
    assert other[2]["domain"]["percentile"] == 100
    assert other[2]["domain"]["reason"] == "other_image"
    assert counted(handler.meter) == {"normal": 2, "unusual": 0, "unlike": 1}
    assert handler.meter.series()["radserve_distribution_total", ("domain", "100")] == 1


def test_a_warning_accompanies_the_prediction_of_an_unlike_image(
    fitted_archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((status, _, answer),) = ask(service(fitted_archive, monkeypatch, "warn"), (noise(), {}))
    assert status == 200
    assert answer["domain"]["status"] == "unlike"
    assert "unlike the images that this model was trained on" in answer["warning"]


def test_nothing_is_compared_where_the_mode_is_off(fitted_archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ((status, _, answer),) = ask(service(fitted_archive, monkeypatch, "off"), (noise(), {}))
    assert (status, answer["domain"]) == (200, {"mode": "off"})
    assert "warning" not in answer


def test_an_archive_without_a_detector_has_no_domain(brightness_archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ((status, _, answer),) = ask(service(brightness_archive, monkeypatch, "strict"), (noise(), {}))
    assert status == 200
    assert "domain" not in answer


def test_the_sample_of_the_archive_is_never_rejected(
    fitted_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(fitted_archive, tmp_path / "archive"))
    (folder / "sample.png").write_bytes(noise())
    ((status, _, answer),) = ask(service(folder, monkeypatch, "strict"), (noise(), {}))
    assert (status, answer["domain"]["status"]) == (200, "unlike")


def posed(name: str) -> bytes:
    with Pillow.open(BytesIO(film(low=25, high=215))) as image:
        if name == "inverted":
            return png(ImageOps.invert(image))
        turn = {"rotated_90": Pillow.Transpose.ROTATE_270, "rotated_180": Pillow.Transpose.ROTATE_180}
        return png(image.transpose(turn[name]))


@pytest.mark.parametrize("name", ["rotated_90"])
def test_the_pose_of_a_rotated_image_is_the_reason(
    name: str, fitted_archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((status, _, answer),) = ask(service(fitted_archive, monkeypatch, "strict"), (posed(name), {}))
    assert status == 422
    assert answer["domain"]["reason"] == name
    assert "repair=rotate-270" in answer["detail"]


def test_no_repair_is_suggested_for_a_file_that_states_its_orientation(
    fitted_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(fitted_archive, tmp_path / "archive"))
    recipe_text = yaml.safe_load((folder / "archive.yaml").read_text(encoding="utf-8"))
    recipe_text["scope"] = recipe_text.get("scope", {}) | {"orientation": ["LF"]}
    (folder / "archive.yaml").write_text(yaml.safe_dump(recipe_text), encoding="utf-8")
    with Pillow.open(BytesIO(posed("rotated_90"))) as image:
        turned = dicom(np.asarray(image), PatientOrientation=["L", "F"])
    ((status, _, answer),) = ask(service(folder, monkeypatch, "strict"), (turned, {}))
    assert (status, answer["domain"]["reason"]) == (422, "rotated_90")
    assert answer["domain"]["contradicts"] == "orientation"
    assert "repair=" not in answer["detail"]


def test_a_pose_is_named_only_for_an_image_of_the_right_kind() -> None:
    archives = ROOT / "archives"
    shipped = recipe.load(archives / "glioma-unet" / "archive.yaml")
    glioma = detector.load(archives / "glioma-unet", shipped)
    assert glioma is not None

    def reason(model: str) -> str | None:
        with Pillow.open(archives / model / "sample.png") as image:
            turned = png(image.convert("RGB").transpose(Pillow.Transpose.ROTATE_270))
        tensor = preprocess(decode.decode(turned, at_least=at_least(shipped.input)), shipped.input)
        return glioma.assess({}, tensor).reason

    models = ("glioma-unet", "brain-tumor-cnn-attention", "chest-xray-cnn")
    assert [reason(model) for model in models] == ["rotated_90", "other_image", "other_image"]


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_damaged_detector_stops_the_worker(damage: str, fitted_archive: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(fitted_archive, tmp_path / "archive"))
    path = folder / "detector.safetensors"
    path.unlink()
    if damage == "changed":
        path.write_bytes(b"other")
    with pytest.raises(DetectorError, match=r"detector\.safetensors"):
        detector.load(folder, recipe.load(folder / "archive.yaml"))


def test_a_build_uses_the_detector_whatever_the_mode_of_the_environment(
    fitted_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(fitted_archive, tmp_path / "archive"))
    (folder / "detector.safetensors").write_bytes(b"other")
    monkeypatch.setenv(worker.DOMAIN, "off")
    with pytest.raises(DetectorError, match=r"detector\.safetensors"):
        builder.predict_sample(folder, recipe.load(folder / "archive.yaml"))


def test_a_score_without_a_number_is_not_normal(fitted_archive: Path) -> None:
    loaded = detector.load(fitted_archive, recipe.load(fitted_archive / "archive.yaml"))
    assert loaded is not None
    outputs = {detector.MOMENTS: np.full(4, np.nan, dtype=np.float32)}
    assert loaded.assess(outputs, np.zeros((3, 16, 24), dtype=np.float32)).status == "unlike"


def test_the_limit_of_a_site_profile_applies_and_names_the_site(
    fitted_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(fitted_archive, tmp_path / "archive"))
    document = yaml.safe_load((folder / "archive.yaml").read_text())
    document["detector"]["refused"] = 1e5
    (folder / "archive.yaml").write_text(yaml.safe_dump(document))
    (tmp_path / "index.json").write_text(
        json.dumps({"archives": [{"name": "brightness", "version": "1.0.0", "sha256": "a" * 64}]})
    )
    limits = {"marked": 1e5, "fitted": "on the site"}
    profile.write(tmp_path / "profiles.json", [VerifiedProfile(site_profile(detector=limits), "b" * 64)])
    monkeypatch.setenv(worker.INDEX, str(tmp_path / "index.json"))
    ((_, _, shipped),) = ask(service(folder, monkeypatch, "strict"), (noise(), {}))
    assert shipped["domain"]["status"] == "unusual"
    assert "site" not in shipped["domain"]
    monkeypatch.setenv(worker.PROFILES, str(tmp_path / "profiles.json"))
    sited = Classification()
    sited.initialize(context(folder, []))
    ((status, _, answer),) = ask(sited, (noise(), {}))
    assert (status, answer["domain"]["status"], answer["domain"]["site"]) == (200, "normal", "st-marys")
    assert answer["domain"]["score"] == shipped["domain"]["score"]


def test_a_dark_image_that_differs_otherwise_too_is_another_image() -> None:
    folder = ROOT / "archives" / "brain-tumor-cnn-attention"
    shipped = recipe.load(folder / "archive.yaml")
    assert shipped.detector is not None
    tensors = load_file(folder / shipped.detector.file)
    stripes = np.zeros((shipped.input.channels, shipped.input.height, shipped.input.width), np.float32)
    stripes[:, ::40, :] = 1
    mean, std = (np.asarray(values, np.float32)[:, None, None] for values in (shipped.input.mean, shipped.input.std))
    compared = detector.Detector.create(shipped.detector, shipped.input, tensors).assess({}, (stripes - mean) / std)
    assert (compared.status, compared.reason) == ("unlike", "other_image")
