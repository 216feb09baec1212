"""Series: the slices of one examination, ordered, in one viewer."""

import base64
import csv
import hashlib
import json
import re
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, Route, expect
from pydicom import dcmread, uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from handlers import volume
from handlers.formats.image import Plane
from handlers.volume import Slice
from tests.gateway.fake_backend import prediction
from tests.gateway.page.conftest import Opener
from tests.gateway.page.files import choose, payload
from tests.gateway.page.scripted import script
from tests.gateway.page.slices import answer, measured, slice_dicom, slice_pixels, stack
from tests.gateway.page.test_accessibility import PHONE, faults
from tests.gateways import Gateway
from tests.handlers.images import dicom, film, saved

pytestmark = pytest.mark.e2e

HEADERS = """async files => {
    const { readHeader } = await import("/js/dicom_header.js");
    return files.map((text) => readHeader(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer));
}"""
SPLIT = """async items => {
    const { splitSeries } = await import("/js/series.js");
    const { series, numbered, rest } = splitSeries(items);
    const paths = (group) => group.map(({ path }) => path);
    const summary = (stack) => ({ ...stack, items: paths(stack.items) });
    return { series: series.map(summary), numbered: numbered.map(summary), rest: paths(rest) };
}"""
VOLUMES = """async groups => {
    const { stack } = await import("/js/series.js");
    const { volumeOf } = await import("/js/series_summary.js");
    return groups.map(({ items, areas }) => {
        const ordered = stack(items, "dicom");
        const outcomes = ordered.items.map(({ path }) => ({ prediction: { area: { mm2: areas[path] } } }));
        return volumeOf(ordered, outcomes, null);
    });
}"""
SHARES = """async ([sizes, limits]) => (await import("/js/series_request.js")).shares(sizes, limits)"""


@pytest.fixture
def modules(opened: Opener, static_gateway: Gateway) -> Page:
    """Open the page without a server, to evaluate its modules."""
    return opened(static_gateway.url, ready=False)


def with_sequence(content: bytes, *, undefined: bool) -> bytes:
    """Return a DICOM file with nested sequences before the elements that order slices."""
    dataset = dcmread(BytesIO(content))
    inner, outer = Dataset(), Dataset()
    inner.CodeValue = "1"
    inner.InstanceNumber = 99  # of another object
    outer.PurposeOfReferenceCodeSequence = Sequence([inner])
    dataset.ReferencedImageSequence = Sequence([outer, outer])
    for item, name in ((dataset, "ReferencedImageSequence"), (outer, "PurposeOfReferenceCodeSequence")):
        item[name].is_undefined_length = undefined
    stream = BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


def test_headers_are_read_in_every_syntax(modules: Page) -> None:
    readable = [
        slice_dicom(12.5, 3, syntax)
        for syntax in (
            uid.ExplicitVRLittleEndian,
            uid.ImplicitVRLittleEndian,
            uid.JPEG2000Lossless,
        )
    ]
    readable += [with_sequence(slice_dicom(12.5, 3), undefined=undefined) for undefined in (True, False)]
    readable += [with_sequence(slice_dicom(12.5, 3, uid.ImplicitVRLittleEndian), undefined=True)]
    unread = (uid.DeflatedExplicitVRLittleEndian, uid.ExplicitVRBigEndian)
    others = [*(slice_dicom(12.5, 3, syntax) for syntax in unread), saved(film(), "PNG"), b""]
    plain = dicom(film(), SliceThickness="", InstanceNumber=None, ImagePositionPatient=[1, 2, 3])
    cut = slice_dicom(12.5, 3)[:600]
    headers = modules.evaluate(
        HEADERS, [base64.b64encode(item).decode() for item in (*readable, *others, plain, cut, *fuzz())]
    )
    expected = {
        "patient": "SECRET-4711",
        "study": None,
        "frame": None,
        "series": "1.2.826.0.1.3680043.8.498.7",
        "modality": "MR",
        "instance": 3,
        "position": [-32, -32, 12.5],
        "orientation": [1, 0, 0, 0, 1, 0],
        "thickness": 4,
        "between": None,
        "rows": 64,
        "columns": 64,
    }
    assert headers[: len(readable)] == [expected] * len(readable)
    headers = headers[len(readable) :]
    assert headers[: len(others)] == [None] * len(others)
    headers = headers[len(others) :]
    assert headers[0] == dict.fromkeys(expected) | {
        "patient": "SECRET-4711",
        "modality": "DX",
        "position": [1, 2, 3],
        "rows": 40,
        "columns": 48,
    }
    assert headers[1]["series"] in (None, expected["series"])  # and none of the damaged files raises an error


