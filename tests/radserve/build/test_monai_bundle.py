"""MONAI bundles, compared with what MONAI itself computes."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai import transforms
from monai.networks.nets.densenet import DenseNet
from monai.networks.nets.unet import UNet
from monai.transforms.compose import Compose
from PIL import Image

from handlers import preprocess
from handlers.formats import decode
from handlers.recipe import Recipe
from radserve.build import monai_bundle, monai_transforms, new_model, trained_network
from radserve.build.import_weights import Checkpoint
from radserve.errors import BundleError
from tests.radserve.build import bundles

# MONAI warns of the optional readers that are not installed.
pytestmark = pytest.mark.filterwarnings("ignore:.*nvImageCodec.*:UserWarning", "ignore:required package:UserWarning")

Change = Callable[[dict[str, Any], dict[str, Any]], None]


def install(tmp_path: Path, parts: tuple[dict[str, Any], dict[str, Any]]) -> tuple[Recipe, torch.nn.Module, Path]:
    bundle = monai_bundle.read(bundles.write(tmp_path / "bundle", *parts), "island", approximate=True)
    recipe = new_model.create(tmp_path / "archives", bundle.draft, "a test", Checkpoint(bundle.weights, half=False))
    folder = tmp_path / "archives" / "island"
    return recipe, trained_network.load(recipe, folder / recipe.weights.file), folder


def picture(path: Path, mode: str, size: tuple[int, int]) -> Path:
    """Write noise, which shows any exchange of axes, channels or scale."""
    random = np.random.default_rng(1)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(path)
    return path


def reference(steps: list[dict[str, Any]], path: Path, spatial_size: tuple[int, int]) -> torch.Tensor:
    """Preprocess with MONAI's own transforms."""
    made = []
    for step in steps:
        values = {key: value for key, value in step.items() if key != "_target_"}
        if values.get("spatial_size") == "@spatial_size":
            values["spatial_size"] = spatial_size
        made.append(getattr(transforms, step["_target_"])(**values))
    result: torch.Tensor = Compose(made)({"image": str(path)})["image"]
    return torch.as_tensor(np.asarray(result))[None]


def ours(recipe: Recipe, path: Path) -> torch.Tensor:
    image = decode.decode(path.read_bytes(), at_least=preprocess.at_least(recipe.input))
    return torch.from_numpy(preprocess.preprocess(image, recipe.input))[None]


def test_a_segmentation_equals_monais_own_inference(tmp_path: Path) -> None:
    recipe, network, folder = install(tmp_path, bundles.segmentation())
    path = picture(tmp_path / "noise.png", "L", (64, 32))
    original = UNet(**bundles.UNET).eval()
    original.load_state_dict(torch.load(tmp_path / "bundle" / "models" / "model.pt")["model"])
    with torch.inference_mode():
        expected = original(reference(bundles.SEGMENTATION_STEPS, path, (64, 32))).softmax(1)[0, 1].T
        actual = network(ours(recipe, path))["logits"].sigmoid()[0, 0]
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)
    assert (recipe.labels, recipe.input.height, recipe.input.width) == (("background", "island"), 32, 64)
    assert (recipe.version, recipe.scope.modality) == ("0.4.2", ("MR",))
    assert recipe.trained_on == "drawn by the test"
    assert recipe.warning is not None
    assert "licence" in recipe.warning
    assert "This is an example" in recipe.warning
    assert (folder / "CARD.md").is_file()


def test_a_classifier_equals_monais_own_inference_and_keeps_the_order_of_its_labels(tmp_path: Path) -> None:
    recipe, network, _ = install(tmp_path, bundles.classification())
    path = picture(tmp_path / "noise.png", "RGB", (64, 48))
    original = DenseNet(**bundles.DENSE).eval()
    original.load_state_dict(torch.load(tmp_path / "bundle" / "models" / "model.pt")["model"])
    with torch.inference_mode():
        expected = original(reference(bundles.CLASSIFICATION_STEPS, path, (48, 64)))
        actual = network(ours(recipe, path))
    torch.testing.assert_close(actual["logits"], expected, atol=1e-4, rtol=0)
    assert recipe.labels == ("malign", "benign")
    assert recipe.decision is None
    assert recipe.explains


