"""Fixtures that run the command line in this process against a scripted control API."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from radserve.cli import main


@dataclass(frozen=True)
class Result:
    """Result of a command."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], run_directory: Path, pauses: list[float]
) -> Run:
    """Run the command line against `api`, which RADSERVE_RUNTIME selects."""
    monkeypatch.setenv("RADSERVE_RUNTIME", str(run_directory))
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("RADSERVE_MANAGEMENT_URL", "RADSERVE_KEY", "SUDO_USER"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["radserve", *map(str, arguments)])
        code = 0
        try:
            main.main()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(bool(error.code))
        out, err = capsys.readouterr()
        return Result(code, out, err)

    return run
