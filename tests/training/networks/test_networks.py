"""Tests of all networks: sizes, outputs, keys and tokens equal those of the original systems."""

import numpy as np
import pytest
import torch
from torch import nn

from training import networks
from training.networks.brain_tumor import BrainTumorAttention, BrainTumorCnnAttention, SelfAttention, positions
from training.networks.cifar10 import VGG, Vgg

PARAMETERS = {
    "brain_tumor_attention": 1_614_338,
    "brain_tumor_cnn": 5_883_330,
    "brain_tumor_cnn_attention": 1_624_386,
    "brain_tumor_vgg16": 134_277_186,
    "chest_xray_cnn": 8_264_066,
    "chest_xray_resnet50": 24_099_649,
    "cifar10_lenet": 256_830,
    "cifar10_vgg11": 9_231_114,
    "glioma_attention_unet": 7_940_321,
    "glioma_unet": 6_495_868,
}
LOGITS = {"brain_tumor": 2, "chest_xray_cnn": 2, "chest_xray_resnet50": 1, "cifar10": 10, "glioma": 1}
SHAPES: dict[str, tuple[tuple[int, ...], dict[str, tuple[int, ...]]]] = {
    "brain_tumor_attention": ((3, 224, 224), {"logits": (2,), "attention": (2, 400, 400)}),
    "brain_tumor_cnn": ((3, 224, 224), {"logits": (2,), "features": (128, 112, 112)}),
    "brain_tumor_cnn_attention": (
        (3, 224, 224),
        {"logits": (2,), "features": (128, 112, 112), "attention": (2, 49, 49)},
    ),
    "brain_tumor_vgg16": ((3, 224, 224), {"logits": (2,), "features": (512, 14, 14)}),
    "chest_xray_cnn": ((3, 112, 160), {"logits": (2,), "features": (256, 7, 10)}),
    "chest_xray_resnet50": ((3, 224, 224), {"logits": (1,), "features": (2048, 7, 7)}),
    "cifar10_lenet": ((3, 32, 32), {"logits": (10,), "features": (64, 10, 10)}),
    "cifar10_vgg11": ((3, 32, 32), {"logits": (10,), "features": (512, 4, 4)}),
    "glioma_attention_unet": ((3, 224, 224), {"logits": (1, 224, 224)}),
    "glioma_unet": ((3, 224, 224), {"logits": (1, 224, 224)}),
}


def create(name: str) -> nn.Module:
    """Create a network on the meta device; these tests only need shapes."""
    (outputs,) = (count for start, count in LOGITS.items() if name.startswith(start))
    with torch.device("meta"):
        return networks.create(name, outputs).eval()


@pytest.mark.parametrize("name", PARAMETERS)
def test_has_the_parameters_of_the_original_system(name: str) -> None:
    assert sum(parameter.numel() for parameter in create(name).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", SHAPES)
def test_every_output_has_its_shape_and_one_row_per_image(name: str) -> None:
    image, expected = SHAPES[name]
    outputs = create(name)(torch.empty(2, *image, device="meta"))
    assert {key: tuple(value.shape) for key, value in outputs.items()} == {
        key: (2, *shape) for key, shape in expected.items()
    }


@pytest.mark.parametrize("name", [name for name in SHAPES if not name.startswith("glioma")])
def test_the_head_of_a_classifier_is_its_last_linear_layer(name: str) -> None:
    network = create(name)
    *_, head = (layer for layer in network.modules() if isinstance(layer, nn.Linear))
    assert head.out_features == SHAPES[name][1]["logits"][0]


def test_the_trunk_of_the_brain_networks_has_the_parameters_of_the_original() -> None:
    network = create("brain_tumor_cnn")
    trunk = [network.get_submodule(f"layer{number}") for number in range(1, 5)]
    assert sum(parameter.numel() for layer in trunk for parameter in layer.parameters()) == 260_928


TRUNK = {f"layer{number}.{index}" for number in range(1, 5) for index in (0, 1)}
ATTENTION = {"patch_embedding_layer", "sa.W_q", "sa.W_k", "sa.W_v", "sa.W_o", "fc.0"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("brain_tumor_cnn", TRUNK | {"fc1.0", "fc2.0"}),
        ("brain_tumor_cnn_attention", TRUNK | ATTENTION),
        ("brain_tumor_attention", ATTENTION),
    ],
)
def test_has_the_keys_of_the_original_system(name: str, expected: set[str]) -> None:
    assert {key.rpartition(".")[0] for key in create(name).state_dict()} == expected