def step(target: str, **values: Any) -> Change:
    """Replace the resizing by another transform."""

    def change(config: dict[str, Any], _: dict[str, Any]) -> None:
        config["preprocessing"]["transforms"][2] = {"_target_": target, "keys": "image", **values}

    return change


def setting(part: int, *path: str | int, value: Any) -> Change:
    def change(*parts: dict[str, Any]) -> None:
        inner: Any = parts[part]
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value

    return change


OUTPUT = ("network_data_format", "outputs", "pred")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (setting(0, "network_def", "channels", value="$[4] * 2"), "never executed"),
        (setting(0, "network_def", "_target_", value="scripts.net.Net"), "not one of monai.networks.nets"),
        (setting(0, "network_def", "_target_", value="os.system"), "not one of monai.networks.nets"),
        (setting(0, "network_def", "spatial_dims", value=3), "3 dimensions"),
        (setting(0, "network_def", value="$torch.nn.Identity()"), "defines no network as data"),
        (setting(0, "spatial_size", value="@spatial_size"), "refers to itself"),
        (setting(0, "spatial_size", value="@missing"), "does not exist"),
        (setting(0, "preprocessing", value="$monai.transforms.Compose([])"), "never executed"),
        (setting(0, "preprocessing", value=[]), "preprocessing: missing"),
        (step("ScaleIntensityd"), "own minimum and maximum"),
        (step("NormalizeIntensityd"), "own mean and deviation"),
        (step("ScaleIntensityRanged", a_min=-175, a_max=250), "-175 to 250"),
        (step("Orientationd", axcodes="RAS"), "Orientationd has no equivalent"),
        (step("Resized", spatial_size=[64, -1]), "two fixed sides"),
        (step("Resized", spatial_size=[64, 32]), "Accept that with --approximate"),
        (step("EnsureTyped"), "no fixed size"),
        (step("NormalizeIntensityd", subtrahend=0, divisor=0), "must not be 0"),
        (step("NormalizeIntensityd", subtrahend=0, divisor="x"), "not numbers"),
        (step("ScaleIntensityRanged", a_max=255), "a_min has value None"),
        (step("ScaleIntensityRanged", a_min=0, a_max=255, b_min=1, b_max=1), "makes every image equal"),
        (setting(0, "preprocessing", "transforms", 0, "reader", value=["PILReader"]), "order of the axes"),
        (setting(0, "preprocessing", "transforms", 0, "_target_", value="Identityd"), "no LoadImage"),
        (setting(0, "preprocessing", "transforms", 4, "dtype", value="torch.uint8"), "to torch.uint8 after a change"),
        (setting(0, "postprocessing", value=[]), "Give --activation"),
        (setting(0, "postprocessing", value=[{"_target_": "AsDiscreted", "threshold": 0.5}]), "Give --activation"),
        (setting(0, "postprocessing", value=[{"_target_": "KeepLargestConnectedComponentd"}]), "postprocessing"),
        (setting(1, *OUTPUT, "channel_def", value={"0": "background", "2": "island"}), "expected 0 to 1"),
        (setting(1, *OUTPUT, "channel_def", value={"0": "island", "1": "background"}), "has the background second"),
        (setting(1, *OUTPUT, "channel_def", value={}), "does not name the finding"),
        (setting(1, *OUTPUT, "num_channels", value=4), "expected 0 to 3"),
        (setting(1, *OUTPUT, "format", value="boxes"), "format 'boxes'"),
        (setting(1, "network_data_format", "inputs", "image", "num_channels", value=2), "2 channels"),
        (setting(1, "network_data_format", "inputs", "image", "is_patch_data", value=True), "patches"),
    ],
)
def test_what_a_recipe_cannot_express_is_rejected_with_the_reason(change: Change, message: str, tmp_path: Path) -> None:
    config, metadata = copy.deepcopy(bundles.segmentation())
    change(config, metadata)
    folder = bundles.write(tmp_path, config | {"network_def": {"_target_": "UNet"}}, metadata)
    bundles.write_config(folder, config)
    with pytest.raises(BundleError, match=message):
        monai_bundle.read(folder, "island", approximate="Accept that" not in message)


