"""Networks of libraries, as a recipe names them."""

import sys
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from monai.networks.nets import efficientnet
from torch import nn
from torchvision import models

from training.errors import NetworkError
from training.networks import library
from training.networks.adapter import Adapted, adapt

UNET: dict[str, Any] = {
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [4, 8],
    "strides": [2],
}


def create(name: str, outputs: int = 2, *, dense: bool = False, **args: Any) -> torch.nn.Module:
    return library.create(name, outputs, args, (3, 64, 64), dense=dense).eval()


@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("resnet18", (512, 2, 2)),
        ("densenet121", (1024, 2, 2)),
        ("mobilenet_v3_small", (576, 2, 2)),  # its blocks have global pools too
        ("squeezenet1_1", (2, 3, 3)),
    ],
)
def test_a_classifier_of_torchvision_returns_its_own_logits_and_the_map_before_its_last_pool(
    name: str, features: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    network, images = create(f"torchvision:{name}"), torch.rand(2, 3, 64, 64)
    original = models.get_model(name, num_classes=2).eval()
    original.load_state_dict({key.removeprefix("model."): value for key, value in network.state_dict().items()})
    with torch.inference_mode():
        outputs = network(images)
        torch.testing.assert_close(outputs["logits"], original(images))
    assert outputs["features"].shape == (2, *features)


def test_a_checkpoint_with_auxiliary_heads_fits_and_they_are_used_only_in_training() -> None:
    original = models.googlenet(weights=None, num_classes=2, init_weights=False)
    network = library.create("torchvision:googlenet", 2, {"init_weights": False}, (3, 64, 64), dense=False)
    network.load_state_dict({f"model.{key}": value for key, value in original.state_dict().items()})
    assert set(network(torch.rand(2, 3, 64, 64))) == {"logits"}
    assert set(network.eval()(torch.rand(2, 3, 64, 64))) == {"logits", "features"}


def test_a_network_without_a_global_pool_returns_no_features() -> None:
    with torch.inference_mode():
        assert set(create("torchvision:vit_b_32")(torch.rand(1, 3, 224, 224))) == {"logits"}


def test_a_segmentation_of_torchvision_returns_logits_per_pixel() -> None:
    network = create("torchvision:lraspp_mobilenet_v3_large", 1, dense=True)
    with torch.inference_mode():
        assert network(torch.rand(2, 3, 64, 32))["logits"].shape == (2, 1, 64, 32)


def test_two_channels_of_a_mask_become_one_logit_of_the_second() -> None:
    network = create("monai:UNet", 1, dense=True, **UNET, _difference_=True)
    assert isinstance(network, Adapted)
    images = torch.rand(1, 1, 16, 32)
    with torch.inference_mode():
        expected = network.model(images).softmax(1)[:, 1:]
        torch.testing.assert_close(network(images)["logits"].sigmoid(), expected)


def test_a_transposed_network_sees_the_width_first_and_returns_the_geometry_of_the_image() -> None:
    network = create("monai:UNet", 2, dense=True, **UNET, _transposed_=True)
    assert isinstance(network, Adapted)
    images = torch.rand(1, 1, 16, 32)
    with torch.inference_mode():
        torch.testing.assert_close(network(images)["logits"], network.model(images.mT).mT)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.pool, self.head = nn.Conv2d(1, 64, 3), nn.AdaptiveAvgPool2d(1), nn.Linear(64, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = self.pool(self.layer(x)).flatten(1)
        return cast("torch.Tensor", self.head(nn.functional.dropout(pooled, 0.5, self.training)))


class Branching(Small):
    def forward(self, x: Any) -> torch.Tensor:
        return super().forward((x - 0.5) / 0.25 if isinstance(x, torch.Tensor) else x)


def adapted(network: nn.Module) -> Adapted:
    return adapt(network, (1, 8, 8), dense=False, transposed=False, difference=False)


def test_a_trace_that_computes_something_else_is_not_used() -> None:
    network = Branching().eval()
    images = torch.rand(2, 1, 8, 8)
    with torch.inference_mode():
        outputs = adapted(network).eval()(images)
        torch.testing.assert_close(outputs["logits"], network(images))
    assert set(outputs) == {"logits"}
    assert set(adapted(Small()).eval()(images)) == {"logits", "features"}


def test_training_runs_what_a_module_does_only_in_training() -> None:
    network, images = adapted(Small()), torch.rand(2, 1, 8, 8)
    assert network.training
    assert not torch.equal(network(images)["logits"], network(images)["logits"])  # dropout
    network.eval()
    assert torch.equal(network(images)["logits"], network(images)["logits"])
    assert set(network.state_dict()) == {f"model.{key}" for key in Small().state_dict()}
    with torch.no_grad():
        network.model.get_parameter("head.bias").add_(1)
        moved = network.double()(images.double())
    torch.testing.assert_close(moved["logits"], network.model(images.double()))
    assert "logits" in network.train()(images.double())


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("torchvision:resnt18", {}, "Similar: resnet18"),
        ("monai:Net", {}, "MONAI has no 'Net'"),
        ("monai:torch", {}, "MONAI has no 'torch'"),
        ("torchvision:resnet18", {"weights": "DEFAULT"}, "downloads weights"),
        ("monai:DenseNet121", {"pretrained": True}, "downloads weights"),
        ("torchvision:resnet18", {"colour": 1}, "rejects the arguments"),
        ("module:os:system", {}, "executes code"),
    ],
)
def test_what_cannot_be_created_safely_is_rejected(name: str, args: dict[str, Any], message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        create(name, **args)


EFFICIENT: dict[str, Any] = {"model_name": "efficientnet-b0", "spatial_dims": 2, "num_classes": 2}


@pytest.mark.parametrize("args", [{}, {"pretrained": False}, {"pretrained": None}])
def test_no_weights_are_downloaded_by_default(args: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: object, **__: object) -> None:
        raise AssertionError("downloads weights")

    monkeypatch.setattr(efficientnet, "_load_state_dict", download)
    library.create("monai:EfficientNetBN", 2, EFFICIENT | args, (3, 32, 32), dense=False)


CODE = """\
import torch

class Mean(torch.nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.head = torch.nn.Linear(3, outputs)

    def forward(self, x):
        if x.shape[1] != 3:
            raise ValueError("three channels")
        return self.head(x.mean((2, 3)))
"""


def test_a_module_is_imported_only_after_the_caller_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_networks.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(NetworkError, match="--module own_networks:Mean"):
        create("module:own_networks:Mean", outputs=2)
    assert "own_networks" not in sys.modules
    library.allow("own_networks:Mean")
    network = library.create("module:own_networks:Mean", 2, {"outputs": 2}, (3, 8, 8), dense=False)
    assert network(torch.rand(4, 3, 8, 8))["logits"].shape == (4, 2)
    library.allow("own_networks:Missing")
    with pytest.raises(NetworkError, match="cannot import own_networks:Missing"):
        create("module:own_networks:Missing")
