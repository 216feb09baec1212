"""What the page says about images that a model rejects, or that are not like its training images."""

from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from handlers.colour_map import heat_colour
from tests.gateway.page.conftest import Opener
from tests.gateway.page.files import choose, payload
from tests.gateway.page.scripted import CHEST, IMAGE, PHOTOGRAPH, PREDICTIONS, catalog, script
from tests.gateway.page.test_analyse import assert_no_result
from tests.gateways import Gateway

pytestmark = pytest.mark.e2e

FAR: dict[str, Any] = {"mode": "strict", "status": "unlike", "score": 4.2, "limit": 1.2, "percentile": 100}
FAR |= {"reason": "other_image"}
NEAR = FAR | {"score": 1.3, "near": True}
OFTEN = "About 1 in 56 held-out images is rejected (14 of 784)."
UNKNOWN_TURN = NEAR | {"reason": None}


@pytest.mark.parametrize(
    ("domain", "rejections", "text", "absent"),
    [
        (NEAR, {"images": 784, "rejected": 14}, OFTEN, "another body part"),
        (NEAR, None, "it may be a good image of the right kind. Send", "1 in"),
        (NEAR, {"images": 50, "rejected": 6}, "6 of 50 held-out images are rejected.", "1 in"),
        (UNKNOWN_TURN, {"images": 784, "rejected": 14}, "turned by 90 degrees to the right or to the left", "1 in"),
        (FAR, {"images": 784, "rejected": 14}, "It may show another body part", "1 in"),
    ],
)
def test_an_image_just_beyond_the_limit_is_not_taken_for_another_body_part(
    opened: Opener, static_gateway: Gateway, domain: dict[str, Any], rejections: Any, text: str, absent: str
) -> None:
    page = opened(
        static_gateway.url,
        model="chest",
        prepare=lambda page: script(page, catalog(domain="strict", rejections=rejections)),
    )
    problem = {
        "status": 422,
        "title": "Unlike the training images",
        "detail": "For programs.",
        "domain": domain,
        "request_id": "r-1",
    }
    page.route(PREDICTIONS, lambda route: route.fulfill(status=422, json=problem))
    choose(page, payload("film.png", IMAGE))
    rejection = page.locator(".rejection")
    expect(rejection).to_contain_text(text)
    expect(rejection).not_to_contain_text(absent)
    expect(rejection.locator(".reason")).to_have_text(
        "This image is slightly beyond what this model accepts, so it was not analysed."
        if "near" in domain
        else "This image is unlike the images that this model was trained on, so it was not analysed."
    )
    expect(rejection.get_by_role("button", name="Choose another kind of image")).to_be_visible()
    expect(rejection.get_by_text("Status 422, request r-1")).to_be_hidden()
    rejection.get_by_text("For the administrator").click()
    expect(rejection.get_by_text("Status 422, request r-1")).to_be_visible()
    assert_no_result(page)


def test_the_start_says_which_models_check_their_images(opened: Opener, static_gateway: Gateway) -> None:
    models = catalog(domain="strict")
    page = opened(static_gateway.url, model=None, prepare=lambda page: script(page, models))
    chooser = page.locator("#chooser")
    expect(chooser).to_contain_text("Models with an image check reject or mark most others, but not all.")
    check = "No image check: other images get a result, too"
    expect(page.get_by_role("button", name=CHEST, exact=True)).not_to_contain_text(check)
    expect(page.get_by_role("button", name=PHOTOGRAPH, exact=True)).to_contain_text(check)


SETTLED = """async () => {
    const { Problem } = await import("/js/api.js");
    const { settle, show } = await import("/js/rejections.js");
    const options = { lastModified: 1 };
    const [one, same, other] = ["a/1.dcm", "a/1.dcm", "b/1.dcm"].map((path) =>
        Object.defineProperty(new File(["x"], "1.dcm", options), "webkitRelativePath", { value: path }));
    const left = () => [...document.querySelectorAll("#rejection-list h3")].map((heading) => heading.textContent);
    show("one", new Problem("x", { canRetry: false }), { files: [one] });
    show("series", new Problem("x", { canRetry: false }), { files: [one, other] }).querySelector("button").focus();
    show("request", new Problem("x", { canRetry: false }));
    const states = [other, same].map((file) => { settle(file); return left(); });
    settle(one, other);
    return [...states, left(), document.activeElement.textContent];
}"""


def test_a_result_removes_the_problems_of_its_own_files_only(modules: Page) -> None:
    assert modules.evaluate(SETTLED) == [["one", "series", "request"], ["series", "request"], ["request"], "Dismiss"]


TEXTS = """async () => {
    const { doubtText } = await import("/js/domain.js");
    const { labelName, labelText } = await import("/js/display.js");
    const glioma = { task: "segmentation", positive: "tumour", display: { finding: "glioma" } };
    const pattern = { task: "classification", positive: "tumour", display: { finding: "tumour pattern" } };
    const label = (positive, version) =>
        labelText({ label: positive ? "tumour" : "background", positive, isMask: true }, version);
    return [doubtText(["unusual"]), doubtText(["unlike", "unlike"]), doubtText(["unlike", "unusual"]),
        label(true, glioma), label(false, glioma), label(true, { positive: "tumour" }), label(true, null),
        label(false, null), labelName("tumour", pattern), labelName("no tumour", pattern), labelName("tumour", null)];
}"""


COLOURS = """async () => {
    const { heatColour } = await import("/js/colour_map.js");
    return Array.from({ length: 256 }, (_, value) => heatColour(value / 255));
}"""


def test_one_thing_has_one_name_and_one_colour(opened: Opener, static_gateway: Gateway) -> None:
    page = opened(static_gateway.url, ready=False)
    assert page.evaluate(TEXTS) == [
        *("unusual", "unlike the training images", "unusual or unlike the training images"),
        *("Glioma", "No glioma marked", "Tumour", "Tumour", "Nothing marked"),
        *("Tumour pattern", "No tumour", "Tumour"),
    ]
    drawn = [heat_colour(value / 255) for value in range(256)]  # by the server and in notebooks
    assert np.abs(np.array(page.evaluate(COLOURS)) - drawn).max() <= 1
