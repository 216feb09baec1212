"""URLs of archive stores."""

from pathlib import Path

import pytest

from radserve.errors import StoreError
from radserve.store.backends import open_storage


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("/srv/store", "/srv/store"),
        ("store", str(Path.cwd() / "store")),
        ("~/store", str(Path.home() / "store")),
        ("file:///srv/a%20store", "/srv/a store"),
        ("file://localhost/srv", "/srv"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("https://host/path/", "https://host/path"),
        ("https://user:secret@host:8443/path", "https://host:8443/path"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://localhost/", "http://localhost"),
    ],
)
def test_valid_urls(url: str, name: str) -> None:
    assert open_storage(url).name == name


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "--store is empty"),
        ("ftp://host/path", "use a folder, s3://BUCKET/PREFIX or https://HOST/PATH"),
        ("s3://", "use s3://BUCKET"),
        ("s3://A_B/c", "use s3://BUCKET"),
        ("s3://bucket/a?b", "remove the query and the fragment"),
        ("file://other/srv", "with three slashes"),
        ("https://", "use a folder"),
        ("http://example.org/store", "not encrypted"),
        ("http://127.0.0.1.example.org/store", "not encrypted"),
    ],
)
def test_invalid_urls(url: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        open_storage(url)
