"""The fitted distribution, against the reference implementation."""

import torch
from pytorch_ood.detector import Mahalanobis

from training.detector import gaussian


def sample(count: int = 600, numbers: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.eye(numbers) + 0.2 * torch.randn(numbers, numbers, generator=generator)
    targets = torch.arange(count) % 2
    values = torch.randn(count, numbers, generator=generator) @ mixing + 3 * targets[:, None]
    return values + 50, targets


def test_the_distance_in_all_components_is_the_mahalanobis_distance_to_the_nearest_label() -> None:
    values, targets = sample()
    part = gaussian.fit(values, targets, 2, values.shape[1])
    nearest, outside = part.distances(values)
    reference = Mahalanobis(None).fit_features(values, targets)
    # Its score is half the squared distance by the scatter within labels, which is not divided by its freedom.
    expected = (2 * reference.predict_features(values).double() * (len(values) - 2)).sqrt()
    torch.testing.assert_close(nearest.double(), expected, rtol=0.02, atol=0.02)
    assert outside.max() < 0.05


def test_a_vector_outside_of_the_subspace_has_a_residual() -> None:
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(500, 2, generator=generator) @ torch.randn(2, 10, generator=generator)
    part = gaussian.fit(values, torch.zeros(500, dtype=torch.long), 1, 2)
    other = values[:1] + torch.randn(1, 10, generator=generator)
    assert part.distances(values)[1].max() < 0.05 < part.distances(other)[1].min()


def test_a_constant_number_does_not_divide_by_zero() -> None:
    values, targets = sample()
    values[:, 3] = 1
    part = gaussian.fit(values, targets, 2, 4)
    assert torch.isfinite(part.distances(values)[0]).all()
