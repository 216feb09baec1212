"""Confidence interval of a share."""

from typing import Final

_Z: Final = 1.959964
"""Quantile of the normal distribution for 95% confidence."""


def wilson(count: float, total: int) -> tuple[float, float]:
    """Return the 95% Wilson score interval of a share (Wilson 1927)."""
    share, weight = count / total, _Z**2 / total
    middle = share + weight / 2
    half = _Z * ((share * (1 - share) + weight / 4) / total) ** 0.5
    low, high = (middle - half) / (1 + weight), (middle + half) / (1 + weight)
    return round(max(0.0, low), 4), round(min(1.0, high), 4)
