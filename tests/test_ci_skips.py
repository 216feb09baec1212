"""Skipping in CI."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.server import ROOT


@pytest.mark.parametrize(
    ("ci", "reason", "outcome"),
    [
        ("true", "needs the images", "1 failed"),
        ("true", "needs docker compose", "1 skipped"),
        ("", "needs the images", "1 skipped"),
    ],
)
def test_a_skip_for_lack_of_data_fails_in_ci(tmp_path: Path, ci: str, reason: str, outcome: str) -> None:
    (tmp_path / "conftest.py").write_text(
        "from tests.ci_skips import pytest_runtest_makereport\n__all__ = ['pytest_runtest_makereport']\n"
    )
    (tmp_path / "test_it.py").write_text(f"import pytest\n\ndef test_it():\n    pytest.skip({reason!r})\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"CI": ci, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
    )
    assert outcome in done.stdout, done.stdout + done.stderr
