"""Cards in the format of the Coalition for Health AI, against the structure of its schema v0.2."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from handlers.recipe import Recipe
from tests.training.cards.test_card import ARCHIVES, _report
from training.cards import chai, files

REQUIRED = {
    "AppliedModelCard": "BasicInfo ReleaseInfo ModelSummary UsesAndDirections Warnings TrustIngredients KeyMetrics "
    "Resources Bibliography",
    "BasicInfo": "ModelName ModelDeveloper DeveloperContact",
    "ReleaseInfo": "ReleaseStage ReleaseDate ReleaseVersion GlobalAvailability",
    "ModelSummary": "Summary Keywords",
    "UsesAndDirections": "IntendedUseAndWorkflow PrimaryIntendedUsers HowToUse TargetedPatientPopulation "
    "CautionedOutOfScopeSettings",
    "Warnings": "KnownRisksAndLimitations KnownBiasesOrEthicalConsiderations ClinicalRiskLevel",
    "TrustIngredients": "AISystemFacts TransparencyInformation",
    "AISystemFacts": "OutcomesAndOutputs ModelType InputDataSource OutputAndInputDataTypes "
    "DevelopmentDataCharacterization BiasMitigationApproaches OngoingMaintenance",
    "TransparencyInformation": "FundingSource StakeholdersConsulted",
    "KeyMetrics": "UsefulnessUsabilityEfficacy FairnessEquity SafetyReliability",
    **dict.fromkeys(
        ("UsefulnessUsabilityEfficacy", "FairnessEquity", "SafetyReliability"),
        "MetricGoal Results Interpretation TestType TestingDataDescription ValidationProcessAndJustification",
    ),
    "MetricResult": "Label ValueJson",
    "Resources": "PeerReviewedPublications PatientConsentOrDisclosure",
}
"""Elements that the schema requires, in its order."""
OPTIONAL = {"RegulatoryApproval"}


def parse(text: str) -> ET.Element:
    return ET.fromstring(text.partition("\n")[2])


def local(element: ET.Element) -> str:
    namespace, _, name = element.tag.rpartition("}")
    assert namespace == "{https://mc.chai.org/v0.2/schema.xsd"
    return name


def test_the_cards_of_the_shipped_models_have_the_elements_of_the_schema_in_its_order(tmp_path: Path) -> None:
    names = [path.parent.name for path in ARCHIVES.glob("*/CARD.md")]
    for name in names:
        (tmp_path / name).mkdir()
        for file in ("archive.yaml", "training.yaml", "metrics.json"):
            (tmp_path / name / file).write_bytes((ARCHIVES / name / file).read_bytes())
    written = [path for path in files.write(tmp_path, names, tmp_path) if path.suffix == ".xml"]
    assert sorted(path.stem for path in written) == sorted(names)
    for path in written:
        for element in parse(path.read_text(encoding="utf-8")).iter():
            children = [local(child) for child in element if local(child) not in OPTIONAL]
            expected = REQUIRED.get(local(element))
            assert expected is None or children == expected.split()
            assert expected is not None or set(children) <= {"Keyword", "MetricResult"}


def results(root: ET.Element, group: str) -> dict[str, Any]:
    found = {}
    for element in root.iter():
        if local(element) == group:
            for result in (each for each in element.iter() if local(each) == "MetricResult"):
                label, value = result
                found[str(label.text)] = json.loads(str(value.text))
    return found


def test_figures_of_validation_and_of_other_sources_are_in_different_groups(recipe: Recipe) -> None:
    figure = {"value": 0.7, "ci95": [0.6, 0.8]}
    part = {
        "name": "A",
        "command": "a test",
        "sha256": "c" * 64,
        "images": {"images": 30, "groups": 30, "labels": {"normal": 30}},
        "interval": "95%",
        "metrics": {"auroc": figure},
        "subgroups": {"sex": {"F": {"images": 25, "metrics": {"auroc": figure}}, "M": {"images": 5, "metrics": None}}},
    }
    root = parse(chai.document(recipe, _report(recipe, "chest_xray", external=[part]), "chest_xray"))
    assert results(root, "UsefulnessUsabilityEfficacy") == {"AUROC": {"value": 0.9, "ci95": [0.8, 0.95]}}
    assert results(root, "SafetyReliability") == {"A, AUROC": figure}
    assert results(root, "FairnessEquity") == {"A, sex F, AUROC": figure}


@pytest.mark.parametrize("demonstration", [True, False])
def test_what_was_not_measured_is_said(recipe: Recipe, demonstration: bool) -> None:
    metrics = _report(recipe, "chest_xray", demonstration=True) if demonstration else None
    root = parse(chai.document(recipe, metrics, "chest_xray"))
    for group in ("UsefulnessUsabilityEfficacy", "FairnessEquity", "SafetyReliability"):
        assert results(root, group) == {"Not measured": None}
