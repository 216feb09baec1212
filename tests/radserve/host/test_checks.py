"""What `radserve doctor` checks."""

import socket
import sys
from pathlib import Path

import psutil
import pytest

from radserve.errors import ServeError
from radserve.host import checks
from radserve.host.checks import Finding
from tests.authority import Authority
from tests.server import free_ports
from tests.test_scripts import command


def smi(folder: Path, text: str) -> str:
    """Write a driver's program that prints a text."""
    command(folder / "nvidia-smi", text)
    return str(folder / "nvidia-smi")


def gpu(folder: Path, program: str, torch: str = "print('12.8 True')") -> list[Finding]:
    return list(checks.gpu(program, folder / "driver", torch))


def test_python_and_packages_of_this_environment_are_usable() -> None:
    assert checks.python().status == "ok"
    assert checks.packages("radserve", "torch").status == "ok"


def test_a_missing_package_is_named_with_what_installs_it() -> None:
    found = checks.packages("radserve", "no-such-package")
    assert (found.status, found.text) == ("PROBLEM", "missing: no-such-package")
    assert "radserve[serve]" in found.advice


def test_a_program_that_is_missing_or_fails_is_a_problem(tmp_path: Path) -> None:
    def missing() -> str:
        raise ServeError("nginx is not installed: apt install nginx-light.")

    command(tmp_path / "broken", "echo no library >&2; exit 1")
    assert checks.program("nginx", missing, "-v").text == "nginx is not installed: apt install nginx-light."
    found = checks.program("nginx", lambda: str(tmp_path / "broken"), "-v")
    assert (found.status, "no library" in found.text) == ("PROBLEM", True)
    assert checks.program("Python", lambda: sys.executable, "-V").status == "ok"


@pytest.mark.parametrize(
    ("version", "status"), [("17.0.1", "ok"), ("25", "ok"), ("11.0.2", "PROBLEM"), ("1.8", "PROBLEM")]
)
def test_java_must_be_new_enough(tmp_path: Path, version: str, status: str) -> None:
    command(tmp_path / "java", f"""echo 'openjdk version "{version}" 2025' >&2""")
    assert checks.java(lambda: str(tmp_path / "java")).status == status


def test_a_machine_without_a_gpu_is_no_problem(tmp_path: Path) -> None:
    (found,) = gpu(tmp_path, "no-such-program")
    assert (found.status, found.text) == ("ok", "none; models run on the CPU")


def test_a_driver_without_its_program_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "driver").touch()
    (found,) = gpu(tmp_path, "no-such-program")
    assert found.status == "warning"


@pytest.mark.parametrize("text", ["echo 'Failed to initialize NVML'; exit 9", "exit 0"])
def test_a_driver_that_finds_no_gpu_is_a_problem(tmp_path: Path, text: str) -> None:
    (found,) = gpu(tmp_path, smi(tmp_path, text))
    assert (found.status, "restart the machine" in found.advice) == ("PROBLEM", True)


@pytest.mark.parametrize(
    ("torch", "status", "text"),
    [
        ("print('12.8 True')", "ok", "torch for CUDA 12.8 can use the GPU"),
        ("print('a warning'); print('12.8 True')", "ok", "can use"),
        ("print('None False')", "warning", "built for the CPU only"),
        ("print('12.8 False')", "PROBLEM", "cannot use this GPU"),
        ("import no_such_module", "PROBLEM", "cannot be imported"),
    ],
)
def test_torch_must_be_able_to_use_the_gpu(tmp_path: Path, torch: str, status: str, text: str) -> None:
    card, cuda = gpu(tmp_path, smi(tmp_path, "echo 'NVIDIA H200, 570.1, 143771 MiB'"), torch)
    assert (card.status, card.text) == ("ok", "NVIDIA H200, 143771 MiB, driver 570.1")
    assert (cuda.status, text in cuda.text) == (status, True)


def test_a_port_in_use_is_a_problem_with_the_program_that_uses_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port, (free,) = other.getsockname()[1], free_ports(1)
        taken, ok = checks.ports({"--port": ("127.0.0.1", port), "--health-port": ("127.0.0.1", free)})
    assert (taken.status, f"port {port} is taken" in taken.text, "--port" in taken.text) == ("PROBLEM", True, True)
    assert psutil.Process().name() in taken.advice
    assert (ok.status, ok.subject) == ("ok", f"Port {free}")


def test_workers_must_fit_into_the_memory() -> None:
    assert checks.memory(1, 4_000_000_000).status in ("ok", "warning")
    found = checks.memory(10, 4_000_000_000)
    assert (found.status, "--workers 1" in found.advice) == ("PROBLEM", True)
    assert checks.memory(10**6, 10**18).status == "warning"


def test_archives_must_fit_onto_the_disk(tmp_path: Path) -> None:
    assert checks.disk(tmp_path, 10**15).status == "PROBLEM"
    assert checks.disk(None, 0).status in ("ok", "warning")


def test_a_certificate_must_be_valid_and_belong_to_its_key(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    one, other = authority.issue("one", days=100), authority.issue("other")
    assert checks.certificate(one.certificate, one.key).status == "ok"
    found = checks.certificate(one.certificate, other.key)
    assert (found.status, "--certificate-key" in found.advice) == ("PROBLEM", True)
    assert checks.certificate(tmp_path / "missing.pem", one.key).status == "PROBLEM"


@pytest.mark.parametrize(("days", "status"), [(100, "ok"), (20, "warning"), (-1, "PROBLEM")])
def test_a_certificate_must_not_end_soon(tmp_path: Path, days: int, status: str) -> None:
    pair = Authority(tmp_path).issue("one", days=days)
    assert checks.certificate(pair.certificate, pair.key).status == status
