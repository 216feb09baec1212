"""All ten archives, built from this checkout and served at once: trained where weights are shipped, else untrained."""

import base64
import json
import os
import shutil
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image as Pillow

from benchmarks.server import launch
from handlers import recipe as recipes
from handlers.recipe import Recipe
from radserve.build import builder
from radserve.build.placeholder import WARNING
from radserve.build.source import Source, find_sources
from tests.built_archives import Provide
from tests.conftest import ROOT
from tests.handlers.images import dicom, npy, saved

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

RECIPES = {path.parent.name: recipes.load(path) for path in sorted((ROOT / "archives").glob("*/archive.yaml"))}
TEN = {
    "brain-tumor-attention",
    "brain-tumor-cnn",
    "brain-tumor-cnn-attention",
    "brain-tumor-vgg16",
    "chest-xray-cnn",
    "chest-xray-resnet50",
    "cifar10-lenet",
    "cifar10-vgg11",
    "glioma-attention-unet",
    "glioma-unet",
}
SMALL = {"brain-tumor-cnn-attention", "chest-xray-cnn", "cifar10-lenet", "glioma-unet"}
"""Models that other tests use too; their archives stay until the end of the run."""
PATIENCE = 300
"""Seconds: ten workers import torch and load their weights, two at a time."""


