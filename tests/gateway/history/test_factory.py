"""Creation of the history from settings."""

import asyncio
from pathlib import Path

import pytest

from gateway.errors import SettingsError
from gateway.history import recorder
from gateway.history.redis import RedisHistory
from gateway.history.sqlite import SqliteHistory
from gateway.settings import Settings
from tests.test_architecture import loaded_by


def settings(history: str, images: Path | None = None) -> Settings:
    return Settings.read(history=history, images=images)


@pytest.mark.parametrize("history", ["sqlite:state/history.sqlite3", "sqlite:/var/lib/x.db", "sqlite:x"])
def test_path_creates_sqlite_history(history: str) -> None:
    assert isinstance(recorder.create(settings(history)).history, SqliteHistory)


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://:p%40ss@redis:6379/0",
        "redis://user:pass@[::1]:6380/15",
        "rediss://:pass@redis.example/",
    ],
)
def test_url_creates_redis_history(url: str) -> None:
    assert isinstance(recorder.create(settings(url)).history, RedisHistory)


def test_none_disables_history() -> None:
    assert recorder.create(settings("none")).history is None


@pytest.mark.parametrize(
    "history",
    [
        "",
        "None",
        "history.sqlite3",
        "sqlite",
        "sqlite:",
        "sqlite://x",
        "sqlite:///x",
        "sqlite::memory:",
        "sqlite:x/",
        "postgres://secret@x/y",
        "redis:",
        "redis://",
        "redis:///0",
        "redis://:secret@",
        "redis://:secret@x:port",
        "redis://:secret@x:99999",
        "redis://:secret@x/zero",
        "redis://:secret@x/0?socket_timeout=9",
        "redis://:se#cret@x/0",
        "redis://:secret@[x/0",
        "redis://:secret@x/-1",
        "redis://x:0",
    ],
)
def test_invalid_setting_is_rejected_without_showing_it(history: str) -> None:
    with pytest.raises(SettingsError, match="RADSERVE_GATEWAY_HISTORY") as error:
        recorder.create(settings(history))
    assert "secret" not in str(error.value)


def test_server_certificate_is_verified() -> None:
    history = recorder.create(settings("rediss://:pass@redis.example")).history
    assert isinstance(history, RedisHistory)
    connection = history._redis.connection_pool.make_connection()
    assert type(connection).__name__ == "SSLConnection"
    assert (connection.cert_reqs.name, connection.check_hostname) == ("CERT_REQUIRED", True)


def test_images_require_history(tmp_path: Path) -> None:
    assert recorder.create(settings("sqlite:x")).images is None
    assert recorder.create(settings("sqlite:x", tmp_path)).images is not None
    with pytest.raises(SettingsError, match="RADSERVE_GATEWAY_IMAGES"):
        recorder.create(settings("none", tmp_path))


def test_sqlite_history_does_not_import_redis() -> None:
    code = (
        "from gateway.history import recorder; from gateway.settings import Settings; recorder.create(Settings.read())"
    )
    assert "redis" not in loaded_by(code)


def test_factory_opens_nothing(tmp_path: Path) -> None:
    created = recorder.create(settings(f"sqlite:{tmp_path}/new/x.sqlite3"))
    assert not (tmp_path / "new").exists()
    asyncio.run(created.close())
