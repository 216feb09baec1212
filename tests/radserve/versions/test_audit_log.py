"""The audit log only ever grows, and shows where somebody else changed it."""

from __future__ import annotations

from pathlib import Path

import pytest

from radserve.errors import ChangeError
from radserve.versions.audit_log import FILE, Actor, Audit

BY = Actor("key ward-7", "ticket 12")


def test_an_entry_says_who_what_why_and_which_bytes(tmp_path: Path) -> None:
    Audit(tmp_path).write(BY, "promote", "m 2.0.0: has all requests.", model="m", version="2.0.0", sha256="ab" * 32)
    (entry,) = Audit(tmp_path).entries(10)
    assert (entry.actor, entry.reason, entry.action) == ("key ward-7", "ticket 12", "promote")
    assert (entry.model, entry.version, entry.sha256) == ("m", "2.0.0", "ab" * 32)
    assert entry.time.endswith("+00:00")


def test_the_last_ones_come_last(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    for number in range(5):
        audit.write(BY, "scale", str(number))
    assert [entry.detail for entry in audit.entries(2)] == ["3", "4"]
    assert audit.broken() is None


def test_a_line_that_was_changed_or_taken_out_shows(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    for number in range(4):
        audit.write(BY, "scale", str(number))
    lines = (tmp_path / FILE).read_text().splitlines()
    (tmp_path / FILE).write_text("\n".join([lines[0], lines[1].replace("ward-7", "ward-8"), *lines[2:]]) + "\n")
    assert audit.broken() == 3
    (tmp_path / FILE).write_text("\n".join([lines[0], *lines[2:]]) + "\n")
    assert audit.broken() == 2


def test_a_line_that_a_killed_writer_cut_short_spoils_no_other(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    audit.write(BY, "scale", "first")
    with (tmp_path / FILE).open("a") as file:
        file.write('{"time": "2026')
    audit.write(BY, "scale", "second")
    assert [entry.detail for entry in audit.entries(10)] == ["first", "second"]
    assert audit.broken() == 2


def test_what_cannot_be_recorded_is_an_error(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(ChangeError, match="so nothing is changed"):
        Audit(tmp_path).write(BY, "scale", "x")
