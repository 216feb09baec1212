from pathlib import Path
from typing import Any

import pytest

from handlers import recipe as recipes
from handlers.recipe import Decision, Detector, Input, Recipe, Weights
from tests.training.metrics.test_report import make
from training.cards import chai, dataset_notes
from training.cards.card import card
from training.errors import RunError
from training.metrics import report

ARCHIVES = Path(__file__).parents[3] / "archives"


@pytest.fixture(scope="module")
def cifar10() -> Recipe:
    return recipes.load(ARCHIVES / "cifar10-lenet" / "archive.yaml")


@pytest.fixture(scope="module")
def glioma() -> Recipe:
    return recipes.load(ARCHIVES / "glioma-unet" / "archive.yaml")


def _report(recipe: Recipe, data: str, **changes: Any) -> dict[str, Any]:
    model = {"name": recipe.name, "version": recipe.version, "weights_sha256": "a" * 64}
    side = {"images": 9, "groups": 4, "labels": dict.fromkeys(recipe.labels, 4)}
    split = {"sha256": "b" * 64, "train": side, "validation": side}
    return make(model=model, task=recipe.task, data=data, split=split) | changes


def test_a_card_shows_the_recipe_and_the_metrics(recipe: Recipe) -> None:
    text = card(recipe, _report(recipe, "chest_xray", stress={"dark": {"auroc": 0.81}}), "chest_xray")
    assert recipe.decision is not None
    for expected in (
        f"# {recipe.name} {recipe.version}\n",
        "Output: `normal` or `pneumonia`.",
        f"probability of {recipe.decision.threshold:.4f} or more are `pneumonia`",
        "| part | films | patients | normal / pneumonia |",
        "| training | 9 | 4 | 4 / 4 |",
        "Split by patients, each on one side only. Seed 1",
        "| AUROC | 0.900 (0.800 to 0.950) |",
        "true positive 5, false negative 1",
        "| dark | 0.810 |",
        "Created by `radserve train chest-xray-cnn` (epoch 4)",
        "children of one to five years",
        recipe.licence.strip(),
    ):
        assert expected in text


def test_the_card_of_imported_weights_claims_nothing_about_them(recipe: Recipe) -> None:
    weights = recipe.weights.model_copy(update={"sha256": "a" * 64})
    imported = recipe.model_copy(update={"weights": weights, "trained_on": "Other films.", "licence": "Unknown."})
    text = card(imported, None, "chest_xray")
    assert "**Imported weights; not measured.**" in text
    assert "license: unknown" in text
    assert "Other films." in text
    assert "ever trained" not in text
    assert dataset_notes.for_dataset("chest_xray").licence_note.strip() not in text
    assert dataset_notes.for_dataset("chest_xray").licence_note.strip() not in chai.document(
        imported, None, "chest_xray"
    )
    untrained = imported.model_copy(update={"weights": weights.model_copy(update={"sha256": None})})
    assert "**Never trained.**" in card(untrained, None, "chest_xray")


def test_a_card_lists_what_images_are_rejected_for(cifar10: Recipe, glioma: Recipe) -> None:
    assert "rejected based on contrast and size. Other" in card(cifar10, None, "cifar10")
    text = card(glioma, None, "lgg_mri")
    assert "rejected based on contrast and size. Images unlike" in text
    for row in ("| modality | MR |", "| body part | head |", "| age of the patient | patients of 18 years and older |"):
        assert row in text
    assert "The channels must be pre-contrast, FLAIR, post-contrast, in this order." in text
    assert "Scope" not in card(cifar10, None, "cifar10")


def test_every_card_has_the_disclaimer(recipe: Recipe, cifar10: Recipe, glioma: Recipe) -> None:
    for each, data in ((recipe, "chest_xray"), (cifar10, "cifar10"), (glioma, "lgg_mri")):
        for metrics in (None, _report(each, data), _report(each, data, demonstration=True)):
            assert "**Not a medical device.** For research only; do not use it for patient care." in card(
                each, metrics, data
            )


def test_a_model_that_was_never_trained_says_so_first_and_has_no_metrics(glioma: Recipe) -> None:
    lacking = Weights(file="weights.safetensors", sha256=None, source="run train.sh")
    text = card(glioma.model_copy(update={"weights": lacking}), None, "lgg_mri")
    assert text.split("\n\n")[2].startswith("**Never trained.** No weights are shipped.")
    assert "run train.sh" in text.split("\n\n")[2]
    assert "the model was never trained" in text
    assert "| metric |" not in text


def test_a_demonstration_says_so_first(cifar10: Recipe) -> None:
    text = card(cifar10, _report(cifar10, "cifar10", demonstration=True), "cifar10")
    first = text.split("\n\n")[2]
    assert first.startswith("**Demonstration only.** No trained weights are shipped.")
    assert "not from a usable model" in first


def test_weights_that_are_not_shipped_are_mentioned(recipe: Recipe) -> None:
    unshipped = recipe.model_copy(update={"weights": recipe.weights.model_copy(update={"source": "radserve fetch it"})})
    assert "not shipped with the repository.** To get the weights: `radserve fetch it`" in card(
        unshipped, _report(unshipped, "chest_xray"), "chest_xray"
    )
    assert "not shipped" not in card(recipe, _report(recipe, "chest_xray"), "chest_xray")


