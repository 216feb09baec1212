"""Tests of radserve.versions.audit_log."""

from __future__ import annotations

from pathlib import Path

import pytest

from radserve.errors import ChangeError
from radserve.versions.audit_log import FILE, Actor, AuditLog

ACTOR = Actor("key ward-7", "ticket 12")


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    return AuditLog(tmp_path)


def test_an_entry_holds_actor_reason_action_and_archive(log: AuditLog) -> None:
    log.write(ACTOR, "promote", "m 2.0.0: receives all requests.", model="m", version="2.0.0", sha256="ab" * 32)
    (entry,) = log.entries(10)
    assert (entry.actor, entry.reason, entry.action) == ("key ward-7", "ticket 12", "promote")
    assert (entry.model, entry.version, entry.sha256) == ("m", "2.0.0", "ab" * 32)
    assert entry.time.endswith("+00:00")


def test_an_empty_log_has_no_entries(log: AuditLog) -> None:
    assert log.entries(10) == []
    assert log.first_broken_line() is None


def test_the_newest_entries_come_last(log: AuditLog) -> None:
    for number in range(5):
        log.write(ACTOR, "scale", str(number))
    assert [entry.detail for entry in log.entries(2)] == ["3", "4"]
    assert log.first_broken_line() is None


def test_a_changed_or_removed_line_is_detected(log: AuditLog, tmp_path: Path) -> None:
    for number in range(4):
        log.write(ACTOR, "scale", str(number))
    lines = (tmp_path / FILE).read_text().splitlines()
    (tmp_path / FILE).write_text("\n".join([lines[0], lines[1].replace("ward-7", "ward-8"), *lines[2:]]) + "\n")
    assert log.first_broken_line() == 3
    (tmp_path / FILE).write_text("\n".join([lines[0], *lines[2:]]) + "\n")
    assert log.first_broken_line() == 2


def test_an_incomplete_line_of_a_killed_writer_damages_no_other(log: AuditLog, tmp_path: Path) -> None:
    log.write(ACTOR, "scale", "first")
    with (tmp_path / FILE).open("a") as file:
        file.write('{"time": "2026')
    log.write(ACTOR, "scale", "second")
    assert [entry.detail for entry in log.entries(10)] == ["first", "second"]
    assert log.first_broken_line() == 2


def test_an_entry_that_cannot_be_written_is_an_error(log: AuditLog, tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(ChangeError, match="nothing was changed"):
        log.write(ACTOR, "scale", "x")