def fuzz() -> list[bytes]:
    """Return damaged copies of a slice."""
    content = with_sequence(slice_dicom(12.5, 3), undefined=True)[:1200]
    random = np.random.default_rng(1)
    copies = []
    for _ in range(200):
        damaged = np.frombuffer(content, np.uint8).copy()
        damaged[random.integers(132, len(content), 20)] = random.integers(0, 256, 20)
        copies.append(damaged.tobytes())
    nested = (
        content[:132]
        + b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\x00"
        + b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" * 10_000
    )
    return [*copies, nested]


def item(path: str, **header: Any) -> dict[str, Any]:
    """Return a file as `series_start.js` describes it."""
    known = {"series": "1", "modality": "MR", "instance": 1, "position": None, "orientation": None}
    return {"path": path, "header": known | {"thickness": None, "between": None} | header, "isImage": False}


def at(path: str, z: float, **header: Any) -> dict[str, Any]:
    return item(path, position=[0, 0, z], orientation=[1, 0, 0, 0, 1, 0], **header)


def image(path: str) -> dict[str, Any]:
    return {"path": path, "header": None, "isImage": True}


def test_slices_of_one_series_are_ordered_by_position_else_by_number(modules: Page) -> None:
    placed = [at("c", 10, instance=1), at("a", 0, instance=3), at("b", 5, instance=2), at("e", 25, instance=4)]
    numbered = [
        item("y", series="2", instance=10),
        item("x", series="2", instance=9),
        item("z", series="2", instance=12),
    ]
    twice = [at("o", 0, series="3"), at("p", 0, series="3"), at("q", 0, series="3")]
    named = [item("s10", series="4", instance=None, between=3), item("s9", series="4", instance=None, between=3)]
    turned = [at("t1", 0, series="5"), item("t2", series="5", position=[0, 0, 9], orientation=[0, 1, 0, 0, 0, 1])]
    films = [item(name, series="6", modality="DX") for name in "uv"]
    alone = [at("w", 0, series="7"), at("x0", 5, series="7", patient="other"), at("x1", 5, series="7", study="other")]
    split = modules.evaluate(SPLIT, [*placed, *numbered, *twice, *named, *turned, *films, *alone])
    first, second, third, fourth, fifth = split["series"]
    assert first["items"] == ["a", "b", "c", "e"]
    assert (first["order"], first["distance"], first["places"]) == ("position", 5, [0, 5, 10, 25])
    assert first["extent"] == [5, 5, 10, 15]
    assert first["gaps"] == [{"after": 2, "missing": 2}]
    assert not first["isIrregular"]
    assert (second["order"], second["items"]) == ("instance", ["x", "y", "z"])
    assert (second["gaps"], second["places"], second["distance"]) == ([{"after": 1, "missing": 1}], None, None)
    assert (third["duplicates"], third["gaps"]) == ([1, 2], [])
    assert (fourth["order"], fourth["items"], fourth["extent"], fourth["duplicates"]) == (
        "none",
        ["s9", "s10"],
        [3, 3],
        [],
    )
    assert (fifth["isParallel"], fifth["order"]) == (False, "instance")
    assert split["rest"] == ["u", "v", "w", "x0", "x1"]


