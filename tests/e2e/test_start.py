"""Start of a real server."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from tests.conftest import ROOT
from tests.repack import FILM, NAME, entry_of, repack, with_recipe, without
from tests.server import Server, command, free_ports, running

pytestmark = pytest.mark.e2e


def flip(store: Path) -> None:
    path = store / entry_of(store).file
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


def drop_archive(store: Path) -> None:
    (store / entry_of(store).file).unlink()


def drop_program(store: Path) -> None:
    repack(store, without("program.pt2"))


def wrong_key(store: Path) -> None:
    repack(store, with_recipe(colour="gray"))


def no_index(store: Path) -> None:
    (store / "index.json").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip, "has sha256"),
        (drop_archive, "missing"),
        (drop_program, "does not contain program.pt2"),
        (wrong_key, "unknown key 'colour'"),
        (no_index, "the model store is empty"),
    ],
)
def test_a_damaged_store_is_rejected_in_one_line_and_starts_no_process(
    store: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    broken = Path(shutil.copytree(store, tmp_path / "store"))
    damage(broken)
    arguments = command(broken, free_ports(3))
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr
    assert not [
        item for item in psutil.process_iter(["cmdline"]) if str(broken) in " ".join(item.info["cmdline"] or [])
    ]


def test_the_command_of_the_banner_works(server: Server) -> None:
    assert server.process.stdout is not None
    lines = [server.process.stdout.readline().strip()]
    while not lines[-1].startswith("curl"):
        lines.append(server.process.stdout.readline().strip())
    assert lines[0] == f"RadServe is ready at {server.url}"
    done = subprocess.run(lines[-1].split(), capture_output=True, text=True, cwd=ROOT, timeout=30, check=True)
    assert json.loads(done.stdout)["model"]["name"] == NAME


def test_a_ready_server_reports_its_health(server: Server) -> None:
    assert httpx.get(f"{server.health_url}/ready").json()["state"] == "ready"
    assert httpx.get(f"{server.health_url}/live").status_code == 200
    assert httpx.get(f"{server.health_url}/other").status_code == 404


def marked(text: str, version: str) -> Callable[[dict[str, bytes]], None]:
    """Change the code in an archive so that its predictions contain `text`."""

    def change(contents: dict[str, bytes]) -> None:
        code = contents["handlers/response.py"].decode()
        contents["handlers/response.py"] = code.replace(
            '"label": decision', f'"code": "{text}", "label": decision'
        ).encode()
        with_recipe(version=version)(contents)
        manifest = json.loads(contents["MAR-INF/MANIFEST.json"])
        manifest["model"]["modelVersion"] = version
        contents["MAR-INF/MANIFEST.json"] = json.dumps(manifest).encode()

    return change


def test_two_versions_run_their_own_code(store: Path, tmp_path: Path) -> None:
    both = Path(shutil.copytree(store, tmp_path / "store"))
    for version in ("7.0.0", "8.0.0"):
        repack(both, marked(f"of {version}", version), version=version, file=f"{NAME}-{version}.mar")
    options = ("--models", f"{NAME}/7.0.0,{NAME}/8.0.0")
    with running(both, tmp_path / "log", *options) as server, httpx.Client(base_url=server.url, timeout=30) as client:
        for version in ("7.0.0", "8.0.0"):
            answer = client.post(f"/predictions/{NAME}/{version}", content=FILM).json()
            assert answer["code"] == f"of {version}"
            assert answer["model"]["version"] == version
