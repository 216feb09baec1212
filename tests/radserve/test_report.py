from __future__ import annotations

import csv
import hashlib
import io
import json

import pytest

from radserve import report
from radserve.prediction import Asked, Prediction, parse
from radserve.report import Csv, JsonLines, Outcome, Problem, Report, Table
from tests.radserve.scripted import SHA256, prediction

PROBLEM = Problem(400, "Unreadable image", "It is bad.")


def _prediction(**changes: object) -> Prediction:
    document = prediction(b"x", **changes)
    return parse(document, Asked("chest", None, hashlib.sha256(b"x").hexdigest()))


def _write(writer: Report, *outcomes: Outcome) -> None:
    for outcome in outcomes:
        writer.add(outcome)
    writer.flush()


def test_a_table_shows_label_percentage_and_model(capsys: pytest.CaptureFixture[str]) -> None:
    positive = _prediction(label="pneumonia", probability=0.25, positive=True, threshold=0.2)
    _write(Table(), Outcome("a.png", _prediction()), Outcome("b.png", positive))
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if ".png" in line]
    assert lines == [
        ["a.png", "normal", "75.0%", "no", "50.0%", "1.0.0"],
        ["b.png", "pneumonia", "25.0%", "yes", "20.0%", "1.0.0"],
    ]


def test_a_table_names_the_archive_that_answered(capsys: pytest.CaptureFixture[str]) -> None:
    _write(Table(), Outcome("a.png", _prediction()))
    assert f"chest 1.0.0, archive sha256 {SHA256}\n" in capsys.readouterr().out


def test_in_a_table_a_refusal_does_not_look_like_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    _write(Table(), Outcome("a.png", PROBLEM))
    out = capsys.readouterr().out
    assert "NO ANSWER" in out
    assert "400 Unreadable image: It is bad." in out
    assert "%" not in out
    assert "normal" not in out


def test_a_table_shows_names_as_they_are_and_lets_no_control_character_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _write(Table(), Outcome("[red]a\x1b[31m\n\udcff.png", PROBLEM))
    out = capsys.readouterr().out
    assert r"[red]a\x1b[31m\n\udcff.png" in out
    assert "\x1b" not in out


def test_a_model_that_looks_for_no_finding_gets_no_threshold(capsys: pytest.CaptureFixture[str]) -> None:
    _write(Table(), Outcome("a.png", _prediction(positive=None, threshold=None)))
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "a.png" in line)
    assert line.split() == ["a.png", "normal", "75.0%", "1.0.0"]


def test_a_table_is_written_in_pages() -> None:
    table = Table()
    full = [table.add(Outcome("a.png", PROBLEM)) for _ in range(1000)]
    assert full == [False] * 999 + [True]


def test_a_json_line_is_the_servers_document_and_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    _write(JsonLines(), Outcome("a\udcff.png", _prediction()), Outcome("b.png", PROBLEM))
    answered, refused = map(json.loads, capsys.readouterr().out.splitlines())
    assert answered == {"file": "a\udcff.png"} | prediction(b"x")
    problem = {"status": 400, "title": "Unreadable image", "detail": "It is bad."}
    assert refused == {"file": "b.png", "problem": problem}


def test_a_document_cannot_pass_for_another_file(capsys: pytest.CaptureFixture[str]) -> None:
    _write(JsonLines(), Outcome("a.png", _prediction(file="b.png")))
    assert json.loads(capsys.readouterr().out)["file"] == "a.png"


def test_csv_has_one_header_and_no_label_without_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    failed = Problem(None, "Timed out", "It took, too\nlong.")
    _write(Csv(), Outcome("a,b.png", _prediction()), Outcome("c.png", PROBLEM), Outcome("d.png", failed))
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
    assert (third["status"], third["problem"]) == ("", "Timed out: It took, too\nlong.")


@pytest.mark.parametrize("name", ["=1+1.png", "+a", "-a", "@a", "\ta", "\ra"])
def test_a_spreadsheet_runs_no_file_name_and_the_path_stays_right(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    _write(Csv(), Outcome(name, PROBLEM))
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out, newline=""))
    assert row["file"] == f"./{name}"


def test_a_spreadsheet_runs_no_word_of_the_server(capsys: pytest.CaptureFixture[str]) -> None:
    answer = _prediction(label="=cmd()", probability=0.75, probabilities={"=cmd()": 0.75, "b": 0.25})
    _write(Csv(), Outcome("a.png", answer), Outcome("-", Problem(400, "@title", "x")))
    first, second = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert first["label"] == "'=cmd()"
    assert (second["file"], second["problem"]) == ("-", "'@title: x")


@pytest.mark.parametrize(
    ("probability", "shown"),
    [(0.9996, ">99.9%"), (1.0, ">99.9%"), (0.9994, "99.9%"), (0.5, "50.0%"), (0.0002, "<0.1%")],
)
def test_rounding_never_shows_certainty(probability: float, shown: str) -> None:
    assert report._share(probability) == shown
