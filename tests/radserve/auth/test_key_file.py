"""Tests of radserve.auth.key_file, and of `radserve keys`."""

import json
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from radserve.auth import api_keys, key_file
from radserve.auth.api_keys import Role
from radserve.errors import KeysError
from tests.conftest import ROOT


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "radserve", "keys", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)


def test_create_prints_only_the_key_to_standard_output(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    created = run("create", "ward", "--role", "predict", "--role", "read", "--expires", "90d", "--keys", file)
    assert created.returncode == 0, created.stderr
    text = created.stdout.removesuffix("\n")
    assert "cannot be shown again" in created.stderr
    assert text not in created.stderr
    key = api_keys.parse(file.read_bytes(), "file").find(text)
    assert key is not None
    assert key.roles == (Role.PREDICT, Role.READ)
    assert key.expires is not None
    assert (key.expires - key.created).days in (89, 90)
    listed = run("list", "--keys", file, "--json")
    (entry,) = json.loads(listed.stdout)["keys"]
    assert set(entry) == {"id", "name", "roles", "created", "expires"}
    table = run("list", "--keys", file).stdout
    assert "ward" in table
    assert key.sha256 not in table + listed.stdout
    assert run("revoke", "ward", "--keys", file).returncode == 0
    assert json.loads(run("list", "--keys", file, "--json").stdout) == {"keys": []}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("create", "ward", "--role", "admin", "--keys", "x.json"), "choose from predict, read, manage"),
        (("create", "ward", "--role", "predict", "--keys", "env:KEYS"), "put-secret-value"),
        (("create", "ward", "--role", "predict", "--keys", "/nowhere/x.json"), "/nowhere/x.json: cannot be changed"),
        (("create", "ward", "--role", "predict", "--expires", "soon", "--keys", "x.json"), "90d"),
        (("revoke", "ward", "--keys", "/nowhere/x.json"), "/nowhere/x.json"),
        (("list", "--keys", "/nowhere/x.json"), "radserve keys create"),
    ],
)
def test_errors_say_what_to_do(words: tuple[str, ...], message: str) -> None:
    done = run(*words)
    assert done.returncode in (1, 2)
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert done.stdout == ""


def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    key_file.create(file, "one", [Role.PREDICT])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    key_file.create(file, "two", [Role.PREDICT])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == [".keys.json.lock", "keys.json"]


def test_a_change_keeps_the_permissions(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    key_file.create(file, "ward-7", [Role.PREDICT])
    file.chmod(0o444)
    key_file.revoke(file, "ward-7")
    assert stat.S_IMODE(file.stat().st_mode) == 0o444


def test_concurrent_changes_keep_every_key(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda number: key_file.create(file, f"key-{number}", [Role.PREDICT]), range(24)))
    stored = api_keys.parse(file.read_bytes(), "file")
    assert len(stored.keys) == 24
    assert all(stored.find(text) for text in texts)


@pytest.mark.parametrize("mode", [0o660, 0o602, 0o666])
def test_a_file_writable_by_others_is_rejected(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "keys.json"
    key_file.create(file, "one", [Role.PREDICT])
    file.chmod(mode)
    with pytest.raises(KeysError, match="chmod go-w"):
        key_file.read(file)
    with pytest.raises(KeysError, match="chmod go-w"):
        key_file.create(file, "two", [Role.PREDICT])


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o444])
def test_a_mounted_secret_is_accepted(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "keys.json"
    key_file.create(file, "one", [Role.PREDICT])
    file.chmod(mode)
    assert b"one" in key_file.read(file)


def test_an_invalid_file_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_bytes(b'{"keys": [')
    file.chmod(0o600)
    with pytest.raises(KeysError, match=r"keys\.json: "):
        key_file.create(file, "one", [Role.PREDICT])
    assert file.read_bytes() == b'{"keys": ['
