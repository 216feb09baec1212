"""The wheel: small, complete, and enough for a client."""

import json
import os
import resource
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.server import ROOT, Server

SAMPLE = ROOT / "archives" / "chest-xray-cnn" / "sample.png"
LIMIT = 30_000_000
DATA = (
    "gateway/documentation/main.js",
    "gateway/static/index.html",
    "radserve/deploy/templates/service.yaml",
    "radserve/proxy/nginx.conf.template",
    "radserve/torchserve/config.properties",
    "radserve/torchserve/grpc.pem",
    "radserve/torchserve/log4j2.xml",
    "radserve/torchserve/metrics.yaml",
)


@dataclass(frozen=True)
class Installation:
    """The wheel, installed alone into an empty environment outside the checkout."""

    folder: Path
    wheel: Path

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment in a folder that holds nothing of the project."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
        command = [str(self.folder / "bin" / program), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=self.folder, env=clean, timeout=120
        )


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    uv = shutil.which("uv", path=f"{ROOT / '.venv-uv' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    assert uv is not None
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([uv, "build", "--quiet", "--wheel", "--out-dir", folder, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    environment = folder / "environment"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, environment], check=True)
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", environment / "bin" / "python", "--link-mode", "copy", wheel],
        check=True,
    )
    return Installation(environment, wheel)


def test_it_carries_its_data_and_type_markers(installation: Installation) -> None:
    names = set(zipfile.ZipFile(installation.wheel).namelist())
    assert names >= {*DATA, *(f"{package}/py.typed" for package in ("gateway", "handlers", "radserve", "training"))}


def test_a_client_installation_is_small(installation: Installation) -> None:
    files = (path for path in (installation.folder / "lib").rglob("*") if path.is_file() and path.suffix != ".pyc")
    assert sum(path.stat().st_size for path in files) < LIMIT


def test_importing_the_client_takes_less_than_half_a_second(installation: Installation) -> None:
    def cpu_seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = installation.run("python", "-c", "import radserve.client")
        assert done.returncode == 0, done.stderr
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # Processor time of the fastest of five processes: other work on the machine does not count.
    assert min(cpu_seconds() for _ in range(5)) < 0.5


@pytest.mark.e2e
def test_it_predicts(installation: Installation, server: Server) -> None:
    done = installation.run("radserve", "predict", "--url", server.url, "--json", "chest-xray-cnn", str(SAMPLE))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["label"] == "pneumonia"


def test_help_lists_every_command(installation: Installation) -> None:
    done = installation.run("radserve", "--help")
    assert done.returncode == 0, done.stderr
    for name in ("predict", "serve", "build", "train", "deploy", "rollout"):
        assert f" {name} " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("build",), "build"),
        (("serve",), "serve"),
        (("train", "chest-xray-cnn", "--data", "."), "train"),
        (("store", "list"), "store"),
        (("deploy", "status", "demo.yaml"), "deploy"),
    ],
)
def test_a_command_without_its_packages_says_how_to_install_them(
    installation: Installation, arguments: tuple[str, ...], extra: str
) -> None:
    done = installation.run("radserve", *arguments)
    assert done.returncode == 1
    assert f"pip install 'radserve[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
