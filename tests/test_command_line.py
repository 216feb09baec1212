"""Commands in this process end as in one of their own."""

import subprocess
import sys

import pytest

from radserve.cli import main
from tests import command_line


@pytest.mark.parametrize("end", [None, 0, 3, "disk full", ""])
def test_exit_equals_that_of_a_process(end: object, monkeypatch: pytest.MonkeyPatch) -> None:
    code = f"import sys; sys.exit({end!r})"
    real = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    monkeypatch.setattr(main, "main", lambda: sys.exit(end))  # type: ignore[arg-type]
    process = command_line.run()
    assert (process.returncode, process.stderr) == (real.returncode, real.stderr)
