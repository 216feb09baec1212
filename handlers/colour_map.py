"""Colours of heat maps: viridis, as on the page (`gateway/static/js/colour_map.js`)."""

from typing import Final

_STEPS: Final = (
    (68, 1, 84),
    (71, 44, 122),
    (59, 81, 139),
    (44, 113, 142),
    (33, 144, 141),
    (39, 173, 129),
    (92, 200, 99),
    (170, 220, 50),
    (253, 231, 37),
)
"""Viridis of matplotlib (CC0) in nine steps: lighter with each, so that the order survives colour blindness and gray
prints; none is gray, as films are, or red, as an alarm is."""


def heat_colour(value: float) -> tuple[int, int, int]:
    """Return red, green and blue (0 to 255) of a relevance from 0 to 1."""
    position = value * (len(_STEPS) - 1)
    left = min(int(position), len(_STEPS) - 2)
    red, green, blue = (
        round(low + (high - low) * (position - left)) for low, high in zip(_STEPS[left], _STEPS[left + 1], strict=True)
    )
    return red, green, blue
