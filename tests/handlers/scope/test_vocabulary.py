"""Words and codes; pydicom's dictionaries of SNOMED codes are the reference."""

import pytest
from pydicom.sr import _snomed_dict
from pydicom.sr.codedict import codes

from handlers.scope import vocabulary


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PA", {"PA"}),
        ("pa ", {"PA"}),
        ("P.A.", {"PA"}),
        ("P-A", {"PA"}),
        ("p.-a.", {"PA"}),
        ("AP1", {"AP"}),
        ("AP_SUPINE", {"AP"}),
        ("AP PORTABLE", {"AP"}),
        ("POSTERO-ANTERIOR", {"PA"}),
        ("posteroanterior", {"PA"}),
        ("antero-posterior", {"AP"}),
        ("FRONTAL", {"frontal"}),
        ("LL", {"lateral"}),
        ("RL", {"lateral"}),
        ("Lateral", {"lateral"}),
        ("LEFT LAT", {"lateral"}),
        ("PA/LAT", {"PA", "lateral"}),
        ("RLD", {"decubitus"}),
        ("AP LORDOTIC", {"lordotic"}),
        ("AP AXIAL", {"axial"}),
        ("RAO", {"oblique"}),
        ("antero-posterior oblique", {"oblique"}),
        ("", set()),
        ("XYZ", set()),
        ("PALM", set()),
    ],
)
def test_views(text: str, expected: set[str]) -> None:
    assert vocabulary.views(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CHEST", {"chest"}),
        ("chest pa", {"chest"}),
        ("Thorax", {"chest"}),
        ("TORAX", {"chest"}),
        ("LUNGS", {"chest"}),
        ("CHEST^PEDIATRIC", {"chest"}),
        ("BRAIN", {"head"}),
        ("SKULL", {"head"}),
        ("KOPF", {"head"}),
        ("KNEE", {"leg"}),
        ("TSPINE", {"spine"}),
        ("THORACIC SPINE", {"spine"}),
        ("CHESTABDOMEN", {"chest and abdomen"}),
        ("CHEST ABDOMEN", {"chest", "abdomen"}),
        ("WHOLE BODY", {"whole body"}),
        ("HEADNECK", {"head"}),
        ("HEAD^NECK", {"head"}),
        ("NECK", {"neck"}),
        *[
            (text, {"chest"})
            for text in (
                "CXR",
                "THORACIQUE",
                "CHEST1V",
                "THORAX2E",
                "CHESTPORT",
                "Brustorgane",
                "RIBCAGE",
                "RIB CAGE",
                "THORAX FACE",
                "Toraks",
                "Borstkas",
                "Tórax",
                "TÓRAX",
                "TO\u0301RAX",
                "Tórax".encode().decode("latin-1"),
            )
        ],
        *[
            (text, {"head"})
            for text in (
                "Schädel",
                "TÊTE",
                "CRÂNE",
                "CRÁNEO",
                "CRÂNE".encode().decode("latin-1"),
                "Schädel".encode().decode("latin-1"),
                "CEREBRAL",
                "ENCÉPHALE",
                "INTRACRANIAL",
                "CEREBELLUM",
                "BRAINSTEM",
                "NEURO",
                "BRAIN/IAC",
                "ORBITS BRAIN",
                "PITUITARY",
                "Cabeça",
            )
        ],
        ("ORBITS", {"face"}),
        ("RIBS", {"ribs"}),
        ("RACHIS THORACIQUE", {"spine"}),
        ("DOE JOHN", set()),
    ],
)
def test_body_parts(text: str, expected: set[str]) -> None:
    assert vocabulary.body_parts(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Human", {"human"}),
        ("HOMO SAPIENS", {"human"}),
        ("Homo sapiens sapiens", {"human"}),
        ("Canine", {"animal"}),
        ("Canis lupus familiaris", {"animal"}),
        ("Pogona vitticeps", {"animal"}),
        ("Snark", set()),
        ("UNKNOWN", set()),
        ("", set()),
        ("N/A", set()),
    ],
)
def test_species(text: str, expected: set[str]) -> None:
    assert vocabulary.species(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("DX", "DX"), ("dx", "DX"), ("DR", "DX"), ("CT", "CT"), ("OT", None), ("SC", None), ("", None), ("X1", "other")],
)
def test_modalities(text: str, expected: str | None) -> None:
    assert vocabulary.modality(text) == expected


@pytest.mark.parametrize(
    ("values", "expected", "plane"),
    [
        (["L", "F"], "LF", "frontal"),
        (["l", "f "], "LF", "frontal"),
        (["LH", "FR"], "LF", "frontal"),
        (["A", "F"], "AF", "lateral"),
        (["P", "F"], "PF", "lateral"),
        (["L", "P"], "LP", "axial"),
        (["R", "H"], "RH", "frontal"),
        (["X", "F"], "other", None),
        (["L"], None, None),
        (["", ""], None, None),
        ([], None, None),
    ],
)
def test_orientations(values: list[str], expected: str | None, plane: str | None) -> None:
    assert vocabulary.orientation(values) == expected
    assert (vocabulary.plane(expected) if expected else None) == plane


@pytest.mark.parametrize("text", ["ERECT", "SEMI-ERECT", "stehend", "DEBOUT", "NULL", "NOT SPECIFIED", "?", "N/A"])
def test_texts_that_state_nothing(text: str) -> None:
    assert not vocabulary.is_stated(text)


@pytest.mark.parametrize(
    "text", ["FOR PROCESSING", "for processing", "FOR_PROCESSING", "FORPROCESSING", " For  Processing"]
)
def test_images_for_processing(text: str) -> None:
    assert vocabulary.presentation(text) == "for processing"


@pytest.mark.parametrize(("code", "part"), [("302551006", "chest"), ("302548004", "head"), ("258335003", "head")])
def test_codes_of_entire_body_parts(code: str, part: str) -> None:
    assert vocabulary.BODY_PART_CODES[code] == part


def test_codes_of_views() -> None:
    group = codes.cid4010
    entries = [getattr(group, name) for name in group.dir()]
    meanings: dict[str | None, set[str]] = {}
    for entry in entries:
        known = vocabulary.VIEW_CODES.get(entry.value)
        meanings.setdefault(known, set()).add(entry.meaning)
        if known is not None:
            assert vocabulary.VIEW_CODES[_snomed_dict.mapping["SCT"][entry.value]] == known
    assert [meanings[view] for view in ("AP", "PA", "frontal")] == [
        {"antero-posterior"},
        {"postero-anterior"},
        {"frontal"},
    ]
    assert all("lateral" in meaning or "-medial" in meaning or "medial-" in meaning for meaning in meanings["lateral"])
    assert all("oblique" in meaning for meaning in meanings["oblique"])


@pytest.mark.parametrize("cid", ["cid4", "cid4031"])
def test_codes_of_body_parts(cid: str) -> None:
    group = getattr(codes, cid)
    for name in group.dir():
        entry = getattr(group, name)
        known = vocabulary.BODY_PART_CODES.get(entry.value)
        if known in ("chest", "head"):
            assert vocabulary.body_parts(entry.meaning) & {known} or entry.value in {"43799004", "1101003"}, (
                entry.meaning
            )
            older = _snomed_dict.mapping["SCT"].get(entry.value)
            assert older is None or vocabulary.BODY_PART_CODES[older] == known
