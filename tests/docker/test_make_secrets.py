"""scripts/make-secrets: all that compose mounts, readable by the containers alone, never replaced."""

from __future__ import annotations

import re
import shutil
import stat
from pathlib import Path

import pytest

from radserve.auth import api_keys, key_file
from radserve.proxy import certificate
from tests.docker.compose import make, merged, run


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compose") / "secrets"
    done = make(folder, "radserve.example.org", "192.0.2.7")
    assert done.returncode == 0, done.stderr
    (folder.parent / "output").write_text(done.stdout)
    return folder


def test_it_makes_every_file_that_compose_mounts(secrets: Path) -> None:
    wanted = {secret["file"].removeprefix("./secrets/") for secret in merged({})["secrets"].values()}
    made = {str(path.relative_to(secrets)) for path in secrets.rglob("*") if path.is_file()}
    assert made == wanted | {"keys/api_keys.json", "tls/key.pem"}


def test_only_the_owner_enters_the_folder_and_nobody_writes_its_files(secrets: Path) -> None:
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.rglob("*") if path.is_file()} == {0o444}
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir() if path.is_dir()} == {0o755}


def test_its_certificate_names_the_hosts_and_is_its_own_authority(secrets: Path) -> None:
    made = str(secrets / "tls" / "certificate.pem")
    asked = ["openssl", "verify", "-CAfile", made]
    for name in ("-verify_hostname radserve.example.org", "-verify_hostname server", "-verify_ip 192.0.2.7"):
        assert run([*asked, *name.split(), made], {}).returncode == 0, name
    assert run([*asked, "-verify_hostname", "other.example.org", made], {}).returncode != 0


def test_the_server_accepts_its_certificate_and_its_keys(secrets: Path) -> None:
    certificate.check(secrets / "tls" / "certificate.pem", secrets / "tls" / "key.pem")
    path = secrets / "keys" / "api_keys.json"
    known = api_keys.parse(key_file.read(path), str(path))
    scraper = known.find((secrets / "prometheus_key").read_text())
    assert scraper is not None
    assert [str(role) for role in scraper.roles] == ["read"]
    shown = re.findall(r"(\w+)\s+(radserve_\w+)", (secrets.parent / "output").read_text())
    found = {role: known.find(text) for role, text in shown}
    assert {role: key and [str(item) for item in key.roles] for role, key in found.items()} == {
        "predict": ["predict"],
        "manage": ["manage"],
    }


def test_the_gateway_has_a_key_that_predicts_and_the_url_of_redis(secrets: Path) -> None:
    path = secrets / "keys" / "api_keys.json"
    own = api_keys.parse(key_file.read(path), str(path)).find((secrets / "gateway_key").read_text())
    assert own is not None
    assert (own.name, [str(role) for role in own.roles]) == ("gateway", ["predict"])
    password = (secrets / "redis_password").read_text()
    assert (secrets / "gateway_redis").read_text() == f"redis://:{password}@redis:6379/0"


def test_where_secrets_of_before_the_gateway_are_kept_it_gets_its_own(secrets: Path, tmp_path: Path) -> None:
    shutil.copytree(secrets, tmp_path / "old")
    for name in ("gateway_key", "gateway_redis"):
        (tmp_path / "old" / name).unlink()
    key_file.revoke(tmp_path / "old" / "keys" / "api_keys.json", "gateway")
    before = api_keys.parse(key_file.read(tmp_path / "old" / "keys" / "api_keys.json"), "x")
    done = make(tmp_path / "old")
    assert done.returncode == 0, done.stderr
    after = api_keys.parse(key_file.read(tmp_path / "old" / "keys" / "api_keys.json"), "x")
    assert before.find((secrets / "prometheus_key").read_text()) == after.find((secrets / "prometheus_key").read_text())
    assert after.find((tmp_path / "old" / "gateway_key").read_text()) is not None


def test_a_second_run_changes_nothing(secrets: Path) -> None:
    before = {path: path.read_bytes() for path in secrets.rglob("*") if path.is_file()}
    done = make(secrets)
    assert done.returncode == 0, done.stderr
    assert {path: path.read_bytes() for path in secrets.rglob("*") if path.is_file()} == before
    assert "radserve_" not in done.stdout


def test_of_a_part_it_makes_nothing_and_says_what_is_there(tmp_path: Path) -> None:
    key = tmp_path / "tls" / "key.pem"
    key.parent.mkdir()
    key.write_text("of some certificate")
    done = make(tmp_path)
    assert done.returncode == 1
    assert "only some of: tls/certificate.pem tls/key.pem" in done.stderr
    assert key.read_text() == "of some certificate"
    assert not key.with_name("certificate.pem").exists()