def test_slices_of_one_uid_are_mixed_only_if_they_may_be_of_one_stack(modules: Page) -> None:
    """Some anonymisers give all series one UID."""
    for name in ("study", "patient", "frame", "rows", "columns"):
        mixed = [at(f"{kind}{z}", z, **{name: kind}) for z in (0, 5, 10) for kind in "AB"]
        groups = [group["items"] for group in modules.evaluate(SPLIT, mixed)["series"]]
        assert groups == [["A0", "A5", "A10"], ["B0", "B5", "B10"]], name
    mixed = [at(f"{folder}/{z}", z) for z in (0, 5, 10) for folder in "AB"]
    halves = [at(f"{'C' if z < 10 else 'D'}/{z}", z, series="2") for z in (0, 5, 10, 15)]
    first, second, joined = modules.evaluate(SPLIT, [*mixed, *halves])["series"]
    assert (first["items"], second["items"]) == (["A/0", "A/5", "A/10"], ["B/0", "B/5", "B/10"])
    assert joined["items"] == ["C/0", "C/5", "D/10", "D/15"]
    said = modules.evaluate(SAID, [[halves, [marked(1)] * 4, None]])[0]
    assert said["warnings"] == ["The slices come from 2 folders."]


FAULTY = """async () => {
    const { takeSeries } = await import("/js/series_start.js");
    const faulty = { name: "faulty.png", slice: () => { throw new Error("fault"); } };
    const rest = await takeSeries([new File([], "1.png"), faulty], { name: "chest", version: null }, {});
    return rest.map(({ name }) => name);
}"""


def test_files_that_cannot_be_grouped_are_analysed_singly(modules: Page) -> None:
    assert modules.evaluate(FAULTY) == ["1.png", "faulty.png"]


def test_numbered_images_of_one_folder_may_be_a_series(modules: Page) -> None:
    head = [image(f"head/TCGA_1_{number}.png") for number in (10, 2, 1)]
    masks = [image(f"head/TCGA_1_{number}_mask.png") for number in (1, 2, 4)]
    few = [image("few/a_1.png"), image("few/a_2.png")]
    mixed = [image("a_1.png"), image("a_2.tif"), image("b_3.png"), image("c/4.png"), image("film.png")]
    same = [image("d/01.png"), image("d/1.png"), image("d/2.png")]
    split = modules.evaluate(SPLIT, [*head, *masks, *few, *mixed, *same])
    assert split["series"] == []
    assert [group["items"] for group in split["numbered"]] == [
        ["head/TCGA_1_1.png", "head/TCGA_1_2.png", "head/TCGA_1_10.png"],
        [entry["path"] for entry in masks],
    ]
    assert split["numbered"][0]["gaps"] == [{"after": 1, "missing": 7}]
    assert split["numbered"][0]["distance"] is None
    assert split["rest"] == [entry["path"] for entry in (*few, *mixed, *same)]


