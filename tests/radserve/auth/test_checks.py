"""Check of API keys by `radserve doctor`."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from radserve.auth import key_file
from radserve.auth.api_keys import Role
from radserve.auth.checks import keys

NOW = datetime.now(UTC)


def status(path: Path) -> str:
    return keys(str(path)).status


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_valid_keys_are_counted(path: Path) -> None:
    key_file.create(path, "ward", [Role.PREDICT])
    key_file.create(path, "monitor", [Role.READ], NOW + timedelta(days=90))
    assert (status(path), keys(str(path)).text) == ("ok", f"2 valid keys in {path}")


def test_a_missing_or_damaged_file_is_a_problem(path: Path) -> None:
    assert status(path) == "PROBLEM"
    path.write_text("{")
    path.chmod(0o600)
    assert status(path) == "PROBLEM"


def test_a_file_without_a_valid_key_for_predictions_is_a_problem(path: Path) -> None:
    key_file.create(path, "monitor", [Role.READ])
    key_file.create(path, "ward", [Role.PREDICT], NOW - timedelta(days=1))
    found = keys(str(path))
    assert (found.status, "radserve keys create" in found.advice) == ("PROBLEM", True)


def test_a_file_that_others_can_write_is_a_problem(path: Path) -> None:
    key_file.create(path, "ward", [Role.PREDICT])
    path.chmod(0o666)
    found = keys(str(path))
    assert (found.status, "chmod go-w" in found.text) == ("PROBLEM", True)


def test_a_key_that_ends_soon_is_a_warning(path: Path) -> None:
    key_file.create(path, "ward", [Role.PREDICT], NOW + timedelta(days=3))
    found = keys(str(path))
    assert (found.status, "ward" in found.text) == ("warning", True)
