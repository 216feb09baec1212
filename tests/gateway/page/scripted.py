"""Scripted responses of the API for the page, without a model server."""

import copy
import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, Route

from radserve.schema.catalog import Catalog
from tests.gateway.fake_backend import CATALOG, prediction
from tests.handlers.images import film, saved

IMAGE = saved(film()[:10, :20], "PNG")
PREDICTIONS = re.compile(r"/api/predictions/")
READY = {"state": "ready", "detail": "Ready for requests."}

CHEST = "Chest X-ray: pneumonia"
SLICE = "Brain MRI: outline of tumours"
PHOTOGRAPH = "Photograph: day or night"

_DISPLAYS: dict[str, dict[str, Any]] = {
    "chest": {
        "name": CHEST,
        "group": "Chest",
        "purpose": "Looks for a pneumonia pattern.",
        "scope": "Children 1 to 5 years, frontal film",
        "not_for": "Adults, other views",
        "finding": "pneumonia pattern",
    },
    "slices": {
        "name": SLICE,
        "group": "Brain",
        "purpose": "Outlines tumours.",
        "scope": "Adults, axial slice",
        "not_for": "Children",
    },
    "photos": {
        "name": PHOTOGRAPH,
        "group": "Photographs",
        "purpose": "Tells day from night.",
        "scope": "Photograph of a street",
        "not_for": "X-rays",
        "photographs": True,
    },
}


def catalog(**changes: Any) -> dict[str, Any]:
    """Return a catalog of a chest model, changed, an outline, photographs, and a model without a description."""
    chest = copy.deepcopy(CATALOG["models"][0])
    figures = {
        "sensitivity": {"value": 0.96, "ci95": [0.94, 0.98]},
        "specificity": {"value": 0.9, "ci95": [0.85, 0.95]},
    }
    chest["versions"][0] |= {
        "display": _DISPLAYS["chest"],
        "prevalence": 0.5,
        "uncertain": [0.2, 0.6],
        "figures": figures,
        "held_out": {"images": 100, "labels": {"normal": 40, "pneumonia": 60}},
    } | changes
    slices = copy.deepcopy(CATALOG["models"][0]) | {"name": "slices"}
    outline = {"task": "segmentation", "labels": ["background", "tumour"], "positive": "tumour", "explains": False}
    slices["versions"][0] |= outline | {"display": _DISPLAYS["slices"]}
    photos = copy.deepcopy(CATALOG["models"][0]) | {"name": "photos"}
    ranked = {"labels": ["day", "night"], "positive": None, "threshold": None, "explains": False}
    small = {"color": "rgb", "height": 32, "width": 32}
    photos["versions"][0] |= ranked | {"display": _DISPLAYS["photos"], "input": small}
    plain = copy.deepcopy(CATALOG["models"][0]) | {"name": "plain"}
    return Catalog.model_validate({"models": [chest, photos, plain, slices]}).model_dump(mode="json")


def script(page: Page, models: Any = None, answer: Callable[[Route], None] | None = None) -> list[str]:
    """Answer the page's requests for models, samples and predictions; return the paths of the predictions."""
    sent: list[str] = []

    def respond(route: Route) -> None:
        path = route.request.url.partition("/api/predictions/")[2]
        sent.append(path)
        if answer is not None:
            answer(route)
        elif "image/png" in route.request.headers["accept"]:
            route.fulfill(content_type="image/png", body=IMAGE)
        else:
            name = path.partition("?")[0].partition("/")[0]
            route.fulfill(json=prediction(IMAGE, model={"name": name, "version": "1.0.0", "sha256": "a" * 64}))

    page.route("**/ready", lambda route: route.fulfill(json=READY))
    page.route("**/api/models", lambda route: route.fulfill(json=models or catalog()))
    page.route("**/sample", lambda route: route.fulfill(content_type="image/png", body=IMAGE))
    page.route(PREDICTIONS, respond)
    return sent
