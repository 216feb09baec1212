"""Model cards in the XML format of the Coalition for Health AI.

Format: CHAI Applied Model Card, schema v0.2 (mc.chai.org/v0.2/schema.xsd). Text fields are Markdown. What this project
does not know, such as funding, is stated as such.
"""

import json
from collections.abc import Mapping
from typing import Any, Final
from xml.etree import ElementTree as ET

from handlers.recipe import Recipe
from handlers.scope.statement import ATTRIBUTES
from training.cards import dataset_notes
from training.cards.dataset_notes import DatasetNotes
from training.cards.markdown import metric_name
from training.metrics import report
from training.metrics.report import External, Metric, Report

NAMESPACE: Final = "https://mc.chai.org/v0.2/schema.xsd"
_NOT_KNOWN: Final = "Not known."
_NONE: Final = "None."
_DEVELOPER: Final = "RadServe"
_CONTACT: Final = "The issue tracker of RadServe's repository."

Fields = Mapping[str, Any]
"""Name of an element -> its text, its elements, or a list of them for an element that is repeated."""


def document(recipe: Recipe, metrics: Mapping[str, Any] | None, data: str) -> str:
    """Return the card of a model as XML; metrics are None if it was not measured."""
    notes = dataset_notes.for_dataset(data)
    measured = None if metrics is None else report.parse(metrics)
    root = ET.Element("AppliedModelCard", xmlns=NAMESPACE)
    _fill(root, _card(recipe, measured, notes))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _fill(element: ET.Element, fields: Fields) -> None:
    for name, value in fields.items():
        for item in value if isinstance(value, list) else [value]:
            child = ET.SubElement(element, name)
            if isinstance(item, Mapping):
                _fill(child, item)
            else:
                child.text = str(item).strip()


def _card(recipe: Recipe, measured: Report | None, notes: DatasetNotes) -> Fields:
    """Return the elements of a card, in the order of the schema."""
    imported = measured is None and recipe.weights.sha256 is not None
    source = "unknown" if imported else notes.source
    return {
        "BasicInfo": {"ModelName": recipe.name, "ModelDeveloper": _DEVELOPER, "DeveloperContact": _CONTACT},
        "ReleaseInfo": {
            "ReleaseStage": "Research only; not a medical device.",
            "ReleaseDate": _NOT_KNOWN,
            "ReleaseVersion": recipe.version,
            # The licence of imported weights has nothing to do with the data set of the training settings.
            "GlobalAvailability": recipe.licence if imported else f"{recipe.licence} {notes.licence_note}",
            "RegulatoryApproval": _NONE,
        },
        "ModelSummary": {
            "Summary": f"{recipe.title}.",
            "Keywords": {"Keyword": [recipe.task, *recipe.labels]},
        },
        "UsesAndDirections": {
            "IntendedUseAndWorkflow": f"Intended for: {notes.intended_use}",
            "PrimaryIntendedUsers": "Researchers and engineers.",
            "HowToUse": "Serve the archive with RadServe, and send one image per request.",
            "TargetedPatientPopulation": _population(recipe),
            "CautionedOutOfScopeSettings": f"Not intended for: {notes.out_of_scope}",
        },
        "Warnings": {
            "KnownRisksAndLimitations": "\n".join(recipe.known_failures) or notes.limits,
            "KnownBiasesOrEthicalConsiderations": notes.limits,
            "ClinicalRiskLevel": "Not determined: not for patient care.",
        },
        "TrustIngredients": {
            "AISystemFacts": {
                "OutcomesAndOutputs": f"Labels: {', '.join(recipe.labels)}.",
                "ModelType": f"Neural network for {recipe.task} ({recipe.network}).",
                "InputDataSource": _scope(recipe, "modality") or _NOT_KNOWN,
                "OutputAndInputDataTypes": f"Input: one image. Output: JSON with a {_output(recipe)}.",
                "DevelopmentDataCharacterization": recipe.trained_on,
                "BiasMitigationApproaches": _NONE,
                "OngoingMaintenance": "None is promised.",
            },
            "TransparencyInformation": {"FundingSource": _NOT_KNOWN, "StakeholdersConsulted": _NONE},
        },
        "KeyMetrics": _metrics(measured, notes),
        "Resources": {
            "PeerReviewedPublications": notes.published,
            "PatientConsentOrDisclosure": f"Not known for the training data: {source}.",
        },
        "Bibliography": "",
    }


def _output(recipe: Recipe) -> str:
    return "mask" if recipe.task == "segmentation" else "label and probabilities"


def _scope(recipe: Recipe, attribute: str) -> str:
    return recipe.scope.describe(attribute) if attribute in recipe.scope.attributes else ""


def _population(recipe: Recipe) -> str:
    known = [f"{ATTRIBUTES[name]}: {recipe.scope.describe(name)}" for name in recipe.scope.attributes]
    return "; ".join(known) or _NOT_KNOWN


def _metrics(measured: Report | None, notes: DatasetNotes) -> Fields:
    usable = measured is not None and not measured.demonstration and measured.part == "validation"
    validation = measured.validation if measured is not None and usable else {}
    external = measured.external if measured is not None and usable else ()
    data = f"Validation part, split by {notes.group}, which also selected epoch, temperature and threshold."
    subgroups = {
        f"{part.name}, {attribute} {value}, {metric_name(key)}": metric
        for part in external
        for attribute, rows in part.subgroups.items()
        for value, row in rows.items()
        for key, metric in (row.metrics or {}).items()
    }
    return {
        "UsefulnessUsabilityEfficacy": _metric(
            "Accuracy on images that were not used in training",
            {metric_name(key): metric for key, metric in validation.items()},
            "internal",
            data,
        ),
        "FairnessEquity": _metric("Accuracy by age, sex and view", subgroups, "external", _sources(external)),
        "SafetyReliability": _metric(
            "Accuracy on images of other sources",
            {f"{part.name}, {metric_name(key)}": metric for part in external for key, metric in part.metrics.items()},
            "external",
            _sources(external),
        ),
    }


def _sources(external: tuple[External, ...]) -> str:
    return "; ".join(f"{part.name}: {part.images.images} images" for part in external) or _NONE


def _metric(goal: str, values: Mapping[str, Metric], kind: str, data: str) -> Fields:
    results = [
        {"Label": name, "ValueJson": json.dumps({"value": metric.value, "ci95": metric.ci95})}
        for name, metric in values.items()
    ]
    return {
        "MetricGoal": goal,
        "Results": {"MetricResult": results or [{"Label": "Not measured", "ValueJson": "null"}]},
        "Interpretation": "Expect lower accuracy elsewhere." if results else "Not measured.",
        "TestType": kind if results else _NONE,
        "TestingDataDescription": data if results else _NONE,
        "ValidationProcessAndJustification": "95% intervals by a bootstrap over groups." if results else _NONE,
    }
