"""What a store's URL means."""

from __future__ import annotations

from pathlib import Path

import pytest

from radserve.errors import StoreError
from radserve.store.location import backend


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
def test_a_url_names_a_store(url: str, name: str) -> None:
    assert backend(url).name == name


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "--store has no value"),
        ("ftp://host/path", "write a folder, s3://BUCKET/PREFIX or https://HOST/PATH"),
        ("s3://", "it must be s3://BUCKET"),
        ("s3://A_B/c", "it must be s3://BUCKET"),
        ("s3://bucket/a?b", "it must have no"),
        ("file://other/srv", "with three strokes"),
        ("https://", "write a folder"),
        ("http://example.org/store", "is not encrypted"),
        ("http://127.0.0.1.example.org/store", "is not encrypted"),
    ],
)
def test_what_names_none_is_said(url: str, said: str) -> None:
    with pytest.raises(StoreError, match=said):
        backend(url)
