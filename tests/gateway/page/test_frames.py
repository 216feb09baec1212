"""A DICOM file with several frames in the page."""

import hashlib
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Route, expect
from pydicom import uid
from pydicom.encaps import encapsulate

from handlers import volume
from tests.gateway.page.conftest import Opener
from tests.gateway.page.files import choose, payload
from tests.gateway.page.scripted import script
from tests.gateway.page.slices import measured, segmentation, slice_dicom, slice_pixels
from tests.gateway.page.test_accessibility import faults
from tests.gateways import Gateway
from tests.handlers.images import dicom

pytestmark = pytest.mark.e2e

PLACES = (0, 28, 40, 52, 80)
SLICES = [slice_dicom(place, number) for number, place in enumerate(PLACES)]


def results(content: bytes) -> list[dict[str, Any]]:
    """Return the results of the frames of a file, which are the slices."""
    entries = [segmentation(alone, "slices") for alone in SLICES]
    for number, entry in enumerate(entries, 1):
        entry["image"] |= {"frame": number, "sha256": hashlib.sha256(content).hexdigest()}
    return entries


def test_a_file_with_several_frames_is_sent_once_and_shown_as_one_series(
    opened: Opener, static_gateway: Gateway
) -> None:
    frames = b"".join(slice_pixels(place).tobytes() for place in PLACES)
    # Its window is beside the frames, where the page does not look for one.
    content = slice_dicom(0, 1, NumberOfFrames=len(PLACES), PixelData=frames, WindowCenter=None, WindowWidth=None)
    entries = results(content)
    slices = SLICES
    measured_volume = volume.measure([measured(alone)[1] for alone in slices])
    sent: list[str] = []

    def respond(route: Route) -> None:
        sent.append(route.request.headers["accept"])
        route.fulfill(json={"predictions": entries, "volume": measured_volume, "history": "stored"})

    page = opened(static_gateway.url, model="slices", prepare=lambda page: script(page, answer=respond))
    choose(page, payload("enhanced.dcm", content))
    card = page.locator(".result.series")
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
    drawn = [shown.evaluate("canvas => [...canvas.getContext('2d').getImageData(0, 0, 64, 64).data]")]
    card.locator(".stage").press("End")
    expect(card.locator(".place")).to_have_text("5 of 5")
    drawn.append(shown.evaluate("canvas => [...canvas.getContext('2d').getImageData(0, 0, 64, 64).data]"))
    for place, pixels in zip((40, 80), drawn, strict=True):
        values = slice_pixels(place).astype(float)
        low, high = values.min(), np.sort(values, axis=None)[int(0.995 * (values.size - 1))]
        expected = np.clip((values - low) / (high - low) * 255, 0, 255)
        np.testing.assert_allclose(np.reshape(pixels, (64, 64, 4))[..., 0], expected, atol=2)
    assert len(sent) == 1  # no picture of a frame is requested
    expect(card.get_by_role("button", name="DICOM (SR, SEG)", exact=True)).to_be_visible()
    assert faults(page) == []

    entries[1]["image"]["frame"] = 3
    choose(page, payload("again.dcm", content))
    expect(page.locator("#rejection-list .rejection")).to_contain_text("its frames are not in order")


def test_frames_in_colour_are_drawn_and_compressed_ones_show_their_outline(
    opened: Opener, static_gateway: Gateway
) -> None:
    colours = np.random.default_rng(1).integers(0, 256, (len(PLACES), 64, 64, 3), dtype=np.uint8)
    several: dict[str, Any] = {"NumberOfFrames": len(PLACES)}
    planes = np.moveaxis(colours, -1, 1).tobytes()
    coded = encapsulate([bytes(8)] * len(PLACES))  # which the page does not read
    files = {
        "pixels.dcm": dicom(colours[0], PixelData=colours.tobytes(), **several),
        "planes.dcm": dicom(colours[0], PixelData=planes, PlanarConfiguration=1, **several),
        "coded.dcm": dicom(colours[0], uid.JPEG2000Lossless, PixelData=coded, **several),
    }
    answers = iter(files.values())

    def respond(route: Route) -> None:
        route.fulfill(json={"predictions": results(next(answers)), "volume": None, "history": "stored"})

    page = opened(static_gateway.url, model="slices", prepare=lambda page: script(page, answer=respond))
    cards = {}
    for name, content in files.items():
        choose(page, payload(name, content))
        cards[name] = page.locator(".result.series").filter(has=page.get_by_role("heading", name=name))
        expect(cards[name].locator(".place")).to_have_text("3 of 5")
        expect(cards[name].locator(".contour")).to_be_visible()
    for name in ("pixels.dcm", "planes.dcm"):
        drawn = (
            cards[name]
            .locator("canvas.picture")
            .evaluate("canvas => [...canvas.getContext('2d').getImageData(0, 0, 64, 64).data]")
        )
        np.testing.assert_array_equal(np.reshape(drawn, (64, 64, 4))[..., :3], colours[2])
        expect(cards[name].locator(".no-picture, .picture-caption").filter(visible=True)).to_have_count(0)
        expect(cards[name].get_by_role("button", name="Invert")).to_be_visible()
    coded_card = cards["coded.dcm"]
    expect(coded_card.locator(".no-picture")).to_have_text(
        "This page cannot draw these frames; open the file in your viewer."
    )
    for name in ("Move by dragging", "Window by dragging", "Zoom in", "1:1", "Invert"):
        expect(coded_card.get_by_role("button", name=name)).to_be_hidden()
    expect(coded_card.get_by_role("button", name="Hide mask")).to_be_visible()
