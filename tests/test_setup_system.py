"""scripts/setup-system with recorded commands: it waits while another program holds the locks of apt and dpkg."""

import subprocess
from pathlib import Path

import pytest

from tests.server import ROOT

LOCKED = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 1 (apt-get)"


def run(folder: Path, update: str) -> subprocess.CompletedProcess[str]:
    """Run the script on a machine without packages, where `apt-get update` runs the given shell commands."""
    commands = {
        "dpkg-query": "exit 1",
        "sleep": ":",
        "apt-get": f'echo "$*" >> "{folder}/log"; [ "$1" != update ] || {{ {update}; }}',
    }
    for name, text in commands.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    script = (ROOT / "scripts" / "setup-system").read_text().replace("/usr/sbin/policy-rc.d", f"{folder}/policy")
    return subprocess.run(
        ["bash", "-c", script], env={"PATH": f"{folder}:/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("waits", [0, 2])
def test_locks_are_waited_for(tmp_path: Path, waits: int) -> None:
    update = f'[ "$(grep -c ^update "{tmp_path}/log")" -gt {waits} ] || {{ echo "{LOCKED}" >&2; exit 100; }}'
    process = run(tmp_path, update)
    assert process.returncode == 0, process.stderr
    *updates, install = (tmp_path / "log").read_text().splitlines()
    assert updates == ["update -qq"] * (waits + 1)
    # apt can wait for the lock of dpkg, but not for that of its lists.
    assert install.startswith("--option DPkg::Lock::Timeout=600 install --yes ")


def test_other_errors_end_the_script(tmp_path: Path) -> None:
    process = run(tmp_path, "echo 'E: Failed to fetch' >&2; exit 100")
    assert process.returncode == 1
    assert process.stderr == "E: Failed to fetch\n"
    assert (tmp_path / "log").read_text() == "update -qq\n"
