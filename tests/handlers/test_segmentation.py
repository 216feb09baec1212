"""The segmentation handler, called with TorchServe's own `Context`."""

import base64
import hashlib
import json
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from handlers.domain.assessment import Assessment, Mode
from handlers.errors import ProgramError
from handlers.png import OUTLINE
from handlers.segmentation import Segmentation
from tests.handlers.batch import context
from tests.handlers.formats.test_zip import zipped
from tests.handlers.images import dicom, npy, saved
from tests.spots import HEIGHT, WIDTH, Flags, agreement, figure, painted, unpacked

EMPTY = np.where(np.eye(HEIGHT, WIDTH) > 0, 60, 20).astype(np.uint8)
"""Picture with some contrast but no bright area."""

SPLIT = 0.0
"""Level of the input between the brightest pixel of `EMPTY` and a bright area."""

SCOPE = ["checked", "unchecked"]


@dataclass(frozen=True)
class Reply:
    """One response."""

    status: int
    media: str
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        marked: dict[str, Any] = json.loads(self.body)
        return marked

    @property
    def pixels(self) -> np.ndarray[Any, Any]:
        return np.asarray(Pillow.open(BytesIO(self.body)))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(tmp_path_factory.mktemp("spots"))


@pytest.fixture(scope="module")
def service(archive: Path) -> Segmentation:
    handler = Segmentation()
    handler.initialize(context(archive, []))
    return handler


def ask(service: Segmentation, *requests: tuple[Any, dict[str, Any]]) -> list[Reply]:
    """Send one batch."""
    around = context(Path(), [dict(headers) for _, headers in requests])
    bodies = service.handle([{"body": body} for body, _ in requests], around)
    assert len(bodies) == len(requests)
    return [
        Reply(around.get_response_status(index)[0], around.get_response_content_type(index), body)
        for index, body in enumerate(bodies)
    ]


def answered(service: Segmentation, body: Any, **headers: str) -> Reply:
    (reply,) = ask(service, (body, headers))
    assert reply.status == 200, reply.body
    return reply


