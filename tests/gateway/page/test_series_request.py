"""Requests for the slices of a series."""

import base64
import hashlib
import json

import pytest
from playwright.sync_api import Page, Route

from tests.gateway.fake_backend import prediction
from tests.gateway.page.conftest import Opener
from tests.gateway.page.scripted import script
from tests.gateways import Gateway

pytestmark = pytest.mark.e2e
SHARES = """async ([sizes, limits]) => (await import("/js/series_request.js")).shares(sizes, limits)"""


def test_requests_hold_slices_of_the_whole_stack(modules: Page) -> None:
    limits = {"images": 4, "bytes": 100}
    assert modules.evaluate(SHARES, [[10] * 4, limits]) == [[0, 1, 2, 3]]
    assert modules.evaluate(SHARES, [[10] * 5, limits]) == [[0, 2, 4], [1, 3]]
    assert modules.evaluate(SHARES, [[60] * 3, limits]) == [[0, 2], [1]]


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
