"""Fits the distribution of one kind of evidence."""

from typing import Final

import torch

from handlers.domain.detector import Part

_SMALLEST: Final = 0.01
"""Smallest standard deviation of a number, as a share of the median one: constant channels differ by rounding."""
_ROUNDING: Final = 1e-4
"""Smallest standard deviation of any number."""
_SHRINKAGE: Final = 1e-3
"""Share of the mean variance that is added to every variance within a label."""


def fit(values: torch.Tensor, targets: torch.Tensor, labels: int, components: int) -> Part:
    """Fit a Gaussian per label with a common covariance to values (N, numbers), in `components` principal axes.

    Lee et al. 2018, section 2.1, after a principal component analysis of the standardised numbers.
    """
    values = values.double()
    mean, scale = values.mean(0), values.std(0)
    scale = scale.clamp_min(max(float(scale.median()) * _SMALLEST, _ROUNDING))
    standard = (values - mean) / scale
    _, axes = torch.linalg.eigh(standard.T @ standard)
    # Rounded as stored, because the distances from the subspace depend on it.
    basis = axes.flip(1).T[:components].half().double()
    inside = standard @ basis.T
    centres = torch.stack([inside[targets == label].mean(0) for label in range(labels)])
    within = inside - centres[targets]
    covariance = within.T @ within / (len(within) - labels)
    covariance += torch.eye(len(covariance)) * covariance.trace() / len(covariance) * _SHRINKAGE
    whitening = torch.linalg.inv(torch.linalg.cholesky(covariance))
    centres = centres @ whitening.T
    return Part(*(value.float() for value in (mean, scale, basis, whitening, centres)))
