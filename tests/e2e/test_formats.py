"""Every format, and every real file, through the real server."""

import base64
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image as Pillow
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from handlers import recipe as recipes
from handlers.pipeline import Pipeline, Result
from handlers.program import Program
from handlers.threshold import decide
from radserve.torchserve.verified_models import select
from tests.conftest import ROOT
from tests.handlers import images
from tests.repack import NAME
from tests.server import Server, running

pytestmark = pytest.mark.e2e

PATH = f"/predictions/{NAME}"


@pytest.fixture(scope="session")
def film() -> Pillow.Image:
    """The sample film, as pixels."""
    return Pillow.open(ROOT / "archives" / NAME / "sample.png").convert("L")


def ask(server: Server, content: bytes, **headers: str) -> httpx.Response:
    return httpx.post(server.url + PATH, content=content, headers=headers, timeout=60)


def saved(picture: Pillow.Image, name: str, **options: Any) -> bytes:
    out = BytesIO()
    picture.save(out, name, **options)
    return out.getvalue()


def deep(picture: Pillow.Image) -> Pillow.Image:
    return Pillow.fromarray(np.asarray(picture).astype(np.uint16) * 257)


def npy(picture: Pillow.Image) -> bytes:
    out = BytesIO()
    np.save(out, np.asarray(picture))
    return out.getvalue()


def dicom(picture: Pillow.Image, syntax: UID = ExplicitVRLittleEndian, **attributes: Any) -> bytes:
    """Return the film as a computed radiograph, 12 bits deep."""
    pixels = np.asarray(picture).astype(np.uint16) * 16
    if attributes.get("PhotometricInterpretation") == "MONOCHROME1":
        pixels = 4080 - pixels
    film: dict[str, Any] = {
        "Modality": "CR",
        "BodyPartExamined": "CHEST",
        "PatientName": "Synthetic^Patient",
        "BitsStored": 12,
        "HighBit": 11,
        "WindowCenter": 2040,
        "WindowWidth": 4080,
        "VOILUTFunction": "LINEAR_EXACT",
    }
    return images.dicom(pixels, syntax, **film | attributes)


LOSSLESS: dict[str, Callable[[Pillow.Image], bytes]] = {
    "png": lambda film: saved(film, "PNG"),
    "png-16": lambda film: saved(deep(film), "PNG"),
    "png-palette": lambda film: saved(film.convert("RGB").quantize(256), "PNG"),
    "png-alpha": lambda film: saved(film.convert("LA"), "PNG"),
    "png-rgb": lambda film: saved(film.convert("RGB"), "PNG"),
    "tiff": lambda film: saved(film, "TIFF"),
    "tiff-lzw": lambda film: saved(film, "TIFF", compression="tiff_lzw"),
    "tiff-16": lambda film: saved(deep(film), "TIFF"),
    "tiff-float": lambda film: saved(Pillow.fromarray(np.asarray(film).astype(np.float32) / 255), "TIFF"),
    "bmp": lambda film: saved(film, "BMP"),
    "webp-lossless": lambda film: saved(film.convert("RGB"), "WEBP", lossless=True),
    "npy": npy,
    "dicom": dicom,
    "dicom-rle": lambda film: dicom(film, RLELossless),
    "dicom-jpeg2000": lambda film: dicom(film, JPEG2000Lossless),
    "dicom-jpegls": lambda film: dicom(film, JPEGLSLossless),
    "dicom-monochrome1": lambda film: dicom(film, PhotometricInterpretation="MONOCHROME1"),
}
LOSSY: dict[str, Callable[[Pillow.Image], bytes]] = {
    "jpeg": lambda film: saved(film, "JPEG", quality=95),
    "jpeg-progressive": lambda film: saved(film, "JPEG", quality=95, progressive=True),
    "jpeg-rgb": lambda film: saved(film.convert("RGB"), "JPEG", quality=95),
    "jpeg-cmyk": lambda film: saved(film.convert("RGB").convert("CMYK"), "JPEG", quality=95),
    "webp": lambda film: saved(film.convert("RGB"), "WEBP", quality=95),
}


@pytest.mark.parametrize(("name", "gap"), [(name, 0.02) for name in LOSSLESS] + [(name, 0.1) for name in LOSSY])
def test_a_film_gets_the_same_answer_in_every_format(server: Server, film: Pillow.Image, name: str, gap: float) -> None:
    wanted = ask(server, saved(film, "PNG")).json()
    response = ask(server, (LOSSLESS | LOSSY)[name](film))
    assert response.status_code == 200, response.text
    document = response.json()
    assert document["label"] == wanted["label"]
    assert document["probability"] == pytest.approx(wanted["probability"], abs=gap)
    assert document["image"]["format"] == name.partition("-")[0]
    assert (document["image"]["width"], document["image"]["height"]) == film.size


def test_a_turned_film_is_put_upright(server: Server, film: Pillow.Image) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to see it upright
    turned = saved(film.rotate(90, expand=True), "JPEG", quality=95, exif=exif)
    wanted, result = ask(server, saved(film, "JPEG", quality=95)).json(), ask(server, turned).json()
    assert result["probability"] == pytest.approx(wanted["probability"], abs=0.05)
    assert (result["image"]["width"], result["image"]["height"]) == film.size


def test_base64_and_several_instances(server: Server, film: Pillow.Image) -> None:
    raw = saved(film, "PNG")
    text = base64.b64encode(raw).decode()
    wanted = ask(server, raw).json()
    assert httpx.post(server.url + PATH, json={"image": text}).json() == wanted
    several = httpx.post(server.url + PATH, json={"instances": [{"b64": text}, {"b64": "AAAA"}, {"b64": text}]}).json()
    for prediction in several["predictions"][::2]:
        assert prediction["label"] == wanted["label"]
        assert prediction["probability"] == pytest.approx(wanted["probability"], abs=1e-5)
    assert several["predictions"][1]["status"] == 415


