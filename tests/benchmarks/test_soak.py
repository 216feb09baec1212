"""Tests of the soak test."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.soak.events import Event, Usage
from benchmarks.soak.report import summarise
from benchmarks.soak.traffic import CANDIDATE, NAME, STABLE, Body, Material, Record, check, prepare
from tests.conftest import ROOT

BODY = Body("good 0", "good", b"image", b"image")
REFERENCE = {STABLE: {"cat": 0.75, "dog": 0.25}, CANDIDATE: {"cat": 0.625, "dog": 0.375}}
MATERIAL = Material(Path(), [BODY], {BODY.name: REFERENCE}, {STABLE: "a" * 64, CANDIDATE: "b" * 64})


def document(version: str, *, sha256: str = "", image: bytes = b"image", cat: float = 0.0) -> dict[str, Any]:
    cat = cat or REFERENCE[version]["cat"]
    label, probability = max({"cat": cat, "dog": 1 - cat}.items(), key=lambda item: item[1])
    return {
        "model": {"name": NAME, "version": version, "sha256": sha256 or MATERIAL.sha256[version]},
        "label": label,
        "probability": probability,
        "probabilities": {"cat": cat, "dog": 1 - cat},
        "positive": None,
        "threshold": None,
        "image": {"format": "png", "width": 32, "height": 32, "sha256": hashlib.sha256(image).hexdigest()},
    }


def checked(
    content: dict[str, Any], body: Body = BODY, version: str | None = None, allowed: Sequence[str] = (STABLE,)
) -> str:
    return check(MATERIAL, body, version, frozenset(allowed), content.get("status", 200), json.dumps(content).encode())


def test_a_response_like_its_reference_is_accepted() -> None:
    assert checked(document(STABLE)) == ""
    assert checked(document(STABLE), version=STABLE) == ""
    assert checked(document(CANDIDATE), allowed=[STABLE, CANDIDATE]) == ""
    for status in (429, 500, 503):
        assert checked({"status": status, "title": "Failed"}) == ""
    assert checked({"status": 415, "title": "Unsupported"}, Body("text", "bad", b"text")) == ""


def test_a_response_unlike_its_reference_is_wrong() -> None:
    assert "only 1.0.0 had traffic" in checked(document(CANDIDATE))
    assert "1.0.0 was requested" in checked(document(CANDIDATE), version=STABLE)
    assert "checksum" in checked(document(STABLE, sha256="c" * 64))
    assert "image.sha256" in checked(document(STABLE, image=b"another"))
    assert "label is dog" in checked(document(STABLE, cat=0.25))
    assert "differs by 0.0010" in checked(document(STABLE, cat=0.751))
    assert "invalid body was answered 200" in checked(document(STABLE), Body("text", "bad", b"text"))
    assert "valid body was answered 404 Not found" in checked({"status": 404, "title": "Not found"})
    assert check(MATERIAL, BODY, None, frozenset([STABLE]), 200, b"<html>") != ""


def record(begin: float, status: int = 200, *, took: float = 0.1, wrong: str = "") -> Record:
    cause = "" if status == 200 else f"{status} Failed" if status else "ConnectionResetError"
    return Record(begin, begin + took, "good", "good 0", status, cause, wrong, "id")


def usage(time: float, memory: float) -> Usage:
    return Usage(time, 1, {"java": memory}, {"java": 60})


def test_figures_are_attributed_to_the_event_during_which_they_occur() -> None:
    events = [Event("rollout", 10, 20, 5, ""), Event("killed supervisor", 30, 40, 5, "")]
    records = [record(6), record(7), record(12, took=2), record(19, 503), record(25), record(31, 0)]
    # The growth during an event does not count.
    measured = [usage(1, 100), usage(5, 100), usage(15, 200), usage(25, 104), usage(45, 104)]
    report = summarise(records, events, measured, begin=0)
    assert report["failures"] == []
    assert report["outcomes"] == {"good": {"200": 4, "503": 1, "lost": 1}}
    assert report["lost"] == {"during the supervisor's own death": {"ConnectionResetError": 1}, "otherwise": {}}
    assert report["errors"] == {"503 Failed (rollout)": 1}
    rollout = report["latency"]["rollout"]
    assert (rollout["before"]["count"], rollout["before"]["max"]) == (2, pytest.approx(100))
    assert (rollout["during"]["count"], rollout["during"]["max"]) == (2, pytest.approx(2000))
    assert report["events"][0]["slowest_ms"] == pytest.approx(2000)
    assert report["memory"]["java"] == {"first": 100, "last": 104, "growth": pytest.approx(4)}


@pytest.mark.parametrize(
    ("records", "measured", "error", "failure"),
    [
        ([record(1, wrong="the label is dog")], [], "", "1 responses are wrong"),
        ([record(1), record(2, 0)], [], "", "1 requests were lost"),
        ([record(1)], [usage(1, 100), usage(2, 106)], "", "the memory of java grew by 6.0 %"),
        ([record(1)], [], "rolled back", "rollout: rolled back"),
    ],
)
def test_a_run_below_the_bar_fails(records: list[Record], measured: list[Usage], error: str, failure: str) -> None:
    (result,) = summarise(records, [Event("rollout", 10, 20, 5, error)], measured, begin=0)["failures"]
    assert failure in result


@pytest.mark.e2e
def test_a_small_soak_finds_a_wrong_reference(tmp_path: Path) -> None:
    prepare(tmp_path)
    file = tmp_path / "references.json"
    references = json.loads(file.read_bytes())
    probabilities = references["good 0"][STABLE]
    references["good 0"][STABLE] = dict(zip(probabilities, reversed(probabilities.values()), strict=True))
    file.write_text(json.dumps(references))
    command = [sys.executable, "-m", "benchmarks.soak", "--requests", "200", "--rate", "20", "--quiet", "1"]
    command += ["--events", "registration", "killed worker", "--folder", str(tmp_path)]
    command += ["--json", str(tmp_path / "figures.json")]
    completed = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=550, check=False)
    assert completed.returncode == 1, completed.stderr
    report = json.loads((tmp_path / "figures.json").read_bytes())
    assert report["wrong"]
    assert {item["body"] for item in report["wrong"]} == {"good 0"}
    assert f"{len(report['wrong'])} responses are wrong" in completed.stdout.replace("\n", " ")
    assert [(event["kind"], event["error"]) for event in report["events"]] == [
        ("registration", ""),
        ("killed worker", ""),
    ]
    assert report["lost"] == {"during the supervisor's own death": {}, "otherwise": {}}
    assert sum(sum(counts.values()) for counts in report["outcomes"].values()) == report["requests"] >= 200
    assert set(report["memory"]) == {"supervisor", "java", "worker", "nginx"}
    assert (report["exits"], report["stopped"]) == ([], 0)
