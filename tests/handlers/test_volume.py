"""Volumes: in millilitres only where every distance is known."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from handlers.formats.image import Origin, Plane
from handlers.volume import Slice, accepts_unlike, measure

UP = (0.0, 0.0, 1.0)


def stack(heights: list[float], pixels: int = 1000, **plane: Any) -> list[Slice | None]:
    return [
        Slice(pixels, f"{place}", (0.5, 2.0), Plane("s", (-10.0, 20.0, height), UP, **plane))
        for place, height in enumerate(heights)
    ]


def changed(slices: list[Slice | None], place: int, **changes: Any) -> list[Slice | None]:
    item = slices[place]
    assert item is not None
    volume = list(slices)
    volume[place] = replace(item, **changes)
    return volume


def plane(slices: list[Slice | None], place: int, **changes: Any) -> list[Slice | None]:
    item = slices[place]
    assert item is not None
    assert item.plane is not None
    return changed(slices, place, plane=replace(item.plane, **changes))


def unplaced(heights: list[float], **attributes: Any) -> list[Slice | None]:
    slices = stack(heights, **attributes)
    for place in range(len(heights)):
        slices = plane(slices, place, position=None)
    return slices


def test_the_volume_of_evenly_spaced_slices_is_area_times_distance() -> None:
    volume = measure(stack([0, 4, 8, 12]))
    # 1000 pixels of 1 square millimetre, 4 slices of 4 mm
    assert volume == {"slices": 4, "positive_slices": 4, "pixels": 4000, "ml": pytest.approx(16.0)}


def test_a_volume_says_how_many_slices_are_not_like_the_training_images() -> None:
    slices = [item and replace(item, status="normal") for item in stack([0, 4, 8, 12])]
    slices = changed(changed(slices, 0, status="unlike"), 1, status="unusual")
    assert measure(slices) == measure(stack([0, 4, 8, 12])) | {"unusual": 1, "unlike": 1}


@pytest.mark.parametrize(("unlike", "accepted"), [(0, True), (1, True), (2, True), (3, False), (10, False)])
def test_a_fifth_of_a_series_may_be_unlike(unlike: int, accepted: bool) -> None:
    slices = stack([4.0 * place for place in range(10)])
    for place in range(unlike):
        slices = changed(slices, place, status="unlike")
    assert accepts_unlike(slices) is accepted


def test_unlike_images_are_accepted_only_in_one_series() -> None:
    slices = changed(stack([4.0 * place for place in range(10)]), 0, status="unlike")
    assert accepts_unlike(slices)
    assert not accepts_unlike(plane(slices, 0, series="other"))
    assert not accepts_unlike(plane(slices, 0, origin=Origin(study="other")))
    assert not accepts_unlike(changed(slices, 0, plane=None))
    assert not accepts_unlike([None] * 10)


def test_the_order_of_slices_does_not_matter() -> None:
    slices = stack([0, 4, 8, 20])
    assert measure(slices[::-1])["ml"] == pytest.approx(measure(slices)["ml"])
    assert measure([slices[2], slices[0], slices[3], slices[1]])["ml"] == pytest.approx(measure(slices)["ml"])


def test_each_slice_counts_for_its_own_distance() -> None:
    slices: list[Slice | None] = [
        item and replace(item, pixels=pixels)
        for item, pixels in zip(stack([0, 2, 6, 12]), (100, 200, 300, 400), strict=True)
    ]
    # half the distance to either neighbour, symmetric at the ends: 2, 3, 5 and 6 mm
    assert measure(slices)["ml"] == pytest.approx((100 * 2 + 200 * 3 + 300 * 5 + 400 * 6) / 1000)


def test_distance_is_measured_along_the_normal_not_along_an_axis() -> None:
    tilt = np.radians(40)
    normal = (0.0, float(-np.sin(tilt)), float(np.cos(tilt)))
    slices: list[Slice | None] = []
    for step in range(5):
        shift = np.array([3.0, *(5.0 * step * np.array(normal[1:]))])  # 5 mm along the normal, 3 mm aside
        position = (float(shift[0]) * step, float(shift[1]), float(shift[2]))
        slices.append(Slice(1000, f"{step}", (1.0, 1.0), Plane("s", position, normal)))
    assert measure(slices)["ml"] == pytest.approx(25.0)


def test_positions_take_precedence_over_distance_and_thickness() -> None:
    assert measure(stack([0, 4], between=9.0, thickness=7.0))["ml"] == pytest.approx(8.0)
    assert measure(unplaced([0, 4], between=9.0, thickness=7.0))["ml"] == pytest.approx(18.0)
    assert measure(unplaced([0, 4], thickness=7.0))["ml"] == pytest.approx(14.0)
    assert measure(plane(unplaced([0, 4], thickness=7.0), 1, normal=None))["ml"] == pytest.approx(14.0)


def test_up_to_two_missing_slices_in_a_row_are_bridged() -> None:
    assert measure(stack([0, 4, 8, 20]))["ml"] == pytest.approx(4 + 4 + 8 + 12)
    assert "ml" not in measure(stack([0, 4, 8, 24]))


def test_a_single_slice_uses_its_own_distance() -> None:
    assert measure(stack([3.0], between=5.0))["ml"] == pytest.approx(5.0)
    assert "reason" in measure(stack([3.0]))


def test_a_stack_without_a_finding_has_volume_zero() -> None:
    volume = measure(stack([0, 5], pixels=0))
    assert (volume["positive_slices"], volume["pixels"], volume["ml"]) == (0, 0, 0.0)


@pytest.mark.parametrize(
    ("slices", "reason"),
    [
        ([*stack([0, 4]), None], "1 of 3 slices have no mask"),
        (changed(stack([0, 4]), 1, spacing=None), "pixel spacing of 1 slices is unknown"),
        (changed(stack([0, 4]), 1, sha256="0"), "sent twice"),
        (changed(stack([0, 4]), 1, plane=None), "distance of 1 slices"),
        (unplaced([0, 4]), "distance of 2 slices"),
        (plane(unplaced([0, 4], between=3.0), 1, between=None), "distance of 1 slices"),
        (plane(unplaced([0, 4], thickness=3.0), 1, between=3.0), "different distances"),
        (plane(unplaced([0, 4], thickness=3.0), 1, thickness=3.5), "different distances"),
        (unplaced([0, 4], thickness=51.0), "51 mm is above 50 mm"),
        (plane(stack([0, 10, 20, 30], thickness=5), 1, position=None), "position or orientation of 1 slices"),
        (plane(stack([0, 5, 5, 10], thickness=5), 3, normal=None), "position or orientation of 1 slices"),
        (plane(stack([0, 5, 10, 0, 5, 10], thickness=5), 3, position=None), "position or orientation of 1 slices"),
        (plane(plane(stack([0, 4], between=3.0), 0, normal=None), 1, normal=None), "orientation of 2 slices"),
        (plane(stack([0, 4]), 1, origin=Origin(study="other")), "several studies"),
        (plane(stack([0, 4]), 1, origin=Origin(frame_of_reference="other")), "frames of reference"),
        (plane(plane(stack([0, 4]), 0, series=None), 1, series=None), "do not state their series"),
        (stack([0, 4], origin=Origin(instance="1")), "sent twice"),
        (stack([0, 5, 10, 100]), "90 mm is above 50 mm"),
        (stack([0, 1e6, 2e6]), "above 50 mm"),
        (stack([0, 5, 10, 40]), "30 mm apart, the others 5 mm"),
        (plane(stack([0, 4]), 1, series="other"), "several series"),
        (plane(stack([0, 4]), 1, series=None), "several series"),
        (plane(stack([0, 4]), 1, normal=(0.0, 1.0, 0.0)), "not parallel"),
        (plane(stack([0, 4]), 1, normal=(0.0, 0.0, -1.0)), "not parallel"),
        (plane(stack([0, 4], between=3.0), 1, normal=(0.0, 1.0, 0.0), position=None), "not parallel"),
        (stack([0, 4, 4]), "same position"),
        ([None], "1 of 1 slices have no mask"),
    ],
)
def test_an_unknown_distance_gives_a_reason_instead_of_a_volume(slices: list[Slice | None], reason: str) -> None:
    volume = measure(slices)
    assert "ml" not in volume
    assert reason in volume["reason"]
    assert volume["slices"] == len(slices)
