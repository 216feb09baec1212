"""Explanations: they point at the decisive area and equal reference implementations."""

import base64
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam, LayerGradientXActivation
from numpy.typing import NDArray
from PIL import Image as Pillow

from handlers import heat_map, recipe
from handlers.errors import InternalError, ProgramError
from handlers.explanation import document, explain, score
from handlers.pipeline import Pipeline
from handlers.program import Program
from handlers.recipe import Recipe
from radserve.build.export import export
from tests.conftest import brightness_recipe
from training import networks
from training.networks import moments
from training.networks.brain_tumor import split_tokens

SIDE = 32
"""Side of the input of the test networks."""


class Looking(torch.nn.Module):
    """Network that depends only on the bright pixels of one part of its input."""

    seen: torch.Tensor
    sign: torch.Tensor

    def __init__(self, part: tuple[slice, slice] = (slice(None), slice(None)), outputs: int = 2) -> None:
        super().__init__()
        seen = torch.zeros(SIDE, SIDE)
        seen[part] = 1
        self.register_buffer("seen", seen)
        self.register_buffer("sign", torch.tensor([-1.0, 1.0])[-outputs:])

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        features = x.mean(1, keepdim=True).relu() * self.seen
        return {"logits": features.mean((2, 3)) * self.sign, "features": features}


