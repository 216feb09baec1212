"""scripts/make-secrets: creates the files that compose mounts, and never replaces them."""

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
    process = make(folder, "radserve.example.org", "192.0.2.7")
    assert process.returncode == 0, process.stderr
    (folder.parent / "output").write_text(process.stdout)
    return folder


def test_all_files_that_compose_mounts_are_created(secrets: Path) -> None:
    mounted = {secret["file"].removeprefix("./secrets/") for secret in merged({})["secrets"].values()}
    created = {str(path.relative_to(secrets)) for path in secrets.rglob("*") if path.is_file()}
    assert created == mounted | {"keys/api_keys.json", "tls/key.pem"}


def test_folder_is_private_and_files_are_read_only(secrets: Path) -> None:
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.rglob("*") if path.is_file()} == {0o444}
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir() if path.is_dir()} == {0o755}


def test_certificate_is_self_signed_and_includes_the_hosts(secrets: Path) -> None:
    certificate_file = str(secrets / "tls" / "certificate.pem")
    verify = ["openssl", "verify", "-CAfile", certificate_file]
    for name in ("-verify_hostname radserve.example.org", "-verify_hostname server", "-verify_ip 192.0.2.7"):
        assert run([*verify, *name.split(), certificate_file], {}).returncode == 0, name
    assert run([*verify, "-verify_hostname", "other.example.org", certificate_file], {}).returncode != 0


def test_server_accepts_certificate_and_keys(secrets: Path) -> None:
    certificate.check(secrets / "tls" / "certificate.pem", secrets / "tls" / "key.pem")
    path = secrets / "keys" / "api_keys.json"
    known = api_keys.parse(key_file.read(path), str(path))
    scraper = known.find((secrets / "prometheus_key").read_text())
    assert scraper is not None
    assert [str(role) for role in scraper.roles] == ["read"]
    shown = re.findall(r"(\w+)\s+(radserve_\w+)", (secrets.parent / "output").read_text())
    matches = {role: known.find(text) for role, text in shown}
    assert {role: key and [str(item) for item in key.roles] for role, key in matches.items()} == {
        "predict": ["predict"],
        "manage": ["manage"],
    }


def test_gateway_has_a_predict_key_and_the_url_of_redis(secrets: Path) -> None:
    path = secrets / "keys" / "api_keys.json"
    own = api_keys.parse(key_file.read(path), str(path)).find((secrets / "gateway_key").read_text())
    assert own is not None
    assert (own.name, [str(role) for role in own.roles]) == ("gateway", ["predict"])
    password = (secrets / "redis_password").read_text()
    assert (secrets / "gateway_redis").read_text() == f"redis://:{password}@redis:6379/0"


def test_gateway_secrets_are_added_to_older_secrets(secrets: Path, tmp_path: Path) -> None:
    shutil.copytree(secrets, tmp_path / "old")
    for name in ("gateway_key", "gateway_redis"):
        (tmp_path / "old" / name).unlink()
    key_file.revoke(tmp_path / "old" / "keys" / "api_keys.json", "gateway")
    before = api_keys.parse(key_file.read(tmp_path / "old" / "keys" / "api_keys.json"), "x")
    process = make(tmp_path / "old")
    assert process.returncode == 0, process.stderr
    after = api_keys.parse(key_file.read(tmp_path / "old" / "keys" / "api_keys.json"), "x")
    assert before.find((secrets / "prometheus_key").read_text()) == after.find((secrets / "prometheus_key").read_text())
    assert after.find((tmp_path / "old" / "gateway_key").read_text()) is not None


def test_second_run_changes_nothing(secrets: Path) -> None:
    before = {path: path.read_bytes() for path in secrets.rglob("*") if path.is_file()}
    process = make(secrets)
    assert process.returncode == 0, process.stderr
    assert {path: path.read_bytes() for path in secrets.rglob("*") if path.is_file()} == before
    assert "radserve_" not in process.stdout


def test_incomplete_group_of_files_is_an_error(tmp_path: Path) -> None:
    key = tmp_path / "tls" / "key.pem"
    key.parent.mkdir()
    key.write_text("of some certificate")
    process = make(tmp_path)
    assert process.returncode == 1
    assert "only some of: tls/certificate.pem tls/key.pem" in process.stderr
    assert key.read_text() == "of some certificate"
    assert not key.with_name("certificate.pem").exists()
