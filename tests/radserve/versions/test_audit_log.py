"""Tests of radserve.versions.audit_log."""

import resource
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from radserve.errors import ChangeError
from radserve.schema.control import AuditEntry
from radserve.versions.audit_log import ENTRIES, FILE, HEAD, INTACT, AuditLog


def entry_of(detail: str, **archive: str) -> AuditEntry:
    now = datetime.now(UTC)
    return AuditEntry(time=now, actor="key ward-7", reason="ticket 12", action="scale", detail=detail, **archive)


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    return AuditLog(tmp_path)


def test_an_entry_holds_actor_reason_action_and_archive(log: AuditLog) -> None:
    log.write(entry_of("m 2.0.0: receives all requests.", model="m", version="2.0.0", sha256="ab" * 32))
    (entry,) = log.entries(10)
    assert (entry.actor, entry.reason, entry.action) == ("key ward-7", "ticket 12", "scale")
    assert (entry.model, entry.version, entry.sha256) == ("m", "2.0.0", "ab" * 32)
    assert entry.time.utcoffset() == timedelta(0)


def test_an_empty_log_has_no_entries(log: AuditLog) -> None:
    assert log.entries(10) == []
    assert log.verify().problem is None


def test_the_newest_entries_come_last(log: AuditLog) -> None:
    for number in range(5):
        log.write(entry_of(str(number)))
    assert [entry.detail for entry in log.entries(2)] == ["3", "4"]
    assert log.verify().problem is None


def test_a_changed_or_removed_line_is_detected(log: AuditLog, tmp_path: Path) -> None:
    for number in range(4):
        log.write(entry_of(str(number)))
    lines = (tmp_path / FILE).read_text().splitlines()
    (tmp_path / FILE).write_text("\n".join([lines[0], lines[1].replace("ward-7", "ward-8"), *lines[2:]]) + "\n")
    assert "line 3 does not match" in (log.verify().problem or "")
    (tmp_path / FILE).write_text("\n".join([lines[0], *lines[2:]]) + "\n")
    assert "line 2 does not match" in (log.verify().problem or "")
    (tmp_path / FILE).write_text("\n".join([lines[0], "{}", *lines[2:]]) + "\n")
    assert "line 2 does not match" in (log.verify().problem or "")


def test_an_incomplete_line_of_a_killed_writer_damages_no_other(log: AuditLog, tmp_path: Path) -> None:
    log.write(entry_of("first"))
    with (tmp_path / FILE).open("a") as file:
        file.write('{"time": "2026')
    log.write(entry_of("second"))
    assert [entry.detail for entry in log.entries(10)] == ["first", "second"]
    assert log.verify().problem is None


def test_an_entry_that_cannot_be_written_is_an_error(log: AuditLog, tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(ChangeError, match="not writable"):
        log.write(entry_of("x"))


def test_a_full_disk_leaves_no_incomplete_line(log: AuditLog, tmp_path: Path) -> None:
    log.write(entry_of("first"))
    before = (tmp_path / FILE).read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, hard))
    try:
        with pytest.raises(ChangeError, match="not writable"):
            log.write(entry_of("second"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / FILE).read_bytes() == before
    log.write(entry_of("third"))
    assert log.verify().problem is None


def test_entries_that_were_removed_from_the_end_are_detected_by_the_head(log: AuditLog, tmp_path: Path) -> None:
    for number in range(3):
        log.write(entry_of(str(number)))
    before = log.verify()
    assert (before.entries, before.problem) == (3, None)
    log.write(entry_of("3"))
    assert log.verify(before.head).problem is None
    lines = (tmp_path / FILE).read_bytes().splitlines(keepends=True)
    (tmp_path / FILE).write_bytes(b"".join(lines[:2]))
    assert log.verify().problem is None
    assert f"no line has the digest {before.head}" in (log.verify(before.head).problem or "")


def test_a_change_by_another_process_is_reported_by_the_next_entry(
    log: AuditLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log.check()
    log.write(entry_of("0"))
    log.write(entry_of("1"))
    assert (log.problem or "") == ""
    lines = (tmp_path / FILE).read_bytes().splitlines(keepends=True)
    (tmp_path / FILE).write_bytes(lines[0])
    log.write(entry_of("2"))
    assert "changed by another process" in str(log.problem)
    assert "changed by another process" in caplog.text


def test_a_damaged_log_is_reported_at_the_start_and_exported(
    log: AuditLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log.write(entry_of("0"))
    log.write(entry_of("1"))
    log.check()
    assert caplog.text == ""
    assert (ENTRIES._value.get(), INTACT._value.get()) == (2, 1)
    assert HEAD._value == {"sha256": log.verify().head}
    text = (tmp_path / FILE).read_text().replace("ward-7", "ward-8", 1)
    (tmp_path / FILE).write_text(text)
    log.check()
    assert "line 2 does not match the line before it; entries were changed or lost." in caplog.text
    assert INTACT._value.get() == 0


def test_an_unreadable_log_is_reported(log: AuditLog, tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    log.check()
    assert "not readable (Is a directory)" in (log.problem or "")