@pytest.mark.parametrize(
    ("content", "status", "word"),
    [
        (b"", 400, "empty"),
        (b"not an image", 415, "Unsupported file type"),
        (b"\xff\xd8\xff\xe0 cut", 400, "JPEG"),
        (b"\x93NUMPY\x01\x00", 400, "npy"),
        (b'{"image": ', 400, "JSON"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_reason(server: Server, content: bytes, status: int, word: str) -> None:
    response = ask(server, content)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert word in response.json()["detail"]
    assert "label" not in response.text


def test_an_mr_slice_and_an_arm_are_no_chest_film(server: Server, film: Pillow.Image) -> None:
    for attributes in ({"Modality": "MR"}, {"BodyPartExamined": "ARM"}, {"ViewPosition": "LL"}):
        response = ask(server, dicom(film, ExplicitVRLittleEndian, **attributes))
        assert response.status_code == 422
        (name,) = attributes
        assert name in response.json()["detail"]
        assert "Synthetic" not in response.text


def test_films_out_of_scope_are_rejected_and_unknown_attributes_listed(server: Server, film: Pillow.Image) -> None:
    child: dict[str, Any] = {"Modality": "DX", "BodyPartExamined": "CHEST", "ViewPosition": "PA", "PatientAge": "003Y"}
    for change in ({"PatientAge": "061Y"}, {"PresentationIntentType": "FOR PROCESSING"}, {"ViewPosition": "LL"}):
        response = ask(server, dicom(film, **(child | change)))
        assert (response.status_code, response.json()["title"]) == (422, "Out of scope")
        assert next(iter(change)) in response.json()["detail"]
    document = ask(server, dicom(film, **child)).json()
    assert document["checked"] == ["age", "modality", "body_part", "view"]
    assert document["unchecked"] == ["species", "orientation", "presentation", "polarity"]


def test_assurances_reach_the_model_through_the_proxy(server: Server, film: Pillow.Image) -> None:
    png = saved(film, "PNG")
    document = ask(server, png, **{"X-Assurances": "age=5, view=PA"}).json()
    assert document["assurances"] == {"age": 5, "view": "PA"}
    assert "age" not in document["unchecked"] + document["checked"]
    assert "species" in document["unchecked"]
    body = {"image": base64.b64encode(png).decode(), "assurances": {"age": 61}}
    response = httpx.post(server.url + PATH, json=body, timeout=60)
    assert (response.status_code, response.json()["title"]) == (422, "Out of scope")
    explained = httpx.post(
        f"{server.url}/explanations/{NAME}", content=png, headers={"X-Assurances": "age=5"}, timeout=60
    )
    assert explained.json()["assurances"] == {"age": 5}


def test_a_server_may_require_attributes(store: Path, tmp_path: Path, film: Pillow.Image) -> None:
    with running(store, tmp_path / "log", "--models", NAME, "--require", f"age,{NAME}:view") as strict:
        png = saved(film, "PNG", dpi=(72, 72))  # not the archive's sample
        response = ask(strict, png)
        assert (response.status_code, response.json()["title"]) == (422, "Missing attribute")
        assert "age (age of the patient), view (view)" in response.json()["detail"]
        assert ask(strict, png, **{"X-Assurances": "age=5, view=PA"}).status_code == 200


def test_a_colour_photograph_is_no_film(server: Server) -> None:
    ramp = np.linspace(0, 255, 200).astype(np.uint8)
    photograph = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], ramp[::-1, None]), axis=-1)
    response = ask(server, saved(Pillow.fromarray(photograph), "PNG"))
    assert response.status_code == 422
    assert "colour image" in response.json()["detail"]


def test_every_dicom_file_is_answered_or_refused_with_a_reason(server: Server, shared: Path) -> None:
    workers = {worker.pid for worker in server.workers()}
    outcomes: Counter[int | str] = Counter()
    for path in sorted((shared / "dicom").glob("*.dcm")):
        response = ask(server, path.read_bytes())
        document = response.json()
        for result in document.get("predictions", [document]):  # one for each frame, if there are several
            status = result.get("status", 200)
            outcomes[result.get("title", status)] += 1
            if status == 200:
                assert result["image"]["format"] == "dicom"
            else:
                assert status in (400, 415, 422), f"{path.name}: {status} {response.text}"
                assert len(result["detail"]) > 20
    assert outcomes[200] >= 1  # the other chest films are of adults, of a dog, or too small
    assert outcomes["Out of scope"] >= 30
    assert {worker.pid for worker in server.workers()} == workers, "a worker died"


def test_original_films_get_what_the_pipeline_gives_in_process(server: Server, shared: Path, store: Path) -> None:
    """No skew between evaluation and serving."""
    import zipfile

    (served,) = select(store, [NAME])
    folder = store.parent / "unpacked"
    with zipfile.ZipFile(store / served.entry.file) as packed:
        packed.extractall(folder)
    recipe = recipes.load(folder / "archive.yaml")
    pipeline = Pipeline(recipe, Program(folder / "program.pt2"))
    for path in sorted((shared / "chest_xray_original").rglob("*.jpeg")):
        data = path.read_bytes()
        (result,) = pipeline([data])
        assert isinstance(result, Result), result
        wanted = decide(result.outputs["logits"], recipe)
        document = ask(server, data).json()
        assert document["label"] == wanted.label, path.name
        for label, value in wanted.probabilities.items():
            assert document["probabilities"][label] == pytest.approx(value, abs=1e-5)
