"""What `radserve predict` says at its end."""

from pathlib import Path

from radserve.cli.report import Outcome, Problem
from radserve.cli.summary import Summary


def test_frames_of_one_file_with_one_reason_are_one_line() -> None:
    summary = Summary(Path("results.csv"))
    for frame in range(1, 24):
        summary.add(Outcome("enhanced.dcm", Problem(422, "Out of scope", "The age is out of scope.", frame=frame)))
    summary.add(Outcome("notes.png", Problem(400, "Unreadable image", "It is empty.")))
    assert summary.lines() == [
        "Failed: enhanced.dcm: 422 Out of scope: The age is out of scope. (23 frames)",
        "Failed: notes.png: 400 Unreadable image: It is empty.",
        "0 images analysed, 24 failed. Results: results.csv",
    ]
