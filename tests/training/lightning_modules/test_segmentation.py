import pytest
import torch
from torch import nn

from training.lightning_modules.segmentation import Segmentation
from training.settings import Settings

GROUPS = ("b", "a", "b", "a", "c")


@pytest.fixture
def module() -> Segmentation:
    return Segmentation(nn.Conv2d(3, 1, 1), Settings(data="lgg_mri"), GROUPS)


def _masks(pixels: list[int]) -> torch.Tensor:
    """Return slices in which the given number of pixels is marked."""
    return torch.stack([(torch.arange(16) < count).float().view(1, 4, 4) for count in pixels])


def _metric(module: Segmentation, predicted: list[int], truth: list[int], batch: int) -> float:
    logits, targets = 6 * _masks(predicted) - 3, _masks(truth)
    for start in range(0, len(predicted), batch):
        module.update_metric(logits[start : start + batch], targets[start : start + batch])
    return float(module.compute_metric())


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_metric_is_the_mean_volumetric_dice_of_the_patients(module: Segmentation, batch: int) -> None:
    """Patient a: 2*(2+4)/(4+4+2+6); b: 2*(3+0)/(3+0+6+1); c: empty truth and prediction."""
    result = _metric(module, predicted=[3, 4, 0, 4, 0], truth=[6, 2, 1, 6, 0], batch=batch)
    assert result == pytest.approx((12 / 16 + 6 / 10 + 1) / 3)


def test_a_false_alarm_in_a_patient_without_tumour_gives_dice_zero(module: Segmentation) -> None:
    clean = _metric(module, predicted=[3, 4, 0, 4, 0], truth=[3, 4, 0, 4, 0], batch=5)
    alarmed = _metric(module, predicted=[3, 4, 0, 4, 1], truth=[3, 4, 0, 4, 0], batch=5)
    assert clean == 1
    assert alarmed == pytest.approx(2 / 3)


def test_the_loss_of_a_correct_mask_is_lowest_and_of_an_inverted_one_highest(module: Segmentation) -> None:
    targets = _masks([4, 0, 8])
    losses = [
        float(module.loss(8 * expected - 4, targets)) for expected in (targets, torch.zeros(3, 1, 4, 4), 1 - targets)
    ]
    assert losses == sorted(losses)
    assert losses[0] < 0.1


def test_a_batch_without_tumour_has_a_useful_gradient(module: Segmentation) -> None:
    logits = torch.zeros(2, 1, 4, 4, requires_grad=True)
    loss = module.loss(logits, _masks([0, 0]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert (logits.grad > 0).all()
