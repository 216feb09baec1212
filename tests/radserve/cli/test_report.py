import csv
import hashlib
import io
import json
import re
from typing import Any

import pytest

from radserve.cli.report import Csv, JsonLines, Outcome, Problem, Report
from radserve.client import validation
from radserve.schema.domain import Repair
from radserve.schema.prediction import Prediction
from radserve.schema.requested_image import RequestedImage
from radserve.schema.segmentation import Segmentation
from tests.radserve.scripted import empty, prediction, segmentation

UNLIKE = "no result: unlike the training images"
PROBLEM = Problem(400, "Unreadable image", "It is bad.")


def predicted(repair: Repair | None = None, **changes: object) -> Prediction | Segmentation:
    document = prediction(b"x", **changes) | ({} if repair is None else {"repair": repair})
    return validation.result(document, RequestedImage("chest", None, hashlib.sha256(b"x").hexdigest(), repair))


def segmented(document: dict[str, Any] | None = None) -> Prediction | Segmentation:
    request = RequestedImage("glioma", None, hashlib.sha256(b"x").hexdigest())
    return validation.result(segmentation(b"x") if document is None else document, request)


def write(writer: Report, *outcomes: Outcome) -> None:
    for outcome in outcomes:
        writer.add(outcome)
    writer.flush()


def test_a_json_line_is_the_document_with_the_file_name(capsys: pytest.CaptureFixture[str]) -> None:
    write(JsonLines(), Outcome("a\udcff.png", predicted()), Outcome("b.png", PROBLEM))
    answered, refused = map(json.loads, capsys.readouterr().out.splitlines())
    positive = {"positive_label": "pneumonia", "positive_probability": 0.25}
    assert answered == {"file": "a\udcff.png", "result": "normal"} | positive | prediction(b"x")
    problem = {"status": 400, "title": "Unreadable image", "detail": "It is bad."}
    assert refused == {"file": "b.png", "problem": problem}


def test_a_document_cannot_override_the_file_name(capsys: pytest.CaptureFixture[str]) -> None:
    write(JsonLines(), Outcome("a.png", predicted(file="b.png")))
    assert json.loads(capsys.readouterr().out)["file"] == "a.png"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("normal", "pneumonia", "0.25", "0.5")),
        ({"positive": None, "threshold": None}, ("normal", "", "", "")),
        ({"probabilities": {"normal": 0.75, "a": 0.2, "b": 0.05}}, ("normal", "", "", "0.5")),
        (
            {"domain": {"mode": "warn", "status": "unlike", "score": 3, "percentile": 99.9}},
            (UNLIKE, "pneumonia", "0.25", "0.5"),
        ),
    ],
)
def test_the_probability_beside_the_cut_off_is_that_of_the_positive_label(
    capsys: pytest.CaptureFixture[str], changes: dict[str, Any], expected: tuple[str, ...]
) -> None:
    write(Csv(), Outcome("a.png", predicted(**changes)))
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert tuple(row[name] for name in ("result", "positive_label", "positive_probability", "threshold")) == expected


def test_csv_has_one_header_and_empty_labels_for_problems(capsys: pytest.CaptureFixture[str]) -> None:
    failed = Problem(None, "Timeout", "It took, too\nlong.")
    write(Csv(), Outcome("a,b.png", predicted()), Outcome("c.png", PROBLEM), Outcome("d.png", failed))
    first, second, third = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (first["file"], first["status"], first["label"], first["probability"]) == (
        "a,b.png",
        "200",
        "normal",
        "0.75",
    )
    assert (first["positive"], first["threshold"], first["problem"]) == ("false", "0.5", "")
    assert (second["status"], second["label"], second["probability"]) == ("400", "", "")
    assert second["problem"] == "Unreadable image: It is bad."
    assert (third["status"], third["problem"]) == ("", "Timeout: It took, too\nlong.")


@pytest.mark.parametrize("name", ["=1+1.png", "+a", "-a", "@a", "\ta", "\ra"])
def test_file_names_cannot_be_formulas_and_stay_valid_paths(capsys: pytest.CaptureFixture[str], name: str) -> None:
    write(Csv(), Outcome(name, PROBLEM))
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out, newline=""))
    assert row["file"] == f"./{name}"


