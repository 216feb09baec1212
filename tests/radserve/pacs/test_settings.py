"""Settings of the loop."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from radserve.errors import PacsSettingsError
from radserve.pacs import settings

VALID: dict[str, Any] = {
    "folder": "loop",
    "sources": [{"orthanc": "http://127.0.0.1:8042/"}, {"dicomweb": "https://pacs/dicom-web", "days": 3}],
    "rules": [{"name": "all", "model": "chest-xray-cnn"}],
    "destinations": [{"stow": "https://pacs/dicom-web"}],
}


def load(folder: Path, **changes: Any) -> settings.Settings:
    path = folder / "pacs.yaml"
    path.write_text(yaml.safe_dump(VALID | changes), encoding="utf-8")
    return settings.load(path)


def test_services_are_told_apart_by_their_keys(tmp_path: Path) -> None:
    sources = load(tmp_path).sources
    assert sources == (
        settings.OrthancSource(orthanc="http://127.0.0.1:8042"),
        settings.DicomWebSource(dicomweb="https://pacs/dicom-web", days=3),
    )


def test_a_receiver_listens_on_loopback_unless_it_is_set(tmp_path: Path) -> None:
    receiver = load(tmp_path, receiver={"allowed": ["PACS"]}).receiver
    assert receiver is not None
    assert receiver.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"sources": []}, "neither sources nor receiver is set"),
        ({"receiver": {}}, "key 'receiver.allowed' is missing"),
        ({"receiver": {"allowed": []}}, "key 'receiver.allowed'"),
        ({"rules": [{"name": "a", "model": "m", "when": {"Modalty": "DX"}}]}, "'Modalty' is not a DICOM attribute"),
        ({"rules": [{"name": "a", "model": "m"}, {"name": "a", "model": "n"}]}, "two rules have the same name"),
        ({"destinations": [{"ae": "P", "host": "h", "port": 104, "commitment": True}]}, "commitment needs a receiver"),
        ({"server": {"key": "env:RADSERVE_TEST_ABSENT"}}, "RADSERVE_TEST_ABSENT is not set"),
        ({"server": {"key": "file:/nonexistent/key"}}, "/nonexistent/key cannot be read: No such file or directory"),
        ({"status": {"address": "0.0.0.0:8095"}}, "so `token` must be set"),
        ({"status": {"address": "127.0.0.1:8095", "token": "short"}}, "at least 16 characters"),
        ({"status": {"address": "127.0.0.1:99999"}}, "between 1 and 65535"),
        ({"metrics_port": 9000}, "write `status: {address: 127.0.0.1:PORT}`"),
        ({"webhook": {"url": "https://a", "secret": "short"}}, "24 to 64 bytes"),
        ({"webhook": {"url": "https://a", "secret": "whsec_" + "A" * 28}}, "24 to 64 bytes"),
        ({"webhook": {"url": "https://a", "secret": "whsec_-"}}, "base64"),
        ({"webhook": {"url": "http://a..b/x", "secret": "s" * 24}}, "without user name"),
        ({"webhook": {"url": "http://a:99999/x", "secret": "s" * 24}}, "without user name"),
        ({"polling": 1}, "unknown key 'polling'"),
    ],
)
def test_invalid_settings_name_the_problem(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(PacsSettingsError, match=problem):
        load(tmp_path, **changes)


@pytest.mark.parametrize("url", ["http://me:12345@pacs/dicom-web", "http://pacs/dicom-web?token=12345"])
def test_a_url_with_a_secret_is_an_error_that_does_not_show_it(tmp_path: Path, url: str) -> None:
    with pytest.raises(PacsSettingsError, match="keys of their own") as caught:
        load(tmp_path, destinations=[{"stow": url}])
    assert "12345" not in str(caught.value)


def test_secrets_come_from_the_environment_or_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADSERVE_TEST_KEY", "secret")
    (tmp_path / "key").write_text("secret\n", encoding="utf-8")
    for reference in ("env:RADSERVE_TEST_KEY", f"file:{tmp_path}/key"):
        assert load(tmp_path, server={"key": reference}).server.key == "secret"


def test_a_rule_may_write_other_objects(tmp_path: Path) -> None:
    rules = [{"name": "films", "model": "chest", "write": "sr"}, {"name": "slices", "model": "brain"}]
    loaded = load(tmp_path, rules=rules, write=["seg"])
    assert [loaded.kinds(name) for name in ("films", "slices", "removed")] == [("sr",), ("seg",), ("seg",)]


def test_a_file_that_is_no_yaml_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "pacs.yaml").write_text("rules: [", encoding="utf-8")
    with pytest.raises(PacsSettingsError, match="invalid YAML"):
        settings.load(tmp_path / "pacs.yaml")
