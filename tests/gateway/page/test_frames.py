"""A DICOM file with several frames in the page."""

import hashlib
import re
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, Route, expect
from pydicom import uid
from pydicom.encaps import encapsulate

from handlers import volume
from tests.gateway.page.conftest import Opener
from tests.gateway.page.files import choose, payload
from tests.gateway.page.modules import call
from tests.gateway.page.predictions import document
from tests.gateway.page.scripted import script
from tests.gateway.page.slices import measured, segmentation, slice_dicom, slice_pixels
from tests.gateway.page.test_accessibility import faults
from tests.gateways import Gateway
from tests.handlers.images import dicom

pytestmark = pytest.mark.e2e

STORED = """async ([prediction, bytes]) => {
    const { StoredResult } = await import("/js/stored_result.js");
    const file = new File([new Uint8Array(bytes)], "enhanced.dcm");
    const card = new StoredResult({ prediction, version: null, file, heatMap: null });
    document.querySelector("main").append(card.element);
    card.element.id = "one-frame";
    await card.filled;
}"""
PLACES = (0, 28, 40, 52, 80)
PIXELS = "canvas => [...canvas.getContext('2d').getImageData(0, 0, 64, 64).data]"


def test_a_file_with_several_frames_is_sent_once_and_shown_as_one_series(
    opened: Opener, static_gateway: Gateway
) -> None:
    slices = [slice_dicom(place, number) for number, place in enumerate(PLACES)]
    frames = b"".join(slice_pixels(place).tobytes() for place in PLACES)
    # Its window is beside the frames, where the page does not look for one.
    content = slice_dicom(0, 1, NumberOfFrames=len(PLACES), PixelData=frames, WindowCenter=None, WindowWidth=None)
    entries: list[dict[str, Any]] = []
    measured_volume = volume.measure([measured(alone)[1] for alone in slices])
    sent: list[str] = []

    def respond(route: Route) -> None:
        sent.append(route.request.headers["accept"])
        route.fulfill(json={"predictions": entries, "volume": measured_volume, "history": "stored"})

    page = opened(static_gateway.url, model="slices", prepare=lambda page: script(page, answer=respond))
    card = page.locator(".result.series").first  # the newest

    def send(content: bytes) -> None:
        entries[:] = [segmentation(alone, "slices") for alone in slices]
        for number, entry in enumerate(entries, 1):
            entry["image"] |= {"frame": number, "sha256": hashlib.sha256(content).hexdigest()}
        choose(page, payload(f"{len(sent)}.dcm", content))
        expect(page.locator(".result.series")).to_have_count(len(sent) + 1)

    send(content)
    expect(card.locator(".label")).to_have_text("Tumour marked on 3 of 5 slices")
    expect(card.locator(".volume")).to_have_text(
        f"Marked volume (not validated): {measured_volume['ml']:.1f} ml, from the areas and the positions of the "
        "frames. Do not measure with it."
    )
    expect(card.locator(".place")).to_have_text("3 of 5")  # the largest mask
    expect(card.locator("canvas.overlay")).to_be_visible()
    expect(card.locator(".picture-caption")).to_have_text("Shown with a window chosen by this page, not the file's.")
    expect(card.locator(".no-picture")).to_be_hidden()  # nothing covers the picture
    expect(card.get_by_label("Window", exact=True)).to_contain_text("Window of this page")
    shown = card.locator("canvas.picture")
    assert_gray_values_are_drawn(card)
    assert len(sent) == 1  # no picture of a frame is requested
    expect(card.get_by_role("button", name="DICOM (SR, SEG)", exact=True)).to_be_visible()
    assert faults(page) == []

    single_frame = document(0.9) | {"image": entries[3]["image"], "profile": None, "repair": None}
    page.evaluate(STORED, [single_frame, list(content)])
    stored = page.locator("#one-frame")
    expect(stored.locator("canvas.picture")).to_be_visible()
    expect(stored.get_by_role("button", name=re.compile("heat map|DICOM"))).to_have_count(0)
    assert len(sent) == 1

    assert_files_are_sent_once(page)
    colours = np.random.default_rng(1).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    for planar, samples in enumerate((colours, np.moveaxis(colours, -1, 1))):
        send(dicom(colours[0], NumberOfFrames=5, PixelData=samples.tobytes(), PlanarConfiguration=planar))
        np.testing.assert_array_equal(np.reshape(shown.evaluate(PIXELS), (64, 64, 4))[..., :3], colours[2])
    coded = encapsulate([bytes(8)] * 5)  # which the page does not read
    content = dicom(colours[0], uid.JPEG2000Lossless, NumberOfFrames=5, PixelData=coded)
    send(content)
    expect(card.get_by_text("This page cannot draw these frames; open the file in your viewer.")).to_be_visible()
    expect(card.locator(".contour")).to_be_visible()
    expect(card.locator(".tools, .windowing, .picture-caption").filter(visible=True)).to_have_count(0)

    entries[1]["image"]["frame"] = 3
    choose(page, payload("again.dcm", content))
    expect(page.locator("#rejection-list .rejection")).to_contain_text("its frames are not in order")


def assert_files_are_sent_once(page: Page) -> None:
    frame, single = (
        {"image_sha256": name, "prediction": {"image": image}} for name, image in (("a", {"frame": 1}), ("b", {}))
    )
    assert call(page, "stored_series", "filesOf", [frame, None, frame, single]) == [frame, single]
    assert call(page, "stored_series", "filesOf", [single, None, single]) == [single, None, single]


def assert_gray_values_are_drawn(card: Locator) -> None:
    shown = card.locator("canvas.picture")
    drawn = [shown.evaluate(PIXELS)]
    card.locator(".stage").press("End")
    expect(card.locator(".place")).to_have_text("5 of 5")
    drawn.append(shown.evaluate(PIXELS))
    for place, pixels in zip((40, 80), drawn, strict=True):
        values = slice_pixels(place).astype(float)
        low, high = values.min(), np.sort(values, axis=None)[int(0.995 * (values.size - 1))]
        expected = np.clip((values - low) / (high - low) * 255, 0, 255)
        np.testing.assert_allclose(np.reshape(pixels, (64, 64, 4))[..., 0], expected, atol=2)