def test_vgg16_has_the_keys_of_torchvision() -> None:
    from torchvision.models import vgg16_bn

    with torch.device("meta"):
        assert create("brain_tumor_vgg16").state_dict().keys() == vgg16_bn(num_classes=2).state_dict().keys()


@pytest.mark.parametrize("kind", VGG)
def test_the_vgg_family_has_the_layers_its_names_promise(kind: str) -> None:
    # Two of the three linear layers of the published VGG are absent.
    layers = [layer for layer in Vgg(10, kind).modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(layers) == int(kind.removeprefix("vgg")) - 2


def split_by_hand(
    image: np.ndarray[tuple[int, ...], np.dtype[np.float32]], count: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Split (channels, height, width) into tokens, one value at a time."""
    channels, indices = image.shape[0], image[0].size // count
    tokens = np.zeros((count, channels * indices), np.float32)
    for token in range(count):
        for channel in range(channels):
            for index in range(indices):
                tokens[token, channel * indices + index] = image[channel].ravel()[token * indices + index]
    return tokens


@pytest.mark.parametrize(
    ("network", "shape", "count"),
    [(BrainTumorCnnAttention, (128, 14, 14), 49), (BrainTumorAttention, (3, 200, 200), 400)],
)
def test_a_token_is_contiguous_in_memory_like_in_the_original(
    network: type[BrainTumorCnnAttention | BrainTumorAttention], shape: tuple[int, ...], count: int
) -> None:
    known = torch.arange(float(2 * np.prod(shape))).view(2, *shape)
    tokens = network().tokens(known)
    for row in range(2):
        assert np.array_equal(tokens[row].numpy(), split_by_hand(known[row].numpy(), count))
    channels_last = network().tokens(known.contiguous(memory_format=torch.channels_last))
    assert torch.equal(channels_last, tokens), "the memory layout must not change the tokens"


def test_a_token_of_the_image_is_half_a_row_of_each_channel() -> None:
    """Distinguishes a contiguous run (100 values of a row of 200) from a square (10 x 10)."""
    image = torch.zeros(1, 3, 200, 200)
    image[0, :, 7, 100:] = torch.tensor([1.0, 2.0, 3.0])[:, None]
    tokens = BrainTumorAttention().tokens(image)
    assert torch.equal(tokens[0, 15], torch.tensor([1.0, 2.0, 3.0]).repeat_interleave(100))
    assert not tokens[0, :15].any()
    assert not tokens[0, 16:].any()


@pytest.mark.parametrize("network", [BrainTumorCnnAttention, BrainTumorAttention])
def test_channels_last_images_give_the_same_logits(
    network: type[BrainTumorCnnAttention | BrainTumorAttention],
) -> None:
    torch.manual_seed(0)
    module, images = network().eval(), torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        expected = module(images)["logits"]
        torch.testing.assert_close(module(images.contiguous(memory_format=torch.channels_last))["logits"], expected)


def test_positions_equal_the_formula_of_the_paper() -> None:
    table = positions(400, 512)
    for index, column in ((0, 0), (1, 0), (7, 30), (399, 511), (48, 201)):
        angle = index / 10_000 ** (2 * (column // 2) / 512)
        expected = np.cos(angle) if column % 2 else np.sin(angle)
        assert float(table[index, column]) == pytest.approx(expected, abs=1e-4)


def test_attention_equals_that_of_torch() -> None:
    torch.manual_seed(0)
    module, tokens = SelfAttention(512, heads=2), torch.randn(3, 49, 512)
    q, k, v = (layer(tokens).view(3, 49, 2, 256).transpose(1, 2) for layer in (module.W_q, module.W_k, module.W_v))
    mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(3, 49, 512)
    result, attention = module(tokens)
    torch.testing.assert_close(result, module.W_o(mixed))
    torch.testing.assert_close(attention.sum(-1), torch.ones(3, 2, 49))


def test_the_unets_have_the_keys_of_monai_with_a_prefix() -> None:
    from monai.networks.nets.attentionunet import AttentionUnet
    from monai.networks.nets.unet import UNet

    channels, strides = (32, 64, 128, 256, 512), (2, 2, 2, 2)
    with torch.device("meta"):
        unet = UNet(2, 3, 1, channels, strides, num_res_units=2, dropout=0.0197)
        attention = AttentionUnet(2, 3, 1, channels, strides)
    for name, public in (("glioma_unet", unet), ("glioma_attention_unet", attention)):
        ours = create(name)
        shapes = {key: value.shape for key, value in public.state_dict().items()}
        assert {key.removeprefix(str(ours.WRAPPED)): value.shape for key, value in ours.state_dict().items()} == shapes
