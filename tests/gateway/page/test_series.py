"""Slices of one examination: which they are, and in which order."""

from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page

from handlers import volume
from handlers.formats.image import Plane
from handlers.volume import Slice
from tests.gateway.page.slices import at, item
from tests.gateway.page.test_series_summary import SAID, marked

pytestmark = pytest.mark.e2e
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
