"""What tests of the commands share: a control API that does as it is told, and the command line in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from radserve.cli import main


@dataclass(frozen=True)
class Ran:
    """What came of a command."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], run_directory: Path, pauses: list[float]
) -> Run:
    """Run the command line against `api`, which it knows by a variable."""
    monkeypatch.setenv("RADSERVE_RUNTIME", str(run_directory))
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("RADSERVE_MANAGEMENT_URL", "RADSERVE_KEY", "SUDO_USER"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["radserve", *map(str, words)])
        code = 0
        try:
            main.main()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(bool(error.code))
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return run