def test_unknown_labels_are_never_guessed_and_an_order_is_never_changed(tmp_path: Path) -> None:
    config, metadata = copy.deepcopy(bundles.classification())
    folder = bundles.write(tmp_path, config, metadata)
    with pytest.raises(BundleError, match="another order than the channel_def of the bundle: malign, benign"):
        monai_bundle.read(folder, "island", ("benign", "malign"), approximate=True)
    del metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    bundles.write(tmp_path, config, metadata)
    with pytest.raises(BundleError, match="labels of the output are unknown"):
        monai_bundle.read(folder, "island", approximate=True)
    assert monai_bundle.read(folder, "island", ("x", "y"), approximate=True).draft.labels == ("x", "y")
    with pytest.raises(BundleError, match="has 3 labels"):
        monai_bundle.read(folder, "island", ("x", "y", "z"), approximate=True)


@pytest.mark.parametrize("given", [("Benign", "Malign"), ("benign", "cancer"), ("tumour", " MALIGN")])
def test_a_label_with_the_name_of_another_output_is_rejected(given: tuple[str, str], tmp_path: Path) -> None:
    folder = bundles.write(tmp_path, *bundles.classification())
    with pytest.raises(BundleError, match="another order than the channel_def of the bundle"):
        monai_bundle.read(folder, "island", given, approximate=True)
    assert monai_bundle.read(folder, "island", ("Malign", "harmless"), approximate=True).draft.labels == (
        "Malign",
        "harmless",
    )


def test_the_name_of_a_single_output_must_be_the_second_label(tmp_path: Path) -> None:
    config, metadata = copy.deepcopy(bundles.classification())
    output = metadata["network_data_format"]["outputs"]["pred"]
    output |= {"num_channels": 1, "channel_def": {"0": "pneumonia"}}
    config["postprocessing"] = [{"_target_": "Activationsd", "sigmoid": True}]
    folder = bundles.write(tmp_path, config, metadata)
    for given in (("pneumonia", "normal"), ("healthy", "ill")):
        with pytest.raises(BundleError, match="is the probability of 'pneumonia'"):
            monai_bundle.read(folder, "island", given, approximate=True)
    assert monai_bundle.read(folder, "island", ("normal", "Pneumonia"), approximate=True).draft.labels == (
        "normal",
        "Pneumonia",
    )


@pytest.mark.parametrize("names", [{}, {"0": "background", "1": "island"}])
def test_the_background_of_a_mask_must_be_the_first_label(names: dict[str, str], tmp_path: Path) -> None:
    config, metadata = copy.deepcopy(bundles.segmentation())
    metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = names
    folder = bundles.write(tmp_path, config, metadata)
    with pytest.raises(BundleError, match="another order"):
        monai_bundle.read(folder, "island", ("isle", "Background"), approximate=True)
    assert monai_bundle.read(folder, "island", ("background", "isle"), approximate=True).draft.labels == (
        "background",
        "isle",
    )


def test_another_resampling_is_accepted_on_request_with_a_warning(tmp_path: Path) -> None:
    config, metadata = copy.deepcopy(bundles.segmentation())
    step("Resized", spatial_size=[64, 32])(config, metadata)
    bundle = monai_bundle.read(bundles.write(tmp_path, config, metadata), "island", approximate=True)
    assert "not by MONAI's mode 'area' without anti_aliasing" in " ".join(bundle.draft.warnings)