class Attending(torch.nn.Module):
    """Network that attends to the brighter of 64 tokens: runs of 4 pixels of a map of 16 x 16."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        small = torch.nn.functional.adaptive_avg_pool2d(x.mean(1, keepdim=True), 16)
        bright = split_tokens(small, 64, 2).mean(-1)
        attention = torch.softmax(4 * bright[:, None, None].expand(-1, 1, 64, -1), dim=-1)
        focus = (attention @ bright[:, None, :, None]).mean((1, 2))
        return {"logits": torch.cat([-focus, focus], dim=1), "attention": attention}


def make_recipe(spec: dict[str, object] | None = None, **changes: object) -> Recipe:
    data = brightness_recipe()
    data["input"] = dict(data["input"], height=SIDE, width=SIDE) | (spec or {})  # type: ignore[call-overload]
    return recipe.parse(data | changes, "test")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[torch.nn.Module], Program]:
    folder = tmp_path_factory.mktemp("programs")

    def make(network: torch.nn.Module, shape: tuple[int, int, int] = (3, SIDE, SIDE)) -> Program:
        export(network.eval(), shape, folder / "program.pt2")
        return Program(folder / "program.pt2")

    return make


@pytest.fixture(scope="module")
def bright(exported: Callable[[torch.nn.Module], Program]) -> Program:
    return exported(Looking())


Box = tuple[int, int, int, int]


def film(width: int, height: int, box: Box, level: int = 250) -> bytes:
    """Return a dark film with a bright patch (left, top, right, bottom)."""
    pixels = np.random.default_rng(0).integers(0, 60, (height, width)).astype(np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = level
    stream = BytesIO()
    Pillow.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def explained(program: Program, how: Recipe, data: bytes, label: str = "bright") -> NDArray[np.uint8]:
    return np.asarray(explain(program, how, Pipeline(how, program).prepare(data), label))


def share_inside(pixels: NDArray[np.uint8], box: Box) -> float:
    return float(pixels[box[1] : box[3], box[0] : box[2]].sum() / pixels.sum())


@pytest.mark.parametrize(
    ("width", "height", "box"),
    [
        (96, 64, (10, 8, 30, 24)),
        (96, 64, (60, 40, 90, 60)),
        (64, 200, (40, 20, 60, 60)),
        (64, 200, (4, 150, 24, 190)),
        (32, 32, (20, 4, 28, 12)),
    ],
)
@pytest.mark.parametrize("geometry", [{}, {"fit": "pad"}, {"frame": [40, 40], "fit": "pad"}])
def test_the_map_of_a_model_that_sees_a_bright_patch_points_at_the_patch(
    bright: Program, width: int, height: int, box: Box, geometry: dict[str, object]
) -> None:
    pixels = explained(bright, make_recipe(geometry), film(width, height, box))
    assert pixels.shape == (height, width)
    row, column = np.unravel_index(pixels.argmax(), pixels.shape)
    assert box[0] <= column < box[2]
    assert box[1] <= row < box[3]
    assert share_inside(pixels, box) > 0.5


def test_models_that_look_at_different_sides_have_different_maps(
    exported: Callable[[torch.nn.Module], Program],
) -> None:
    half = SIDE // 2
    data = film(96, 64, (0, 16, 96, 48))  # a bar from left to right
    left, right = (
        explained(exported(Looking((slice(None), part))), make_recipe(), data)
        for part in (slice(0, half), slice(half, SIDE))
    )
    assert share_inside(left, (0, 0, 48, 64)) > 0.9
    assert share_inside(right, (48, 0, 96, 64)) > 0.9


def test_a_label_without_support_has_an_empty_map_marked_as_empty(bright: Program) -> None:
    how = make_recipe()
    prepared = Pipeline(how, bright).prepare(film(96, 64, (10, 8, 30, 24)))
    assert document(how, "dark", explain(bright, how, prepared, "dark"))["empty"] is True
    assert document(how, "bright", explain(bright, how, prepared, "bright"))["empty"] is False


def test_with_one_sigmoid_logit_the_second_label_is_explained_by_it_and_the_first_by_its_opposite(
    exported: Callable[[torch.nn.Module], Program], bright: Program
) -> None:
    program = exported(Looking(outputs=1))
    data = film(96, 64, (10, 8, 30, 24))
    how = make_recipe(activation="sigmoid")
    np.testing.assert_array_equal(explained(program, how, data), explained(bright, make_recipe(), data))
    assert not explained(program, how, data, "dark").any()


def test_with_softmax_each_label_is_explained_by_its_own_logit() -> None:
    np.testing.assert_array_equal(score("dark", make_recipe()), [1, 0])
    np.testing.assert_array_equal(score("bright", make_recipe()), [0, 1])


@pytest.mark.parametrize(
    ("width", "height", "box", "geometry"),
    [
        # Patches of whole tokens: 4 x 1 of 16 x 16 cells.
        (64, 64, (16, 8, 32, 12), {}),
        (128, 64, (96, 40, 128, 44), {}),
        (128, 64, (0, 32, 32, 40), {"fit": "pad"}),
        (64, 192, (0, 96, 48, 108), {"fit": "pad"}),
    ],
)
def test_attention_relevance_points_at_the_attended_token(
    exported: Callable[[torch.nn.Module], Program], width: int, height: int, box: Box, geometry: dict[str, object]
) -> None:
    how = make_recipe(geometry, explanation={"method": "attention-relevance", "side": 16})
    pixels = explained(exported(Attending()), how, film(width, height, box))
    assert pixels.shape == (height, width)
    row, column = np.unravel_index(pixels.argmax(), pixels.shape)
    assert box[0] <= column < box[2]
    assert box[1] <= row < box[3]


def test_the_document_holds_the_map_in_the_images_own_size(bright: Program) -> None:
    how = make_recipe()
    prepared = Pipeline(how, bright).prepare(film(96, 64, (10, 8, 30, 24)))
    heat = explain(bright, how, prepared, "bright")
    result = document(how, "bright", heat)
    data = result.pop("data")
    assert result == {
        "method": "grad-cam",
        "label": "bright",
        "empty": False,
        "encoding": "png",
        "width": 96,
        "height": 64,
    }
    picture = Pillow.open(BytesIO(base64.b64decode(data)))
    assert picture.mode == "L"
    np.testing.assert_array_equal(np.asarray(picture), np.asarray(heat))


def test_a_program_without_the_methods_output_is_an_error(bright: Program) -> None:
    how = make_recipe(explanation={"method": "attention-relevance", "side": 16})
    with pytest.raises(ProgramError, match="no output 'attention'; available: logits, features"):
        explained(bright, how, film(96, 64, (10, 8, 30, 24)))


def test_invalid_gradients_are_an_internal_error(exported: Callable[[torch.nn.Module], Program]) -> None:
    class Root(Looking):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            outputs = super().forward(x)
            features = outputs["features"]
            # The slope of a square root at 0 is infinite, though the root is not.
            return {"logits": features.sqrt().mean((2, 3)) * self.sign, "features": features}

    with pytest.raises(InternalError, match="invalid gradients"):
        explained(exported(Root()), make_recipe(), film(96, 64, (10, 8, 30, 24)))


def seeded(name: str, outputs: int, seed: int = 0) -> torch.nn.Module:
    """Return an untrained network with non-trivial normalisation, as after training."""
    torch.manual_seed(seed)
    network = networks.create(name, outputs).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network


def tapped(network: torch.nn.Module, output: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Adapter for Captum: returns logits, and passes an output through a separate layer."""
    traced = moments.trace(network)
    (end,) = (node for node in traced.graph.nodes if node.op == "output")
    outputs: Any = end.args[0]
    value = outputs[output]
    traced.add_submodule("tap", torch.nn.Identity())
    end.args = (outputs["logits"],)
    with traced.graph.inserting_after(value):
        tap = traced.graph.call_module("tap", (value,))
    value.replace_all_uses_with(tap, lambda node: node is not tap)
    traced.recompile()
    return traced, traced.get_submodule("tap")


