"""Where a heat map is strongest, and its colours."""

import numpy as np
import pytest
from playwright.sync_api import Page

from tests.gateway.page.films import COLUMNS, ROWS, Pixels, disc, thorax
from tests.gateway.page.modules import call

pytestmark = pytest.mark.e2e


def test_a_heat_map_that_is_strongest_outside_the_body_is_found(modules: Page) -> None:
    def is_outside(shades: Pixels, heat: Pixels) -> bool:
        result: bool = call(modules, "heat_map", "isPeakOutside", shades.ravel().tolist(), heat.ravel().tolist())
        return result

    for name, row, column, outside in (
        ("mediastinum", 64, 64, False),
        ("lung", 64, 44, False),
        ("shoulder", 25, 64, False),
        ("air", 6, 6, True),
        ("side marker", 7, 113, True),
        ("below the body", 122, 64, True),
    ):
        heat = np.maximum(0, 200 - 8 * np.hypot(ROWS - row, COLUMNS - column)).astype(int)
        heat += np.where(disc(64, 64, 20), 100, 0)
        assert is_outside(thorax(), heat) is outside, name
    assert not is_outside(np.where(thorax() == 5, 255, 200), heat), "a bright background has no outside"
    assert not is_outside(thorax(), 0 * heat), "an empty map"


BLINDNESS = {  # Machado, Oliveira and Fernandes (2009), severity 1.0, of linear RGB
    "none": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


@pytest.mark.parametrize("kind", BLINDNESS)
def test_the_colours_of_a_heat_map_keep_their_order_for_colour_blind_readers(modules: Page, kind: str) -> None:
    table = np.array(call(modules, "colour_map", "overlayColours", "heat"))
    assert table[0, 3] == 0
    coded = table[:, :3] / 255
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    luminance = np.clip(linear @ np.array(BLINDNESS[kind]).T, 0, 1) @ [0.2126, 0.7152, 0.0722]
    steps = (116 * np.cbrt(luminance) - 16)[::16]
    assert (np.diff(steps) > 1).all()
    assert steps[-1] - steps[0] > 50
    assert (np.ptp(table[:, :3], axis=1) > 60).all(), "no colour is gray"