def test_even_the_same_filter_gives_other_pixels_of_a_larger_picture_so_it_is_not_accepted_silently(
    tmp_path: Path,
) -> None:
    config, metadata = bundles.segmentation()
    folder = bundles.write(tmp_path / "bundle", config, metadata)
    with pytest.raises(BundleError, match=r"with anti_aliasing\. .* Accept that with --approximate"):
        monai_bundle.read(folder, "island")
    recipe, *_ = install(tmp_path, (config, metadata))
    assert "not by MONAI's mode 'bilinear' with anti_aliasing" in (recipe.warning or "")
    path = picture(tmp_path / "noise.png", "L", (256, 128))
    expected = reference(bundles.SEGMENTATION_STEPS, path, (64, 32)).mT
    difference = (ours(recipe, path) - expected).abs()
    assert 0.01 < float(difference.max()) < 0.6  # of noise, the worst case, on the scale -1 to 1
    assert float(difference.mean()) < 0.1


SOFTMAX = {"_target_": "Activationsd", "softmax": True}
SIGMOID = {"_target_": "Activationsd", "sigmoid": True}
THRESHOLD = {"_target_": "AsDiscreted", "threshold": 0.3}


def test_a_threshold_of_a_bundle_is_that_of_the_second_label(tmp_path: Path) -> None:
    config, metadata = bundles.classification()
    folder = bundles.write(tmp_path, config | {"postprocessing": [SOFTMAX, THRESHOLD]}, metadata)
    recipe = new_model.create(
        tmp_path / "archives", monai_bundle.read(folder, "island", approximate=True).draft, "a test"
    )
    assert recipe.decision is not None
    assert (recipe.decision.positive, recipe.decision.threshold) == ("benign", 0.3)
    assert recipe.decision.chosen == "The threshold of the bundle's postprocessing."


@pytest.mark.parametrize(
    ("transforms", "outputs", "given", "expected"),
    [
        ([SIGMOID, THRESHOLD], 1, None, ("sigmoid", 0.3)),
        ([SOFTMAX], 2, None, ("softmax", None)),
        ([{"_target_": "AsDiscrete", "argmax": True}], 3, None, ("softmax", None)),
        ([], 1, "sigmoid", ("sigmoid", None)),
        ([{"_target_": "AsDiscrete", "threshold": 0.0}], 1, "sigmoid", ("sigmoid", 0.5)),  # of a logit
    ],
)
def test_the_activation_is_that_of_the_bundle_or_else_the_callers(
    transforms: list[dict[str, Any]], outputs: int, given: str | None, expected: tuple[str, float | None]
) -> None:
    assert monai_transforms.activation(transforms, outputs, given) == expected


@pytest.mark.parametrize(
    ("transforms", "outputs", "given", "message"),
    [
        ([SOFTMAX], 2, "sigmoid", "is a softmax. Omit it"),
        ([SOFTMAX], 1, None, "cannot be 'softmax'"),
        ([SOFTMAX, THRESHOLD], 3, None, "a threshold of 3 outputs"),
        ([THRESHOLD, SOFTMAX], 2, None, "before a softmax"),
        ([], 2, "relu", "cannot be 'relu'"),
    ],
)
def test_an_activation_or_threshold_without_equivalent_is_rejected(
    transforms: list[dict[str, Any]], outputs: int, given: str | None, message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        monai_transforms.activation(transforms, outputs, given)


def test_code_in_weights_is_not_executed(tmp_path: Path) -> None:
    folder = bundles.write(tmp_path, *bundles.segmentation())
    (folder / "models" / "model.pt").unlink()
    (folder / "models" / "model.ts").write_bytes(b"")
    with pytest.raises(BundleError, match="TorchScript"):
        monai_bundle.read(folder, "island", approximate=True)