CNNS = [
    # The rows of features that the last pool keeps: it drops the last of seven.
    ("cifar10_lenet", 10, (3, 32, 32), 10),
    ("cifar10_vgg11", 10, (3, 32, 32), 4),
    ("chest_xray_cnn", 2, (3, 112, 160), 6),
]


@pytest.mark.parametrize(("name", "outputs", "shape", "rows"), CNNS)
def test_grad_cam_of_the_exported_program_is_captums_of_the_eager_network(
    exported: Callable[..., Program], name: str, outputs: int, shape: tuple[int, int, int], rows: int
) -> None:
    network = seeded(name, outputs)
    images = torch.randn(3, *shape)
    labels = [0, 1, outputs - 1]
    reference = LayerGradCam(*tapped(network, "features"))
    expected = reference.attribute(images, target=labels, relu_attributions=True).detach().numpy()[:, 0]
    weights = np.eye(outputs, dtype=np.float32)[labels]
    features, gradients = exported(network, shape).gradients(images.numpy(), weights, "features")
    relevance = np.stack([heat_map.grad_cam(*pair) for pair in zip(features, gradients, strict=True)])
    top = expected[:, :rows].max()
    assert top > 0
    np.testing.assert_allclose(relevance[:, :rows] / top, expected[:, :rows] / top, atol=1e-4)
    assert not relevance[:, rows:].any()


@pytest.mark.parametrize("name", ["brain_tumor_attention", "brain_tumor_cnn_attention"])
def test_attention_relevance_of_the_exported_program_is_captums_of_the_eager_network(
    exported: Callable[..., Program], name: str
) -> None:
    network = seeded(name, 2)
    images = torch.randn(2, 3, 224, 224)
    reference = LayerGradientXActivation(*tapped(network, "attention"), multiply_by_inputs=True)
    product = reference.attribute(images, target=[0, 1]).detach().numpy()
    expected = product.clip(0).mean(axis=1).sum(axis=1)
    weights = np.eye(2, dtype=np.float32)
    attention, gradients = exported(network, (3, 224, 224)).gradients(images.numpy(), weights, "attention")
    relevance = np.stack([heat_map.attention_relevance(*pair) for pair in zip(attention, gradients, strict=True)])
    assert (expected.max(axis=1) > 0).all()
    np.testing.assert_allclose(relevance / expected.max(), expected / expected.max(), atol=1e-4)


def test_other_weights_give_another_map(exported: Callable[..., Program]) -> None:
    # Adebayo et al., "Sanity Checks for Saliency Maps" (NeurIPS 2018): a map that does not depend
    # on the weights shows edges of the image, not reasons of the model.
    network = seeded("cifar10_lenet", 10)
    image = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    weights = np.eye(10, dtype=np.float32)[[3]]
    maps = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        network.fc3.reset_parameters()  # type: ignore[operator,union-attr]
        features, gradients = exported(network, (3, 32, 32)).gradients(image, weights, "features")
        maps.append(heat_map.grad_cam(features[0], gradients[0]))
        assert maps[-1].max() > 0
    assert abs(np.corrcoef(maps[0].ravel(), maps[1].ravel()).item(1)) < 0.5
