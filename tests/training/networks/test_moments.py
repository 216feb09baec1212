"""The output for the detector of unlike images."""

import pytest
import torch

from training import networks
from training.errors import NetworkError
from training.networks import moments
from training.networks.chest_xray_cnn import ChestXrayCnn


def test_the_moments_are_mean_and_deviation_of_each_channel() -> None:
    network = networks.create("chest_xray_cnn", 2).eval()
    assert isinstance(network, ChestXrayCnn)
    films = torch.randn(2, 3, 112, 160, generator=torch.Generator().manual_seed(0))
    seen: list[torch.Tensor] = []
    network.norm_02.register_forward_hook(lambda *parts: seen.append(parts[2]))
    expected = network(films)
    values = moments.add(network, ["norm_02"])(films)
    torch.testing.assert_close(values["logits"], expected["logits"])
    mean, deviation = values[moments.OUTPUT].split(32, dim=1)
    torch.testing.assert_close(mean, seen[0].mean((2, 3)))
    torch.testing.assert_close(deviation, seen[0].std((2, 3), correction=0), atol=1e-3, rtol=1e-3)


def test_the_channels_of_tokens_have_moments_over_the_tokens() -> None:
    network = networks.create("brain_tumor_attention", 2).eval()
    values = moments.add(network, ["patch_embedding_layer", "sa.W_o"])(torch.zeros(1, 3, 224, 224))
    assert values[moments.OUTPUT].shape == (1, 2 * 2 * 512)


def test_an_unknown_layer_is_named() -> None:
    with pytest.raises(NetworkError, match="'norm_09'"):
        moments.add(networks.create("chest_xray_cnn", 2), ["norm_09"])