def test_volume_of_page_is_that_of_server(modules: Page) -> None:
    """`series.js` and `handlers.volume` know the same volumes, and where there is none."""
    random = np.random.default_rng(7)
    tilt = [1.0, 0.0, 0.0, 0.0, 0.8, 0.6]
    groups, expected = [], []
    for number in range(60):
        count = int(random.integers(2, 12))
        normal = (0.0, 0.0, 1.0) if number % 2 else (0.0, -0.6, 0.8)
        heights = np.cumsum(random.choice([0.0, 0.005, 1.5, 3, 3, 3, 3, 9], count, p=[0.03, 0.02, *[0.95 / 6] * 6]))
        heights[-1] += [0, 0, 0, 20, 90][number % 5]
        thickness, between = [None if random.random() < 0.5 else length for length in (2.5, 3.0)]
        is_placed, is_turned = number % 5 != 4, number % 7 == 6
        items, slices, areas = [], [], {}
        for place in random.permutation(count):
            orientation = [1, 0, 0, 0, 1, 0] if number % 2 else tilt
            direction = normal
            if is_turned and place == 0:
                orientation, direction = [0, 1, 0, 0, 0, 1], (1.0, 0.0, 0.0)
            position = [float(heights[place]) * axis + 7 for axis in normal] if is_placed else None
            if number % 10 == 3 and place == 1:
                position = None
            if number % 10 == 9 and place == 1:
                between = [3.0, 3.2, 8.0, None][number // 10 % 4]
            pixels = int(random.integers(0, 500))
            path = f"{place}"
            areas[path] = pixels * 0.5
            geometry = {"thickness": thickness, "between": between}
            items.append(item(path, instance=int(place), position=position, orientation=orientation, **geometry))
            known = None if position is None else (position[0], position[1], position[2])
            plane = Plane("1", known, direction, between=between, thickness=thickness)
            slices.append(Slice(pixels, path, (1.0, 0.5), plane))
        groups.append({"items": items, "areas": areas})
        expected.append(volume.measure(slices))
    for mine, theirs in zip(modules.evaluate(VOLUMES, groups), expected, strict=True):
        assert ("ml" in mine) == ("ml" in theirs), (mine, theirs)
        assert mine.get("ml", 0) == pytest.approx(theirs.get("ml", 0), rel=1e-9)
    assert {"ml" in document for document in expected} == {True, False}


def test_requests_hold_slices_of_the_whole_stack(modules: Page) -> None:
    limits = {"images": 4, "bytes": 100}
    assert modules.evaluate(SHARES, [[10] * 4, limits]) == [[0, 1, 2, 3]]
    assert modules.evaluate(SHARES, [[10] * 5, limits]) == [[0, 2, 4], [1, 3]]
    assert modules.evaluate(SHARES, [[60] * 3, limits]) == [[0, 2], [1]]


def open_series(opened: Opener, gateway: Gateway, requests: list[int], model: str = "slices", **options: Any) -> Page:
    respond = answer(requests, model)
    return opened(gateway.url, model=model, prepare=lambda page: script(page, answer=respond), **options)


def series_card(page: Page) -> Locator:
    card = page.locator(".result.series")
    expect(card).to_have_count(1)
    return card


def test_slices_become_one_viewer_with_strip_and_volume(
    opened: Opener, static_gateway: Gateway, tmp_path: Path
) -> None:
    requests: list[int] = []
    page = open_series(opened, static_gateway, requests)
    files = stack([0, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80])
    choose(page, *(payload(f"{10 - index}.dcm", content) for index, content in enumerate(files)))
    card = series_card(page)
    assert requests == [11]
    expect(card.locator(".label")).to_have_text("Tumour marked on 5 of 11 slices")
    expected = volume.measure([measured(content)[1] for content in files])["ml"]
    expect(card.locator(".volume")).to_have_text(
        f"Marked volume (not validated): {expected:.2f} ml, from the areas and a slice distance of 8 mm."
    )
    expect(card.locator(".place")).to_have_text("6 of 11")  # the largest mask
    expect(card.get_by_text("5.dcm", exact=True)).to_be_visible()
    expect(card.locator("canvas.overlay")).to_be_visible()
    stage = card.locator(".stage")
    stage.hover()
    page.mouse.wheel(0, 100)
    expect(card.locator(".place")).to_have_text("8 of 11")
    stage.press("ArrowUp")
    stage.press("ArrowUp")
    expect(card.locator(".place")).to_have_text("6 of 11")
    stage.press("End")
    expect(card.locator(".slice-text")).to_have_text("No tumour marked")
    slider = card.get_by_role("slider", name="Slice")
    expect(slider).to_have_attribute("aria-valuetext", "Slice 11 of 11: No tumour marked")
    slider.press("ArrowLeft")
    expect(card.locator(".place")).to_have_text("10 of 11")
    box = card.locator(".strip").bounding_box()
    assert box
    page.mouse.click(box["x"] + box["width"] * 4.5 / 11, box["y"] + 10)
    expect(card.locator(".place")).to_have_text("5 of 11")
    expect(card.locator("img.picture")).to_have_attribute("alt", "Slice 5 of 11")
    stage.hover()
    card.get_by_label("Window", exact=True).select_option(label="More contrast")
    expect(card.locator("canvas.adjusted")).to_be_visible()
    expect(card.get_by_label("Width", exact=True)).not_to_have_value("")
    assert (
        page.evaluate(  # the window of the slice before is not drawn over the next one
            """() => {
            document.querySelector('[aria-label="Next slice"]').click();
            return document.querySelector(".adjusted").hidden && document.querySelector(".picture").alt;
        }"""
        )
        == "Slice 6 of 11"
    )
    expect(card.locator("canvas.adjusted")).to_be_visible()
    saved_files = {}
    for name in ("Slices (CSV)", "Examination (JSON)"):
        with page.expect_download() as download:
            card.get_by_role("button", name=name).click()
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        saved_files[path.suffix] = path.read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(saved_files[".csv"].splitlines()))
    assert [row["file"] for row in rows] == [f"{10 - index}.dcm" for index in range(11)]
    assert [float(row["position_mm"]) for row in rows] == [8.0 * index for index in range(11)]
    whole = json.loads(saved_files[".json"])
    assert whole["volume"] == {"ml": pytest.approx(expected)}
    assert (whole["slices"], whole["order"], whole["distance_mm"]) == (11, "position", 8)
    assert sum(float(row["area_mm2"]) for row in rows) * 8 / 1000 == pytest.approx(expected)
    assert [entry["area"]["mm2"] for entry in whole["predictions"]] == [float(row["area_mm2"]) for row in rows]


