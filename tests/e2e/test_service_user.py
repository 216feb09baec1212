"""A server that root starts with --user: everything that it starts and writes belongs to that user."""

import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.repack import NAME
from tests.server import ROOT, command, free_ports

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")]

UID = 65534
USER = pwd.getpwuid(UID).pw_name
FILM = ROOT / "archives" / NAME / "sample.png"


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder that the user can enter, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="radserve-user-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def python(folder: Path) -> Path:
    """Return an interpreter with this one's packages that the user can execute: this one may be in root's home."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    program = next((path for path in (sys.executable, f"/usr/bin/{name}") if executable(path)), None)
    if program is None:
        pytest.skip(f"needs a {name} that other users can execute")
    subprocess.run([program, "-m", "venv", "--without-pip", folder / "python"], check=True)
    packages = folder / "python" / "lib" / name / "site-packages"
    (packages / "packages.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT}\n")
    return folder / "python" / "bin" / "python"


def executable(program: str) -> bool:
    """Return whether the user can run a program."""
    arguments = ["/bin/sh", "-c", f"{program} -c ''"]
    return subprocess.run(arguments, user=UID, group=UID, extra_groups=[], check=False).returncode == 0


def test_everything_belongs_to_the_service_user(store: Path, folder: Path, python: Path) -> None:
    shutil.copytree(store, folder / "store")
    (folder / "store").chmod(0o755)
    for name in ("run", "state"):
        (folder / name).mkdir(mode=0o700)
        os.chown(folder / name, UID, UID)
    ports = free_ports(3)
    options = ("--user", USER, "--runtime", str(folder / "run"), "--state", str(folder / "state"), "--workers", "1")
    _, *arguments = command(folder / "store", ports, "--models", NAME, *options)
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([python, *arguments], stdout=subprocess.DEVNULL, stderr=log, cwd="/")
    try:
        deadline = time.monotonic() + 120
        while not ready(ports[1]):
            assert server.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        url = f"http://127.0.0.1:{ports[0]}/predictions/{NAME}"
        assert httpx.post(url, content=FILM.read_bytes(), timeout=60).status_code == 200
        processes = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
        assert {"java", "nginx"} < {process.name() for process in processes}
        assert any("model_service_worker" in " ".join(process.cmdline()) for process in processes)
        assert {user for process in processes for user in (*process.uids(), *process.gids())} == {UID}
        written = [path for name in ("run", "state") for path in (folder / name).rglob("*")]
        assert {"nginx.conf", "config.properties", "ready"} <= {path.name for path in written}
        assert {path.lstat().st_uid for path in written} == {UID}
    finally:
        server.terminate()
        code = server.wait(timeout=60)
    assert code == 0
    assert psutil.wait_procs(processes, timeout=5)[1] == []


def ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/ready").status_code == 200
    except httpx.HTTPError:
        return False