@pytest.mark.parametrize("text", [";=x", "a;=x", "a\t@x", "a, -1", " =x", "\n=x", "a|+x"])
def test_no_separator_hides_a_formula(capsys: pytest.CaptureFixture[str], text: str) -> None:
    write(Csv(), Outcome(f"film{text}", Problem(400, "Unreadable image", text)), Outcome(text, Problem(400, text, "x")))
    for part in re.split(r"[,;|\t\r\n]", capsys.readouterr().out):
        assert not part.strip(' "').startswith(tuple("=+-@")), part


def test_texts_of_the_server_cannot_be_formulas(capsys: pytest.CaptureFixture[str]) -> None:
    answer = predicted(label="=cmd()", probability=0.75, probabilities={"=cmd()": 0.75, "b": 0.25})
    write(Csv(), Outcome("a.png", answer), Outcome("-", Problem(400, "@title", "x")))
    first, second = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert first["label"] == "'=cmd()"
    assert (second["file"], second["problem"]) == ("-", "'@title: x")


def test_a_segmentation_row_has_area_and_box(capsys: pytest.CaptureFixture[str]) -> None:
    write(Csv(), Outcome("a.png", segmented()), Outcome("b.png", segmented(empty(b"x"))))
    first, second = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (first["label"], first["positive"], first["probability"]) == ("tumour", "true", "")
    assert (first["area_pixels"], first["area_fraction"], first["area_mm2"]) == ("20", "0.1", "20.0")
    assert [first[f"box_{key}"] for key in ("left", "top", "width", "height")] == ["3", "2", "5", "4"]
    assert (second["label"], second["area_pixels"], second["box_left"]) == ("background", "0", "")


def test_a_json_line_has_the_mask(capsys: pytest.CaptureFixture[str]) -> None:
    write(JsonLines(), Outcome("a.png", segmented()))
    assert json.loads(capsys.readouterr().out) == {"file": "a.png", "result": "tumour"} | segmentation(b"x")


def test_a_warning_has_its_own_column(capsys: pytest.CaptureFixture[str]) -> None:
    answer = predicted(warning="Untrained.")
    write(Csv(), Outcome("a.png", answer), Outcome("b.png", predicted()))
    first, second = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (first["warning"], second["warning"]) == ("Untrained.", "")
    write(JsonLines(), Outcome("a.png", answer))
    assert json.loads(capsys.readouterr().out)["warning"] == "Untrained."


@pytest.mark.parametrize("unchecked", [["age", "view"], []])
def test_csv_lists_what_was_not_checked(unchecked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    write(Csv(), Outcome("a.png", predicted(unchecked=unchecked)), Outcome("b.png", PROBLEM))
    first, second = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (first["unchecked"], second["unchecked"]) == (", ".join(unchecked), "")


def test_csv_and_json_have_the_comparison_with_the_training_images(capsys: pytest.CaptureFixture[str]) -> None:
    domain = {"mode": "warn", "status": "unlike", "score": 3, "percentile": 99.9, "reason": "inverted"}
    rejected = Problem(422, "Unlike the training images", "Turn it.", domain)
    write(Csv(), Outcome("a.png", predicted("rotate-90", domain=domain)), Outcome("b.png", predicted()))
    first, second = csv.DictReader(io.StringIO(capsys.readouterr().out))
    names = ("domain_mode", "domain_status", "domain_percentile", "domain_reason", "repair")
    assert [first[name] for name in names] == ["warn", "unlike", "99.9", "inverted", "rotate-90"]
    assert [second[name] for name in names] == [""] * 5
    write(Csv(), Outcome("c.png", rejected))
    (third,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert [third[name] for name in names] == ["warn", "unlike", "99.9", "inverted", ""]
    write(JsonLines(), Outcome("c.png", rejected))
    assert json.loads(capsys.readouterr().out)["problem"]["domain"] == domain