def swipe(page: Page, stage: Locator, left: int) -> None:
    """Move a finger to the left."""
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    assert box
    touch = page.context.new_cdp_session(page)
    for step in range(11):
        point = {"x": box["x"] + 320 - step * left / 10, "y": box["y"] + 100}
        kind = "touchMove" if step else "touchStart"
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_rejected_and_missing_slices_keep_their_place_on_a_phone(opened: Opener, static_gateway: Gateway) -> None:
    page = open_series(opened, static_gateway, [], color_scheme="dark", bypass_csp=True, **PHONE)
    files = stack([0, 8, 16, 24, 40, 48])
    files[1] = slice_dicom(8, 99, NumberOfFrames=2)  # rejected
    other = slice_dicom(8, 1, SeriesInstanceUID="1.2.3.4.5.6")
    choose(page, *(payload(f"{index}.dcm", content) for index, content in enumerate([*files, other])))
    expect(page.locator(".result")).to_have_count(2)  # the slice of the other series is alone
    card = series_card(page)
    expect(card.locator(".series-warnings li")).to_have_text(
        [
            "1 slice of 6 could not be analysed and keeps its place without a result.",
            "1 slice seems to be missing: between slices 4 and 5.",
        ]
    )
    expect(card.locator(".volume")).to_have_text(
        "No volume: 1 slice of 6 is missing, because it could not be analysed."
    )
    expect(card.locator("img.picture")).to_be_visible()
    expect(card.locator(".place")).to_have_text("5 of 6")
    swipe(page, card.locator(".stage"), 190)
    expect(card.locator(".place")).to_have_text("2 of 6")
    expect(card.locator(".slice-text")).to_have_text("Could not be analysed")
    expect(card.get_by_text("This model cannot analyse this image.")).to_be_visible()
    expect(card.locator(".sheet")).to_be_hidden()  # not the picture of another slice
    expect(card.get_by_text("No picture: this slice could not be analysed.")).to_be_visible()
    assert faults(page) == []


def test_classifier_counts_slices_of_a_zip_and_claims_nothing_else(opened: Opener, static_gateway: Gateway) -> None:
    page = open_series(opened, static_gateway, [], model="chest")
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for index, content in enumerate(stack([24, 32, 40, 48, 72])):
            archive.writestr(f"head/{index}", content)
    choose(page, payload("study.zip", stream.getvalue()))
    card = series_card(page)
    expect(card.get_by_role("heading", name="study.zip/head", exact=True)).to_be_visible()
    expect(card.locator(".label")).to_have_text(re.compile(r"^\d of 5 slices above the 50% cut-off$"))
    expect(card.get_by_text("nothing follows from the count for the examination as a whole")).to_be_visible()
    expect(card.locator(".volume")).to_have_count(0)
    expect(card.locator(".place")).to_have_text("3 of 5")
    expect(card.locator(".strip .cut")).to_have_count(1)