def test_a_card_for_many_labels_has_a_matrix_and_no_threshold(cifar10: Recipe) -> None:
    counts = {label: {other: int(label == other) for other in cifar10.labels} for label in cifar10.labels}
    text = card(cifar10, _report(cifar10, "cifar10", confusion=counts, threshold=None), "cifar10")
    assert "the most probable label, without a threshold." in text
    assert "also selected epoch and temperature." in text
    assert "| cat | 0 | 0 | 0 | 1 | 0 |" in text
    assert "lossy copy" in text
    assert "photographs | files" in text


def test_a_card_for_a_segmentation_distinguishes_the_kinds_of_dice(glioma: Recipe) -> None:
    figure = {"value": 0.84, "ci95": [0.8, 0.88]}
    missing = {"value": None, "ci95": None}
    validation = {"dice_patient": figure, "dice_slice": figure, "false_alarms": missing}
    text = card(glioma, _report(glioma, "lgg_mri", validation=validation, confusion=None), "lgg_mri")
    assert "| volumetric Dice per patient over all slices, mean | 0.840 (0.800 to 0.880) |" in text
    assert "| Dice per slice, mean over slices with tumour | 0.840 (0.800 to 0.880) |" in text
    assert "but with a predicted mask | not defined |" in text
    assert "64 instead of 256 gray" in text
    assert "Confusion" not in text


def test_a_card_describes_preprocessing_and_decision(glioma: Recipe) -> None:
    spec = Input(
        color="rgb", channels=3, height=224, width=200, frame=(256, 250), fit="pad", mean=(0, 0, 0), std=(1, 1, 1)
    )
    decision = Decision(positive="tumour", threshold=0.5, smallest=20, chosen="By hand.")
    text = card(glioma.model_copy(update={"input": spec, "decision": decision}), None, "lgg_mri")
    assert "resized to 256 x 250 (bilinear, aspect ratio kept, padded with black)" in text
    assert "cropped to the central 224 x 200" in text
    assert "masks of fewer than 20 pixels are emptied. By hand." in text


def test_metrics_of_another_data_set_are_not_called_validation(recipe: Recipe) -> None:
    metrics = _report(recipe, "chest_xray", part="all", epoch=None)
    metrics["split"] = metrics["split"] | {"train": None}
    text = card(recipe, metrics, "chest_xray")
    assert "| measured | 9 | 4 | 4 / 4 |" in text
    assert "| training |" not in text
    assert "Measured on the validation part" not in text
    assert "Split by" not in text
    assert "(epoch" not in text


@pytest.mark.parametrize(
    "changes",
    [
        {"data": "brain_tumor"},
        {"task": "segmentation"},
        {"model": {"name": "chest-xray-cnn", "version": "2.0.0", "weights_sha256": "a" * 64}},
    ],
)
def test_metrics_of_another_model_are_rejected(recipe: Recipe, changes: dict[str, Any]) -> None:
    with pytest.raises(RunError, match="Evaluate the model again"):
        card(recipe, _report(recipe, "chest_xray") | changes, "chest_xray")


def test_a_card_shows_every_metric_of_the_report(recipe: Recipe) -> None:
    keys = {f"figure_{index}": {"value": index / 10, "ci95": [0, 1]} for index in range(5)}
    text = card(recipe, _report(recipe, "chest_xray", validation=keys), "chest_xray")
    for index, figure in report.parse(_report(recipe, "chest_xray", validation=keys)).validation.items():
        assert f"| {index.replace('_', ' ')} | {figure.value:.3f} (" in text


def _detected(recipe: Recipe, sha256: str) -> Recipe:
    section = {
        "file": "detector.safetensors",
        "sha256": sha256,
        "method": "Distances.",
        "parts": ["thumbnail"],
        "marked": 1.1,
        "refused": 1.2,
        "fitted": "films",
        "split": "0" * 64,
    }
    return recipe.model_copy(update={"detector": Detector.model_validate(section)})


def _refusals(sha256: str) -> dict[str, object]:
    kind = {"images": 200, "refused": 199, "refused_ci95": (0.972, 0.999), "marked": 200, "softmax": 3}
    return {"detector_sha256": sha256, "command": "radserve", "milliseconds": 1.5, "kinds": {"noise": kind}}


def test_a_card_shows_what_the_detector_refused(recipe: Recipe) -> None:
    detected = _detected(recipe, "1" * 64)
    text = card(detected, _report(detected, "chest_xray", refusals=_refusals("1" * 64)), "chest_xray")
    assert "| noise | 200 | 99.5% (97.2% to 99.9%) | 100.0% | 1.5% |" in text
    assert "analysed without a warning" not in text


def test_a_card_does_not_show_what_another_detector_refused(recipe: Recipe) -> None:
    detected = _detected(recipe, "2" * 64)
    text = card(detected, _report(detected, "chest_xray", refusals=_refusals("1" * 64)), "chest_xray")
    assert "| noise |" not in text
    assert "Not measured" in text
