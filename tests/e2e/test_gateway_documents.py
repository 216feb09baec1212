"""The requests in docs/gateway.md work."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.gateways import gateway
from tests.server import Server

pytestmark = pytest.mark.e2e

HERE = "http://127.0.0.1:8000"
REQUESTS = (
    (ROOT / "docs" / "gateway.md").read_text(encoding="utf-8").partition("## Requests\n")[2].partition("\n## ")[0]
)


@pytest.fixture(scope="module")
def url(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with gateway(server, tmp_path_factory.mktemp("documents")) as started:
        yield started.url


def lines(language: str) -> str:
    return "".join(re.findall(rf"```{language}\n(.*?)```", REQUESTS, re.DOTALL))


def test_shell_lines_run(url: str) -> None:
    command = lines("sh").replace(HERE, url).replace("curl ", "curl --fail --silent --show-error ")
    environment = os.environ | {"PATH": f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    arguments = ["bash", "-euo", "pipefail", "-c", command]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"label":"pneumonia"') == 5  # two of them as events


def test_python_lines_run(url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(ROOT))
    exec(compile(lines("python").replace(HERE, url), "gateway.md", "exec"), {})
    label, version, count = capsys.readouterr().out.split()
    assert (label, version) == ("pneumonia", "1.0.0")
    assert int(count) >= 1