def test_numbered_images_are_offered_as_series_without_volume(opened: Opener, static_gateway: Gateway) -> None:
    requests: list[int] = []
    page = open_series(opened, static_gateway, requests)
    files = [saved((slice_pixels(8.0 * index) / 3000 * 255).astype(np.uint8), "PNG") for index in range(11)]
    choose(page, *(payload(f"head_{index}.png", content) for index, content in enumerate(files)))
    page.get_by_role("button", name="One examination").click()
    card = series_card(page)
    assert requests == [11]
    expect(card.locator(".volume")).to_have_text("No volume in ml: these files state no slice distance.")
    expect(
        card.get_by_text("The slices are ordered by the numbers in their names: the files state no common position.")
    ).to_be_visible()
    expect(card.locator("img.picture")).to_be_visible()


ANALYSE = """async ([count, limits]) => {
    const { analyseSlices } = await import("/js/series_request.js");
    const files = Array.from({ length: count }, (_, index) => new File([`image ${index}`], `${index}.png`));
    const model = { name: "chest", version: null, assurances: "", prevalence: "", repair: "" };
    const shares = [];
    const job = { signal: new AbortController().signal, progress: (share) => shares.push(share) };
    const { outcomes, volume } = await analyseSlices(files, model, job, limits);
    const digests = outcomes.map(({ prediction, problem }) => prediction?.image.sha256 ?? problem.status);
    return { digests, volume, shares };
}"""


def test_long_series_takes_several_requests_and_late_slices_another(opened: Opener, static_gateway: Gateway) -> None:
    """A server that accepts 4 images of a request, and has time for 3 of them."""
    requests: list[list[str]] = []

    def respond(route: Route) -> None:
        instances = json.loads(route.request.post_data_buffer or b"")["instances"]
        images = [base64.b64decode(entry["b64"].partition(",")[2]) for entry in instances]
        requests.append([image.decode() for image in images])
        if len(images) > 4:
            route.fulfill(status=413, json={"status": 413, "title": "Too large"})
            return
        late = {"status": 503, "title": "Out of time", "detail": "Send fewer images."}
        bad = {"status": 422, "title": "Unusable image", "detail": "No contrast."}
        results = [bad if image == b"image 6" else prediction(image) for image in images[:3]]
        route.fulfill(json={"predictions": results + [late] * len(images[3:]), "volume": {"ml": 1}})

    page = opened(static_gateway.url, ready=False, prepare=lambda page: script(page, answer=respond))
    analysed = page.evaluate(ANALYSE, [10, {"images": 5, "bytes": 1e6}])
    expected: list[str | int] = [hashlib.sha256(f"image {index}".encode()).hexdigest() for index in range(10)]
    expected[6] = 422
    assert analysed["digests"] == expected
    assert analysed["volume"] is None  # of no request with all slices
    assert max(map(len, requests)) == 5
    assert requests[0] == [f"image {index}" for index in (0, 2, 4, 6, 8)]
    assert all(0 <= share <= 1 for share in analysed["shares"])


def test_picture_of_another_slice_is_never_shown(opened: Opener, static_gateway: Gateway) -> None:
    """A server that is slow to draw slices shows none meanwhile; one that is rejected alone is drawn by the page."""
    respond, held = answer([]), []

    def slow(route: Route) -> None:
        if "image/png" in route.request.headers["accept"]:
            held.append(route)
        else:
            respond(route)

    page = opened(static_gateway.url, model="slices", prepare=lambda page: script(page, answer=slow))
    choose(page, *(payload(f"{index}.dcm", content) for index, content in enumerate(stack([0, 20, 40, 60]))))
    card = series_card(page)
    expect(card.get_by_text("Loading the picture")).to_be_visible()
    expect(card.locator(".sheet")).to_be_hidden()
    page.wait_for_function("document.querySelector('.series')")
    while held:
        held.pop(0).fulfill(status=503, json={"status": 503, "title": "Busy"}, content_type="application/problem+json")
    page.wait_for_timeout(500)
    expect(card.get_by_text("Loading the picture")).to_be_visible()  # it is requested again
    unlike = {"status": 422, "title": "Unlike the training images", "detail": "Not compared."}
    picture = card.get_by_role("img", name="Slice 3 of 4")
    for _ in range(100):
        while held:
            held.pop(0).fulfill(status=422, json=unlike, content_type="application/problem+json")
        if picture.is_visible():
            break
        page.wait_for_timeout(100)
    expect(picture).to_be_visible()
    expect(card.get_by_text("Drawn by this page: the server shows no picture of this slice alone.")).to_be_visible()
    card.get_by_role("button", name="Next slice").click()
    expect(card.locator(".place")).to_have_text("4 of 4")
    expect(card.get_by_role("img", name="Slice 3 of 4")).to_have_count(0)