@pytest.fixture(scope="module")
def built(provide: Provide, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("all")
    sources = find_sources(ROOT / "archives", untrained=True)
    provide(folder, [source for source in sources if source.recipe.name in SMALL])
    for source in sources:
        if source.recipe.name not in SMALL:
            builder.build(source, folder)
    yield folder
    shutil.rmtree(folder)  # near a gigabyte


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "log"


@pytest.fixture(scope="module")
def client(built: Path, log: Path) -> Iterator[httpx.Client]:
    """Ask the server of all; it is ready only when each has answered its own sample."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"}
    # A shipped detector may reject a re-encoded sample.
    options = ("--workers", "1", "--startup-timeout", str(PATIENCE), "--domain", "warn")
    with (
        launch(built, log, *options, environment=environment, patience=PATIENCE) as server,
        httpx.Client(base_url=server.url, timeout=120) as http_client,
    ):
        yield http_client


def sample(name: str) -> Pillow.Image:
    """Read the sample of a model in the mode that it is meant to be read."""
    with Pillow.open(ROOT / "archives" / name / RECIPES[name].sample) as image:
        return image.convert({"gray": "L", "rgb": "RGB"}[RECIPES[name].input.color])


def ask(client: httpx.Client, name: str, content: bytes) -> dict[str, Any]:
    response = client.post(f"/predictions/{name}", content=content)
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    return document


def check(document: dict[str, Any], name: str, size: tuple[int, int]) -> None:
    """Check what must hold in every answer, whatever the model has learnt."""
    recipe = RECIPES[name]
    assert document["model"]["name"] == name
    assert document["label"] in recipe.labels
    assert (document["image"]["width"], document["image"]["height"]) == size
    if Source(ROOT / "archives" / name, recipe).lacks_weights:
        assert (document["model"]["version"], document["warning"]) == ("0.0.0", WARNING)
    else:
        assert document["model"]["version"] == recipe.version != "0.0.0"
        status = document.get("domain", {}).get("status")
        assert (status is None) == (recipe.detector is None)
        assert status == "unlike" or document.get("warning") == recipe.warning
    {"classification": check_label, "segmentation": check_mask}[recipe.task](document, recipe)


def check_label(document: dict[str, Any], recipe: Recipe) -> None:
    shares = document["probabilities"]
    assert list(shares) == list(recipe.labels)
    assert sum(shares.values()) == pytest.approx(1)
    assert document["probability"] == shares[document["label"]]
    if recipe.decision is None:
        assert document["positive"] is None
        assert document["probability"] == max(shares.values())
    else:
        assert document["positive"] == (shares[recipe.decision.positive] >= document["threshold"])
        assert document["positive"] == (document["label"] == recipe.decision.positive)


def check_mask(document: dict[str, Any], recipe: Recipe) -> None:
    assert recipe.decision is not None
    mask = np.asarray(Pillow.open(BytesIO(base64.b64decode(document["mask"]["data"]))))
    assert mask.shape == (document["image"]["height"], document["image"]["width"])
    assert set(np.unique(mask)) <= {0, 255}
    assert document["area"]["pixels"] == np.count_nonzero(mask)
    assert document["area"]["fraction"] == pytest.approx(np.count_nonzero(mask) / mask.size)
    assert document["positive"] == bool(mask.any()) == (document["label"] == recipe.decision.positive)
    box = document["box"]
    assert (box is not None) == document["positive"]
    if box is not None:
        inside = mask[box["top"] : box["top"] + box["height"], box["left"] : box["left"] + box["width"]]
        assert np.count_nonzero(inside) == np.count_nonzero(mask)


def test_these_are_the_ten() -> None:
    assert set(RECIPES) == TEN


@pytest.mark.parametrize("name", RECIPES)
def test_each_answers_a_picture_of_its_own_kind(client: httpx.Client, name: str) -> None:
    data = (ROOT / "archives" / name / RECIPES[name].sample).read_bytes()
    document = ask(client, name, data)
    check(document, name, sample(name).size)
    assert document.get("domain", {}).get("status", "normal") == "normal"


def test_a_dark_slice_is_labelled_twice(client: httpx.Client) -> None:
    name = "brain-tumor-cnn-attention"
    bright, dark = (
        saved(sample(name).point([round(share * level) for level in range(256)]), "PNG") for share in (1, 0.3)
    )
    assert "second_label" not in ask(client, name, bright)["certainty"]
    document = ask(client, name, dark)
    check(document, name, sample(name).size)
    assert document["label"] == "no tumour"
    assert document["certainty"]["status"] == "uncertain"
    assert document["certainty"]["prediction_set"] == ["no tumour", "tumour"]
    assert document["certainty"]["second_label"] == "tumour"


LOSSLESS: dict[str, Callable[[Pillow.Image], bytes]] = {
    "png": lambda image: saved(image, "PNG"),
    "tiff": lambda image: saved(image, "TIFF"),
    "bmp": lambda image: saved(image, "BMP"),
    "webp": lambda image: saved(image, "WEBP", lossless=True),
    "npy": lambda image: npy(np.asarray(image)),
    "dicom": lambda image: dicom(np.asarray(image), Modality="OT"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_each_answers_every_format_and_equal_pixels_alike(client: httpx.Client, name: str) -> None:
    image = sample(name)
    answers = {form: ask(client, name, make(image)) for form, make in LOSSLESS.items()}
    for form, document in answers.items():
        check(document, name, image.size)
        assert document["image"]["format"] == form
        assert document["label"] == answers["png"]["label"]
        if RECIPES[name].task == "segmentation":
            assert document["mask"] == answers["png"]["mask"], form
        else:
            assert document["probabilities"] == pytest.approx(answers["png"]["probabilities"], abs=1e-6), form
    check(ask(client, name, saved(image, "JPEG", quality=90)), name, image.size)


@pytest.mark.parametrize("name", ["brain-tumor-cnn-attention", "cifar10-lenet", "glioma-unet"])
def test_a_model_of_each_task_answers_json_with_one_image_and_with_several(client: httpx.Client, name: str) -> None:
    image = sample(name)
    picture = base64.b64encode(saved(image, "PNG")).decode()
    check(ask(client, name, json.dumps({"image": picture}).encode()), name, image.size)
    body = json.dumps({"instances": [{"b64": picture}, {"b64": "AAAA"}, {"b64": picture}]}).encode()
    first, refused, last = ask(client, name, body)["predictions"]
    assert "label" not in refused
    assert refused["status"] >= 400
    for document in (first, last):
        check(document, name, image.size)


@pytest.mark.parametrize("name", ["cifar10-lenet", "cifar10-vgg11"])
def test_the_raw_bytes_of_the_original_client_are_the_same_picture(client: httpx.Client, name: str) -> None:
    image = sample(name)
    raw = np.asarray(image).transpose(2, 0, 1).tobytes()
    response = ask(client, name, json.dumps({"data": base64.b64encode(raw).decode()}).encode())
    check(response, name, (32, 32))
    wanted = ask(client, name, saved(image, "PNG"))
    assert response["probabilities"] == pytest.approx(wanted["probabilities"], abs=1e-6)


@pytest.mark.parametrize("name", [name for name in RECIPES if RECIPES[name].task == "segmentation"])
@pytest.mark.parametrize("size", [(256, 256), (300, 180), (97, 256)])
def test_a_mask_has_the_geometry_of_its_slice(client: httpx.Client, name: str, size: tuple[int, int]) -> None:
    check(ask(client, name, saved(sample(name).resize(size), "PNG")), name, size)


@pytest.mark.usefixtures("client")
def test_the_log_of_the_server_warns_of_every_untrained_model(log: Path) -> None:
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    warned = {name for name in RECIPES if any(f"{name} 0.0.0: {WARNING}" in str(line) for line in lines)}
    assert warned == {name for name in RECIPES if Source(ROOT / "archives" / name, RECIPES[name]).lacks_weights}
