"""Settings from environment variables."""

from pathlib import Path

import pytest

from gateway.errors import SettingsError
from gateway.settings import Settings


def test_default_settings_serve_this_machine() -> None:
    settings = Settings.read()
    assert str(settings.server) == "http://127.0.0.1:8080/"
    assert settings.supervisor_url == "http://127.0.0.1:8090"
    assert (settings.url_hosts, settings.origins, settings.images) == ((), (), None)


def test_lists_are_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADSERVE_GATEWAY_URL_HOSTS", "a.example, b.example,")
    assert Settings.read().url_hosts == ("a.example", "b.example")


@pytest.mark.parametrize(
    ("server", "supervisor", "health"),
    [
        ("http://localhost:9000", None, "http://127.0.0.1:8090"),
        ("http://[::1]:9000", None, "http://127.0.0.1:8090"),
        ("https://front.example:8443", None, "https://front.example:8443"),
        ("http://10.1.2.3:8080", None, "http://10.1.2.3:8080"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:9090/", "http://127.0.0.1:9090"),
    ],
)
def test_supervisor_url_has_default(server: str, supervisor: str | None, health: str) -> None:
    assert Settings.read(server=server, supervisor=supervisor).supervisor_url == health


@pytest.mark.parametrize(
    ("name", "value"),
    [("SERVER", "ftp://x"), ("TIMEOUT", "0"), ("MAX_BYTES", "many"), ("RETENTION", "-1"), ("LOG", "loud")],
)
def test_invalid_value_error_names_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"RADSERVE_GATEWAY_{name}", value)
    with pytest.raises(SettingsError, match=f"^RADSERVE_GATEWAY_{name}: "):
        Settings.read()


def test_secrets_are_hidden_in_errors_and_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADSERVE_GATEWAY_SERVER_KEY", "s3cret")
    monkeypatch.setenv("RADSERVE_GATEWAY_HISTORY", "redis://:s3cret@h")
    settings = Settings.read(images=Path("x"))
    assert "s3cret" not in repr(settings)
    monkeypatch.setenv("RADSERVE_GATEWAY_TIMEOUT", "s3cret")
    with pytest.raises(SettingsError) as error:
        Settings.read()
    assert "s3cret" not in str(error.value)


def test_secrets_are_read_from_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "radserve_gateway_server_key").write_text("from a file\n")
    (tmp_path / "another_secret").write_text("x")
    monkeypatch.setenv("RADSERVE_GATEWAY_SECRETS", str(tmp_path))
    assert Settings.read().server_key == "from a file"
    monkeypatch.setenv("RADSERVE_GATEWAY_SERVER_KEY", "from a variable")
    assert Settings.read().server_key == "from a variable"
    monkeypatch.setenv("RADSERVE_GATEWAY_SECRETS", str(tmp_path / "nothing"))
    with pytest.raises(SettingsError, match=r"RADSERVE_GATEWAY_SECRETS: .*nothing is not a folder"):
        Settings.read()