SAID = """async groups => {
    const { stack } = await import("/js/series.js");
    const { firstShown, headline, limits, sliceState, volumeText, warnings } = await import("/js/series_summary.js");
    return groups.map(([items, outcomes, version]) => {
        const ordered = stack(items, "dicom");
        const states = outcomes.map((outcome) => sliceState(outcome, version));
        const isMask = outcomes.some(({ prediction }) => prediction?.area);
        return {
            headline: headline(outcomes, version).text, kind: headline(outcomes, version).kind,
            limits: limits(outcomes, isMask), first: firstShown(states),
            warnings: warnings(ordered, outcomes), volume: isMask ? volumeText(ordered, outcomes, null) : null,
        };
    });
}"""


def marked(pixels: int, width: int = 64, **changes: Any) -> dict[str, Any]:
    """Return the outcome of a slice of 1 x 1 mm pixels."""
    area = {"pixels": pixels, "mm2": pixels}
    document = {
        "area": area,
        "mask": {},
        "positive": pixels > 0,
        "label": "tumour",
        "image": {"width": width, "height": 64},
    }
    return {"prediction": document | changes}


def rated(probability: float, **changes: Any) -> dict[str, Any]:
    positive = probability >= 0.5
    document = {"label": "ill" if positive else "well", "positive": positive, "threshold": 0.5}
    probabilities = {"well": 1 - probability, "ill": probability}
    return {"prediction": document | {"probabilities": probabilities, "image": {"width": 64, "height": 64}} | changes}


