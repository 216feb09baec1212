"""What a series says in words and in its table."""

import csv
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.gateway.page.slices import at, item

pytestmark = pytest.mark.e2e
SAID = """async groups => {
    const { stack } = await import("/js/series.js");
    const { firstShown, headline, limits, sliceState, volumeText, warnings } = await import("/js/series_summary.js");
    return groups.map(([items, outcomes, version]) => {
        const ordered = stack(items, "dicom");
        const states = outcomes.map((outcome) => sliceState(outcome, version));
        const isMask = outcomes.some(({ prediction }) => prediction?.area);
        return {
            headline: headline(outcomes, version).text, kind: headline(outcomes, version).kind,
            rest: headline(outcomes, version).rest,
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
    unusual: dict[str, Any] = {"domain": {"mode": "strict", "status": "unusual", "percentile": 98}}
    version = {"positive": "tumour", "display": {"finding": "tumour"}}
    damaged = {"problem": {"message": "Damaged"}}
    even = [at(str(z), z) for z in (0, 4, 12, 16)]
    uneven = [at(str(z), z) for z in (0, 4, 8, 13.4, 17.4)]
    twice = [at("a", 0), at("b", 4), at("c", 4)]
    turned = [item("a", position=[0, 0, 9], orientation=[0, 1, 0, 0, 0, 1], instance=2), at("b", 0)]
    *texts, unsure, strange, largest = modules.evaluate(
        SAID,
        [
            [even, [marked(0, notes=["Equal."]), marked(1000), marked(500), marked(0, **doubtful)], version],
            [uneven, [marked(1000, 32 + index // 4) for index in range(5)], version],
            [twice, [marked(1)] * 3, version],
            [turned, [marked(1), marked(2)], version],
            [even, [rated(0.2), rated(0.9, **doubtful), rated(0.7, **uncertain), rated(0.6)], None],
            [even, [damaged, marked(0), marked(0), marked(0)], version],
            [even, [damaged, rated(0.2), rated(0.3), rated(0.9)], None],
            [even, [marked(0), *[marked(500, **doubtful)] * 3], version],
            [even, [marked(0), marked(1000), marked(500), marked(500, **doubtful)], version],
            [even, [marked(0, **doubtful), *[marked(0)] * 3], version],
            [even, [rated(0.9, **doubtful)] * 4, None],
            [even, [damaged, marked(0), damaged, marked(0)], version],
            [even, [rated(0.2), damaged, damaged, damaged], None],
            [even, [rated(0.7, **uncertain)] * 2, None],
            [even, [rated(0.9, **unusual), rated(0.1)], None],
            [even, [marked(900, **unusual), marked(20), marked(0)], version],
        ],
    )
    bridged, varied, equal, skewed, rating, nothing, partial, unlike, some, empty, odd, half, ended = texts
    assert bridged == {
        "headline": "Tumour marked on 2 of 3 slices; 1 unlike the training images, not counted",
        "kind": "positive",
        "rest": None,
        "first": 1,
        "volume": "Marked volume (not validated): 9.00 ml, from the areas and a slice distance of 4 mm. "
        "1 slice of the stack is missing; the volume bridges the gap.",
        "warnings": ["Equal. (1 slice)", "1 slice seems to be missing: between slices 2 and 3."],
        "limits": [
            ("1 slice is unlike the training images; the model may be wrong there. Not counted; compare it first."),
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
    assert rating["headline"] == (
        "1 of 2 slices above the 50% cut-off; 2 unlike the training images or uncertain, not counted"
    )
    assert rating["first"] == 3
    assert rating["limits"] == [
        "1 slice is unlike the training images; the model may be wrong there. Not counted.",
        "1 slice is uncertain, and not counted.",
        "Only single slices were validated: nothing follows from the count for the examination as a whole.",
    ]
    assert partial["headline"] == "1 of 3 analysed slices above the 50% cut-off; 1 slice could not be analysed"
    assert nothing["headline"] == "No tumour marked on any of 3 analysed slices; 1 slice could not be analysed"
    assert nothing["volume"] == "No volume: 1 slice of 4 could not be analysed."
    assert (nothing["kind"], nothing["rest"]) == ("negative", None)
    assert (half["kind"], half["headline"]) == ("doubtful", "2 of 4 slices could not be analysed")
    assert half["rest"] == "No tumour marked on any of 2 analysed slices."
    assert (ended["kind"], ended["headline"]) == ("doubtful", "3 of 4 slices could not be analysed")
    assert ended["rest"] == "0 of 1 analysed slice above the 50% cut-off."
    assert (unlike["kind"], unlike["headline"]) == (
        "doubtful",
        "No result: 3 slices marked, but unlike the training images",
    )
    assert unlike["volume"] == "No volume: 3 slices marked, but unlike the training images."
    assert (some["kind"], some["headline"]) == (
        "positive",
        "Tumour marked on 2 of 3 slices, and on 1 unlike the training images",
    )
    assert "11.0 ml, from the areas and a slice distance of 4 mm. It includes 1 slice unlike" in some["volume"]
    assert empty["headline"] == ("No tumour marked on any of 3 slices; 1 unlike the training images, not counted")
    assert (odd["kind"], odd["headline"]) == ("doubtful", "No result: all slices are unlike the training images")
    assert (unsure["kind"], unsure["headline"]) == ("uncertain", "No result: all slices are uncertain")
    assert (strange["kind"], strange["headline"]) == ("doubtful", "No result: 1 slice above the cut-off, but unusual")
    assert (largest["first"], largest["headline"]) == (1, "Tumour marked on 1 of 2 slices, and on 1 unusual")


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
    outcomes = [
        marked(70, notes=["Equal.", "Small."]),
        marked(80, **doubtful),
        rated(0.9, **doubtful),
        rated(0.7, **uncertain),
        rated(0.2),
    ]
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
    assert [(row["positive_label"], row["positive_probability"]) for row in rows[-2:]] == [("", ""), ("ill", "0.2")]
    assert [row["notes"] for row in rows] == ["Equal. Small.", "", "", "", ""]
    assert texts[1:4] == ["No result: unlike the training images"] * 2 + ["Uncertain: no reliable label"]
