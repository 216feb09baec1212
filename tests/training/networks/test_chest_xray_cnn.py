import warnings

import pytest
import torch

from training import networks
from training.errors import NetworkError
from training.networks.chest_xray_cnn import ChestXrayCnn


def test_has_the_parameters_of_the_original_system() -> None:
    network = networks.create("chest_xray_cnn", 2)
    assert sum(parameter.numel() for parameter in network.parameters()) == 8_264_066


def test_has_the_keys_of_the_original_system() -> None:
    modules = {key.split(".")[0] for key in ChestXrayCnn(2).state_dict()}
    numbered = {f"{kind}_{number:02}" for kind in ("conv", "norm") for number in range(1, 6)}
    assert modules == numbered | {"fc_01", "fc_02"}


def test_computes_the_original_layers() -> None:
    torch.manual_seed(0)
    network = ChestXrayCnn(2).eval()
    x = images = torch.randn(2, 3, 112, 160)
    for number in range(1, 6):
        x = network.get_submodule(f"norm_{number:02}")(network.get_submodule(f"conv_{number:02}")(x))
        x = torch.nn.functional.max_pool2d(torch.relu(x), 2)
    assert x.shape == (2, 256, 3, 5)
    logits = network.fc_02(torch.relu(network.fc_01(x.flatten(1))))
    torch.testing.assert_close(network(images)["logits"], logits)


def test_the_logits_have_gradients_to_the_features() -> None:
    outputs = ChestXrayCnn(2).eval()(torch.randn(1, 3, 112, 160))
    (gradient,) = torch.autograd.grad(outputs["logits"][0, 1], outputs["features"])
    assert gradient.shape == (1, 256, 7, 10)
    assert gradient.abs().sum() > 0


def test_exports_with_a_dynamic_batch() -> None:
    network = ChestXrayCnn(2).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            network, (torch.zeros(2, 3, 112, 160),), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},)
        )
    images = torch.randn(5, 3, 112, 160)
    torch.testing.assert_close(program.module()(images)["logits"], network(images)["logits"])


def test_an_unknown_network_is_reported_with_the_available_ones() -> None:
    with pytest.raises(NetworkError, match=r"'resnet'.*chest_xray_cnn"):
        networks.create("resnet", 2)
