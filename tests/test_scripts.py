"""scripts/setup-system and scripts/serve with recorded commands."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.server import ROOT

LOCKED = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 1 (apt-get)"
SYSTEM = ("/usr/sbin/policy-rc.d", "/lib/systemd/system", "/usr/sbin:/usr/local/sbin")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Return a checkout on a machine without packages, whose commands are recorded; its system files are in it too."""
    record = f'echo "${{0##*/}} $*" >> "{tmp_path}/log"'
    command(tmp_path / "bin" / "dpkg-query", "exit 1")
    command(tmp_path / "bin" / "sleep", ":")
    command(tmp_path / "bin" / "id", "echo 0")
    command(tmp_path / "bin" / "systemctl", record)
    command(tmp_path / "bin" / "apt-get", record)
    command(tmp_path / "scripts" / "setup", record)
    command(tmp_path / ".venv" / "bin" / "radserve", record)
    for tool in ("bash", "env", "dirname", "grep", "chmod", "rm"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool) or "")
    for name in ("setup-system", "serve"):
        text = (ROOT / "scripts" / name).read_text()
        for path in SYSTEM:
            text = text.replace(path, f"{tmp_path}/system/{Path(path).name}")
        command(tmp_path / "scripts" / name, text)
    (tmp_path / "system" / "system").mkdir(parents=True)
    return tmp_path


def command(path: Path, text: str) -> None:
    """Write an executable file; a text without an interpreter is one for the shell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def run(machine: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script with the recorded commands only."""
    return subprocess.run(
        ["/usr/bin/env", "bash", machine / "scripts" / script, *arguments],
        env={"PATH": f"{machine}/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def log(machine: Path) -> list[str]:
    return (machine / "log").read_text().splitlines()


def with_update(machine: Path, update: str) -> None:
    """Run the given shell commands at `apt-get update`."""
    command(
        machine / "bin" / "apt-get",
        f'echo "apt-get $*" >> "{machine}/log"; [ "$1" != update ] || {{ {update}; }}',
    )


@pytest.mark.parametrize("waits", [0, 2])
def test_locks_are_waited_for(machine: Path, waits: int) -> None:
    with_update(
        machine, f'[ "$(grep -c " update" "{machine}/log")" -gt {waits} ] || {{ echo "{LOCKED}" >&2; exit 100; }}'
    )
    process = run(machine, "setup-system")
    assert process.returncode == 0, process.stderr
    updates, (install, *_) = log(machine)[: waits + 1], log(machine)[waits + 1 :]
    assert updates == ["apt-get update -qq"] * (waits + 1)
    # apt can wait for the lock of dpkg, but not for that of its lists.
    assert install.startswith("apt-get --option DPkg::Lock::Timeout=600 install --yes ")


def test_other_errors_end_the_script(machine: Path) -> None:
    with_update(machine, "echo 'E: Failed to fetch' >&2; exit 100")
    process = run(machine, "setup-system")
    assert process.returncode == 1
    assert process.stderr == "E: Failed to fetch\n"
    assert log(machine) == ["apt-get update -qq"]


def test_services_of_new_packages_start_neither_now_nor_at_the_next_boot(machine: Path) -> None:
    (machine / "system" / "system" / "redis-server.service").touch()  # of an installation that is in use
    with_update(machine, f'"{machine}/system/policy-rc.d"; echo "policy $?" >> "{machine}/log"')
    assert run(machine, "setup-system", "nginx-light", "redis-server").returncode == 0
    assert log(machine)[1] == "policy 101"
    assert [line for line in log(machine) if line.startswith("systemctl")] == [
        "systemctl disable --quiet nginx.service"
    ]
    assert not (machine / "system" / "policy-rc.d").exists()


def test_a_machine_without_systemd_is_set_up_too(machine: Path) -> None:
    (machine / "bin" / "systemctl").unlink()
    process = run(machine, "setup-system", "nginx-light")
    assert (process.returncode, process.stderr) == (0, "")


def test_serve_installs_nginx_without_its_service(machine: Path) -> None:
    process = run(machine, "serve", "--port", "8000")
    assert process.returncode == 0, process.stderr
    assert log(machine) == [
        "setup --inexact --extra build --extra gateway --extra deploy",
        "apt-get update -qq",
        "apt-get --option DPkg::Lock::Timeout=600 install --yes --no-install-recommends -qq nginx-light",
        "systemctl disable --quiet nginx.service",
        "radserve serve --build-missing --port 8000",
    ]


def test_serve_leaves_an_installed_nginx_alone(machine: Path) -> None:
    command(machine / "bin" / "nginx", "exit 1")
    assert run(machine, "serve").returncode == 0
    assert [line.split()[0] for line in log(machine)] == ["setup", "radserve"]


def test_serve_help_installs_and_builds_nothing_else(machine: Path) -> None:
    assert run(machine, "serve", "--help").returncode == 0
    assert [line.split()[:2] for line in log(machine)] == [["setup", "--inexact"], ["radserve", "serve"]]