def mask(document: dict[str, Any]) -> Flags:
    """Decode a document's mask and check its metadata."""
    stored = document["mask"]
    picture = Pillow.open(BytesIO(base64.b64decode(stored["data"])))
    assert (picture.format, picture.mode, stored["encoding"]) == ("PNG", "L", "png")
    assert picture.size == (stored["width"], stored["height"])
    assert picture.size == (document["image"]["width"], document["image"]["height"])
    values = np.asarray(picture)
    assert set(np.unique(values)) <= {0, 255}
    marked = values == 255
    assert document["area"]["pixels"] == marked.sum()
    assert document["area"]["fraction"] == marked.mean()
    assert document["positive"] == marked.any()
    return np.asarray(marked)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_a_prediction_has_the_documented_keys(service: Segmentation) -> None:
    expected = figure(HEIGHT, WIDTH)
    data = saved(painted(expected), "PNG")
    reply = answered(service, data)
    assert reply.media == "application/json"
    document = reply.json
    assert list(document) == [
        "model",
        "label",
        "positive",
        "finding",
        "threshold",
        "area",
        "box",
        "mask",
        "image",
        *SCOPE,
    ]
    assert document["model"] == {"name": "spots", "version": "1.0.0", "sha256": None}
    assert (document["label"], document["positive"], document["threshold"]) == ("spot", True, 0.5)
    assert set(document["area"]) == {"pixels", "fraction"}
    rows, columns = np.nonzero(expected)
    assert document["box"] == {
        "left": columns.min(),
        "top": rows.min(),
        "width": np.ptp(columns) + 1,
        "height": np.ptp(rows) + 1,
    }
    assert document["image"] == {
        "format": "png",
        "width": WIDTH,
        "height": HEIGHT,
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    np.testing.assert_array_equal(mask(document), expected)


def test_an_image_without_a_finding_has_an_empty_mask_and_the_other_label(service: Segmentation) -> None:
    document = answered(service, saved(EMPTY, "PNG")).json
    assert (document["label"], document["positive"], document["box"]) == ("nothing", False, None)
    assert document["finding"] == "spot"
    assert not mask(document).any()


@pytest.mark.parametrize(("height", "width"), [(300, 200), (40, 150), (1000, 1500), (64, 96)])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
def test_masks_match_the_finding_in_any_size_and_format(
    service: Segmentation, height: int, width: int, form: str
) -> None:
    expected = figure(height, width)
    marked = mask(answered(service, saved(painted(expected), form)).json)
    assert agreement(marked, expected) > 0.8
    for wrong in (
        expected[::-1],
        expected[:, ::-1],
        np.roll(expected, width // 8, 1),
        np.roll(expected, height // 8, 0),
    ):
        assert agreement(marked, wrong) < 0.75


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_the_mask_of_a_rotated_photograph_matches_the_upright_picture(service: Segmentation, orientation: int) -> None:
    expected = figure(400, 300)
    upright = Pillow.fromarray(painted(expected))
    # The operation on the upright picture that the tag reverses (CIPA DC-008, section 4.6.5.1.6).
    undone = {
        2: Pillow.Transpose.FLIP_LEFT_RIGHT,
        3: Pillow.Transpose.ROTATE_180,
        4: Pillow.Transpose.FLIP_TOP_BOTTOM,
        5: Pillow.Transpose.TRANSPOSE,
        6: Pillow.Transpose.ROTATE_90,
        7: Pillow.Transpose.TRANSVERSE,
        8: Pillow.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undone[orientation]) if orientation in undone else upright
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    data = saved(stored, "JPEG", quality=95, exif=exif)
    assert agreement(mask(answered(service, data).json), expected) > 0.85
    drawn = answered(service, data, accept="image/png;view=overlay").pixels
    assert drawn.shape == (400, 300, 3)
    assert (np.abs(drawn.astype(int) - painted(expected)[..., None]).max(axis=-1) < 60).mean() > 0.9


def test_a_dicom_slice_with_spacing_has_an_area_in_square_millimetres(service: Segmentation) -> None:
    expected = figure(128, 192)
    document = answered(service, dicom(painted(expected), Modality="MR", PixelSpacing=[0.5, 0.75])).json
    assert document["image"]["spacing"] == [0.5, 0.75]
    assert document["area"]["mm2"] == pytest.approx(mask(document).sum() * 0.375)
    assert agreement(mask(document), expected) > 0.9


def test_every_form_of_body_gets_the_same_mask(service: Segmentation) -> None:
    expected = figure(HEIGHT, WIDTH)
    pixels = painted(expected)
    png = saved(pixels, "PNG")
    for body in (png, {"image": b64(png)}, npy(pixels), npy(pixels / 255), dicom(pixels), saved(pixels, "TIFF")):
        np.testing.assert_array_equal(mask(answered(service, body).json), expected)


def test_published_slices_are_read(service: Segmentation, shared: Path) -> None:
    files = sorted((shared / "lgg_mri" / "original_tif").rglob("*.tif"))
    slices = [path for path in files if not path.stem.endswith("_mask")]
    assert slices
    for path in slices:
        document = answered(service, path.read_bytes()).json
        assert (document["image"]["format"], mask(document).shape) == ("tiff", (256, 256))


def test_the_mask_itself_comes_as_a_picture(service: Segmentation) -> None:
    expected = figure(200, 300)
    data = saved(painted(expected), "PNG")
    document = mask(answered(service, data).json)
    for accept in ("image/png", "image/*", "image/png;view=mask", "text/html, image/png;q=0.9, */*;q=0.1"):
        reply = answered(service, data, accept=accept)
        assert reply.media == "image/png"
        np.testing.assert_array_equal(reply.pixels, document * np.uint8(255))


def test_the_overlay_is_the_image_with_the_outline_of_the_mask(service: Segmentation) -> None:
    pixels = painted(figure(200, 300))
    data = saved(pixels, "PNG")
    marked = mask(answered(service, data).json)
    drawn = answered(service, data, accept="image/png;view=overlay").pixels
    assert drawn.shape == (200, 300, 3)
    outline = (drawn == OUTLINE).all(axis=-1)
    assert outline.any()
    assert not (outline & ~marked).any()
    np.testing.assert_array_equal(drawn[~outline], np.stack([pixels[~outline]] * 3, axis=-1))


def test_the_image_view_shows_the_image_without_its_mask(service: Segmentation) -> None:
    pixels = painted(figure(200, 300))
    reply = answered(service, npy(pixels), accept="image/png;view=image")
    np.testing.assert_array_equal(reply.pixels, pixels)


def test_an_unknown_view_is_406_and_lists_the_available_ones(service: Segmentation) -> None:
    (reply,) = ask(service, (saved(EMPTY, "PNG"), {"accept": "image/png;view=heat"}))
    assert (reply.status, reply.media) == (406, "application/problem+json")
    assert "view=overlay" in reply.json["detail"]


def test_an_error_is_problem_details_whatever_the_client_accepts(service: Segmentation) -> None:
    (reply,) = ask(service, (b"garbage", {"accept": "image/png"}))
    assert (reply.status, reply.media) == (415, "application/problem+json")


def test_several_images_have_no_picture(service: Segmentation) -> None:
    data = zipped({"1.png": saved(EMPTY, "PNG")})
    (rejected, accepted) = ask(service, (data, {"accept": "image/png"}), (data, {"accept": "image/png, */*;q=0.1"}))
    assert rejected.status == 406
    assert (accepted.status, accepted.media) == (200, "application/json")


def test_requests_of_a_batch_have_independent_masks_formats_and_errors(service: Segmentation) -> None:
    first, second = figure(64, 96), figure(300, 200)[::-1]
    one, two = saved(painted(first), "PNG"), saved(painted(second), "PNG")
    replies = ask(
        service,
        (one, {}),
        (b"\x89PNG\r\n\x1a\n cut", {}),
        (two, {}),
        (one, {"accept": "image/png"}),
        (zipped({"2.png": two, "1.png": one}), {}),
        (one, {"accept": "text/html"}),
        (one, {"explain": "True"}),
        (two, {"accept": "image/png;view=overlay"}),
    )
    assert [reply.status for reply in replies] == [200, 400, 200, 200, 200, 406, 404, 200]
    np.testing.assert_array_equal(mask(replies[0].json), first)
    assert agreement(mask(replies[2].json), second) > 0.8
    np.testing.assert_array_equal(replies[3].pixels > 0, first)
    together = replies[4].json["predictions"]
    assert [entry["name"] for entry in together] == ["1.png", "2.png"]
    np.testing.assert_array_equal(mask(together[0]), first)
    np.testing.assert_array_equal(mask(together[1]), mask(replies[2].json))
    assert "mask" in replies[6].json["detail"]
    assert replies[7].pixels.shape == (300, 200, 3)


def test_slices_of_a_zip_get_results_in_order_and_a_volume(service: Segmentation) -> None:
    expected = figure(HEIGHT, WIDTH)
    files = {
        f"slice_{number}.dcm": dicom(
            painted(expected) if number != 3 else EMPTY,
            SOPInstanceUID=f"1.2.3.{number}",
            Modality="MR",
            SeriesInstanceUID="1.2.3",
            PixelSpacing=[0.5, 2.0],
            ImagePositionPatient=[0, 0, 6.0 * number],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        )
        for number in range(11)
    }
    document = answered(service, zipped({"__MACOSX/._slice_0.dcm": b"x"} | files)).json
    assert [entry["name"] for entry in document["predictions"]] == list(files)
    assert [entry["positive"] for entry in document["predictions"]] == [number != 3 for number in range(11)]
    pixels = 10 * int(expected.sum())
    assert document["volume"] == {
        "slices": 11,
        "positive_slices": 10,
        "pixels": pixels,
        "ml": pytest.approx(pixels * 6 / 1000),
    }


class Darkness:
    """Detector to which slices without a bright area are unlike the training images."""

    outputs = ()

    def assess(self, outputs: Any, tensor: np.ndarray[Any, Any]) -> Assessment:
        is_dark = tensor.max() < SPLIT
        return Assessment("unlike", 9, 2, 100, "other_image") if is_dark else Assessment("normal", 0, 1.5, 1, None)


@pytest.mark.parametrize(("dark", "mode"), [(2, "strict"), (3, "strict"), (3, "warn")])
def test_few_unlike_slices_of_a_series_do_not_prevent_its_volume(archive: Path, dark: int, mode: Mode) -> None:
    handler = Segmentation()
    handler.load(archive, mode=mode)
    detector: Any = Darkness()
    handler.pipeline = replace(handler.pipeline, detector=detector)
    handler.policy = replace(handler.policy, compares=True)
    files = {
        f"{number}.dcm": dicom(
            EMPTY if number < dark else painted(figure(HEIGHT, WIDTH)),
            SOPInstanceUID=f"1.2.3.{number}",
            Modality="MR",
            SeriesInstanceUID="1.2.3",
            PixelSpacing=[1, 1],
            ImagePositionPatient=[0, 0, 6.0 * number],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        )
        for number in range(10)
    }
    document = answered(handler, zipped(files)).json
    first, last, volume = document["predictions"][0], document["predictions"][-1], document["volume"]
    assert (first["domain"]["status"], last["domain"]["status"]) == ("unlike", "normal")
    if (dark, mode) == (3, "strict"):
        assert first["status"] == 422
        assert "3 of 10 slices have no mask" in volume["reason"]
    else:
        assert "unlike the images" in first["warning"]
        assert (volume["unusual"], volume["unlike"]) == (0, dark)
        assert volume["ml"] > 0
    alone = ask(handler, (files["0.dcm"], {}))[0].status
    assert alone == (422 if mode == "strict" else 200)


def test_a_rejected_slice_has_a_problem_in_its_place_and_prevents_a_volume(service: Segmentation) -> None:
    good = saved(painted(figure(HEIGHT, WIDTH)), "PNG")
    document = answered(service, zipped({"1.png": good, "2.txt": b"notes", "3.png": good[:60]})).json
    assert [entry.get("status") for entry in document["predictions"]] == [None, 415, 400]
    assert [entry["name"] for entry in document["predictions"]] == ["1.png", "2.txt", "3.png"]
    assert "mask" not in document["predictions"][1]
    assert document["volume"]["positive_slices"] == 1
    assert "ml" not in document["volume"]
    assert "2 of 3 slices" in document["volume"]["reason"]


def test_instances_have_a_volume_and_no_names(service: Segmentation) -> None:
    data = b64(saved(painted(figure(HEIGHT, WIDTH)), "PNG"))
    document = answered(service, {"instances": [{"b64": data}, {"data": data}]}).json
    assert document["predictions"][1]["status"] == 400
    assert all("name" not in entry for entry in document["predictions"])
    assert document["volume"]["slices"] == 2


def test_there_are_no_explanations_of_one_image_or_of_several(service: Segmentation) -> None:
    one = saved(EMPTY, "PNG")
    for reply in ask(service, (one, {"explain": "True"}), (zipped({"1": one}), {"explain": "True"})):
        assert (reply.status, reply.media) == (404, "application/problem+json")


@pytest.mark.parametrize("fraction", [0.0, 0.0563, 0.0687, 0.9])
def test_a_worker_that_marks_another_fraction_of_its_sample_does_not_start(archive: Path, fraction: float) -> None:
    stored = archive / "sample.json"
    kept = stored.read_bytes()
    stored.write_text(json.dumps({"label": "spot", "fraction": fraction}))
    try:
        with pytest.raises(ProgramError, match=r"answers its sample with fraction 0\.0625"):
            Segmentation().initialize(context(archive, []))
    finally:
        stored.write_bytes(kept)


def test_what_a_build_stores_is_what_a_worker_compares_with(archive: Path) -> None:
    handler = Segmentation()
    handler.load(archive)
    assert handler.predict_sample(archive) == [json.loads((archive / "sample.json").read_bytes())]


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_mask_and_picture_are_those_of_the_repaired_image(service: Segmentation, quarters: int) -> None:
    pixels = painted(figure(HEIGHT, WIDTH))
    turned = saved(np.rot90(pixels, quarters), "PNG")
    header = {"X-Repair": f"rotate-{90 * quarters}"}
    view = {"Accept": "image/png;view=image"}
    upright, repaired, picture = ask(service, (saved(pixels, "PNG"), {}), (turned, header), (turned, header | view))
    assert repaired.json["repair"] == header["X-Repair"]
    assert "repair" not in upright.json
    assert repaired.json["image"]["sha256"] == hashlib.sha256(turned).hexdigest()
    same = ("mask", "area", "box", "label")
    assert [repaired.json[key] for key in same] == [upright.json[key] for key in same]
    np.testing.assert_array_equal(picture.pixels, pixels)


def test_a_repair_swaps_the_spacing_and_concerns_every_slice(service: Segmentation) -> None:
    slice_ = dicom(painted(figure(WIDTH, HEIGHT)), PixelSpacing=[2, 0.5])
    (reply,) = ask(service, (zipped({"1.dcm": slice_, "2.dcm": slice_}), {"X-Repair": "rotate-90"}))
    for entry in reply.json["predictions"]:
        assert entry["repair"] == "rotate-90"
        assert (entry["image"]["width"], entry["image"]["height"]) == (WIDTH, HEIGHT)
        assert entry["image"]["spacing"] == [0.5, 2]


def test_an_unknown_repair_is_a_bad_request(service: Segmentation) -> None:
    (reply,) = ask(service, (saved(painted(figure(HEIGHT, WIDTH)), "PNG"), {"X-Repair": "mirror"}))
    assert reply.status == 400
    assert "rotate-90, rotate-180, rotate-270, invert" in reply.json["detail"]


def test_a_picture_has_its_repair_in_a_header_field(service: Segmentation) -> None:
    around = context(Path(), [{"X-Repair": "invert", "Accept": "image/png"}, {"X-Repair": "invert"}])
    image = saved(painted(figure(HEIGHT, WIDTH)), "PNG")
    service.handle([{"body": image}, {"body": image}], around)
    assert around.get_response_headers(0).get("X-Repair") == "invert"
    assert "X-Repair" not in around.get_response_headers(1)
