"""`radserve doctor`."""

import socket
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests import command_line
from tests.radserve.minimal_archive import write_archive
from tests.server import free_ports


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_archive(tmp_path / "store")
    return tmp_path / "store"


def doctor(store: Path, *options: object, port: int | None = None) -> CompletedProcess[str]:
    first, health, metrics = free_ports(3)
    ports = ("--port", port or first, "--health-port", health, "--metrics-port", metrics)
    return command_line.run("doctor", "--model-store", store, *ports, *options)


def test_a_machine_that_can_serve_has_no_problems(store: Path) -> None:
    done = doctor(store)
    assert (done.returncode, "PROBLEM " in done.stdout) == (0, False), done.stdout
    for subject in ("Python:", "nginx:", "Java:", "GPU:", "Port ", "Model store: 1 archives", "Memory:", "Disk:"):
        assert subject in done.stdout
    assert done.stdout.splitlines()[-1].startswith("0 problems, ")


def test_each_problem_is_a_line_with_advice(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = doctor(tmp_path / "missing", port=other.getsockname()[1])
    assert done.returncode == 1
    assert "choose another --port" in done.stdout
    assert "Build the archives: radserve build --missing" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("2 problems, ")


def test_options_that_contradict_each_other_are_a_problem(store: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for options, reason in (
        (("--host", "0.0.0.0"), "--keys is missing"),
        (("--runtime", tmp_path), "other users can enter it"),
        (("--with-gateway", "--front"), "works on one machine only"),
    ):
        done = doctor(store, *options)
        assert (done.returncode, reason in done.stdout) == (1, True), done.stdout


def test_keys_and_the_port_of_a_gateway_are_checked(store: Path, tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text("{")
    assert "Keys: " in doctor(store, "--keys", tmp_path / "keys.json").stdout
    (port,) = free_ports(1)
    assert f"Port {port}: free (--gateway-port)" in doctor(store, "--with-gateway", "--gateway-port", port).stdout
