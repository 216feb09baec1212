"""Results near the cut-off say so, in the result, the table and the history."""

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.gateway.fake_backend import prediction
from tests.gateway.page.conftest import Opener
from tests.gateway.page.files import choose, payload
from tests.gateway.page.modules import call
from tests.gateway.page.scripted import IMAGE, script
from tests.gateway.page.test_analyse import shown
from tests.gateways import Gateway

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(
    ("value", "threshold", "expected"),
    [
        (0.46, 0.5, "just below"),
        (0.44, 0.5, "below"),
        (0.54, 0.5, "just above"),
        (0.56, 0.5, "above"),
        (0.5, 0.5, "at"),
        (0.0028, 0.003, "just below"),  # the band is narrow where the cut-off is
        (0.002, 0.003, "below"),
        (0.0, 0.5, "below"),
        (1.0, 0.5, "above"),
    ],
)
def test_the_band_follows_the_cut_off(modules: Page, value: float, threshold: float, expected: str) -> None:
    label = "pneumonia" if value >= threshold else "normal"
    result = {"label": label, "positive": value >= threshold, "threshold": threshold}
    probabilities = {"normal": 1 - value, "pneumonia": value}
    assert call(modules, "near_cutoff", "side", result | {"probabilities": probabilities}) == expected


def test_the_history_compares_with_the_cut_off_of_the_version_that_answered(modules: Page) -> None:
    version = {"threshold": 0.5, "labels": ["normal", "pneumonia"], "prevalence": 0.5}
    entry = {"positive": False, "probability": 0.53, "prevalence": 0.5, "profile": None}

    def text(shown: Any = version, **changes: Any) -> Any:
        return call(modules, "near_cutoff", "nearText", entry | changes, shown)

    assert text() == "Just below the cut-off"
    assert text(positive=True) == "Just above the cut-off"
    assert text(positive=True, probability=0.5) == "At the cut-off"
    assert text(probability=0.9) is None
    assert text(version | {"profile": {"name": "ward", "sha256": "a" * 64}}) is None
    assert text(None) is text(prevalence=0.1) is text(profile="ward") is text(positive=None) is None


def test_a_result_near_the_cut_off_says_so(opened: Opener, static_gateway: Gateway) -> None:
    near = {"probabilities": {"normal": 0.53, "pneumonia": 0.47}, "probability": 0.53}
    certainty = {"status": "uncertain", "level": 0.9, "prediction_set": ["normal", "pneumonia"]}
    documents = {"near": near, "uncertain": near | {"certainty": certainty}, "far": {}}
    sent = iter(documents.values())
    page = opened(
        static_gateway.url,
        prepare=lambda page: script(page, answer=lambda route: route.fulfill(json=prediction(IMAGE, **next(sent)))),
        model="chest",
    )
    sentence = "Borderline: from 45% to 55%, another image of the same patient may be reported differently."
    for name in documents:
        choose(page, payload(f"{name}.png", IMAGE))
        card = shown(page, f"{name}.png")
        if name == "near":
            expect(card.locator(".label")).to_have_text("No pneumonia pattern found: just below the cut-off")
            expect(card.locator(".near")).to_have_text(sentence)
        else:
            expect(card.locator(".near")).to_have_count(0)
    expect(shown(page, "uncertain.png")).to_contain_text("Just below the 50% cut-off, but too close to call.")
    expect(shown(page, "far.png").locator(".label")).to_have_text("No pneumonia pattern found: below the cut-off")
