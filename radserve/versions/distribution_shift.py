"""Measures how differently two versions distribute requests over labels or domain statuses: pure functions."""

from collections.abc import Mapping
from math import log, sqrt
from typing import Final

Counts = Mapping[str, float]
"""Requests by label, by domain status, or by tenth of a number."""
_SMALLEST_SHARE: Final = 0.001
"""Share in place of a smaller one: a share of 0 would be infinitely far from any other. As in Prometheus' rules."""
_MIN_EXPECTED: Final = 5.0
"""Expected count from which the chi-square distribution holds. Source: Cochran, Biometrics 10 (1954)."""
_DEVIATIONS: Final = 4.0
"""Standard deviations: a rollout tests after each request, so chance has many opportunities to exceed three."""


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
    totals = sum(first.values()), sum(second.values())
    if not all(totals):
        return False
    pairs = _merge([(first.get(name, 0), second.get(name, 0)) for name in sorted(first.keys() | second.keys())])
    statistic = 2 * sum(
        count * log(count * sum(totals) / (total * sum(pair)))
        for pair in pairs
        for count, total in zip(pair, totals, strict=True)
        if count
    )
    return len(pairs) > 1 and statistic > _critical(len(pairs) - 1)


def _merge(pairs: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Merge rare values, but keep two, until the smaller distribution is expected to have enough of each.

    `pairs` has the counts of each value in both distributions. Only their sums decide what is merged, so that the
    choice does not favor a difference.
    """
    totals = [sum(counts) for counts in zip(*pairs, strict=True)]
    merged = sorted((pair for pair in pairs if sum(pair)), key=sum)
    while len(merged) > 2 and sum(merged[0]) * min(totals) / sum(totals) < _MIN_EXPECTED:
        (one, other), (next_one, next_other), *rest = merged
        merged = sorted([(one + next_one, other + next_other), *rest], key=sum)
    return merged


def _critical(freedom: int) -> float:
    """Return the quantile of the chi-square distribution at `_DEVIATIONS`, at most 10% too high.

    Source: Wilson and Hilferty, "The distribution of chi-square", PNAS 17 (1931).
    """
    variance = 2 / (9 * freedom)
    return float(freedom * (1 - variance + _DEVIATIONS * sqrt(variance)) ** 3)


def largest_increase(counts: Counts, reference: Counts) -> str:
    """Describe the value whose share grew most: `pneumonia 90% instead of 40%`."""
    name = max(counts, key=lambda each: _share(each, counts) - _share(each, reference))
    return f"{name} {_share(name, counts):.0%} instead of {_share(name, reference):.0%}"
