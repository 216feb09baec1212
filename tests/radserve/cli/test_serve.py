"""`radserve serve --build-missing`, in a checkout with one small model."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.server import ROOT, free_ports


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / "cifar10-lenet").symlink_to(ROOT / "archives" / "cifar10-lenet")
    return tmp_path


def serve(checkout: Path, *options: str) -> subprocess.CompletedProcess[str]:
    ports = [
        f"--{name}={port}" for name, port in zip(("port", "health-port", "metrics-port"), free_ports(3), strict=True)
    ]
    command = [sys.executable, "-m", "radserve", "serve", "--build-missing", *ports, *options]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False, timeout=300)


def test_rejected_options_and_checks_build_nothing(checkout: Path) -> None:
    process = serve(checkout, "--runtime", "/tmp")
    assert process.returncode == 1
    assert "--runtime /tmp" in process.stderr
    assert serve(checkout, "--check").returncode == 0
    other = serve(checkout, "--check", "--model-store", "other")
    assert (other.returncode, "/other: no such folder. Build the archives: " in other.stderr) == (1, True)
    assert not (checkout / "model_store").exists()


def test_a_missing_archive_is_built_before_the_model_store_is_read(checkout: Path) -> None:
    process = serve(checkout, "--models", "unknown")
    assert process.returncode == 1
    assert process.stdout.startswith("cifar10-lenet 1.0.0")
    assert process.stderr.startswith("Building 1 archive, about 20 s each: cifar10-lenet\n")
    assert "unknown" in process.stderr
    assert (checkout / "model_store" / "cifar10-lenet-1.0.0.mar").is_file()
    again = serve(checkout, "--models", "unknown")
    assert (again.returncode, again.stdout, "Building" in again.stderr) == (1, "", False)