def test_summary_names_what_limits_it(modules: Page) -> None:
    doubtful: dict[str, Any] = {"domain": {"mode": "warn", "status": "unlike", "percentile": 99.9}}
    uncertain: dict[str, Any] = {"certainty": {"status": "uncertain", "prediction_set": [], "level": 0.9}}
    version = {"positive": "tumour", "display": {"finding": "tumour"}}
    even = [at(str(z), z) for z in (0, 4, 12, 16)]
    uneven = [at(str(z), z) for z in (0, 4, 8, 13.4, 17.4)]
    twice = [at("a", 0), at("b", 4), at("c", 4)]
    turned = [item("a", position=[0, 0, 9], orientation=[0, 1, 0, 0, 0, 1], instance=2), at("b", 0)]
    bridged, varied, equal, skewed, rating, nothing, partial, unlike, some, empty, odd = modules.evaluate(
        SAID,
        [
            [even, [marked(0), marked(1000), marked(500), marked(0, **doubtful)], version],
            [uneven, [marked(1000, 32 + index // 4) for index in range(5)], version],
            [twice, [marked(1)] * 3, version],
            [turned, [marked(1), marked(2)], version],
            [even, [rated(0.2), rated(0.9, **doubtful), rated(0.7, **uncertain), rated(0.6)], None],
            [even, [{"problem": {"message": "Damaged"}}, marked(0), marked(0), marked(0)], version],
            [even, [{"problem": {"message": "Damaged"}}, rated(0.2), rated(0.3), rated(0.9)], None],
            [even, [marked(0), *[marked(500, **doubtful)] * 3], version],
            [even, [marked(0), marked(1000), marked(500), marked(500, **doubtful)], version],
            [even, [marked(0, **doubtful), *[marked(0)] * 3], version],
            [even, [rated(0.9, **doubtful)] * 4, None],
        ],
    )
    assert bridged == {
        "headline": "Tumour marked on 2 of 4 slices",
        "kind": "positive",
        "first": 1,
        "volume": "Marked volume (not validated): 9.00 ml, from the areas and a slice distance of 4 mm. "
        "1 slice of the stack is missing; the volume bridges the gap.",
        "warnings": ["1 slice seems to be missing: between slices 2 and 3."],
        "limits": [
            (
                "1 slice is unlike the training images; the model may be wrong there. "
                "Not counted as marked; compare it first."
            ),
            "The volume was not validated: it adds up the marks of single slices.",
        ],
    }
    assert varied["volume"].endswith(": 21.4 ml, from the areas and the slice distances, which vary.")
    assert varied["warnings"] == [
        "The slices have different sizes: 32 × 64, 33 × 64 pixels.",  # noqa: RUF001
        "The distances between the slices vary.",
    ]
    assert equal["volume"] == "No volume: several slices have the same position."
    assert equal["warnings"] == ["1 slice has the same position as another one."]
    assert skewed["volume"] == "No volume: the slices are not parallel."
    assert skewed["warnings"] == [
        "The slices are not parallel.",
        "The slices are ordered by instance number: the files state no common position.",
    ]
    assert rating["headline"] == "1 of 4 slices above the 50% cut-off"
    assert rating["first"] == 3
    assert rating["limits"] == [
        "1 slice is unlike the training images; the model may be wrong there. Not counted as above the cut-off.",
        "1 slice is too close to the cut-off to call, and not counted.",
        "Only single slices were validated: nothing follows from the count for the examination as a whole.",
    ]
    assert partial["headline"] == "1 of 3 analysed slices above the 50% cut-off"
    assert nothing["headline"] == "No tumour marked on the 3 analysed of 4 slices"
    assert nothing["volume"] == "No volume: 1 slice of 4 is missing, because it could not be analysed."
    assert (unlike["kind"], unlike["headline"]) == (
        "doubtful",
        "No finding: the 3 marked slices are unlike the training images",
    )
    assert unlike["volume"] == "No volume: the marked slices are unlike the training images."
    assert (some["kind"], some["headline"]) == (
        "positive",
        "Tumour marked on 2 of 4 slices, and on 1 unlike the training images",
    )
    assert "11.0 ml, from the areas and a slice distance of 4 mm. It includes 1 slice unlike" in some["volume"]
    assert empty["headline"] == "No tumour marked on any of 4 slices, 1 of them unlike the training images"
    assert (odd["kind"], odd["headline"]) == ("doubtful", "No finding: all slices are unlike the training images")


TABLE = """async ([items, outcomes]) => {
    const { stack } = await import("/js/series.js");
    const { sliceState } = await import("/js/series_summary.js");
    const { table } = await import("/js/series_downloads.js");
    const states = outcomes.map((outcome) => sliceState(outcome, null));
    return [table(stack(items, "dicom"), outcomes, states), states.map(({ text }) => text)];
}"""


def test_table_and_texts_of_doubtful_and_uncertain_slices_claim_nothing(modules: Page) -> None:
    doubtful: dict[str, Any] = {"domain": {"mode": "warn", "status": "unlike", "percentile": 99.9}}
    uncertain: dict[str, Any] = {"certainty": {"status": "uncertain", "prediction_set": [], "level": 0.9}}
    outcomes = [marked(70), marked(80, **doubtful), rated(0.9, **doubtful), rated(0.7, **uncertain), rated(0.2)]
    outcomes[-1]["prediction"]["probability"] = 0.8  # of its label
    text, texts = modules.evaluate(TABLE, [[at(str(z), z) for z in range(5)], outcomes])
    rows = list(csv.DictReader(text.splitlines()))
    assert [(row["label"], row["probability"], row["area_pixels"], row["area_mm2"]) for row in rows] == [
        ("tumour", "", "70", "70"),
        ("", "", "", ""),
        ("", "", "", ""),
        ("", "", "", ""),
        ("well", "0.8", "", ""),
    ]
    assert texts[1:4] == ["No finding: unlike the training images"] * 2 + ["Uncertain: too close to call"]
