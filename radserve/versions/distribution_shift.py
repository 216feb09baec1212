"""Measures how differently two versions distribute requests over labels or domain statuses: pure functions."""

from collections.abc import Mapping
from math import log, sqrt
from typing import Final

Counts = Mapping[str, float]
"""Requests by label, by domain status, or by tenth of a number."""
_SMALLEST_SHARE: Final = 0.001
"""Share in place of a smaller one: a share of 0 would be infinitely far from any other. As in Prometheus' rules."""
_DEVIATIONS: Final = 3.0  # standard deviations: chance exceeds them once in 740 samples


def population_stability_index(counts: Counts, reference: Counts) -> float:
    """Return the population stability index of two distributions; above 0.25, the shift is major.

    Source: Siddiqi, Credit Risk Scorecards, 2006.
    """
    pairs = [(_share(name, counts), _share(name, reference)) for name in counts.keys() | reference.keys()]
    return sum((share - expected) * log(share / expected) for share, expected in pairs)


def _share(name: str, counts: Counts) -> float:
    return max(counts.get(name, 0) / (sum(counts.values()) or 1), _SMALLEST_SHARE)


def is_significant(first: Counts, second: Counts) -> bool:
    """Return whether chance does not explain that two distributions differ.

    Likelihood-ratio test of homogeneity (G-test). Source: Sokal and Rohlf, Biometry, 1981, section 17.4.
    """
    both = [counts for counts in (first, second) if sum(counts.values())]
    names = {name for counts in both for name, count in counts.items() if count}
    total = sum(sum(counts.values()) for counts in both)
    pooled = {name: sum(counts.get(name, 0) for counts in both) / total for name in names}
    statistic = 2 * sum(
        count * log(count / (sum(counts.values()) * pooled[name]))
        for counts in both
        for name, count in counts.items()
        if count
    )
    return len(both) == 2 and len(names) > 1 and statistic > _critical(len(names) - 1)


def _critical(freedom: int) -> float:
    """Return the quantile of the chi-square distribution at `_DEVIATIONS`.

    Source: Wilson and Hilferty, "The distribution of chi-square", PNAS 17 (1931).
    """
    variance = 2 / (9 * freedom)
    return float(freedom * (1 - variance + _DEVIATIONS * sqrt(variance)) ** 3)


def largest_increase(counts: Counts, reference: Counts) -> str:
    """Describe the value whose share grew most: `pneumonia 90% instead of 40%`."""
    name = max(counts, key=lambda each: _share(each, counts) - _share(each, reference))
    return f"{name} {_share(name, counts):.0%} instead of {_share(name, reference):.0%}"
