"""The commands in docs/store.md run."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.radserve.store.archives import make

TEXT = (ROOT / "docs" / "store.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def test_the_commands_and_the_python_example_run(tmp_path: Path) -> None:
    """The signed push runs first, so that the commands without a key find an archive."""
    make(tmp_path / "here", "chest-xray-cnn")
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RADSERVE_MODEL_STORE": str(tmp_path / "here"),
        "PYTHONPATH": str(ROOT),
    }
    plain, signed = blocks("sh")
    (python,) = blocks("python")
    lines = (
        *signed.splitlines(),
        *(line for line in plain.splitlines() if " push " not in line),
        f"python - <<'END'\n{python}END",
    )
    script = (
        "\n".join(lines)
        .replace("/srv/store", str(tmp_path / "store"))
        .replace("/tmp/model_store", str(tmp_path / "there"))
    )
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "chest-xray-cnn 1.0.0  pushed" in done.stdout
    assert "chest-xray-cnn 1.0.0  pulled" in done.stdout
